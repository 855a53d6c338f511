package local

import (
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ethereum/go-ethereum/accounts/keystore"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/google/uuid"
	"golang.org/x/crypto/blake2b"

	"sn3/chain"
)

// Errors of keys and signatures.
var (
	// ErrSignature: the signature is malformed or by somebody else.
	ErrSignature = errors.New("local: signature does not verify")
	// ErrPassphrase: the keystore does not open with this passphrase.
	ErrPassphrase = errors.New("local: wrong passphrase")
	// ErrKeystore: the file is not a keystore.
	ErrKeystore = errors.New("local: not a keystore v3 file")
)

// AccountOf is the 32-byte account id of a secp256k1 key: blake2b-256("evm:" ‖ address), as Subtensor maps EVM accounts.
func AccountOf(pub *ecdsa.PublicKey) chain.Hotkey {
	return AccountOfAddress(crypto.PubkeyToAddress(*pub))
}

// AccountOfAddress is the account id of an EVM address.
func AccountOfAddress(a common.Address) chain.Hotkey {
	return blake2b.Sum256(append([]byte("evm:"), a[:]...))
}

func recoverKey(digest, sig []byte) (*ecdsa.PublicKey, error) {
	if len(sig) != 65 || sig[64] > 1 {
		return nil, ErrSignature
	}
	pub, err := crypto.SigToPub(digest, sig)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrSignature, err)
	}
	// SigToPub accepts a high s; VerifySignature does not
	if !crypto.VerifySignature(crypto.CompressPubkey(pub), digest, sig[:64]) {
		return nil, fmt.Errorf("%w: high s", ErrSignature)
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

// NewWallet makes a key in dir/name.json, encrypted with passphrase. light trades the strength of the key derivation for
// speed and memory: the standard one needs 0.5 GiB to open.
func NewWallet(dir, name, passphrase string, light bool) (path string, account chain.Hotkey, err error) {
	key, err := crypto.GenerateKey()
	if err != nil {
		return "", account, fmt.Errorf("make key: %w", err)
	}
	n, p := keystore.StandardScryptN, keystore.StandardScryptP
	if light {
		n, p = keystore.LightScryptN, keystore.LightScryptP
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return "", account, fmt.Errorf("make key: %w", err)
	}
	raw, err := keystore.EncryptKey(&keystore.Key{Id: id, Address: crypto.PubkeyToAddress(key.PublicKey), PrivateKey: key}, passphrase, n, p)
	if err != nil {
		return "", account, fmt.Errorf("encrypt key: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", account, fmt.Errorf("make wallet folder: %w", err)
	}
	path = filepath.Join(dir, name+".json")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", account, fmt.Errorf("write wallet: %w", err)
	}
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", account, fmt.Errorf("write wallet: %w", errors.Join(err, os.Remove(path))) // half a key is none
	}
	return path, AccountOf(&key.PublicKey), nil
}

// OpenKey decrypts a keystore v3 file.
func OpenKey(path, passphrase string) (*ecdsa.PrivateKey, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read keystore: %w", err)
	}
	k, err := keystore.DecryptKey(raw, passphrase)
	switch {
	case errors.Is(err, keystore.ErrDecrypt):
		return nil, fmt.Errorf("open keystore %s: %w", path, ErrPassphrase)
	case err != nil:
		return nil, fmt.Errorf("open keystore %s: %w: %v", path, ErrKeystore, err)
	}
	return k.PrivateKey, nil
}

// AccountInFile reads the account of a keystore file without opening it.
func AccountInFile(path string) (chain.Hotkey, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return chain.Hotkey{}, fmt.Errorf("read keystore: %w", err)
	}
	var f struct {
		Address string `json:"address"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(raw, &f); err != nil || f.Version != 3 || !common.IsHexAddress(f.Address) {
		return chain.Hotkey{}, fmt.Errorf("%s: %w", path, ErrKeystore)
	}
	return AccountOfAddress(common.HexToAddress(f.Address)), nil
}
