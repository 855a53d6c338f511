package node

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"sn3/internal/proc"
)

// ask reads a line without showing it. Ctrl-C gives the terminal its echo back.
func ask(prompt, flag string) (string, error) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return "", proc.Usage(fmt.Errorf("no terminal to ask for the %[1]s on: give another source, such as --%[1]s-fd 3 3<FILE", flag))
	}
	before, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", flag, err)
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
			return "", fmt.Errorf("read %s: %w", flag, l.err)
		}
		return string(l.b), nil
	case <-sig:
		return "", errors.Join(proc.ErrInterrupted, term.Restore(fd, before))
	}
}
