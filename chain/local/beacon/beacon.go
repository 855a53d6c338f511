// Package beacon is the local chain's randomness: BLS12-381 in the scheme of drand's quicknet (chain/bls); the round is the
// height. Who lacks the key cannot predict it, who has it cannot choose it.
package beacon

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"

	bls "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/fr"

	"sn3/chain"
	scheme "sn3/chain/bls"
)

// Lengths of the encodings: a scalar, a compressed point of G1, one of G2.
const (
	SecretLen    = 32
	SignatureLen = scheme.SignatureLen
	PublicLen    = scheme.PublicLen
)

// ErrBeacon: a key or signature that is malformed or does not verify.
var ErrBeacon = errors.New("beacon: invalid key or signature")

// Generate makes a secret key.
func Generate() ([]byte, error) {
	x, err := rand.Int(rand.Reader, new(big.Int).Sub(fr.Modulus(), big.NewInt(1)))
	if err != nil {
		return nil, fmt.Errorf("make beacon key: %w", err)
	}
	return x.Add(x, big.NewInt(1)).FillBytes(make([]byte, SecretLen)), nil
}

// Public is the public key of a secret one.
func Public(secret []byte) ([]byte, error) {
	x, err := scalar(secret)
	if err != nil {
		return nil, err
	}
	_, _, _, g2 := bls.Generators()
	var p bls.G2Affine
	p.ScalarMultiplication(&g2, x)
	b := p.Bytes()
	return b[:], nil
}

func scalar(secret []byte) (*big.Int, error) {
	x := new(big.Int).SetBytes(secret)
	if len(secret) != SecretLen || x.Sign() == 0 || x.Cmp(fr.Modulus()) >= 0 {
		return nil, ErrBeacon
	}
	return x, nil
}

// CheckPublic refuses what is not a public key: a compressed point of the right subgroup of G2, not infinity.
func CheckPublic(public []byte) error {
	if _, err := scheme.Public(public); err != nil {
		return ErrBeacon
	}
	return nil
}

// Sign signs a round.
func Sign(secret []byte, r chain.Round) ([]byte, error) {
	x, err := scalar(secret)
	if err != nil {
		return nil, err
	}
	m, err := scheme.Message(uint64(r))
	if err != nil {
		return nil, fmt.Errorf("sign beacon round %d: %w", r, err)
	}
	var sig bls.G1Affine
	sig.ScalarMultiplication(&m, x)
	b := sig.Bytes()
	return b[:], nil
}

// Verify checks the signature of a round: e(sig, G2) = e(H(m), public).
func Verify(public []byte, r chain.Round, signature []byte) error {
	if err := scheme.Verify(public, uint64(r), signature); err != nil {
		return ErrBeacon
	}
	return nil
}

// Randomness is what a signature is worth to the protocol.
func Randomness(signature []byte) []byte {
	s := sha256.Sum256(signature)
	return s[:]
}
