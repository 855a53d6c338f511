package gradients

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math"
	"sort"

	"sn3/chain"
	"sn3/model"
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

// OuterStep applies the selected payloads to θ in place, chunks in order, and returns the new state root, hashed in the
// same pass.
func OuterStep(theta *model.Flat, parts []*Payload, alpha float32, minDivisor int) (chain.Hash, error) {
	l := theta.Layout()
	norms := make([]float64, len(parts))
	for r, p := range parts {
		if p.Layout().Hash() != l.Hash() {
			return chain.Hash{}, fmt.Errorf("aggregate payload %d: made for another layout", r)
		}
		norms[r] = p.Norm()
	}
	clip := Clips(norms)
	div := float32(max(len(parts), minDivisor, 1))
	chunkParts := make([]Part, len(parts))
	for r := range chunkParts {
		chunkParts[r] = Part{make([]uint16, model.ChunkSize), make([]float32, model.ChunkSize)}
	}
	tree := newTree(l)
	now := make([]Part, len(parts))
	for i := range l.Chunks() {
		for r, p := range parts {
			n := p.Chunk(i, chunkParts[r].Idx, chunkParts[r].Val)
			now[r] = Part{chunkParts[r].Idx[:n], chunkParts[r].Val[:n]}
		}
		c := l.Chunk(i)
		values := theta.Data[c.Start : c.Start+c.Len]
		AggregateChunk(values, now, clip, alpha, div)
		tree.add(values)
	}
	return tree.root(), nil
}

// Root is the state root of weights: a Merkle tree over leaves of model.LeafChunks chunks, values as little-endian float32
// (docs/FORMAT.md, "State root").
func Root(w model.Weights) (chain.Hash, error) {
	l := w.Layout()
	tree := newTree(l)
	var buf [model.ChunkSize]float32
	for i := range l.Chunks() {
		v := buf[:l.Chunk(i).Len]
		if err := w.Read(v, model.ChunkRange{From: i, To: i + 1}); err != nil {
			return chain.Hash{}, fmt.Errorf("hash weights: %w", err)
		}
		tree.add(v)
	}
	return tree.root(), nil
}

// tree collects leaves as chunks come by.
type tree struct {
	layout *model.Layout
	chunks int
	leaf   hash.Hash
	leaves []chain.Hash
	buf    []byte
}

func newTree(l *model.Layout) *tree {
	return &tree{layout: l, leaf: sha256.New(), buf: make([]byte, 0, 4*model.ChunkSize)}
}

func (t *tree) add(v []float32) {
	if t.chunks%model.LeafChunks == 0 {
		t.leaf.Reset()
		t.leaf.Write(binary.BigEndian.AppendUint64([]byte("sn3/leaf/1"), uint64(t.chunks/model.LeafChunks)))
	}
	t.buf = t.buf[:0]
	for _, x := range v {
		t.buf = binary.LittleEndian.AppendUint32(t.buf, math.Float32bits(x))
	}
	t.leaf.Write(t.buf)
	if t.chunks++; t.chunks%model.LeafChunks == 0 || t.chunks == t.layout.Chunks() {
		t.leaves = append(t.leaves, chain.Hash(t.leaf.Sum(nil)))
	}
}

// root folds the leaves pairwise, an odd one moving up as it is, and binds the layout.
func (t *tree) root() chain.Hash {
	level := t.leaves
	for len(level) > 1 {
		var up []chain.Hash
		for i := 0; i+1 < len(level); i += 2 {
			b := append([]byte("sn3/node/1"), level[i][:]...)
			up = append(up, sha256.Sum256(append(b, level[i+1][:]...)))
		}
		if len(level)%2 == 1 {
			up = append(up, level[len(level)-1])
		}
		level = up
	}
	hash := t.layout.Hash()
	return sha256.Sum256(append(append([]byte("sn3/root/1"), hash[:]...), level[0][:]...))
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
