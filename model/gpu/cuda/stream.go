package cuda

import (
	"errors"
	"time"
	"unsafe"
)

// NewStream makes a stream.
func (c *Context) NewStream() (*Stream, error) {
	s := new(Stream)
	if err := c.d.streamCreate.call(c.d, uintptr(unsafe.Pointer(&s.handle)), nonBlocking); err != nil {
		return nil, err
	}
	return s, nil
}

// FreeStream waits for what the stream does and ends it.
func (c *Context) FreeStream(s *Stream) error {
	if c.stream == s {
		c.stream = c.main
	}
	return c.d.streamDestroy.call(c.d, s.handle)
}

// Use makes s the current stream and returns the one before; nil is the context's first.
func (c *Context) Use(s *Stream) (before *Stream) {
	before = c.stream
	c.stream = s
	if s == nil {
		c.stream = c.main
	}
	return before
}

// Current is the current stream's handle, for libraries that enqueue on it.
func (c *Context) Current() uintptr { return c.stream.handle }

// Event is a point in a stream.
type Event struct{ handle uintptr }

// NewEvent makes an event.
func (c *Context) NewEvent() (*Event, error) {
	e := new(Event)
	if err := c.d.eventCreate.call(c.d, uintptr(unsafe.Pointer(&e.handle)), 0); err != nil {
		return nil, err
	}
	return e, nil
}

// FreeEvent ends an event.
func (c *Context) FreeEvent(e *Event) error { return c.d.eventDestroy.call(c.d, e.handle) }

// Record sets e to where the current stream is.
func (c *Context) Record(e *Event) error { return c.d.eventRecord.call(c.d, e.handle, c.stream.handle) }

// WaitFor lets the current stream wait for e.
func (c *Context) WaitFor(e *Event) error {
	return c.d.streamWaitEvent.call(c.d, c.stream.handle, e.handle, 0)
}

// SyncEvent waits on the host for e.
func (c *Context) SyncEvent(e *Event) error { return c.d.eventSynchronize.call(c.d, e.handle) }

// Between is the device's time from a to b, which both have happened.
func (c *Context) Between(a, b *Event) (time.Duration, error) {
	var ms float32
	if err := c.d.eventElapsed.call(c.d, uintptr(unsafe.Pointer(&ms)), a.handle, b.handle); err != nil {
		return 0, err
	}
	return time.Duration(float64(ms) * float64(time.Millisecond)), nil
}

// Graph is captured work that runs again as one.
type Graph struct{ handle uintptr }

// threadLocal: only this thread's calls can break a capture.
const threadLocal = 1

// Capture records what f enqueues on the current stream, and on streams that wait for its events, instead of running it.
// f must not allocate, free, copy synchronously or wait.
func (c *Context) Capture(f func() error) (*Graph, error) {
	s := c.stream
	if err := c.d.beginCapture.call(c.d, s.handle, threadLocal); err != nil {
		return nil, err
	}
	failed := f()
	c.stream = s
	var g uintptr
	if err := c.d.endCapture.call(c.d, s.handle, uintptr(unsafe.Pointer(&g))); err != nil || failed != nil {
		if failed == nil {
			failed = err // a call of f that was not allowed broke the capture, and says more
		}
		if g != 0 {
			failed = errors.Join(failed, c.d.graphDestroy.call(c.d, g))
		}
		return nil, failed
	}
	x := new(Graph)
	if err := c.d.graphInstantiate.call(c.d, uintptr(unsafe.Pointer(&x.handle)), g, 0); err != nil {
		return nil, errors.Join(err, c.d.graphDestroy.call(c.d, g))
	}
	if err := c.d.graphDestroy.call(c.d, g); err != nil {
		return nil, errors.Join(err, c.FreeGraph(x))
	}
	return x, nil
}

// Replay enqueues the captured work on the current stream.
func (c *Context) Replay(g *Graph) error { return c.d.graphLaunch.call(c.d, g.handle, c.stream.handle) }

// FreeGraph ends a graph.
func (c *Context) FreeGraph(g *Graph) error { return c.d.graphExecDestroy.call(c.d, g.handle) }
