package gradients

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"

	"sn3/chain"
	"sn3/model"
)

// Root is the state root of weights: a Merkle tree over leaves of model.LeafChunks chunks, values as little-endian float32
// (docs/FORMAT.md, "State root").
func Root(w model.Weights) (chain.Hash, error) { return Compute{}.Root(w) }

// Root is the state root of weights, its leaves hashed by as many goroutines at once; they read w.
func (c Compute) Root(w model.Weights) (chain.Hash, error) {
	t := newTree(w.Layout())
	err := each(c, len(t.leaves), new(free[hasher]), func(h *hasher, i int) error { return t.leaf(h, i, w) })
	if err != nil {
		return chain.Hash{}, fmt.Errorf("hash weights: %w", err)
	}
	return t.root(), nil
}

// tree has the leaves of a state root.
type tree struct {
	layout *model.Layout
	leaves []chain.Hash
}

func newTree(l *model.Layout) *tree {
	return &tree{layout: l, leaves: make([]chain.Hash, groups(l, model.LeafChunks))}
}

// hasher is the scratch memory of a goroutine that hashes leaves.
type hasher struct {
	hash   hash.Hash
	head   []byte
	values [model.ChunkSize]float32
	bytes  [4 * model.ChunkSize]byte
}

// leaf hashes leaf i of w.
func (t *tree) leaf(h *hasher, i int, w model.Weights) error {
	if h.hash == nil {
		h.hash = sha256.New()
	}
	h.hash.Reset()
	h.head = binary.BigEndian.AppendUint64(append(h.head[:0], "sn3/leaf/1"...), uint64(i))
	h.hash.Write(h.head)
	from := newReader(w)
	for r := group(t.layout, model.LeafChunks, i); r.From < r.To; r.From++ {
		v, err := from.chunk(r.From, &h.values)
		if err != nil {
			return err
		}
		for len(v) > 0 {
			b := littleEndian(h.bytes[:], v)
			h.hash.Write(b)
			v = v[len(b)/4:]
		}
	}
	h.hash.Sum(t.leaves[i][:0])
	return nil
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
