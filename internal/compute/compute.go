// Package compute shares a machine's cores between the processes of a local network: at most one process per slot is
// inside Run. Slots are lock files, so a killed process gives its slot back.
package compute

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// retry is the pause between looks for a free slot: short against an inner step.
const retry = 2 * time.Millisecond

// errBusy: somebody holds the lock.
var errBusy = errors.New("slot is taken")

// Slots is a machine-wide semaphore. File locks know processes, not goroutines: one goroutine of a process uses it.
type Slots struct{ files []*os.File }

// Open opens the semaphore in dir with n slots; every process of the network must use the same dir and n.
func Open(dir string, n int) (*Slots, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make compute lock folder: %w", err)
	}
	s := &Slots{}
	for i := range max(n, 1) {
		f, err := os.OpenFile(filepath.Join(dir, "slot-"+strconv.Itoa(i)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("open compute lock: %w", err)
		}
		s.files = append(s.files, f)
	}
	return s, nil
}

// Run runs f in a free slot. It returns f's error, or ctx's if no slot came free before it ended. Where the platform has
// no file locks, f runs at once.
func (s *Slots) Run(ctx context.Context, f func() error) error {
	for {
		for _, slot := range s.files {
			err := lock(slot)
			if errors.Is(err, errBusy) {
				continue
			}
			if err != nil {
				return fmt.Errorf("take compute slot: %w", err)
			}
			defer unlock(slot)
			return f()
		}
		t := time.NewTimer(retry)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
}

// Close gives up the semaphore.
func (s *Slots) Close() error {
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
