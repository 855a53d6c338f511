package local

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"golang.org/x/crypto/blake2b"

	"sn3/chain"
)

// ErrSignature: the signature is malformed or by somebody else.
var ErrSignature = errors.New("local: signature does not verify")

// AccountOf is the 32-byte account id of a secp256k1 key: blake2b-256("evm:" ‖ address), as Subtensor maps EVM accounts.
func AccountOf(pub *ecdsa.PublicKey) chain.Hotkey {
	return AccountOfAddress(crypto.PubkeyToAddress(*pub))
}

// AccountOfAddress is the account id of an EVM address.
func AccountOfAddress(a common.Address) chain.Hotkey {
	return blake2b.Sum256(append([]byte("evm:"), a[:]...))
}

func recoverKey(digest, sig []byte) (*ecdsa.PublicKey, error) {
	if len(sig) != 65 {
		return nil, ErrSignature
	}
	// SigToPub accepts a high s; a signature that it takes verifies by the key that it gives
	if r, s := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:64]); !crypto.ValidateSignatureValues(sig[64], r, s, true) {
		return nil, fmt.Errorf("%w: out of range", ErrSignature)
	}
	pub, err := crypto.SigToPub(digest, sig)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrSignature, err)
	}
	return pub, nil
}

func fileDigest(domain string, digest chain.Hash) []byte {
	return crypto.Keccak256([]byte(domain), []byte{0}, digest[:])
}

// Signer implements chain.Signer with a key in memory: Keccak-256(domain ‖ 0 ‖ digest), recoverable.
type Signer struct{ Key *ecdsa.PrivateKey }

// Hotkey is the signer's account.
func (s Signer) Hotkey() chain.Hotkey { return AccountOf(&s.Key.PublicKey) }

// Sign signs a digest for one domain.
func (s Signer) Sign(domain string, digest chain.Hash) ([]byte, error) {
	sig, err := crypto.Sign(fileDigest(domain, digest), s.Key)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return sig, nil
}

// Verifier implements chain.Verifier for the accounts of this chain.
type Verifier struct{}

// Verify checks a Signer's signature; the error is ErrSignature.
func (Verifier) Verify(h chain.Hotkey, domain string, digest chain.Hash, sig []byte) error {
	pub, err := recoverKey(fileDigest(domain, digest), sig)
	if err != nil {
		return err
	}
	if AccountOf(pub) != h {
		return fmt.Errorf("%w: made by another account", ErrSignature)
	}
	return nil
}
