package kern

import (
	"sync"
	"sync/atomic"
	"testing"
)

// every counts how often each index was run.
type every struct {
	n    [512]atomic.Int64
	busy [MaxThreads]atomic.Bool
}

func (e *every) Run(w, from, to int) {
	if e.busy[w].Swap(true) {
		e.n[from].Add(1000)
	}
	for i := from; i < to; i++ {
		e.n[i].Add(1)
	}
	e.busy[w].Store(false)
}

// Loops of several owners at once, of every size, on more threads than there are cores or units: each index is run once.
func TestTeamRunsEveryIndexOnce(t *testing.T) {
	var owners sync.WaitGroup
	for owner := range 6 {
		owners.Go(func() {
			var team Team
			for round := range 300 {
				n, threads := (round*7+owner)%len(every{}.n), (round+owner)%9
				e := &every{}
				team.Do(threads, n, 1+round%5, e)
				for i := range e.n {
					want := int64(0)
					if i < n {
						want = 1
					}
					if got := e.n[i].Load(); got != want {
						t.Errorf("owner %d, round %d, %d threads: index %d of %d was run %d times", owner, round, threads, i, n, got)
						return
					}
				}
			}
		})
	}
	owners.Wait()
}

// A loop within a loop ends: no helper waits for itself.
func TestLoopsNest(t *testing.T) {
	var n atomic.Int64
	for range 50 {
		Par(4, 8, func(int) { Par(4, 8, func(int) { Par(3, 4, func(int) { n.Add(1) }) }) })
	}
	if n.Load() != 50*8*8*4 {
		t.Errorf("%d units were run", n.Load())
	}
}

// A loop ends although the helper is busy for somebody else, who ends only after it.
func TestLoopDoesNotWaitForAnother(t *testing.T) {
	release, inside := make(chan struct{}), make(chan struct{}, 2)
	var long sync.WaitGroup
	long.Go(func() {
		Par(2, 2, func(int) {
			inside <- struct{}{}
			<-release
		})
	})
	<-inside
	<-inside // its owner and a helper
	var n atomic.Int64
	for range 100 {
		Par(2, 64, func(int) { n.Add(1) })
	}
	close(release)
	long.Wait()
	if n.Load() != 6400 {
		t.Errorf("%d units were run", n.Load())
	}
}
