package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"sn3/chain"
	"sn3/internal/proc"
)

// coresPer is how many processes of so many threads fill this machine.
func coresPer(threads int) int { return max(1, runtime.NumCPU()/max(1, threads)) }

// lockFolder makes sure that one process at a time uses a node's folder.
func lockFolder(dir string) (func() error, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock node folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, proc.Refused(errors.Join(fmt.Errorf("another process uses the folder %s; stop it or choose another --dir", dir), f.Close()))
	}
	return f.Close, nil
}

// killAt returns a failpoint that kills this process with SIGKILL at a named point, as a crash would. With "" it does
// nothing.
func killAt(name string) func(string) {
	return func(at string) {
		if name != "" && at == name {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
}

// registered remembers who has a seat, refreshed at most every few seconds.
type registered struct {
	client chainHead
	mu     sync.Mutex
	at     time.Time
	seats  map[chain.Hotkey]bool
}

func (r *registered) has(h chain.Hotkey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.at) > 5*time.Second {
		r.at = time.Now() // also when the chain does not answer: announcements must not wait for it one by one
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if s, err := Head(ctx, r.client); err == nil {
			r.seats = map[chain.Hotkey]bool{}
			for _, n := range s.Neurons {
				r.seats[n.Hotkey] = true
			}
		}
	}
	return r.seats[h]
}
