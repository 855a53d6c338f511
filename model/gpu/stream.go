package gpu

import (
	"fmt"
	"unsafe"

	"sn3/model"
	"sn3/model/gpu/cuda"
	"sn3/model/kern"
)

// Between steps parameters pass through the slots a stretch of chunks at a time: a pinned buffer on the host and, at the same place,
// half of the workspace on the card, where chunks lie one behind the other; move_chunks brings them to the vector, or from it.
//
// At most stretch chunks: a slot has room for them, and behind them for the tables of move_chunks (memory.Slot).
const stretch = 960

// tablesAt is the byte of a slot where the tables begin.
func (s *space) tablesAt() int64 { return 4 * model.ChunkSize * int64(s.stretch) }

// stretches calls f for parts of r that a slot has room for.
func (s *space) stretches(r model.ChunkRange, f func(model.ChunkRange)) {
	for from := r.From; from < r.To; from += s.stretch {
		f(model.ChunkRange{From: from, To: min(from+s.stretch, r.To)})
	}
}

// chunkTables sends the tables of move_chunks for chunks r, which lie in vec and in s, and gives their places on the card.
func (n *net) chunkTables(q *queue, s *slot, r model.ChunkRange) (inVec, inSlot, lens cuda.Ptr) {
	count := r.To - r.From
	place, each := values[int64](s, n.tablesAt(), 6*count), values[int32](s, n.tablesAt()+48*int64(count), count)
	copy(place, n.places[3*r.From:3*r.To])
	first, _ := n.layout.Span(r)
	for i := range count {
		c := n.layout.Chunk(r.From + i)
		place[3*(count+i)], place[3*(count+i)+1], place[3*(count+i)+2] = int64(c.Start-first), int64(c.Len), 0
		each[i] = int32(c.Len)
	}
	inVec = n.at["workspace"].Add(s.half + n.tablesAt())
	inSlot, lens = inVec.Add(24*int64(count)), inVec.Add(48*int64(count))
	send(q, inVec, place)
	send(q, lens, each)
	return inVec, inSlot, lens
}

// write brings chunks r to a float32 vector, as fill gives them in chunk order.
func (n *net) write(q *queue, to cuda.Ptr, r model.ChunkRange, fill func(dst []float32, r model.ChunkRange) error) {
	n.stretches(r, func(r model.ChunkRange) {
		s := q.next()
		if s == nil {
			return
		}
		from, end := n.layout.Span(r)
		v := values[float32](s, 0, end-from)
		if q.try(func() error { return fill(v, r) }); q.err != nil {
			return
		}
		inVec, inSlot, lens := n.chunkTables(q, s, r)
		data := n.at["workspace"].Add(s.half)
		send(q, data, v)
		q.run("move_chunks", r.To-r.From, 1, 1, to, data, inVec, inSlot, lens)
		q.used(s)
	})
}

// read brings chunks r of a float32 vector to dst, in chunk order: while one stretch is copied from its slot, the next one comes.
func (n *net) read(q *queue, dst []float32, r model.ChunkRange, from cuda.Ptr) {
	var before *slot
	var held int // values in it
	take := func() {
		if before == nil {
			return
		}
		if q.wait(before); q.err == nil {
			copy(dst[:held], values[float32](before, 0, held))
			dst = dst[held:]
		}
	}
	n.stretches(r, func(r model.ChunkRange) {
		s := q.next()
		if s == nil {
			return
		}
		inVec, inSlot, lens := n.chunkTables(q, s, r)
		data := n.at["workspace"].Add(s.half)
		q.run("move_chunks", r.To-r.From, 1, 1, data, from, inSlot, inVec, lens)
		a, b := n.layout.Span(r)
		receive(q, values[float32](s, 0, b-a), data)
		q.used(s)
		take()
		before, held = s, b-a
	})
	take()
}

// round makes the bfloat16 copies of the masters.
func (n *net) round(q *queue) {
	q.run("to_bf16", blocks(n.vec.size, 8*256), 1, 1, n.half, n.w, n.vec.size)
}

// reset makes w the parameters of a judge.
func (n *net) reset(q *queue, w model.Weights) {
	n.write(q, n.w, n.layout.All(), w.Read)
	n.round(q)
}

// fits refuses weights of another layout.
func (n *net) fits(what string, all ...model.Weights) error {
	for _, w := range all {
		if w.Layout().Hash() != n.layout.Hash() {
			return fmt.Errorf("%s: weights of another layout", what)
		}
	}
	return nil
}

// A rowMajor is a part of a vector as the host's row-major one has it: float32, or bfloat16 with half.
type rowMajor struct {
	at   cuda.Ptr
	half bool
	k    *kern.Kernels
}

// get and put copy values from on of the row-major vector.
func (n *net) get(q *queue, dst []float32, from int, v rowMajor) {
	n.eachRun(q, from, len(dst), func(s *slot, host, card, count int) {
		if !v.half {
			x := values[float32](s, 0, count)
			receive(q, x, v.at.Add(4*int64(card)))
			if q.used(s); q.err == nil {
				q.wait(s)
				copy(dst[host-from:], x)
			}
			return
		}
		x := values[uint16](s, 0, count)
		receive(q, x, v.at.Add(2*int64(card)))
		if q.used(s); q.err == nil {
			q.wait(s)
			v.k.FromBF16(dst[host-from:][:count], halves(x))
		}
	})
}

func (n *net) put(q *queue, src []float32, from int, v rowMajor) {
	n.eachRun(q, from, len(src), func(s *slot, host, card, count int) {
		if !v.half {
			x := values[float32](s, 0, count)
			copy(x, src[host-from:])
			send(q, v.at.Add(4*int64(card)), x)
		} else {
			x := values[uint16](s, 0, count)
			v.k.ToBF16(halves(x), src[host-from:][:count])
			send(q, v.at.Add(2*int64(card)), x)
		}
		q.used(s)
	})
}

// eachRun calls f for parts without gaps of count values of the row-major vector from from on.
func (n *net) eachRun(q *queue, from, count int, f func(s *slot, host, card, count int)) {
	most := int(n.slot / 4)
	n.vec.runs(from, count, func(host, card, count int) {
		for at := 0; at < count; at += most {
			if s := q.next(); s != nil {
				f(s, host+at, card+at, min(most, count-at))
			}
		}
	})
}

// halves are bfloat16 values as model/kern has them.
func halves(v []uint16) []kern.BF16 { return unsafe.Slice((*kern.BF16)(unsafe.SliceData(v)), len(v)) }
