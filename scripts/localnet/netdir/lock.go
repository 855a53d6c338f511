package netdir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrRunning: another process runs this network.
var ErrRunning = errors.New("the network is running")

// Lock makes this process the one that runs the network. The lock goes with this process and with those that inherited it:
// after a kill the network stays locked until the last of its processes is gone.
type Lock struct{ f *os.File }

// Close gives the lock back.
func (l *Lock) Close() error { return l.f.Close() }

// Lock takes the folder; ErrRunning if somebody has it.
func (d Dir) Lock() (*Lock, error) {
	f, err := os.OpenFile(d.Path(lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock network folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(ErrRunning, f.Close())
	}
	_, err = f.WriteAt([]byte(fmt.Sprintf("%-20d\n", os.Getpid())), 0)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock network folder: %w", err), f.Close())
	}
	return &Lock{f}, nil
}

// Holder is the process that took the lock last, or 0.
func (d Dir) Holder() int {
	f, err := os.Open(d.Path(lockFile))
	if err != nil {
		return 0
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid < 1 {
		return 0
	}
	return pid
}

// Alive says whether there is such a process.
func Alive(pid int) bool { return pid > 0 && !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// orphanPatience is how long the processes of a killed launcher take to end at most.
const orphanPatience = 20 * time.Second

// LockWhenFree is Lock, but waits while the processes of a killed launcher end; say is told once.
func (d Dir) LockWhenFree(ctx context.Context, say func(string)) (*Lock, error) {
	ctx, cancel := context.WithTimeout(ctx, orphanPatience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for told := false; ; {
		l, err := d.Lock()
		if !errors.Is(err, ErrRunning) || Alive(d.Holder()) {
			return l, err
		}
		if !told {
			say(fmt.Sprintf("waiting for the processes of a killed launcher (process %d) to end", d.Holder()))
			told = true
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-tick.C:
		}
	}
}
