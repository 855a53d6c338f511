package gpu

import (
	"context"
	"errors"
	"fmt"
	"math"

	"sn3/model"
)

// Judge implements model.Judge and model.Forwarder. Close it.
type Judge struct {
	net    *net
	micro  int
	deltas deltas
	torn   bool // the card may hold something else than θ
}

// NewJudge implements model.Engine.
func (e Engine) NewJudge(c model.Config, opt model.Options) (model.Judge, error) {
	l, err := check(c, opt)
	if err != nil {
		return nil, err
	}
	card, err := e.open()
	if err != nil {
		return nil, err
	}
	j := &Judge{net: newNet(c, l, card), micro: opt.MicroBatch}
	j.net.forward = true
	if err := card.do(func(q *queue) {
		n := j.net
		var size int64
		base := q.allocate(0, func(a *arena) {
			n.w, n.half, n.scalars = a.f32(n.vec.size), a.half(n.vec.size), a.f32(64)
			j.deltas.place, j.deltas.at = a.take(24*int64(l.Chunks())), a.take(8*int64(l.Chunks()+1))
			size = a.used
		})
		q.clear(base, size)
		put(q, j.deltas.place, n.places())
	}); err != nil {
		return nil, errors.Join(err, card.close())
	}
	return j, nil
}

// Close gives the card back.
func (j *Judge) Close() error { return j.net.close() }

// Reset implements model.Judge.
func (j *Judge) Reset(_ context.Context, w model.Weights) error {
	flat, err := j.net.read(w)
	if err != nil {
		return err
	}
	return j.change(func(q *queue) { j.net.replace(q, flat) })
}

// change does what changes θ; after an error nobody knows what it is.
func (j *Judge) change(f func(q *queue)) error {
	j.torn = true
	err := j.net.do(f)
	j.torn = err != nil
	return err
}

// Losses implements model.Judge. θ moves and moves back on the card. The indices of a delta must ascend.
func (j *Judge) Losses(ctx context.Context, d model.Delta, scale float32, sets [][]model.Batch) (out [][]float64, err error) {
	if j.torn {
		return nil, model.ErrNoWeights
	}
	if d != nil {
		if err := j.deltas.collect(j.net.layout, d); err != nil {
			return nil, err
		}
		if err := j.net.do(j.deltas.send); err != nil {
			return nil, err
		}
		if err := j.change(func(q *queue) { j.deltas.apply(q, j.net, scale) }); err != nil {
			return nil, err
		}
		defer func() {
			if e := j.change(func(q *queue) { j.deltas.undo(q, j.net) }); err == nil && e != nil {
				out, err = nil, e
			}
		}()
	}
	out = make([][]float64, len(sets))
	for i, set := range sets {
		for _, b := range set {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			l, err := j.losses(b)
			if err != nil {
				return nil, err
			}
			out[i] = append(out[i], l...)
		}
	}
	return out, nil
}

// losses are the mean losses of a batch's sequences.
func (j *Judge) losses(b model.Batch) ([]float64, error) {
	n := j.net
	if _, err := b.Check(n.cfg); err != nil {
		return nil, err
	}
	loss := make([]float32, b.B*b.T)
	err := n.do(func(q *queue) {
		for from, size := 0, part(b, j.micro); from < b.B; from += size {
			p := b.Part(from, min(from+size, b.B))
			n.load(q, p)
			n.hidden(q, p.B, p.T)
			n.eachHead(q, p.B*p.T, func(row, rows int) {
				q.run("loss_only", rows, 1, 1, n.loss.Add(4*int64(row)), n.logits, n.y.Add(4*int64(row)), n.cfg.Vocab, n.cfg.Vocab)
			})
			get(q, loss[from*b.T:][:p.B*p.T], n.loss)
		}
	})
	if err != nil {
		return nil, err
	}
	out := make([]float64, b.B)
	for s := range out {
		count := 0
		for i := s * b.T; i < (s+1)*b.T; i++ {
			out[s] += float64(loss[i])
			if b.Y[i] != model.Ignored {
				count++
			}
		}
		out[s] /= math.Max(1, float64(count))
	}
	return out, nil
}

// Logits implements model.Forwarder.
func (j *Judge) Logits(dst []float32, x []int32, B, T int) error {
	n := j.net
	if j.torn {
		return model.ErrNoWeights
	}
	if len(dst) != B*T*n.cfg.Vocab {
		return fmt.Errorf("logits of %d×%d tokens need %d values, got %d", B, T, B*T*n.cfg.Vocab, len(dst))
	}
	b := model.Batch{B: B, T: T, X: x, Y: x}
	if _, err := b.Check(n.cfg); err != nil {
		return err
	}
	return n.do(func(q *queue) {
		n.load(q, b)
		n.hidden(q, B, T)
		n.eachHead(q, B*T, func(row, rows int) {
			get(q, dst[row*n.cfg.Vocab:][:rows*n.cfg.Vocab], n.logits)
		})
	})
}

// read is w, which must fit, as a flat vector.
func (n *net) read(w model.Weights) ([]float32, error) {
	if w.Layout().Hash() != n.layout.Hash() {
		return nil, errors.New("load weights: made for another layout")
	}
	flat := make([]float32, n.layout.Params())
	if err := each(n.layout, func(i int, v []float32, r model.ChunkRange) error {
		err := w.Read(v, r)
		n.layout.Scatter(flat, v, i)
		return err
	}); err != nil {
		return nil, fmt.Errorf("load weights: %w", err)
	}
	return flat, nil
}

// each calls f with room for every chunk's values.
func each(l *model.Layout, f func(i int, v []float32, r model.ChunkRange) error) error {
	var buf [model.ChunkSize]float32
	for i := range l.Chunks() {
		if err := f(i, buf[:l.Chunk(i).Len], model.ChunkRange{From: i, To: i + 1}); err != nil {
			return err
		}
	}
	return nil
}

// replace makes flat the parameters, and rounds them.
func (n *net) replace(q *queue, flat []float32) {
	n.vec.up(q, n.w, flat)
	q.run("to_bf16", blocks(n.vec.size, 8*256), 1, 1, n.half, n.w, n.vec.size)
}

// part is how many sequences of b go through the model at once; micro 0: all.
func part(b model.Batch, micro int) int {
	if micro > 0 {
		return micro
	}
	return b.B
}

// eachHead computes the logits of hf's N rows, a block of them at a time, and calls f for each.
func (n *net) eachHead(q *queue, N int, f func(row, rows int)) {
	V, C := n.cfg.Vocab, n.cfg.Width
	for from := 0; from < N; from += headRows {
		rows := min(headRows, N-from)
		q.product(nt, rows, V, C, n.hf.Add(2*int64(from)*int64(C)), C, n.weight(n.vec.head), C, n.logits, V, false)
		f(from, rows)
	}
}
