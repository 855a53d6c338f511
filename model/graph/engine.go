package graph

import (
	"context"
	"errors"
	"fmt"
	"math"

	"gorgonia.org/gorgonia"

	"sn3/model"
)

// Engine makes trainers and judges over gorgonia graphs; a graph is built for every batch. It is no model.Generator.
type Engine struct{}

// New makes the engine.
func New() Engine { return Engine{} }

// Name implements model.Engine.
func (Engine) Name() string { return "gorgonia" }

// NewTrainer implements model.Engine; Threads are not used.
func (Engine) NewTrainer(c model.Config, o model.Optimizer, opt model.Options) (model.Trainer, error) {
	w, err := newWeights(c, opt)
	if err != nil {
		return nil, err
	}
	p := w.l.Params()
	return &Trainer{weights: w, opt: o, grad: make([]float32, p), m: make([]float32, p), v: make([]float32, p)}, nil
}

// NewJudge implements model.Engine; Threads are not used.
func (Engine) NewJudge(c model.Config, opt model.Options) (model.Judge, error) {
	w, err := newWeights(c, opt)
	if err != nil {
		return nil, err
	}
	return &Judge{w}, nil
}

// weights is a row-major vector seen in chunk order.
type weights struct {
	l     *model.Layout
	flat  []float32
	micro int // sequences in a graph at once
}

func newWeights(c model.Config, opt model.Options) (weights, error) {
	l, err := model.NewLayout(c)
	if err != nil {
		return weights{}, err
	}
	if opt.Precision != "" && opt.Precision != model.F32 {
		return weights{}, fmt.Errorf("%w: gorgonia has no precision %q, only %s", model.ErrUnsupported, opt.Precision, model.F32)
	}
	if opt.MicroBatch < 0 {
		return weights{}, fmt.Errorf("micro-batch of %d sequences", opt.MicroBatch)
	}
	if opt.MicroBatch == 0 {
		opt.MicroBatch = math.MaxInt
	}
	return weights{l, make([]float32, l.Params()), opt.MicroBatch}, nil
}

// logProbs is that of a whole batch, part by part.
func (w weights) logProbs(flat []float32, b model.Batch, grad []float32) (logp []float64, counted int, err error) {
	if counted, err = b.Check(w.l.Config()); err != nil {
		return nil, 0, err
	}
	for from := 0; from < b.B; {
		to := from + min(w.micro, b.B-from)
		part, err := logProbs(gorgonia.Float32, w.l.Config(), flat, b.Part(from, to), counted, grad)
		if err != nil {
			return nil, 0, err
		}
		logp, from = append(logp, part...), to
	}
	return logp, counted, nil
}

func (w weights) Layout() *model.Layout { return w.l }

func (w weights) Read(dst []float32, c model.ChunkRange) error {
	if err := w.l.CheckRange(c, len(dst)); err != nil {
		return err
	}
	for i := c.From; i < c.To; i++ {
		n := w.l.Chunk(i).Len
		w.l.Gather(dst[:n], w.flat, i)
		dst = dst[n:]
	}
	return nil
}

func (w weights) load(from model.Weights) error {
	f := model.NewFlat(w.l)
	if err := f.CopyFrom(from); err != nil {
		return err
	}
	f.Rows(w.flat)
	return nil
}

// Trainer implements model.Trainer, model.Persister and model.Gradienter.
type Trainer struct {
	weights
	opt        model.Optimizer
	grad, m, v []float32
	step       uint64 // optimizer steps made, for bias correction
}

// Reset implements model.Trainer.
func (t *Trainer) Reset(_ context.Context, w model.Weights) error { return t.load(w) }

// Rebase implements model.Trainer.
func (t *Trainer) Rebase(_ context.Context, from, to model.Weights) error {
	a, b := weights{l: t.l, flat: make([]float32, len(t.flat))}, weights{l: t.l, flat: make([]float32, len(t.flat))}
	if err := errors.Join(a.load(from), b.load(to)); err != nil {
		return fmt.Errorf("rebase: %w", err)
	}
	for i := range t.flat {
		t.flat[i] += b.flat[i] - a.flat[i]
	}
	return nil
}

// Trained implements model.Trainer.
func (t *Trainer) Trained() model.Weights { return t.weights }

// LossGrad implements model.Gradienter.
func (t *Trainer) LossGrad(b model.Batch) (loss float64, grad []float32, err error) {
	clear(t.grad)
	logp, counted, err := t.logProbs(t.flat, b, t.grad)
	if err != nil {
		return 0, nil, err
	}
	for _, l := range logp {
		loss -= l / float64(max(1, counted))
	}
	return loss, t.grad, nil
}

// Train implements model.Trainer.
func (t *Trainer) Train(ctx context.Context, b model.Batches, budget model.Budget) (model.Report, error) {
	return model.MakeSteps(ctx, b, budget, t.opt, func(b model.Batch, rate float64) (float64, error) {
		loss, _, err := t.LossGrad(b)
		if err != nil {
			return 0, err
		}
		norm := t.gradNorm()
		if math.IsNaN(loss+norm) || math.IsInf(loss+norm, 0) {
			return 0, fmt.Errorf("%w: a batch has the loss %v and a gradient of norm %v", model.ErrDiverged, loss, norm)
		}
		t.update(rate, norm)
		return loss, nil
	})
}

func (t *Trainer) gradNorm() float64 {
	sum := 0.0
	for _, g := range t.grad {
		sum += float64(g) * float64(g)
	}
	return math.Sqrt(sum)
}

// update is AdamW as in model/cpu, in plain Go.
func (t *Trainer) update(rate, norm float64) {
	clip := float32(1)
	if t.opt.Clip > 0 {
		clip = float32(math.Min(1, t.opt.Clip/(norm+1e-6)))
	}
	t.step++
	c1, c2 := 1-math.Pow(t.opt.Beta1, float64(t.step)), 1-math.Pow(t.opt.Beta2, float64(t.step))
	for _, x := range t.l.Tensors() {
		decay := len(x.Shape) == 2 && x.Name != "model.embed_tokens.weight"
		if t.opt.Decays != nil {
			decay = t.opt.Decays(x)
		}
		for i := x.Off; i < x.Off+x.Len(); i++ {
			g := float64(t.grad[i] * clip)
			m := t.opt.Beta1*float64(t.m[i]) + (1-t.opt.Beta1)*g
			v := t.opt.Beta2*float64(t.v[i]) + (1-t.opt.Beta2)*g*g
			step := m / c1 / (math.Sqrt(v/c2) + t.opt.Eps)
			if decay {
				step += t.opt.WeightDecay * float64(t.flat[i])
			}
			t.m[i], t.v[i], t.flat[i] = float32(m), float32(v), float32(float64(t.flat[i])-rate*step)
		}
	}
}

// Judge implements model.Judge and model.Forwarder.
type Judge struct{ weights }

// Reset implements model.Judge.
func (j *Judge) Reset(_ context.Context, w model.Weights) error { return j.load(w) }

// Losses implements model.Judge; a delta is applied to a copy.
func (j *Judge) Losses(ctx context.Context, d model.Delta, scale float32, sets [][]model.Batch) ([][]float64, error) {
	flat := j.flat
	if d != nil {
		flat = append([]float32(nil), flat...)
		idx, val := make([]uint16, model.ChunkSize), make([]float32, model.ChunkSize)
		for i := range j.l.Chunks() {
			c := j.l.Chunk(i)
			for k := range d.Chunk(i, idx, val) {
				x := int(idx[k])
				flat[c.Off+x/c.Cols*c.Stride+x%c.Cols] -= float32(scale * val[k])
			}
		}
	}
	out := make([][]float64, len(sets))
	for i, set := range sets {
		for _, b := range set {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			logp, _, err := j.logProbs(flat, b, nil)
			if err != nil {
				return nil, err
			}
			out[i] = append(out[i], perSequence(logp, b)...)
		}
	}
	return out, nil
}

func perSequence(logp []float64, b model.Batch) []float64 {
	out, n := make([]float64, b.B), make([]float64, b.B)
	for i, l := range logp {
		if b.Y[i] != model.Ignored {
			out[i/b.T] -= l
			n[i/b.T]++
		}
	}
	for i := range out {
		out[i] /= math.Max(1, n[i])
	}
	return out
}

// Logits implements model.Forwarder.
func (j *Judge) Logits(dst []float32, x []int32, B, T int) error {
	c := j.l.Config()
	if _, err := (model.Batch{B: B, T: T, X: x, Y: x}).Check(c); err != nil {
		return err
	}
	if len(dst) != len(x)*c.Vocab {
		return fmt.Errorf("logits of %d×%d tokens need %d values, got %d", B, T, len(x)*c.Vocab, len(dst))
	}
	return logits(c, j.flat, dst, x, B, T)
}
