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
	n, err := e.make(c, opt, false)
	if err != nil {
		return nil, err
	}
	j := &Judge{net: n, micro: opt.MicroBatch, torn: true}
	j.deltas.place, j.deltas.at = n.at["where chunks lie"], n.at["where chunks' entries begin"]
	if err := n.do(func(q *queue) { put(q, j.deltas.place, n.places) }); err != nil {
		return nil, errors.Join(err, n.close())
	}
	return j, nil
}

// Close gives the card back.
func (j *Judge) Close() error { return j.net.close() }

// Allocated is what the judge holds of the card's memory, in bytes.
func (j *Judge) Allocated() int64 { return j.net.allocated() }

// Reset implements model.Judge.
func (j *Judge) Reset(_ context.Context, w model.Weights) error {
	if err := j.net.fits("reset", w); err != nil {
		return err
	}
	if err := j.change(func(q *queue) { j.net.reset(q, w) }); err != nil {
		return fmt.Errorf("load weights: %w", err)
	}
	return nil
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
			q.replay(graphKey{what: "losses", B: p.B, T: p.T}, func() {
				n.hidden(q, p.B, p.T)
				n.eachHead(q, p.B*p.T, func(row, rows int) {
					q.run("loss_only", rows, 1, 1, n.loss.Add(4*int64(row)), n.logits, n.y.Add(4*int64(row)), n.cfg.Vocab, n.ld)
				})
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
	V := n.cfg.Vocab
	return n.do(func(q *queue) {
		n.load(q, b)
		n.hidden(q, B, T)
		n.eachHead(q, B*T, func(row, rows int) {
			for i := range rows { // there may be a gap behind each
				get(q, dst[(row+i)*V:][:V], n.logits.Add(4*int64(i*n.ld)))
			}
		})
	})
}
