package kern

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Task is the body of a parallel loop: Run is units [from, to), by worker w, of whom each is in one call at a time.
type Task interface{ Run(w, from, to int) }

// Team runs parallel loops for one owner, one at a time, without allocating. The zero value is ready.
type Team struct{ job job }

// job is one loop. Every worker has a share of the units, neighbours together, and takes from its beginning; who has none left
// takes from the end of the largest other share. So loops over the same rows, one after the other, find most of them in the
// cache of the core that had them before, and all workers end together.
type job struct {
	joined, left atomic.Int64
	workers      int
	most         int // units taken at once
	task         Task
	shares       [MaxThreads]share
}

// share is the units [from, to) that are left of one worker's, from in the upper half, in a cache line of its own.
type share struct {
	left atomic.Uint64
	_    [56]byte
}

func (s *share) set(from, to int) { s.left.Store(uint64(from)<<32 | uint64(to)) }

func (s *share) get() (from, to int, was uint64) {
	was = s.left.Load()
	return int(was >> 32), int(uint32(was)), was
}

// piece is how many of n units are taken at once: fewer towards the end.
func (j *job) piece(n int) int { return min(j.most, (n+1)/2) }

func (j *job) run(w int) {
	for s := &j.shares[w]; ; {
		from, to, was := s.get()
		if from >= to {
			break
		}
		end := from + j.piece(to-from)
		if s.left.CompareAndSwap(was, uint64(end)<<32|uint64(to)) {
			j.task.Run(w, from, end)
		}
	}
	for s := j.largest(); s != nil; s = j.largest() {
		from, to, was := s.get()
		if from >= to {
			continue
		}
		begin := to - j.piece(to-from)
		if s.left.CompareAndSwap(was, uint64(from)<<32|uint64(begin)) {
			j.task.Run(w, begin, to)
		}
	}
}

// largest is the share of which most is left; nil: nothing is left of any.
func (j *job) largest() (best *share) {
	most := 0
	for w := range j.workers {
		if from, to, _ := j.shares[w].get(); to-from > most {
			best, most = &j.shares[w], to-from
		}
	}
	return best
}

// Do runs units 0..n-1 of t on up to threads goroutines, the caller's among them, at most most at once, and returns when all are
// done. The caller is worker 0.
func (t *Team) Do(threads, n, most int, task Task) {
	threads = min(threads, n, MaxThreads)
	if threads <= 1 {
		for i := 0; i < n; i += most {
			task.Run(0, i, min(i+most, n))
		}
		return
	}
	j := &t.job
	j.workers, j.most, j.task = threads, most, task
	for w := range threads {
		j.shares[w].set(w*n/threads, (w+1)*n/threads)
	}
	j.joined.Store(0)
	helpers.start(threads - 1)
	sent := int64(0)
	for range threads - 1 {
		if helpers.offer(j) {
			sent++
		}
	}
	j.run(0)
	sent -= helpers.withdraw(j)
	for spin := 1; j.left.Load() < sent; spin++ { // a helper that took the job leaves it soon
		if spin%(1<<14) == 0 { // longer than most tasks: the scheduler's lock is not free
			runtime.Gosched()
		}
	}
	j.left.Store(0)
	j.task = nil
}

// Par is Do for a function, for loops that are not in the steady state of training.
func Par(threads, n int, f func(i int)) {
	var t Team
	t.Do(threads, n, 1, taskFunc(f))
}

type taskFunc func(int)

func (f taskFunc) Run(_, from, to int) {
	for i := from; i < to; i++ {
		f(i)
	}
}

// spins is how long a helper looks for the next loop before it sleeps: some 20 µs, longer than the serial code between two
// loops of a step. A process with one compute thread has no helpers.
const spins = 20000

// MaxThreads is how many goroutines run a loop at most, whatever is asked for.
const MaxThreads = 65

// crew is the helper goroutines of this process, which sleep between steps. A slot is nil, a job that is offered, or busy while
// the helper runs one, so that nobody waits for a helper that is at work for another owner, or for itself in a loop within a loop.
type crew struct {
	mu    sync.Mutex
	n     atomic.Int32
	slots [MaxThreads - 1]atomic.Pointer[job]
	idle  [MaxThreads - 1]atomic.Bool
	wake  [MaxThreads - 1]chan struct{}
}

var (
	helpers crew
	busy    job // what a slot holds while its helper runs
)

func (c *crew) start(n int) {
	n = min(n, len(c.slots))
	if int(c.n.Load()) >= n {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for int(c.n.Load()) < n {
		k := int(c.n.Load())
		c.wake[k] = make(chan struct{}, 1)
		go c.help(k)
		c.n.Add(1)
	}
}

func (c *crew) help(k int) {
	for {
		j := c.take(k)
		for j == nil { // nothing for a while: announce the sleep, look once more, sleep
			c.idle[k].Store(true)
			if j = c.slots[k].Load(); j == nil {
				<-c.wake[k]
			}
			c.idle[k].Store(false)
			j = c.slots[k].Load()
		}
		if c.slots[k].CompareAndSwap(j, &busy) { // else it was withdrawn
			j.run(int(j.joined.Add(1)))
			c.slots[k].Store(nil)
			j.left.Add(1)
		}
	}
}

// take spins until helper k's slot is filled; nil when it has spun long enough.
func (c *crew) take(k int) *job {
	for s := range spins {
		if j := c.slots[k].Load(); j != nil {
			return j
		}
		if s&8191 == 8191 {
			runtime.Gosched()
		}
	}
	return nil
}

// offer hands j to a helper that has no loop; false when all are taken.
func (c *crew) offer(j *job) bool {
	for k := range c.n.Load() {
		if c.slots[k].CompareAndSwap(nil, j) {
			if c.idle[k].Load() {
				select {
				case c.wake[k] <- struct{}{}:
				default:
				}
			}
			return true
		}
	}
	return false
}

// withdraw takes j back from the helpers that have not begun it, and returns how many these are.
func (c *crew) withdraw(j *job) (n int64) {
	for k := range c.n.Load() {
		if c.slots[k].CompareAndSwap(j, nil) {
			n++
		}
	}
	return n
}
