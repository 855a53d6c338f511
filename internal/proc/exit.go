// Package proc is the frame of every binary: flags, signals, lifetime, exit codes, logging.
package proc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

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
	ExitUnstable    = 4 // training does not stay finite
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

// Refused marks a configuration that the network does not accept: exit code 3.
func Refused(err error) error { return &exitError{err, ExitRefused} }

// Unstable marks a training that does not stay finite: exit code 4. Starting again without a change will not help.
func Unstable(err error) error { return &exitError{err, ExitUnstable} }

// ErrInterrupted: Ctrl-C.
var ErrInterrupted = errors.New("interrupted")

var errStopped = errors.New("stopped")

// ExitCode is the exit status for what a main action returned.
func ExitCode(err error) int {
	var e *exitError
	switch {
	case err == nil, only(err, errStopped):
		return 0
	case errors.Is(err, ErrInterrupted):
		return ExitInterrupted
	case errors.As(err, &e):
		return e.code
	case errors.As(err, new(cli.ExitCoder)): // package cli's own: no such help topic
		return ExitUsage
	case errors.Is(err, chain.ErrNotRegistered), errors.Is(err, chain.ErrFunds):
		return ExitRefused
	}
	return ExitFailure
}

// only says whether an error is one of these and nothing else is joined to it.
func only(err error, of ...error) bool {
	for _, o := range of {
		if err == o {
			return true
		}
	}
	switch x := err.(type) {
	case interface{ Unwrap() error }:
		return only(x.Unwrap(), of...)
	case interface{ Unwrap() []error }:
		for _, e := range x.Unwrap() {
			if !only(e, of...) {
				return false
			}
		}
		return len(x.Unwrap()) > 0
	}
	return false
}

// Ended turns the error of a cancelled run into what ended it. An error of another kind that is joined to it stays.
func Ended(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	cause := context.Cause(ctx)
	if only(err, context.Canceled, cause) {
		return cause
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok && (errors.Is(err, context.Canceled) || errors.Is(err, cause)) {
		out := []error{cause}
		for _, e := range j.Unwrap() {
			if !only(e, context.Canceled, cause) {
				out = append(out, e)
			}
		}
		return errors.Join(out...)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, cause) {
		return cause
	}
	return err
}

// Main prints an error for a person, or for a machine when the log is JSON, and returns the exit code.
func Main(name string, err error) int {
	code := ExitCode(err)
	if err == nil || only(err, errStopped, ErrInterrupted) {
		return code
	}
	if inJSON() {
		slog.Error(name+" ends", "reason", err, "exit", code)
		return code
	}
	hint := ""
	if code == ExitUsage {
		hint = fmt.Sprintf(" (%s --help has every flag)", name)
	}
	fmt.Fprintf(os.Stderr, "%s: %v%s\n", name, err, hint) // one line: it is what the launcher shows of a log
	return code
}

func inJSON() bool {
	_, ok := slog.Default().Handler().(*slog.JSONHandler)
	return ok
}

// Note tells a person, or the log when it is JSON, what a command waits for.
func Note(s string) {
	if inJSON() {
		slog.Info(s)
		return
	}
	fmt.Fprintln(os.Stderr, s)
}

// Logger logs to stderr, as "text" or "json", and becomes the default logger of this process: Main and libraries then speak
// the same format.
func Logger(format string, verbose bool) (*slog.Logger, error) {
	o := &slog.HandlerOptions{Level: slog.LevelInfo}
	if verbose {
		o.Level = slog.LevelDebug
	}
	var h slog.Handler
	switch format {
	case "text":
		h = slog.NewTextHandler(os.Stderr, o)
	case "json":
		h = slog.NewJSONHandler(os.Stderr, o)
	default:
		return nil, Usage(fmt.Errorf("unknown log format %q; use text or json", format))
	}
	log := slog.New(h)
	slog.SetDefault(log)
	return log, nil
}
