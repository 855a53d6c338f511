package gpu

import (
	"fmt"

	"sn3/model"
	"sn3/model/gpu/cuda"
	"sn3/model/gpu/kernels"
	"sn3/model/gpu/memory"
)

// space is a model's memory on the card: the regions of an arena. What does not depend on the batch lies in fixed; what does, behind
// it or in work.
type space struct {
	request     memory.Request
	at          map[string]cuda.Ptr // of every region
	fixed, work cuda.Ptr            // allocations
	rows, span  int                 // tokens in all and of a sequence that there is room for
	slot        int64               // bytes of one
	stretch     int                 // chunks that one has room for
}

// allocate makes the arena for the request's micro-batch, or without one what does not depend on it.
func (n *net) allocate(q *queue) {
	r := n.request
	sized := r.MicroBatch > 0
	r.MicroBatch = max(1, r.MicroBatch)
	a := r.Arena()
	for i := range n.slots {
		n.slots[i].half = int64(i) * n.slot
		q.try(func() error { return n.slots[i].make(q.c, n.slot) })
	}
	size := a.Fixed
	if sized {
		size = a.Size
	}
	if n.fixed = q.allocate(size); q.err != nil {
		return
	}
	n.at = map[string]cuda.Ptr{}
	n.name(q, a, n.fixed, 0, a.Fixed)
	if sized {
		n.name(q, a, n.fixed.Add(a.Fixed), a.Fixed, a.Size)
		n.rows, n.span = r.MicroBatch*r.Model.Seq, r.Model.Seq
	}
	n.openProducts(q, n.at["workspace"], memory.Slots*n.slot)
	q.clear(n.fixed, a.Fixed)
	if n.bind(); sized {
		n.turns(q, n.span)
	}
}

// reserve makes room for B sequences of T tokens.
func (n *net) reserve(q *queue, B, T int) {
	if q.err != nil || B*T <= n.rows && T <= n.span {
		return
	}
	rows, span := max(n.rows, B*T), max(n.span, T)
	n.rows, n.span = 0, 0 // until there is room again
	q.try(func() error { return q.dropGraphs(q.c) })
	q.free(n.work)
	n.work = 0
	r := n.request
	r.Model.Seq, r.MicroBatch = span, blocks(rows, span)
	a := r.Arena()
	if n.work = q.allocate(a.Size - a.Fixed); q.err != nil {
		return
	}
	n.name(q, a, n.work, a.Fixed, a.Size)
	n.bind()
	if n.turns(q, span); q.err == nil {
		n.rows, n.span = r.MicroBatch*span, span
	}
}

// name finds the regions from byte from to byte to of an arena at base; on the stand-in each has bounds of its own.
func (n *net) name(q *queue, a memory.Arena, base cuda.Ptr, from, to int64) {
	for _, x := range a.Regions {
		if x.Off >= from && x.Off < to {
			p := base.Add(x.Off - from)
			n.at[x.Name] = p
			q.try(func() error { return q.c.Part(p, x.Size, x.Name) })
		}
	}
}

// turns brings the rotary angles of T positions to the card.
func (n *net) turns(q *queue, T int) {
	cos, sin := angles(n.cfg, T)
	put(q, n.cos, cos)
	put(q, n.sin, sin)
}

// load brings a batch to the card.
func (n *net) load(q *queue, b model.Batch) {
	N := len(b.X)
	if int64(N) > n.slot/16-1 {
		q.try(func() error { return fmt.Errorf("%d tokens at once; give a smaller micro-batch", N) })
	}
	if n.reserve(q, b.B, b.T); q.err != nil {
		return
	}
	s := q.next()
	if s == nil {
		return
	}
	in := func(k int) []int32 { return values[int32](s, 4*int64(k*(N+1)), N+k/3) } // the last one has N+1
	copy(in(0), b.X)
	copy(in(1), b.Y)
	send(q, n.x, in(0))
	send(q, n.y, in(1))
	if !n.request.Judge {
		kernels.Segments(b.X, in(2), in(3))
		send(q, n.order, in(2))
		send(q, n.start, in(3))
	}
	q.used(s)
}
