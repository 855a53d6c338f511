package gpu

import (
	"sync"

	"sn3/model"
	"sn3/model/gpu/memory"
	"sn3/model/kern"
)

// host is what the plan offload keeps in the host's memory, as vec lies: master parameters and moments. AdamW runs here: gradients come
// down in bfloat16, rounded parameters go up.
type host struct {
	w, m, v []float32
	threads int
}

func newHost(size, threads int) *host {
	return &host{make([]float32, size), make([]float32, size), make([]float32, size), max(1, threads)}
}

// moment is m or v.
func (h *host) moment(second bool) []float32 {
	if second {
		return h.v
	}
	return h.m
}

// update makes AdamW's step, while the gradient of the next pieces comes down.
func (h *host) update(q *queue, t *Trainer, rate float64, clip float32) {
	n, o := t.net, t.constants(rate)
	each := int(n.slot / 2 / memory.PieceValues) // pieces that go through a slot at once: the gradient's values, and in their place the parameters'
	o.Scale = clip
	come := func(first int) *slot {
		s := q.next()
		if s == nil {
			return nil
		}
		from, to := t.from[first], t.from[min(first+each, t.pieces())]
		receive(q, values[uint16](s, 0, int(to-from)), n.g.Add(2*from))
		q.used(s)
		return s
	}
	s := come(0)
	for first := 0; first < t.pieces() && q.err == nil; first += each {
		q.wait(s)
		var following *slot
		if first+each < t.pieces() {
			following = come(first + each)
		}
		if q.err != nil {
			return
		}
		last := min(first+each, t.pieces())
		from, to := t.from[first], t.from[last]
		x := halves(values[uint16](s, 0, int(to-from)))
		h.step(t, o, first, last, x)
		send(q, n.half.Add(2*from), values[uint16](s, 0, int(to-from)))
		q.used(s)
		s = following
	}
	h.sendNorms(q, n)
}

// step makes the step of pieces first to last−1, whose gradients are in x, and leaves the new parameters there.
func (h *host) step(t *Trainer, o kern.AdamW, first, last int, x []kern.BF16) {
	var wait sync.WaitGroup
	for thread := range h.threads {
		wait.Go(func() {
			g := make([]float32, memory.PieceValues+unit)
			for i := first + thread; i < last; i += h.threads {
				from, to, at := t.from[i], t.from[i+1], t.from[i]-t.from[first]
				x, o := x[at:at+to-from], o
				if t.decay[i] == 0 {
					o.Decay = 0
				}
				t.k.FromBF16(g[:to-from], x)
				t.k.Step(o, h.w[from:to], g[:to-from], h.m[from:to], h.v[from:to], x)
			}
		})
	}
	wait.Wait()
}

// sendNorms brings the norms' weights to the card, which kernels take as float32.
func (h *host) sendNorms(q *queue, n *net) {
	for _, at := range n.vec.norms() {
		if s := q.next(); s != nil {
			x := values[float32](s, 0, n.cfg.Width)
			copy(x, h.w[at:])
			send(q, n.norms[at], x)
			q.used(s)
		}
	}
}

// replace makes what fill gives the parameters, when all of it is there, and says whether it was.
func (h *host) replace(q *queue, t *Trainer, fill func(dst []float32, r model.ChunkRange) error) bool {
	n, next := t.net, model.NewFlat(t.net.layout)
	n.stretches(n.layout.All(), func(r model.ChunkRange) {
		from, to := n.layout.Span(r)
		q.try(func() error { return fill(next.Data[from:to], r) })
	})
	if q.err != nil {
		return false
	}
	n.scatter(h.w, next)
	most := int(n.slot / 2)
	for at := 0; at < n.vec.size; at += most {
		if s := q.next(); s != nil {
			count := min(most, n.vec.size-at)
			x := values[uint16](s, 0, count)
			t.k.ToBF16(halves(x), h.w[at:at+count])
			send(q, n.half.Add(2*int64(at)), x)
			q.used(s)
		}
	}
	h.sendNorms(q, n)
	return true
}

// scatter brings all chunks to a vector of the host that lies as vec, gather brings some from it.
func (n *net) scatter(to []float32, w *model.Flat) {
	for i := range n.layout.Chunks() {
		c, src := n.layout.Chunk(i), w.Data
		for r := range c.Rows {
			copy(to[n.places[3*i]+int64(r*c.Stride):][:c.Cols], src[c.Start+r*c.Cols:])
		}
	}
}

func (n *net) gather(dst, from []float32, r model.ChunkRange) {
	for i := r.From; i < r.To; i++ {
		c := n.layout.Chunk(i)
		for r := range c.Rows {
			copy(dst[:c.Cols], from[n.places[3*i]+int64(r*c.Stride):])
			dst = dst[c.Cols:]
		}
	}
}

// gather and scatter of a vector copy values from at on of the row-major one.
func (v *vector) gather(dst []float32, at int, from []float32) {
	v.runs(at, len(dst), func(host, card, count int) { copy(dst[host-at:][:count], from[card:]) })
}

func (v *vector) scatter(to []float32, at int, src []float32) {
	v.runs(at, len(src), func(host, card, count int) { copy(to[card:], src[host-at:][:count]) })
}
