package gpu

import (
	"fmt"

	"sn3/model"
	"sn3/model/gpu/cuda"
)

// deltas puts payloads on a judge's θ and takes them off, on the card: what goes there is what a payload sends, not the model.
type deltas struct {
	place, at     cuda.Ptr // (C,3) where every chunk lies, (C+1) where its entries begin
	base          cuda.Ptr // of all that follows
	room          int64    // entries that there is room for
	idx, val, old cuda.Ptr // of every entry; old: what θ was

	starts  []int64 // the entries on the host
	indices []uint16
	values  []float32
}

// collect reads d. Its indices must ascend: then each position has one value before.
func (x *deltas) collect(l *model.Layout, d model.Delta) error {
	idx, val := make([]uint16, model.ChunkSize), make([]float32, model.ChunkSize)
	x.starts, x.indices, x.values = append(x.starts[:0], 0), x.indices[:0], x.values[:0]
	for i := range l.Chunks() {
		n := d.Chunk(i, idx, val)
		for k := range n {
			if int(idx[k]) >= l.Chunk(i).Len || k > 0 && idx[k] <= idx[k-1] {
				return fmt.Errorf("apply delta: chunk %d of %d values has the index %d at entry %d, which does not ascend or fit", i, l.Chunk(i).Len, idx[k], k)
			}
		}
		x.indices, x.values = append(x.indices, idx[:n]...), append(x.values, val[:n]...)
		x.starts = append(x.starts, int64(len(x.indices)))
	}
	return nil
}

// send brings what was collected to the card.
func (x *deltas) send(q *queue) {
	if count := int64(len(x.indices)); count > x.room {
		before := x.base
		x.base, x.room = 0, 0
		q.free(before)
		val := (2*count + 255) &^ 255 // where values begin
		if x.base = q.allocate(val + 8*count + 256); q.err == nil {
			x.room = count
			x.idx, x.val, x.old = x.base, x.base.Add(val), x.base.Add(val+(4*count+255)&^255)
			for _, p := range []struct {
				at    cuda.Ptr
				bytes int64
			}{{x.idx, 2 * count}, {x.val, 4 * count}, {x.old, 4 * count}} {
				q.try(func() error { return q.c.Part(p.at, p.bytes, "part of a delta") })
			}
		}
	}
	if len(x.indices) > 0 {
		pass(q, x.at, x.starts)
		pass(q, x.idx, x.indices)
		pass(q, x.val, x.values)
	}
}

// apply takes scale·(what was sent) from θ.
func (x *deltas) apply(q *queue, n *net, scale float32) {
	if len(x.indices) > 0 {
		q.run("delta_apply", n.layout.Chunks(), 1, 1, n.w, n.half, x.old, x.place, x.place, x.at, x.idx, x.val, scale)
	}
}

// undo makes θ, bit for bit, what it was before apply.
func (x *deltas) undo(q *queue, n *net) {
	if len(x.indices) > 0 {
		q.run("delta_undo", n.layout.Chunks(), 1, 1, n.w, n.half, x.old, x.place, x.place, x.at, x.idx)
	}
}
