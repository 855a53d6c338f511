package node

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"

	"sn3/chain/local"
	"sn3/internal/proc"
)

// Key opens a keystore with the passphrase in a file, or asks for it.
func Key(path, passphraseFile string) (*ecdsa.PrivateKey, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) { // before anybody types a passphrase
		return nil, proc.Usage(fmt.Errorf("read keystore: %w", err))
	}
	pass, err := Passphrase(passphraseFile)
	if err != nil {
		return nil, err
	}
	key, err := local.OpenKey(path, pass)
	if err != nil {
		return nil, proc.Refused(err)
	}
	return key, nil
}

// Passphrase reads a passphrase file, whose last newline does not count, or asks on the terminal.
func Passphrase(path string) (string, error) {
	if path == "" {
		return ask("Passphrase: ")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", proc.Usage(fmt.Errorf("read passphrase: %w", err))
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

// NewPassphrase is Passphrase for a key to be made: it asks twice and refuses an empty one.
func NewPassphrase(path string) (string, error) {
	pass, err := Passphrase(path)
	if err != nil {
		return "", err
	}
	if pass == "" {
		return "", proc.Usage(errors.New("the passphrase is empty; nothing was made"))
	}
	if path != "" {
		return pass, nil
	}
	again, err := ask("Once more: ")
	if err != nil {
		return "", err
	}
	if again != pass {
		return "", proc.Usage(errors.New("the two passphrases differ; nothing was made"))
	}
	return pass, nil
}

// ask reads a line without showing it. Ctrl-C gives the terminal its echo back.
func ask(prompt string) (string, error) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return "", proc.Usage(errors.New("no terminal to ask for the passphrase on: give --passphrase-file"))
	}
	before, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("read passphrase: %w", err)
	}
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(sig)
	type line struct {
		b   []byte
		err error
	}
	read := make(chan line, 1)
	fmt.Fprint(os.Stderr, prompt)
	go func() {
		b, err := term.ReadPassword(fd)
		read <- line{b, err}
	}()
	defer fmt.Fprintln(os.Stderr)
	select {
	case l := <-read:
		if l.err != nil {
			return "", fmt.Errorf("read passphrase: %w", l.err)
		}
		return string(l.b), nil
	case <-sig:
		return "", errors.Join(proc.ErrInterrupted, term.Restore(fd, before))
	}
}
