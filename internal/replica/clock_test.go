package replica

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
)

// count is how many are at work.
func (l *Load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

// Who raises a gate counts the released as at work before Raise returns: no moment in between is idle.
func TestRaiseCountsTheReleased(t *testing.T) {
	load := NewLoad()
	g := NewGate(load)
	const waiters = 20
	var done sync.WaitGroup
	hold := make(chan struct{})
	for i := range waiters {
		load.Add(1)
		done.Add(1)
		go func() {
			defer done.Done()
			defer load.Add(-1)
			if err := g.Wait(context.Background(), uint64(1+i%2)); err != nil {
				t.Error(err)
			}
			<-hold
		}()
	}
	load.Idle()
	g.Raise(1)
	if n := load.count(); n != waiters/2 {
		t.Errorf("after Raise(1) %d are at work, want %d", n, waiters/2)
	}
	g.Raise(2)
	g.Raise(1) // a gate never falls
	if n, level := load.count(), g.Level(); n != waiters || level != 2 {
		t.Errorf("after Raise(2) %d are at work at level %d, want %d at 2", n, level, waiters)
	}
	close(hold)
	done.Wait()
	load.Idle()
}

// When a block ends an Until, those who wait at another gate under it count as at work before the block is over.
func TestUntilCountsTheReleased(t *testing.T) {
	for range 200 {
		load := NewLoad()
		clock, other := NewClock(load), NewGate(load)
		var late atomic.Bool
		for range 3 {
			clock.Go(func() {
				ctx, cancel := clock.Until(context.Background(), 5)
				defer cancel()
				if err := other.Wait(ctx, 1); !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
				late.Store(true)
			})
		}
		load.Idle()
		clock.Advance(chain.Head{Block: 4})
		load.Idle()
		if late.Load() {
			t.Fatal("ended before its block")
		}
		clock.Advance(chain.Head{Block: 5})
		load.Idle()
		if !late.Load() {
			t.Fatal("the clock could go on while a released goroutine was still to run")
		}
	}
}

func TestUntilInThePast(t *testing.T) {
	clock := NewClock(nil)
	clock.Advance(chain.Head{Block: 9})
	ctx, cancel := clock.Until(context.Background(), 9)
	defer cancel()
	if ctx.Err() == nil {
		t.Error("block 9 is final and the context has not ended")
	}
	if err := clock.Wait(ctx, 3); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting under an ended context gives %v", err)
	}
}

func TestClockNeverFalls(t *testing.T) {
	clock := NewClock(nil)
	for _, b := range []chain.Block{3, 7, 5} {
		clock.Advance(chain.Head{Block: b})
	}
	if clock.Now().Block != 7 {
		t.Errorf("the clock says %d", clock.Now().Block)
	}
	if err := clock.Wait(context.Background(), 7); err != nil {
		t.Error(err)
	}
}

// Each runs all at once, counts each until it waits, and gives the caller its place back.
func TestEach(t *testing.T) {
	load := NewLoad()
	clock := NewClock(load)
	clock.Each(0, func(int) { t.Error("nothing to run") })
	var ran [5]atomic.Int32
	var during atomic.Int64
	over := make(chan struct{})
	clock.Go(func() {
		defer close(over)
		clock.Each(len(ran), func(i int) {
			if err := clock.Wait(context.Background(), chain.Block(i)); err != nil { // 0 is final already
				t.Error(err)
			}
			ran[i].Add(1)
		})
		during.Store(int64(load.count()))
	})
	for b := chain.Block(1); b < 5; b++ {
		load.Idle() // the caller does not count while it waits for the others
		clock.Advance(chain.Head{Block: b})
	}
	<-over
	load.Idle()
	for i := range ran {
		if ran[i].Load() != 1 {
			t.Errorf("f(%d) ran %d times", i, ran[i].Load())
		}
	}
	if during.Load() != 1 {
		t.Errorf("after Each %d count as at work, want the caller alone", during.Load())
	}
}

// A nil Load is a real node's: everything works without one.
func TestWithoutLoad(t *testing.T) {
	clock := NewClock(nil)
	done := make(chan error, 1)
	clock.Go(func() { done <- clock.Wait(context.Background(), 2) })
	clock.Advance(chain.Head{Block: 1})
	clock.Advance(chain.Head{Block: 2})
	if err := <-done; err != nil {
		t.Error(err)
	}
	n := 0
	clock.Each(1, func(int) { n++ })
	if n != 1 {
		t.Error("Each did not run")
	}
}

// Whatever waits, is released and given up in whatever order: nobody is lost, nobody goes on too early, the count comes back
// to zero.
func TestGateProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		load := NewLoad()
		g := NewGate(load)
		var wg sync.WaitGroup
		type w struct {
			level  uint64
			cancel context.CancelFunc
		}
		var all []w
		for range rapid.IntRange(1, 12).Draw(rt, "waiters") {
			ctx, cancel := context.WithCancel(context.Background())
			x := w{rapid.Uint64Range(0, 6).Draw(rt, "level"), cancel}
			all = append(all, x)
			load.Add(1)
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer load.Add(-1)
				if err := g.Wait(ctx, x.level); err == nil && g.Level() < x.level {
					t.Errorf("released for %d at level %d", x.level, g.Level())
				}
			}()
		}
		for range rapid.IntRange(0, 8).Draw(rt, "steps") {
			if rapid.Bool().Draw(rt, "raise") {
				g.Raise(rapid.Uint64Range(0, 6).Draw(rt, "to"))
			} else {
				all[rapid.IntRange(0, len(all)-1).Draw(rt, "which")].cancel()
			}
		}
		load.Idle()
		for _, x := range all {
			x.cancel()
		}
		wg.Wait()
		if n := load.count(); n != 0 || len(load.waiting) != 0 || len(g.waiting) != 0 {
			t.Errorf("%d at work, %d and %d waiting after all have ended", n, len(load.waiting), len(g.waiting))
		}
	})
}
