package compute

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

// Each holder opens the files anew, as separate processes do: flock belongs to the open file.
func TestAtMostNAtOnce(t *testing.T) {
	dir := t.TempDir()
	var inside, most atomic.Int32
	var wg sync.WaitGroup
	for range 6 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			s, err := Open(dir, 2)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			for range 50 {
				err := s.Run(context.Background(), func() error {
					n := inside.Add(1)
					for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
					}
					inside.Add(-1)
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		}()
	}
	wg.Wait()
	if most.Load() > 2 {
		t.Fatalf("%d holders at once, want at most 2", most.Load())
	}
}

func TestWaitEndsWithContext(t *testing.T) {
	dir := t.TempDir()
	a, err := Open(dir, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := Open(dir, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	ctx, cancel := context.WithCancel(context.Background())
	err = a.Run(ctx, func() error {
		cancel()
		return b.Run(ctx, func() error { return errors.New("must not run") })
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}
