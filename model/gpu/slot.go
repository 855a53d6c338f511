package gpu

import (
	"errors"
	"unsafe"

	"sn3/model/gpu/cuda"
)

// slot is a pinned buffer through which the host and the card exchange data, and half of the workspace. It is taken by next, filled or
// read, and given back by used; then the card works on it until its event.
type slot struct {
	mem   *cuda.Pinned
	event *cuda.Event
	busy  bool
	half  int64 // where its half of the workspace begins
}

func (s *slot) make(c *cuda.Context, bytes int64) (err error) {
	if s.mem, err = c.Pin(bytes); err == nil {
		s.event, err = c.NewEvent()
	}
	return err
}

func (s *slot) free(c *cuda.Context) (err error) {
	if s.event != nil {
		err = c.FreeEvent(s.event)
	}
	if s.mem != nil {
		err = errors.Join(err, c.FreePinned(s.mem))
	}
	s.mem, s.event = nil, nil
	return err
}

// next is the slot that was used longest ago, once the card has done with it; nil after an error.
func (q *queue) next() *slot {
	i := q.turn % len(q.slots)
	s := &q.slots[i]
	q.turn++
	if q.wait(s); q.err != nil {
		return nil
	}
	return s
}

// used says that what was enqueued until now works on s.
func (q *queue) used(s *slot) {
	q.try(func() error { s.busy = true; return q.c.Record(s.event) })
}

// wait waits until the card has done with s.
func (q *queue) wait(s *slot) {
	if s.busy {
		q.try(func() error { s.busy = false; return q.c.SyncEvent(s.event) })
	}
}

// values are the slot's memory from byte at on.
func values[T cuda.Value](s *slot, at int64, n int) []T {
	var v T
	return cuda.Slice[T](s.mem)[at/size(v):][:n]
}

// pass sends any number of values through the slots: while the card takes one, the next is filled.
func pass[T cuda.Value](q *queue, dst cuda.Ptr, v []T) {
	for len(v) > 0 {
		s := q.next()
		if s == nil {
			return
		}
		x := cuda.Slice[T](s.mem)
		x = x[:copy(x, v)]
		send(q, dst, x)
		q.used(s)
		dst, v = dst.Add(size(x[0])*int64(len(x))), v[len(x):]
	}
}

// size is that of a value in bytes.
func size[T cuda.Value](v T) int64 { return int64(unsafe.Sizeof(v)) }
