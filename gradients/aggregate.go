package gradients

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"sort"

	"sn3/chain"
	"sn3/model"
	"sn3/model/kern"
)

// Part is what one payload sends for a chunk: ascending indices and their values.
type Part struct {
	Idx []uint16
	Val []float32
}

// Clips are the factors that bring each payload down to the lower median of the valid norms. A norm of 0 (nothing sent) or
// one that is not finite does not count for the median; its factor is 1.
func Clips(norms []float64) []float32 {
	var valid []float64
	for _, n := range norms {
		if n > 0 && !math.IsInf(n, 0) {
			valid = append(valid, n)
		}
	}
	sort.Float64s(valid)
	out := make([]float32, len(norms))
	for i, n := range norms {
		out[i] = 1
		if len(valid) > 0 && n > 0 && !math.IsInf(n, 0) {
			out[i] = float32(math.Min(1, valid[(len(valid)-1)/2]/n))
		}
	}
	return out
}

// AggregateChunk makes the outer step of one chunk: θ <- θ − α·(Σ clip_r·part_r)/div. It is the function that every node,
// and any GPU, must reproduce bit for bit: parts in the order of the selection, every product rounded to float32 before it
// is added. A coordinate that one peer sends is divided by div like every other: nobody owns it alone.
func AggregateChunk(theta []float32, parts []Part, clip []float32, alpha, div float32) {
	var sum [model.ChunkSize]float32
	for r, p := range parts {
		for j, i := range p.Idx {
			sum[i] += float32(clip[r] * p.Val[j])
		}
	}
	for i := range theta {
		theta[i] -= float32(alpha * float32(sum[i]/div))
	}
}

// Outer is the outer step of a run: α, the least divisor of the mean, and what it may compute with.
type Outer struct {
	Alpha      float32
	MinDivisor int
	Compute    Compute
}

// OuterStep applies the selected payloads to θ in place, chunks in order, and returns the new state root.
func OuterStep(theta *model.Flat, parts []*Payload, alpha float32, minDivisor int) (chain.Hash, error) {
	return Outer{Alpha: alpha, MinDivisor: minDivisor}.Step(theta, theta, parts)
}

// Step puts θ after the selected payloads into to, and returns its state root, hashed in the same pass. θ is from, which may be to;
// otherwise from is only read, and what was in to does not matter. After an error to is as it was. Every value is what AggregateChunk
// makes of it.
func (o Outer) Step(to, from *model.Flat, parts []*Payload) (chain.Hash, error) {
	t := newTree(from.Layout())
	err := o.run(to, from, parts, t)
	if err != nil {
		return chain.Hash{}, err
	}
	return t.root(), nil
}

// run is Step; without a tree nothing is hashed.
func (o Outer) run(to, from *model.Flat, parts []*Payload, t *tree) error {
	l := from.Layout()
	if to.Layout().Hash() != l.Hash() {
		return fmt.Errorf("aggregate: into another layout")
	}
	norms := make([]float64, len(parts))
	for r, p := range parts {
		if p.Layout().Hash() != l.Hash() {
			return fmt.Errorf("aggregate payload %d: made for another layout", r)
		}
		norms[r] = p.Norm()
	}
	s := &step{Outer: o, parts: parts, clip: Clips(norms), div: float32(max(len(parts), o.MinDivisor, 1)), kern: o.Compute.kernels()}
	return each(o.Compute, groups(l, model.LeafChunks), new(free[sums]), func(w *sums, i int) error {
		for r := group(l, model.LeafChunks, i); r.From < r.To; r.From++ {
			c := l.Chunk(r.From)
			s.chunk(w, r.From, to.Data[c.Start:c.Start+c.Len], from.Data[c.Start:])
		}
		if t != nil {
			return t.leaf(&w.hasher, i, to)
		}
		return nil
	})
}

// step is an outer step on its way.
type step struct {
	Outer
	parts []*Payload
	clip  []float32
	div   float32
	kern  *kern.Kernels
}

// sums is the scratch memory of one goroutine: the sum over the payloads, cleared between chunks.
type sums struct {
	sum [model.ChunkSize]float32
	hasher
}

// chunk is AggregateChunk on chunk i, whose values from begins with; it fetches those behind them meanwhile, and what the payloads send, for
// the next chunk. A payload has two magnitudes in a chunk, so there are two products to round.
func (s *step) chunk(w *sums, i int, to, from []float32) {
	next := from[len(to):min(len(to)+model.ChunkSize, len(from))]
	piece := (len(next) + len(s.parts) - 1) / max(1, len(s.parts))
	for r, p := range s.parts {
		kern.Prefetch(s.kern, next[min(r*piece, len(next)):min((r+1)*piece, len(next))])
		c := p.symbols(i)
		end := p.start[i+1]
		ahead := min(end+len(c.idx), len(p.idx)) // the next chunk mostly sends as much
		kern.Prefetch(s.kern, p.idx[end:ahead])
		kern.Prefetch(s.kern, p.codes[end:ahead])
		small, large := value(c.scale, 0), value(c.scale, 1)
		small, large = float32(s.clip[r]*small), float32(s.clip[r]*large)
		level := [4]float32{small, large, -small, -large}
		codes := c.codes[:len(c.idx)]
		for j, x := range c.idx {
			w.sum[x%model.ChunkSize] += level[codes[j]&3]
		}
	}
	s.kern.Outer(to, from[:len(to)], w.sum[:len(to)], s.Alpha, s.div)
}

// Transition is the root of what happened: H(prev, window, winners, run), one per window whether or not θ moved.
func Transition(prev chain.Hash, w chain.Window, sel chain.Selection, run chain.Hash) chain.Hash {
	b := append([]byte("sn3/transition/1"), prev[:]...)
	b = append(b, run[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(w))
	b = binary.BigEndian.AppendUint16(b, uint16(len(sel.Winners)))
	for _, x := range sel.Winners {
		b = binary.BigEndian.AppendUint16(b, uint16(x.Shard))
		b = append(b, x.Hotkey[:]...)
		b = append(b, x.Digest[:]...)
		b = binary.BigEndian.AppendUint16(b, x.Score)
	}
	return sha256.Sum256(b)
}
