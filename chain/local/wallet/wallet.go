// Package wallet keeps account keys: made from words that people can write down, encrypted in files that other programs read
// too, and named in public by a file that opens nothing.
//
// A key comes from BIP-39 words by the path of Ethereum's wallets (Mnemonic), lies in a keystore v3 file NAME.json (Create,
// Open, ChangePassphrase), and beside it lies NAME.pub with the account only: what a machine needs that never signs for it.
package wallet

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"github.com/ethereum/go-ethereum/crypto"

	"sn3/chain"
)

// Endings of the two files of a wallet.
const (
	KeyFile    = ".json"
	PublicFile = ".pub"
)

// Errors of wallets.
var (
	// ErrExists: a wallet of this name is there; nothing was changed.
	ErrExists = errors.New("wallet: already there; nothing was changed")
	// ErrName: the name cannot be a file's.
	ErrName = errors.New("wallet: not a name; use letters, digits and dashes, at most 64")
)

// maxFile bounds what is read of a file that may be anything.
const maxFile = 64 << 10

var nameForm = regexp.MustCompile(`^[\pL\pN_][\pL\pN._-]{0,63}$`)

// Path is the keystore file of a wallet in a folder.
func Path(dir, name string) string { return filepath.Join(dir, name+KeyFile) }

// Check says whether a wallet of this name can be made in dir: ErrName, ErrExists, or an error of the folder. account, if not
// nil, is whose key it would be: a public file of the same account may be there already.
func Check(dir, name string, account *chain.Hotkey) error {
	if !nameForm.MatchString(name) {
		return fmt.Errorf("%q: %w", name, ErrName)
	}
	if _, err := os.Lstat(Path(dir, name)); err == nil {
		return fmt.Errorf("%s: %w", Path(dir, name), ErrExists)
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look for wallet: %w", err)
	}
	if err := checkPublic(filepath.Join(dir, name+PublicFile), account); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// checkPublic says whether a public file is there and of this account, or of any if it is nil.
func checkPublic(path string, account *chain.Hotkey) error {
	p, err := ReadPublic(path)
	if err == nil && account != nil && p.Account != *account {
		err = fmt.Errorf("%s is of another account, %s: %w", path, p.Account, ErrExists)
	}
	return err
}

// Create writes dir/name.json, encrypted with passphrase, and dir/name.pub. It overwrites nothing (ErrExists). light trades the
// strength of the key derivation for speed and memory.
func Create(dir, name string, key *ecdsa.PrivateKey, passphrase string, light bool) (Public, error) {
	p := PublicOf(&key.PublicKey)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return p, fmt.Errorf("make wallet folder: %w", err)
	}
	if err := Check(dir, name, &p.Account); err != nil {
		return p, err
	}
	raw, err := encrypt(key, passphrase, light)
	if err != nil {
		return p, err
	}
	path, pub := Path(dir, name), filepath.Join(dir, name+PublicFile)
	if err := WriteNew(path, raw); err != nil {
		return p, err
	}
	err = WriteNew(pub, p.encode())
	if errors.Is(err, ErrExists) { // of this account, as Check saw, or what came in between
		err = checkPublic(pub, &p.Account)
	}
	if err != nil {
		return p, errors.Join(err, os.Remove(path)) // both or none
	}
	return p, nil
}

// New is Create with a random key that no words restore.
func New(dir, name, passphrase string, light bool) (path string, account chain.Hotkey, err error) {
	key, err := crypto.GenerateKey()
	if err != nil {
		return "", account, fmt.Errorf("make key: %w", err)
	}
	p, err := Create(dir, name, key, passphrase, light)
	return Path(dir, name), p.Account, err
}

// Remove takes back what Create just made.
func Remove(dir, name string) error {
	return errors.Join(os.Remove(Path(dir, name)), os.Remove(filepath.Join(dir, name+PublicFile)))
}

// WriteNew writes a file that only its owner reads, to the disk: after a crash it is there whole or not at all. What is there
// already stays: ErrExists.
func WriteNew(path string, b []byte) error {
	tmp, err := temporary(path, b)
	if err != nil {
		return err
	}
	if err = link(tmp, path); err != nil && !errors.Is(err, os.ErrExist) {
		err = exclusive(path, b) // a file system without links, such as a stick's
	}
	err = errors.Join(err, os.Remove(tmp))
	switch {
	case errors.Is(err, os.ErrExist):
		return fmt.Errorf("%s: %w", path, ErrExists)
	case err != nil:
		return fmt.Errorf("write wallet: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

var link = os.Link // of tests

// exclusive writes a file that must not be there, and removes it when that fails: half a key is none.
func exclusive(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// temporary writes a file beside path that is on the disk when it returns.
func temporary(path string, b []byte) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".new-*") // 0600
	if err != nil {
		return "", fmt.Errorf("write wallet: %w", err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", fmt.Errorf("write wallet: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return f.Name(), nil
}

// replace exchanges a file for another content: after a crash it is the old one or the new one. Of a link it is the file that it
// leads to, or the old one would stay there.
func replace(path string, b []byte) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("write wallet: %w", err)
	}
	tmp, err := temporary(path, b)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write wallet: %w", errors.Join(err, os.Remove(tmp)))
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the names in a folder survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// readFile reads a small file.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s is longer than %d bytes: %w", path, maxFile, ErrKeystore)
	}
	return b, nil
}
