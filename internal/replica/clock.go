package replica

import (
	"context"
	"sync"
	"sync/atomic"

	"sn3/chain"
)

// Load counts goroutines that are at work, as opposed to waiting for a block or for an applied window. A simulation makes
// the next block when it is zero; a real node has none (nil is fine).
type Load struct {
	mu      sync.Mutex
	cond    *sync.Cond
	n       int
	waiting map[*waiter]struct{} // not counted in n until they are released
}

// NewLoad returns an idle Load.
func NewLoad() *Load {
	l := &Load{waiting: map[*waiter]struct{}{}}
	l.cond = sync.NewCond(&l.mu)
	return l
}

// Add changes the count by n.
func (l *Load) Add(n int) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(n)
}

func (l *Load) add(n int) {
	l.n += n
	if l.n == 0 {
		l.cond.Broadcast()
	}
}

// Idle waits until nobody is at work.
func (l *Load) Idle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.n != 0 {
		l.cond.Wait()
	}
}

// enter takes a goroutine that begins to wait out of the count.
func (l *Load) enter(w *waiter) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting[w] = struct{}{}
	l.add(-1)
}

// leave counts a waiter as at work again, once however often it is called.
func (l *Load) leave(w *waiter) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, still := l.waiting[w]; still {
		delete(l.waiting, w)
		l.add(1)
	}
}

// sweep counts those waiters as at work whose context has ended: they are about to go on.
func (l *Load) sweep() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := range l.waiting {
		if w.ctx.Err() != nil {
			delete(l.waiting, w)
			l.add(1)
		}
	}
}

// Gate lets goroutines wait until a level only ever rising is reached. The one who raises the level counts the released
// waiters as at work before it returns, so a simulation never sees a moment without work in between.
type Gate struct {
	mu      sync.Mutex
	level   uint64
	waiting map[*waiter]struct{}
	load    *Load
}

type waiter struct {
	ctx   context.Context
	level uint64
	ch    chan struct{}
}

// NewGate makes a gate at level 0; load may be nil.
func NewGate(load *Load) *Gate { return &Gate{load: load} }

// Raise sets the level and releases who waits for it.
func (g *Gate) Raise(level uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if level <= g.level {
		return
	}
	g.level = level
	for w := range g.waiting {
		if w.level <= level {
			delete(g.waiting, w)
			g.load.leave(w)
			close(w.ch)
		}
	}
}

// Level is the level reached.
func (g *Gate) Level() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.level
}

// Wait returns when the level is reached or ctx ends.
func (g *Gate) Wait(ctx context.Context, level uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	g.mu.Lock()
	if g.level >= level {
		g.mu.Unlock()
		return nil
	}
	w := &waiter{ctx, level, make(chan struct{})}
	if g.waiting == nil {
		g.waiting = map[*waiter]struct{}{}
	}
	g.waiting[w] = struct{}{}
	g.load.enter(w)
	g.mu.Unlock()
	defer g.load.leave(w)
	select {
	case <-w.ch:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.waiting, w)
	return ctx.Err()
}

// Clock is a node's view of the chain's height: the only clock of the protocol.
type Clock struct {
	gate Gate
	mu   sync.Mutex
	head chain.Head
}

// NewClock makes a clock; load may be nil.
func NewClock(load *Load) *Clock { return &Clock{gate: Gate{load: load}} }

// Load is what the clock counts waiting goroutines in; may be nil.
func (c *Clock) Load() *Load { return c.gate.load }

// Advance tells the clock of a final head.
func (c *Clock) Advance(h chain.Head) {
	c.mu.Lock()
	if h.Block > c.head.Block {
		c.head = h
	}
	c.mu.Unlock()
	c.gate.Raise(uint64(h.Block))
}

// Now is the newest head.
func (c *Clock) Now() chain.Head {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.head
}

// Wait returns when block b is final.
func (c *Clock) Wait(ctx context.Context, b chain.Block) error { return c.gate.Wait(ctx, uint64(b)) }

// WaitNext waits for one more block: the pause between tries.
func (c *Clock) WaitNext(ctx context.Context) error { return c.Wait(ctx, c.Now().Block+1) }

// Until returns a context that ends when block b is final. Who waits at a gate under it is at work from then on.
func (c *Clock) Until(ctx context.Context, b chain.Block) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if c.Now().Block >= b {
		cancel()
		return ctx, cancel
	}
	c.Go(func() {
		if c.Wait(ctx, b) == nil {
			cancel()
			c.gate.load.sweep()
		}
	})
	return ctx, cancel
}

// Go starts a goroutine that counts as at work until it returns or waits.
func (c *Clock) Go(f func()) {
	load := c.gate.load
	load.Add(1)
	go func() {
		defer load.Add(-1)
		f()
	}()
}

// Each runs f(0) … f(n-1) at once and returns when all have ended. Each of them counts as at work until it returns or
// waits; the caller does not count meanwhile.
func (c *Clock) Each(n int, f func(i int)) {
	if n == 0 {
		return
	}
	load := c.gate.load
	load.Add(n - 1) // the caller's own place is the last one's
	var left atomic.Int64
	left.Store(int64(n))
	done := make(chan struct{})
	for i := range n {
		go func() {
			defer func() {
				if left.Add(-1) > 0 {
					load.Add(-1)
				} else {
					close(done)
				}
			}()
			f(i)
		}()
	}
	<-done
}
