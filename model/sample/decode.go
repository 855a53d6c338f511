package sample

import (
	"context"
	"fmt"

	"sn3/model"
)

// decoder is an engine's own, or one made of its forward pass.
func decoder(e model.Engine, c model.Config, seq int, opt model.Options) (model.Decoder, error) {
	if g, ok := e.(model.Generator); ok {
		return g.NewDecoder(c, seq, opt)
	}
	c.Seq = seq
	j, err := e.NewJudge(c, opt)
	if err != nil {
		return nil, err
	}
	f, ok := j.(model.Forwarder)
	if !ok {
		return nil, fmt.Errorf("engine %s gives no logits", e.Name())
	}
	return &replay{Judge: j, f: f, logits: make([]float32, seq*c.Vocab), vocab: c.Vocab, seq: seq}, nil
}

// replay implements model.Decoder by a forward pass over the whole sequence for every call: what a decoder must agree with.
type replay struct {
	model.Judge
	f          model.Forwarder
	logits     []float32 // (T, V)
	x          []int32
	vocab, seq int
}

// Reset implements model.Decoder.
func (r *replay) Reset(ctx context.Context, w model.Weights) error {
	r.x = r.x[:0]
	return r.Judge.Reset(ctx, w)
}

// Next implements model.Decoder.
func (r *replay) Next(dst []float32, x []int32) error {
	all := append(r.x[:len(r.x):len(r.x)], x...)
	n := len(all)
	if len(x) == 0 || n > r.seq || len(dst) != r.vocab {
		return fmt.Errorf("decode %d tokens after %d into %d logits: at most %d, and %d logits", len(x), len(r.x), len(dst), r.seq, r.vocab)
	}
	if err := r.f.Logits(r.logits[:n*r.vocab], all, 1, n); err != nil {
		return err
	}
	r.x = all
	copy(dst, r.logits[(n-1)*r.vocab:n*r.vocab])
	return nil
}

// Rewind implements model.Decoder.
func (r *replay) Rewind(n int) { r.x = r.x[:min(max(n, 0), len(r.x))] }
