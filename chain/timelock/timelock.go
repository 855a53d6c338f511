// Package timelock seals bytes so that only the signature of a beacon's round opens them: before the round nobody can, its
// author included; after it anybody can. The form is that of Subtensor's weight commits (the Rust crate tle): Boneh and
// Franklin's identity-based encryption with Fujisaki and Okamoto's check ("FullIdent", https://eprint.iacr.org/2001/090,
// section 4.2) of a fresh key, and AES-256-GCM under that key. docs/FORMAT.md has every byte.
//
// Two beacons sign in this scheme (chain/bls): the local chain's, whose round is the height, and drand's quicknet.
//
// Open is a pure function, with no goroutine, clock or randomness, and takes no more memory than what it is given: a state
// machine may call it on anybody's bytes.
package timelock

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"

	curve "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/fr"

	"sn3/chain/bls"
)

// Overhead is by how much sealed bytes are longer than what they hide.
const Overhead = bls.PublicLen + 2*(8+keyLen) + 8 + 8 + tagLen + 8 + nonceLen + 8 + len(suite)

const (
	suite    = "AES_GCM_"
	keyLen   = 32 // σ and the key of the cipher
	nonceLen = 12
	tagLen   = 16
)

var (
	// ErrSealed: bytes that are not in the one form of a sealed text, or not sealed for what the signature signs.
	ErrSealed = errors.New("timelock: not sealed for this signature")
	// ErrSignature: not a signature at all.
	ErrSignature = errors.New("timelock: malformed signature")
)

// Seal hides plain until the round's signature by public is known. It takes 76 bytes from rand, which must be secret and
// never repeat: crypto/rand.Reader but for tests.
func Seal(public []byte, round uint64, plain []byte, rand io.Reader) ([]byte, error) {
	p, err := bls.Public(public)
	if err != nil {
		return nil, fmt.Errorf("seal for round %d: public key: %w", round, err)
	}
	var key, t [keyLen]byte
	var nonce [nonceLen]byte
	for _, b := range [][]byte{key[:], t[:], nonce[:]} {
		if _, err := io.ReadFull(rand, b); err != nil {
			return nil, fmt.Errorf("seal for round %d: read randomness: %w", round, err)
		}
	}
	q, err := bls.Message(round)
	if err != nil {
		return nil, fmt.Errorf("seal for round %d: %w", round, err)
	}
	return seal(&p, &q, sha256.Sum256(t[:]), key, nonce, plain)
}

// seal is Seal with its random choices made: the sealed text is a function of these.
func seal(public *curve.G2Affine, identity *curve.G1Affine, sigma, key [keyLen]byte, nonce [nonceLen]byte, plain []byte) ([]byte, error) {
	r := exponent(sigma, key) // 1. r = H(σ ‖ key): the only randomness of what follows
	u := commitment(r)        // 2. U = r·G2
	var rq curve.G1Affine     // 3. V = σ ⊕ H(e(r·Q, public)), which is e(signature, U)
	rq.ScalarMultiplication(identity, r)
	m, err := mask(&rq, public)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	v := xor(sigma, m)
	w := xor(key, sha256.Sum256(sigma[:])) // 4. W = key ⊕ H(σ)
	gcm, err := newGCM(key)                // 5. the text itself
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	n := len(plain) + tagLen
	out := make([]byte, 0, len(plain)+Overhead)
	ub := u.Bytes()
	out = append(out, ub[:]...)
	out = append(binary.LittleEndian.AppendUint64(out, keyLen), v[:]...)
	out = append(binary.LittleEndian.AppendUint64(out, keyLen), w[:]...)
	out = binary.LittleEndian.AppendUint64(out, uint64(8+n+8+nonceLen))
	out = gcm.Seal(binary.LittleEndian.AppendUint64(out, uint64(n)), nonce[:], plain, nil)
	out = append(binary.LittleEndian.AppendUint64(out, nonceLen), nonce[:]...)
	return append(binary.LittleEndian.AppendUint64(out, uint64(len(suite))), suite...), nil
}

// Open gives back what was sealed for the round that signature signs. The caller has verified the signature (bls.Verify):
// whoever made up both signature and sealed bytes could open the same bytes to another text.
//
// It fails with ErrSignature or ErrSealed, both for good. Any other error is this process's and says nothing of the bytes;
// Usable gives it, too.
func Open(signature, sealed []byte) ([]byte, error) {
	s, err := bls.Signature(signature)
	if err != nil {
		return nil, ErrSignature
	}
	c, ok := parse(sealed)
	if !ok {
		return nil, ErrSealed
	}
	m, err := mask(&s, &c.u)
	if err != nil {
		return nil, ErrSealed
	}
	sigma := xor(c.v, m)
	key := xor(c.w, sha256.Sum256(sigma[:]))
	if u := commitment(exponent(sigma, key)); !u.Equal(&c.u) {
		return nil, ErrSealed // of another round or key, or changed on the way
	}
	gcm, err := newGCM(key)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	plain, err := gcm.Open(nil, c.nonce[:], c.text, nil)
	if err != nil {
		return nil, ErrSealed
	}
	return plain, nil
}

// ciphertext is a sealed text taken apart.
type ciphertext struct {
	u     curve.G2Affine
	v, w  [keyLen]byte
	text  []byte // encrypted, with its tag; a part of what was parsed
	nonce [nonceLen]byte
}

// parse refuses what seal would not write: all lengths follow from that of the whole.
func parse(b []byte) (c ciphertext, ok bool) {
	if len(b) < Overhead {
		return c, false
	}
	n := len(b) - Overhead + tagLen
	u, b, ok := b[:bls.PublicLen], b[bls.PublicLen:], true
	length := func(want int) {
		ok = ok && binary.LittleEndian.Uint64(b) == uint64(want)
		b = b[8:]
	}
	take := func(to []byte) { b = b[copy(to, b):] }
	length(keyLen)
	take(c.v[:])
	length(keyLen)
	take(c.w[:])
	length(8 + n + 8 + nonceLen)
	length(n)
	c.text, b = b[:n], b[n:]
	length(nonceLen)
	take(c.nonce[:])
	length(len(suite))
	if !ok || string(b) != suite {
		return c, false
	}
	var err error
	c.u, err = bls.Public(u) // a point of G2 like a public key
	return c, err == nil
}

// exponent is H(σ ‖ key) as a scalar.
func exponent(sigma, key [keyLen]byte) *big.Int {
	h := sha256.Sum256(append(sigma[:], key[:]...))
	r := new(big.Int).SetBytes(h[:])
	return r.Mod(r, fr.Modulus())
}

func commitment(r *big.Int) (u curve.G2Affine) {
	u.ScalarMultiplicationBase(r)
	return u
}

// mask is H(e(p, q)) over the twelve coordinates, the lowest first, each little-endian: gnark's bytes in reverse.
func mask(p *curve.G1Affine, q *curve.G2Affine) (m [keyLen]byte, err error) {
	e, err := curve.Pair([]curve.G1Affine{*p}, []curve.G2Affine{*q})
	if err != nil {
		return m, err
	}
	return sha256.Sum256(target(&e)), nil
}

func target(e *curve.GT) []byte {
	b := e.Bytes()
	slices.Reverse(b[:])
	return b[:]
}

// Usable says whether this process can open anything at all: with GODEBUG=fips140=only it cannot. Who keeps a state must ask
// before the first Open, or it would take for wrong what others can read.
func Usable() error {
	if _, err := newGCM([keyLen]byte{}); err != nil {
		return fmt.Errorf("timelock: AES-GCM is not to be had in this process; start it without fips140=only in GODEBUG: %w", err)
	}
	return nil
}

func newGCM(key [keyLen]byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func xor(a, b [keyLen]byte) (c [keyLen]byte) {
	subtle.XORBytes(c[:], a[:], b[:])
	return c
}
