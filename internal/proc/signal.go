package proc

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Context ends on SIGINT, SIGTERM, SIGHUP (a closed terminal; not under nohup) or when the parent's pipe closes; Cause tells
// which. A second signal, a second later or more, ends the process at once.
func Context(parentFD int) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(context.Background())
	sig := make(chan os.Signal, 1)
	all := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		all = append(all, syscall.SIGHUP)
	}
	signal.Notify(sig, all...)
	go func() {
		select {
		case s := <-sig:
			if s == syscall.SIGINT {
				cancel(ErrInterrupted)
			} else {
				cancel(errStopped)
			}
			time.AfterFunc(time.Second, func() { signal.Reset(all...) }) // timeout(1) and some shells send one signal twice
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
