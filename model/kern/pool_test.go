package kern

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// every counts how often each unit was run, and who breaks what Task promises.
type every struct {
	threads, most int
	n             [512]atomic.Int64
	busy          [MaxThreads]atomic.Bool
	broken        atomic.Int64
}

func (e *every) Run(w, from, to int) {
	if w < 0 || w >= max(1, e.threads) || from >= to || to-from > e.most || e.busy[w].Swap(true) {
		e.broken.Add(1)
		return
	}
	for i := from; i < to; i++ {
		e.n[i].Add(1)
	}
	e.busy[w].Store(false)
}

// Loops of several owners at once, of every size, on more threads than there are cores or units, while garbage is collected: each
// unit is run once, by workers of whom each is in one call, at most most at once.
func TestTeamRunsEveryUnitOnce(t *testing.T) {
	var owners, noise sync.WaitGroup
	var stop atomic.Bool
	noise.Go(func() {
		for !stop.Load() {
			runtime.GC()
		}
	})
	for owner := range 6 {
		owners.Go(func() {
			var team Team
			for round := range 300 {
				n, e := (round*7+owner)%len(every{}.n), &every{threads: (round + owner) % 9, most: 1 + round%5}
				team.Do(e.threads, n, e.most, e)
				if e.broken.Load() > 0 {
					t.Errorf("owner %d, round %d, %d threads: %d calls for nobody, of no units, of too many, or of one worker at once", owner, round, e.threads, e.broken.Load())
				}
				for i := range e.n {
					want := int64(0)
					if i < n {
						want = 1
					}
					if got := e.n[i].Load(); got != want {
						t.Errorf("owner %d, round %d, %d threads: unit %d of %d was run %d times", owner, round, e.threads, i, n, got)
						return
					}
				}
			}
		})
	}
	owners.Wait()
	stop.Store(true)
	noise.Wait()
}

// calls keeps the order in which units are run.
type calls [][3]int

func (c *calls) Run(w, from, to int) { *c = append(*c, [3]int{w, from, to}) }

// A worker takes its own share from the beginning, in pieces that become smaller, then the end of the share of which most is left.
func TestWorkerTakesItsShareFirst(t *testing.T) {
	for _, x := range []struct {
		n, threads, most, worker int
		want                     calls
	}{
		{12, 3, 2, 1, calls{{1, 4, 6}, {1, 6, 7}, {1, 7, 8}, {1, 2, 4}, {1, 10, 12}, {1, 1, 2}, {1, 9, 10}, {1, 0, 1}, {1, 8, 9}}},
		{7, 2, 9, 0, calls{{0, 0, 2}, {0, 2, 3}, {0, 5, 7}, {0, 4, 5}, {0, 3, 4}}},
		{3, 3, 1, 2, calls{{2, 2, 3}, {2, 0, 1}, {2, 1, 2}}},
	} {
		var got calls
		j := &job{workers: x.threads, most: x.most, task: &got}
		for w := range x.threads {
			j.shares[w].set(w*x.n/x.threads, (w+1)*x.n/x.threads)
		}
		if j.run(x.worker); !slices.Equal(got, x.want) {
			t.Errorf("%d units, %d workers, at most %d: worker %d takes %v, want %v", x.n, x.threads, x.most, x.worker, got, x.want)
		}
	}
}

// uneven has one unit that ends after all others.
type uneven struct {
	slow, n int
	done    atomic.Int64
	others  chan struct{}
	by      [512]int // who ran a unit
}

func (u *uneven) Run(w, from, to int) {
	for i := from; i < to; i++ {
		u.by[i] = w
		if i == u.slow {
			<-u.others
		} else if u.done.Add(1) == int64(u.n-1) {
			close(u.others)
		}
	}
}

// Whoever is held up by one unit keeps no other: the rest of its share is done by those who are ready. Without that the loop
// would not end.
func TestNobodyWaitsForAShare(t *testing.T) {
	var team Team
	for _, threads := range []int{2, 3, 5} {
		for round := range 40 {
			u := &uneven{n: 100 + round, others: make(chan struct{})}
			u.slow = []int{0, u.n / threads, u.n/threads + 7, u.n - 1}[round%4]
			team.Do(threads, u.n, 1, u)
			if u.done.Load() != int64(u.n-1) {
				t.Fatalf("%d threads, %d units: %d were run beside the slow one", threads, u.n, u.done.Load())
			}
			if w := u.by[u.slow]; u.slow == 0 && slices.Contains(u.by[1:u.n], w) && w == 0 {
				t.Fatalf("%d threads: worker 0 ran more than the unit that it was held up by", threads)
			}
		}
	}
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

// A loop ends although every helper is busy for somebody else, who ends only after it: its owner does all of it.
func TestLoopDoesNotWaitForAnother(t *testing.T) {
	release, inside := make(chan struct{}), make(chan struct{}, MaxThreads)
	var long sync.WaitGroup
	long.Go(func() {
		Par(MaxThreads, MaxThreads, func(int) {
			inside <- struct{}{}
			<-release
		})
	})
	for range MaxThreads { // its owner and the helpers
		<-inside
	}
	defer func() {
		close(release)
		long.Wait()
	}()
	var team Team
	for round := range 100 {
		e := &every{threads: 1, most: 3} // nobody but worker 0
		team.Do(2+round, 64, 3, e)
		for i := range 64 {
			if e.broken.Load() > 0 || e.n[i].Load() != 1 {
				t.Fatalf("round %d: unit %d was run %d times, %d calls by others", round, i, e.n[i].Load(), e.broken.Load())
			}
		}
	}
}
