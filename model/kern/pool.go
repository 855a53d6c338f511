package kern

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Task is the body of a parallel loop; Run must be safe to call for different i at once.
type Task interface{ Run(i int) }

// Team runs parallel loops for one owner, one at a time, without allocating. The zero value is ready.
type Team struct{ job job }

// job is one loop; helpers take indices until none is left.
type job struct {
	next, left atomic.Int64
	n          int64
	task       Task
}

func (j *job) run() {
	for i := j.next.Add(1) - 1; i < j.n; i = j.next.Add(1) - 1 {
		j.task.Run(int(i))
	}
}

// Do runs t.Run(0..n-1) on up to threads goroutines, the caller's among them, and returns when all are done.
func (t *Team) Do(threads, n int, task Task) {
	threads = min(threads, n)
	if threads <= 1 {
		for i := range n {
			task.Run(i)
		}
		return
	}
	j := &t.job
	j.n, j.task = int64(n), task
	j.next.Store(0)
	helpers.start(threads - 1)
	sent := int64(0)
	for range threads - 1 {
		if helpers.offer(j) {
			sent++
		}
	}
	j.run()
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
	t.Do(threads, n, taskFunc(f))
}

type taskFunc func(int)

func (f taskFunc) Run(i int) { f(i) }

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
			j.run()
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
