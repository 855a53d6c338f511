// Package local is the client side of our own chain: accounts, transactions, and a client that implements the interfaces of
// package chain over a node's API. The state machine is in local/state, the consensus node in local/node.
package local

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/crypto"

	"sn3/chain"
)

// Limits of a transaction.
const (
	MaxTx      = 4096
	MaxWeights = 512
	maxNetwork = 64
)

// Kinds of operations; the byte after the nonce.
const (
	kindTransfer = 1 + iota
	kindRegister
	kindPublish
	kindSetWeights
)

const (
	txVersion = 1
	txDomain  = "sn3/tx/1"
)

// ErrTx: the bytes are not a canonical transaction.
var ErrTx = errors.New("local: not a canonical transaction")

// Op is what a transaction does.
type Op interface {
	kind() byte
	append(b []byte) []byte
}

// Transfer moves coins from the signer's account.
type Transfer struct {
	To     chain.Coldkey
	Amount chain.Amount
}

// Register burns the registration cost from the signer's account and gives the signer's hotkey a seat. Emission goes to
// Coldkey; zero means the signer's own account.
type Register struct{ Coldkey chain.Coldkey }

// Publish overwrites the signer's record.
type Publish struct{ Record chain.Record }

// SetWeights replaces the signer's weight row; uids ascending.
type SetWeights struct{ Weights []chain.Weight }

func (Transfer) kind() byte   { return kindTransfer }
func (Register) kind() byte   { return kindRegister }
func (Publish) kind() byte    { return kindPublish }
func (SetWeights) kind() byte { return kindSetWeights }

func (o Transfer) append(b []byte) []byte {
	return binary.BigEndian.AppendUint64(append(b, o.To[:]...), uint64(o.Amount))
}

func (o Register) append(b []byte) []byte { return append(b, o.Coldkey[:]...) }

func (o Publish) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(o.Record.Locator)))
	b = append(b, o.Record.Locator...)
	b = append(b, o.Record.Digest[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(o.Record.Body)))
	return append(b, o.Record.Body...)
}

func (o SetWeights) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(o.Weights)))
	for _, w := range o.Weights {
		b = binary.BigEndian.AppendUint16(b, uint16(w.UID))
		b = binary.BigEndian.AppendUint16(b, w.Value)
	}
	return b
}

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

// digest is Keccak-256 of the domain and everything but the signature.
func (t *Tx) digest() []byte { return crypto.Keccak256([]byte(txDomain), t.unsigned()) }

// SignTx makes a signed transaction.
func SignTx(network string, nonce uint64, op Op, key *ecdsa.PrivateKey) (*Tx, error) {
	if network == "" || len(network) > maxNetwork {
		return nil, fmt.Errorf("sign transaction: network name %q", network)
	}
	t := &Tx{Network: network, Nonce: nonce, Op: op}
	sig, err := crypto.Sign(t.digest(), key)
	if err != nil {
		return nil, fmt.Errorf("sign transaction: %w", err)
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
	pub, err := recoverKey(t.digest(), t.Sig[:])
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
	switch r.u8() {
	case kindTransfer:
		t.Op = Transfer{chain.Coldkey(r.h32()), chain.Amount(r.u64())}
	case kindRegister:
		t.Op = Register{chain.Coldkey(r.h32())}
	case kindPublish:
		t.Op = Publish{chain.Record{Locator: r.take(int(r.u16())), Digest: chain.Hash(r.h32()), Body: r.take(int(r.u16()))}}
	case kindSetWeights:
		n := int(r.u16())
		if n > MaxWeights {
			return nil, fmt.Errorf("%w: %d weights", ErrTx, n)
		}
		var w []chain.Weight
		for range n {
			w = append(w, chain.Weight{UID: chain.UID(r.u16()), Value: r.u16()})
		}
		t.Op = SetWeights{w}
	default:
		return nil, fmt.Errorf("%w: unknown operation", ErrTx)
	}
	copy(t.Sig[:], r.take(len(t.Sig)))
	if r.short || len(r.b) != 0 || t.Network == "" || len(t.Network) > maxNetwork {
		return nil, fmt.Errorf("%w: wrong length", ErrTx)
	}
	return t, nil
}

// reader takes fields off a slice; past the end it gives zeros and remembers.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.short = true
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
