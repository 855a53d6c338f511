// Package proc is the frame of every binary: signals, lifetime, exit codes, logging.
package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"sn3/chain"
)

// Version is set by the linker (-X sn3/internal/proc.Version=...).
var Version = "dev"

// Exit codes of the binaries; the table is in the README.
const (
	ExitFailure     = 1
	ExitUsage       = 2
	ExitRefused     = 3 // not registered, wrong key, configuration refused
	ExitInterrupted = 130
)

// exitError carries an exit code.
type exitError struct {
	err  error
	code int
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// Usage marks an error as the caller's mistake: exit code 2.
func Usage(err error) error { return &exitError{err, ExitUsage} }

// Flag is Usage for an error of parsing flags, with the nearest flag there is; package flag tells an unknown one only by its
// text.
func Flag(c *cli.Context, err error) error {
	name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !unknown {
		return Usage(err)
	}
	flags := c.App.Flags
	if c.Command != nil && len(c.Command.Flags) > 0 {
		flags = c.Command.Flags
	}
	return Usage(fmt.Errorf("there is no flag --%s; did you mean %s?", strings.TrimPrefix(name, "-"), cli.SuggestFlag(flags, name, false)))
}

// Missing is a usage error that lists which of the named flags are neither given nor in the environment; nil if none is.
func Missing(c *cli.Context, names ...string) error {
	var missing []string
	for _, n := range names {
		if !c.IsSet(n) {
			missing = append(missing, "--"+n)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return Usage(fmt.Errorf("missing: %s", strings.Join(missing, ", ")))
}

// Refused marks a configuration that the network does not accept: exit code 3.
func Refused(err error) error { return &exitError{err, ExitRefused} }

// ExitCode is the exit status for what a main action returned.
func ExitCode(err error) int {
	var e *exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.code
	case errors.Is(err, errStopped):
		return 0
	case errors.Is(err, errInterrupted):
		return ExitInterrupted
	case errors.Is(err, chain.ErrNotRegistered), errors.Is(err, chain.ErrFunds):
		return ExitRefused
	}
	return ExitFailure
}

var (
	errStopped     = errors.New("stopped")
	errInterrupted = errors.New("interrupted")
)

// Context ends on SIGINT, SIGTERM or when the parent's pipe closes; Cause tells which.
func Context(parentFD int) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(context.Background())
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		select {
		case s := <-sig:
			if s == syscall.SIGINT {
				cancel(errInterrupted)
			} else {
				cancel(errStopped)
			}
		case <-ctx.Done():
		}
	}()
	if parentFD > 2 {
		go func() {
			if _, err := io.Copy(io.Discard, os.NewFile(uintptr(parentFD), "parent")); err == nil || errors.Is(err, io.EOF) {
				cancel(errStopped)
			}
		}()
	}
	return ctx, cancel
}

// Ended turns the error of a cancelled run into what ended it.
func Ended(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx))) {
		return context.Cause(ctx)
	}
	return err
}

// Main prints an error for a person and returns the exit code.
func Main(name string, err error) int {
	code := ExitCode(err)
	if err != nil && code != 0 && code != ExitInterrupted {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		if code == ExitUsage {
			fmt.Fprintf(os.Stderr, "Run %s --help for every flag.\n", name)
		}
	}
	return code
}

// Logger logs to stderr.
func Logger(format string, verbose bool) (*slog.Logger, error) {
	o := &slog.HandlerOptions{Level: slog.LevelInfo}
	if verbose {
		o.Level = slog.LevelDebug
	}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, o)), nil
	}
	return nil, Usage(fmt.Errorf("unknown log format %q; use text or json", format))
}
