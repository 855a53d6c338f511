package cpu

import (
	"context"
	"fmt"
	"slices"
	"sn3/model"
)

// Judge implements model.Judge and model.Forwarder.
type Judge struct {
	net   *net
	micro int // sequences in the model at once; 0: all
	idx   []uint16
	val   []float32
	at    []int     // positions that a delta touched
	old   []float32 // their values before
}

// Reset implements model.Judge.
func (j *Judge) Reset(_ context.Context, w model.Weights) error {
	return j.net.load(w)
}

// Losses implements model.Judge.
func (j *Judge) Losses(ctx context.Context, d model.Delta, scale float32, sets [][]model.Batch) ([][]float64, error) {
	if j.net.torn {
		return nil, model.ErrNoWeights
	}
	if d != nil {
		j.apply(d, scale)
		defer j.undo()
	}
	out := make([][]float64, len(sets))
	for i, set := range sets {
		for _, b := range set {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if _, err := b.Check(j.net.cfg); err != nil {
				return nil, err
			}
			size := partSize(b, j.micro)
			for from := 0; from < b.B; from += size {
				p := b.Part(from, min(from+size, b.B))
				l := make([]float64, p.B)
				j.net.losses(p, l)
				out[i] = append(out[i], l...)
			}
		}
	}
	return out, nil
}

// apply takes scale·d from θ, remembering what was there.
func (j *Judge) apply(d model.Delta, scale float32) {
	l, w := j.net.layout, j.net.w.flat
	j.at, j.old = j.at[:0], j.old[:0]
	for i := range l.Chunks() {
		c := l.Chunk(i)
		n := d.Chunk(i, j.idx, j.val)
		for k := range n {
			x := int(j.idx[k])
			p := c.Off + x/c.Cols*c.Stride + x%c.Cols
			j.at, j.old = append(j.at, p), append(j.old, w[p])
			w[p] -= float32(scale * j.val[k])
			j.net.refresh(p, p+1)
		}
	}
}

// undo puts the remembered values back, bit for bit; the last first, in case a delta names a position twice.
func (j *Judge) undo() {
	for k, p := range slices.Backward(j.at) {
		j.net.w.flat[p] = j.old[k]
		j.net.refresh(p, p+1)
	}
	j.at, j.old = j.at[:0], j.old[:0]
}

// Logits implements model.Forwarder.
func (j *Judge) Logits(dst []float32, x []int32, B, T int) error {
	if j.net.torn {
		return model.ErrNoWeights
	}
	if len(dst) != B*T*j.net.cfg.Vocab {
		return fmt.Errorf("logits of %d×%d tokens need %d values, got %d", B, T, B*T*j.net.cfg.Vocab, len(dst))
	}
	if _, err := (model.Batch{B: B, T: T, X: x, Y: x}).Check(j.net.cfg); err != nil {
		return err
	}
	j.net.hidden(x, B, T)
	j.net.head(B*T, (*net).logitRows, rowArgs{x: dst})
	return nil
}
