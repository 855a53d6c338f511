// Package bls verifies the signatures of a randomness beacon, in the scheme of drand's quicknet: BLS12-381, a signature in
// G1 over SHA-256(round as u64 big-endian), the public key in G2. The local chain's beacon, drand's networks and the
// timelock share it. Every encoding has one form: compressed, canonical, in the right subgroup, not infinity.
package bls

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"

	curve "github.com/consensys/gnark-crypto/ecc/bls12-381"
)

// Domain is quicknet's hash-to-curve domain (RFC 9380, suite BLS12381G1_XMD:SHA-256_SSWU_RO_).
const Domain = "BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"

// Lengths of the encodings: a compressed point of G1, one of G2.
const (
	SignatureLen = curve.SizeOfG1AffineCompressed
	PublicLen    = curve.SizeOfG2AffineCompressed
)

// ErrInvalid: a key or signature that is malformed, or a signature that does not verify.
var ErrInvalid = errors.New("bls: invalid key or signature")

// Public reads a public key.
func Public(b []byte) (p curve.G2Affine, err error) {
	if len(b) != PublicLen {
		return p, ErrInvalid
	}
	if _, err := p.SetBytes(b); err != nil || p.IsInfinity() {
		return p, ErrInvalid
	}
	return p, nil
}

// Signature reads a signature; whether it is one of a round and by whom is Verify's.
func Signature(b []byte) (p curve.G1Affine, err error) {
	if len(b) != SignatureLen {
		return p, ErrInvalid
	}
	if _, err := p.SetBytes(b); err != nil || p.IsInfinity() {
		return p, ErrInvalid
	}
	return p, nil
}

// Message is the point that the signature of a round multiplies.
func Message(round uint64) (curve.G1Affine, error) {
	m := sha256.Sum256(binary.BigEndian.AppendUint64(nil, round))
	return curve.HashToG1(m[:], []byte(Domain))
}

// Verify checks the signature of a round: e(signature, G2) = e(Message(round), public).
func Verify(public []byte, round uint64, signature []byte) error {
	sig, err := Signature(signature)
	if err != nil {
		return err
	}
	pub, err := Public(public)
	if err != nil {
		return err
	}
	m, err := Message(round)
	if err != nil {
		return ErrInvalid
	}
	_, _, _, g2 := curve.Generators()
	var neg curve.G2Affine
	neg.Neg(&g2)
	ok, err := curve.PairingCheck([]curve.G1Affine{sig, m}, []curve.G2Affine{neg, pub})
	if err != nil || !ok {
		return ErrInvalid
	}
	return nil
}
