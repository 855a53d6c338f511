package gpu

import (
	"errors"
	"time"

	"sn3/model/gpu/cuda"
)

// Launch is one launch of a kernel, or other work of the card, as a trace saw it.
type Launch struct {
	Kernel string
	Grid   [3]int
	Args   [16]int64     // its integers, each where it stands among the arguments; 0 for the others
	Took   time.Duration // on the card, from an event before it to one behind it
}

// trace collects the launches of a card. Event 2i stands before launch i of those that are not timed yet, the next one behind it.
type trace struct {
	launches []Launch
	events   []*cuda.Event
	open     int // launches at the end of the list whose times are not read yet
}

// pending is how many launches may wait for their times.
const pending = 4096

// Traced runs f, which trains with t, and returns what the card was given to do meanwhile, one by one and timed. The host then says every
// launch itself, instead of replaying a graph, and events stand between launches: the sum is a little more than a step takes.
func (t *Trainer) Traced(f func() error) ([]Launch, error) { return t.net.traced(f) }

// Traced is Trainer.Traced for what a judge measures.
func (j *Judge) Traced(f func() error) ([]Launch, error) { return j.net.traced(f) }

func (k *card) traced(f func() error) ([]Launch, error) {
	to := new(trace)
	if err := k.dev.Do(func(*cuda.Context) error { k.trace = to; return nil }); err != nil {
		return nil, err
	}
	err := f()
	return to.launches, errors.Join(err, k.dev.Do(func(c *cuda.Context) error {
		k.trace = nil
		var read error
		if err == nil { // after an error the last launch may not have been made
			read = to.read(c)
		}
		return errors.Join(read, to.free(c))
	}))
}

// begin stands before work that run does not launch itself, end behind it; without a trace they cost nothing. Of args only integers are
// kept, so that they need not be on the heap.
func (q *queue) begin(name string, x, y, z int, args ...any) {
	if q.trace == nil || q.err != nil {
		return
	}
	l := Launch{Kernel: name, Grid: [3]int{x, y, z}}
	for i, a := range args[:min(len(args), len(l.Args))] {
		switch v := a.(type) {
		case int:
			l.Args[i] = int64(v)
		case int32:
			l.Args[i] = int64(v)
		case int64:
			l.Args[i] = v
		}
	}
	to := q.trace
	if to.open == pending {
		q.err = to.read(q.c)
	}
	if q.err == nil {
		q.err = to.mark(q.c, 2*to.open)
	}
	to.launches = append(to.launches, l)
}

func (q *queue) end() {
	if to := q.trace; to != nil && q.err == nil {
		q.err = to.mark(q.c, 2*to.open+1)
		to.open++
	}
}

// mark records event i.
func (t *trace) mark(c *cuda.Context, i int) error {
	if i == len(t.events) {
		e, err := c.NewEvent()
		if err != nil {
			return err
		}
		t.events = append(t.events, e)
	}
	return c.Record(t.events[i])
}

// read waits for the launches that are not timed, and times them.
func (t *trace) read(c *cuda.Context) error {
	if t.open == 0 {
		return nil
	}
	if err := c.SyncEvent(t.events[2*t.open-1]); err != nil {
		return err
	}
	last := t.launches[len(t.launches)-t.open:]
	for i := range last {
		took, err := c.Between(t.events[2*i], t.events[2*i+1])
		if err != nil {
			return err
		}
		last[i].Took = took
	}
	t.open = 0
	return nil
}

func (t *trace) free(c *cuda.Context) (err error) {
	for _, e := range t.events {
		err = errors.Join(err, c.FreeEvent(e))
	}
	t.events = nil
	return err
}
