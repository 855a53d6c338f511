// Command s3d is the S3 server of a network on one machine: storage/embedded as a process. Each account of the accounts
// file may write one bucket, everybody may read all; the file is read again whenever it changes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"sn3/internal/proc"
	"sn3/storage/embedded"
)

func main() { os.Exit(execute(os.Args, os.Stdout, os.Stderr)) }

// usageError is a mistake in flags or their values.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// execute runs the command line and returns the exit code.
func execute(args []string, stdout, stderr io.Writer) int {
	err := app(stdout, stderr).Run(args)
	var usage *usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "s3d: %v (s3d run --help has every flag)\n", err)
		return proc.ExitUsage
	case errors.Is(err, proc.ErrInterrupted):
		return proc.ExitInterrupted
	}
	fmt.Fprintf(stderr, "s3d: %v\n", err)
	if errors.Is(err, embedded.ErrFolderBusy) {
		return proc.ExitRefused
	}
	return proc.ExitFailure
}

func app(stdout, stderr io.Writer) *cli.App {
	usage := func(c *cli.Context, err error, _ bool) error { return &usageError{suggest(c, err)} }
	return &cli.App{
		Name:           "s3d",
		Usage:          "S3 server for a network on one machine",
		Version:        proc.Version,
		Suggest:        true,
		Writer:         stdout,
		ErrWriter:      stderr,
		OnUsageError:   usage,
		ExitErrHandler: func(*cli.Context, error) {},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return &usageError{fmt.Errorf("there is no command %q; the commands are run and help", c.Args().First())}
			}
			return cli.ShowAppHelp(c)
		},
		Commands: []*cli.Command{{
			Name:  "run",
			Usage: "serve until SIGINT, SIGTERM or the end of the parent",
			Description: "Buckets and who may write them come from the accounts file, a JSON list of\n" +
				`{"bucket": …, "access_key": …, "secret": …}; change it (atomically) while s3d runs` + "\nto add or remove accounts. Objects may be read by anyone on this machine.",
			Flags:        runFlags(),
			OnUsageError: usage,
			Action: func(c *cli.Context) error {
				if c.Args().Present() {
					return &usageError{fmt.Errorf("unexpected argument %q", c.Args().First())}
				}
				cfg, err := parseConfig(c)
				if err != nil {
					return &usageError{err}
				}
				return run(c.Context, cfg)
			},
		}},
	}
}

// run serves until a signal or the parent's end; Ctrl-C is an error of its own, as in the other programs.
func run(ctx context.Context, cfg *config) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(sig)
	go func() {
		select {
		case s := <-sig:
			if s == syscall.SIGINT {
				cancel(proc.ErrInterrupted)
			}
			cancel(nil)
		case <-ctx.Done():
		}
	}()
	if cfg.parentFD > 0 {
		go awaitParent(cfg.parentFD, func() { cancel(nil) })
	}
	err := serve(ctx, cfg)
	if err == nil && errors.Is(context.Cause(ctx), proc.ErrInterrupted) {
		return proc.ErrInterrupted
	}
	return err
}

// suggest adds the nearest flag to the error about an unknown one, which package flag marks by its text only.
func suggest(c *cli.Context, err error) error {
	if name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); ok && c.Command != nil {
		return fmt.Errorf("there is no flag --%s; did you mean %s?", strings.TrimPrefix(name, "-"), cli.SuggestFlag(c.Command.Flags, name, false))
	}
	return err
}

// awaitParent calls stop when the other end of the inherited pipe closes, as it does however the parent dies.
func awaitParent(fd int, stop func()) {
	f := os.NewFile(uintptr(fd), "parent")
	if f == nil {
		return
	}
	_, _ = io.Copy(io.Discard, f) // any end of the pipe, an error too, means that nobody holds it
	stop()
}
