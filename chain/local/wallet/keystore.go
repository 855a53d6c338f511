package wallet

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/ethereum/go-ethereum/accounts/keystore"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/google/uuid"
)

// Errors of keystore files.
var (
	// ErrPassphrase: the keystore does not open with this passphrase.
	ErrPassphrase = errors.New("wallet: wrong passphrase")
	// ErrKeystore: the file is not a keystore.
	ErrKeystore = errors.New("wallet: not a keystore v3 file")
)

// Bounds of what a foreign file may ask for: geth's standard parameters are a quarter of the memory and an eighth of the work.
const (
	maxScryptBytes = 1 << 30
	maxScryptWork  = 1 << 24 // N·r·p
	maxRounds      = 10_000_000
)

// sealed is a keystore v3 file.
type sealed struct {
	Address string `json:"address"`
	Crypto  struct {
		Cipher       string `json:"cipher"`
		CipherText   string `json:"ciphertext"`
		CipherParams struct {
			IV string `json:"iv"`
		} `json:"cipherparams"`
		KDF       string    `json:"kdf"`
		KDFParams kdfParams `json:"kdfparams"`
		MAC       string    `json:"mac"`
	} `json:"crypto"`
	ID      string `json:"id"`
	Version int    `json:"version"`
}

type kdfParams struct {
	N     int    `json:"n"`
	R     int    `json:"r"`
	P     int    `json:"p"`
	C     int    `json:"c"`
	PRF   string `json:"prf"`
	DKLen int    `json:"dklen"`
	Salt  string `json:"salt"`
}

// parse reads a keystore and checks everything that its decryption takes on trust: geth's code panics at a missing field and
// allocates what the file asks for.
func parse(raw []byte) (*sealed, error) {
	var s sealed
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrKeystore, err)
	}
	c, p := s.Crypto, s.Crypto.KDFParams
	switch {
	case s.Version != 3:
		return nil, fmt.Errorf("%w: version %d", ErrKeystore, s.Version)
	case s.Address != "" && !common.IsHexAddress(s.Address):
		return nil, fmt.Errorf("%w: its address is none", ErrKeystore)
	case c.Cipher != "aes-128-ctr":
		return nil, fmt.Errorf("%w: unknown cipher %.20q", ErrKeystore, c.Cipher)
	case !isHex(c.CipherText, 1, 32), !isHex(c.CipherParams.IV, 16, 16), !isHex(c.MAC, 32, 32), !isHex(p.Salt, 0, maxFile), p.DKLen != 32:
		return nil, fmt.Errorf("%w: a field has the wrong length", ErrKeystore)
	}
	switch c.KDF {
	case "scrypt":
		if p.N < 2 || p.R < 1 || p.P < 1 || p.N > maxScryptWork/p.R/p.P || p.N > maxScryptBytes/128/p.R || p.N&(p.N-1) != 0 {
			return nil, fmt.Errorf("%w: scrypt with n=%d r=%d p=%d", ErrKeystore, p.N, p.R, p.P)
		}
	case "pbkdf2":
		if p.C < 1 || p.C > maxRounds || p.PRF != "hmac-sha256" {
			return nil, fmt.Errorf("%w: PBKDF2 with c=%d prf=%.20q", ErrKeystore, p.C, p.PRF)
		}
	default:
		return nil, fmt.Errorf("%w: unknown key derivation %.20q", ErrKeystore, c.KDF)
	}
	return &s, nil
}

// isHex says whether s are low to high bytes in hex.
func isHex(s string, low, high int) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) >= low && len(b) <= high
}

// open decrypts the key, and checks that it is of the address that the file says.
func (s *sealed) open(passphrase string) (*ecdsa.PrivateKey, error) {
	c, p := s.Crypto, s.Crypto.KDFParams
	in := keystore.CryptoJSON{Cipher: c.Cipher, CipherText: c.CipherText, KDF: c.KDF, MAC: c.MAC,
		KDFParams: map[string]any{"n": p.N, "r": p.R, "p": p.P, "c": p.C, "prf": p.PRF, "dklen": p.DKLen, "salt": p.Salt}}
	in.CipherParams.IV = c.CipherParams.IV
	raw, err := keystore.DecryptDataV3(in, passphrase)
	giveBack(p.N * p.R)
	switch {
	case errors.Is(err, keystore.ErrDecrypt):
		return nil, ErrPassphrase
	case err != nil:
		return nil, fmt.Errorf("%w: %v", ErrKeystore, err)
	}
	full := make([]byte, 32) // old programs left out leading zeros
	copy(full[32-len(raw):], raw)
	key, err := crypto.ToECDSA(full)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrKeystore, err)
	}
	if s.Address != "" && common.HexToAddress(s.Address) != crypto.PubkeyToAddress(key.PublicKey) {
		return nil, fmt.Errorf("%w: its key is not of the address that it says", ErrKeystore)
	}
	return key, nil
}

// giveBack returns the memory of a large scrypt to the system at once: a quarter of a GiB with the standard parameters, which
// the next derivation would double and a node's plan of its memory would miss.
func giveBack(blocks int) {
	if blocks >= keystore.StandardScryptN {
		debug.FreeOSMemory()
	}
}

// encrypt makes the content of a keystore file.
func encrypt(key *ecdsa.PrivateKey, passphrase string, light bool) ([]byte, error) {
	n, p := keystore.StandardScryptN, keystore.StandardScryptP
	if light {
		n, p = keystore.LightScryptN, keystore.LightScryptP
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, fmt.Errorf("encrypt key: %w", err)
	}
	raw, err := keystore.EncryptKey(&keystore.Key{Id: id, Address: crypto.PubkeyToAddress(key.PublicKey), PrivateKey: key}, passphrase, n, p)
	giveBack(n)
	if err != nil {
		return nil, fmt.Errorf("encrypt key: %w", err)
	}
	return raw, nil
}

// Open decrypts a keystore v3 file, ours or another program's: ErrPassphrase, ErrKeystore.
func Open(path, passphrase string) (*ecdsa.PrivateKey, error) {
	s, err := readSealed(path)
	if err != nil {
		return nil, err
	}
	key, err := s.open(passphrase)
	if err != nil {
		return nil, fmt.Errorf("open keystore %s: %w", path, err)
	}
	return key, nil
}

func readSealed(path string) (*sealed, error) {
	raw, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("read keystore: %w", err)
	}
	s, err := parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// ChangePassphrase encrypts a keystore file anew, with the key that Open gave. The file is the old one or the new one at every
// moment, and the new one has been opened before it takes the place.
func ChangePassphrase(path string, key *ecdsa.PrivateKey, passphrase string, light bool) error {
	raw, err := encrypt(key, passphrase, light)
	if err != nil {
		return err
	}
	s, err := parse(raw)
	if err != nil {
		return err
	}
	again, err := s.open(passphrase)
	if err != nil {
		return fmt.Errorf("check the new keystore: %w", err)
	}
	if !again.Equal(key) {
		return errors.New("check the new keystore: it holds another key; nothing was changed")
	}
	return replace(path, raw)
}

// ParseKey reads a private key in hex, with or without 0x.
func ParseKey(b []byte) (*ecdsa.PrivateKey, error) {
	text := bytes.TrimPrefix(bytes.TrimSpace(b), []byte("0x"))
	key, err := crypto.HexToECDSA(string(text))
	if err != nil { // the reason repeats none of it
		return nil, errors.New("wallet: not a private key; want 64 hex digits")
	}
	return key, nil
}

// FormatKey is a private key in hex.
func FormatKey(key *ecdsa.PrivateKey) string { return hex.EncodeToString(crypto.FromECDSA(key)) }
