// Package local is the client side of our own chain: accounts, transactions, and a client that implements the interfaces of
// package chain over a node's API. The state machine is in local/state, the consensus node in local/node.
package local

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"sn3/chain"
)

// Limits of a transaction.
const (
	MaxTx      = 4096
	MaxWeights = 512
	maxNetwork = 64
)

const (
	txVersion = 2
	txDomain  = "sn3/tx/2" // of the signature, see Signer
)

// ErrTx: the bytes are not a canonical transaction.
var ErrTx = errors.New("local: not a canonical transaction")

// Tx is a signed transaction of one account: version, network, nonce, operation, recoverable secp256k1 signature.
type Tx struct {
	Network string
	Nonce   uint64
	Op      Op
	Sig     [65]byte
}

func (t *Tx) unsigned() []byte {
	b := []byte{txVersion, byte(len(t.Network))}
	b = append(b, t.Network...)
	b = binary.BigEndian.AppendUint64(b, t.Nonce)
	b = append(b, t.Op.kind())
	return t.Op.append(b)
}

// digest is what is signed in txDomain: everything but the signature.
func (t *Tx) digest() chain.Hash { return sha256.Sum256(t.unsigned()) }

// SignTx makes a signed transaction.
func SignTx(network string, nonce uint64, op Op, by chain.Signer) (*Tx, error) {
	if network == "" || len(network) > maxNetwork {
		return nil, fmt.Errorf("sign transaction: network name %q", network)
	}
	t := &Tx{Network: network, Nonce: nonce, Op: op}
	sig, err := by.Sign(txDomain, t.digest())
	if err != nil {
		return nil, fmt.Errorf("sign transaction: %w", err)
	}
	if len(sig) != len(t.Sig) {
		return nil, fmt.Errorf("sign transaction: %w: %d bytes", ErrSignature, len(sig))
	}
	copy(t.Sig[:], sig)
	if _, err := ParseTx(t.Encode()); err != nil { // too long, too many weights
		return nil, fmt.Errorf("sign transaction: %w", err)
	}
	return t, nil
}

// Encode is the canonical form.
func (t *Tx) Encode() []byte { return append(t.unsigned(), t.Sig[:]...) }

// Hash identifies the transaction.
func (t *Tx) Hash() chain.Hash { return sha256.Sum256(t.Encode()) }

// Sender recovers who signed. A signature with a high s, which anybody could make from a valid one, is refused.
func (t *Tx) Sender() (chain.Hotkey, error) {
	pub, err := recoverKey(fileDigest(txDomain, t.digest()), t.Sig[:])
	if err != nil {
		return chain.Hotkey{}, err
	}
	return AccountOf(pub), nil
}

// ParseTx is the only reader of transactions: total, and ParseTx(b) ok implies Encode gives b.
func ParseTx(b []byte) (*Tx, error) {
	if len(b) > MaxTx {
		return nil, fmt.Errorf("%w: %d bytes", ErrTx, len(b))
	}
	r := reader{b: b}
	if r.u8() != txVersion {
		return nil, fmt.Errorf("%w: version", ErrTx)
	}
	t := &Tx{Network: string(r.take(int(r.u8())))}
	t.Nonce = r.u64()
	kind := int(r.u8())
	if kind >= len(kinds) || kinds[kind] == nil {
		return nil, fmt.Errorf("%w: unknown operation", ErrTx)
	}
	t.Op = kinds[kind](&r)
	copy(t.Sig[:], r.take(len(t.Sig)))
	if r.bad || len(r.b) != 0 || t.Network == "" || len(t.Network) > maxNetwork {
		return nil, fmt.Errorf("%w: wrong length or form", ErrTx)
	}
	return t, nil
}

// reader takes fields off a slice; past the end it gives zeros and remembers.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.bad = true
		return nil
	}
	x := r.b[:n:n]
	r.b = r.b[n:]
	return x
}

func (r *reader) u8() byte {
	if x := r.take(1); x != nil {
		return x[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if x := r.take(2); x != nil {
		return binary.BigEndian.Uint16(x)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if x := r.take(8); x != nil {
		return binary.BigEndian.Uint64(x)
	}
	return 0
}

func (r *reader) h32() [32]byte {
	if x := r.take(32); x != nil {
		return [32]byte(x)
	}
	return [32]byte{}
}
