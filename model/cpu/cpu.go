// Package cpu is the training engine on the CPU: a Llama forward and backward by hand over the kernels of model/kern, AdamW,
// and a judge that measures losses. It is the reference that every other engine is compared with. float32 throughout; the
// same build, kernels and input give the same bits for any number of threads.
package cpu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"sn3/model"
	"sn3/model/kern"
)

// Engine makes trainers and judges; kernels "" picks the best set this CPU can run.
type Engine struct{ kernels string }

// New makes the engine. An unknown or impossible kernel set is an error of NewTrainer and NewJudge.
func New(kernels string) Engine { return Engine{kernels} }

// Name implements model.Engine.
func (Engine) Name() string { return "cpu" }

// NewTrainer implements model.Engine. The trainer starts with zero parameters: call Reset first.
func (e Engine) NewTrainer(c model.Config, o model.Optimizer, opt model.Options) (model.Trainer, error) {
	k, err := kern.Select(e.kernels)
	if err != nil {
		return nil, err
	}
	n, err := newNet(c, k, opt.Threads, true)
	if err != nil {
		return nil, err
	}
	p := n.layout.Params()
	t := &Trainer{net: n, opt: o, m: make([]float32, p), v: make([]float32, p)}
	t.grad = viewsOf(c, make([]float32, p))
	for _, x := range n.layout.Tensors() {
		decay := len(x.Shape) == 2 && x.Name != "model.embed_tokens.weight"
		if o.Decays != nil {
			decay = o.Decays(x)
		}
		t.decay = append(t.decay, decay)
	}
	return t, nil
}

// NewJudge implements model.Engine.
func (e Engine) NewJudge(c model.Config, opt model.Options) (model.Judge, error) {
	k, err := kern.Select(e.kernels)
	if err != nil {
		return nil, err
	}
	n, err := newNet(c, k, opt.Threads, false)
	if err != nil {
		return nil, err
	}
	return &Judge{net: n, idx: make([]uint16, model.ChunkSize), val: make([]float32, model.ChunkSize)}, nil
}

// load copies weights into a row-major vector, chunk by chunk.
func load(dst []float32, w model.Weights, l *model.Layout) error {
	if w.Layout().Hash() != l.Hash() {
		return errors.New("load weights: made for another layout")
	}
	var buf [model.ChunkSize]float32
	for i := range l.Chunks() {
		v := buf[:l.Chunk(i).Len]
		if err := w.Read(v, model.ChunkRange{From: i, To: i + 1}); err != nil {
			return fmt.Errorf("load weights: %w", err)
		}
		l.Scatter(dst, v, i)
	}
	return nil
}

// Trainer implements model.Trainer, model.Persister and model.Gradienter.
type Trainer struct {
	net   *net
	opt   model.Optimizer
	grad  views
	m, v  []float32
	step  uint64 // optimizer steps made, for bias correction
	decay []bool // by tensor
}

// Reset implements model.Trainer.
func (t *Trainer) Reset(_ context.Context, w model.Weights) error {
	return load(t.net.w.flat, w, t.net.layout)
}

// Rebase implements model.Trainer.
func (t *Trainer) Rebase(_ context.Context, from, to model.Weights) error {
	l := t.net.layout
	if from.Layout().Hash() != l.Hash() || to.Layout().Hash() != l.Hash() {
		return errors.New("rebase: weights of another layout")
	}
	a, b, local := make([]float32, model.ChunkSize), make([]float32, model.ChunkSize), make([]float32, model.ChunkSize)
	for i := range l.Chunks() {
		n, r := l.Chunk(i).Len, model.ChunkRange{From: i, To: i + 1}
		if err := errors.Join(from.Read(a[:n], r), to.Read(b[:n], r)); err != nil {
			return fmt.Errorf("rebase: %w", err)
		}
		l.Gather(local[:n], t.net.w.flat, i)
		for j := range n {
			local[j] += b[j] - a[j]
		}
		l.Scatter(t.net.w.flat, local[:n], i)
	}
	return nil
}

// LossGrad implements model.Gradienter.
func (t *Trainer) LossGrad(b model.Batch) (float64, []float32, error) {
	clear(t.grad.flat)
	loss, err := t.net.lossGrad(b, &t.grad)
	return loss, t.grad.flat, err
}

// Train implements model.Trainer.
func (t *Trainer) Train(ctx context.Context, b model.Batches, budget model.Budget) (model.Report, error) {
	var rep model.Report
	for rep.Steps < budget.Steps && ctx.Err() == nil {
		batch, err := b.Next(ctx)
		if errors.Is(err, io.EOF) || err != nil && ctx.Err() != nil {
			break
		}
		if err != nil {
			return rep, fmt.Errorf("read batch: %w", err)
		}
		loss, _, err := t.LossGrad(batch)
		if err != nil {
			return rep, err
		}
		norm := t.GradNorm()
		if math.IsNaN(loss+norm) || math.IsInf(loss+norm, 0) { // before it gets into the moments, which would never recover
			return rep, fmt.Errorf("%w: a batch has the loss %v and a gradient of norm %v", model.ErrDiverged, loss, norm)
		}
		t.update(budget.First+uint64(rep.Steps), norm)
		rep.Loss = (rep.Loss*float64(rep.Steps) + loss) / float64(rep.Steps+1)
		rep.Steps++
		rep.Tokens += batch.B * batch.T
	}
	return rep, nil
}

// GradNorm is the L2 norm of the gradient: float64 sums of float32 dot products over fixed pieces, in order.
func (t *Trainer) GradNorm() float64 {
	const piece = 4096
	g, sum := t.grad.flat, 0.0
	for i := 0; i < len(g); i += piece {
		x := g[i:min(i+piece, len(g))]
		sum += float64(t.net.k.Dot(x, x))
	}
	return math.Sqrt(sum)
}

// update clips the gradient, whose norm is given, and makes one AdamW step at global step s, tensor by tensor.
func (t *Trainer) update(s uint64, norm float64) {
	if t.opt.Clip > 0 {
		if f := t.opt.Clip / (norm + 1e-6); f < 1 {
			t.net.k.Scale(t.grad.flat, float32(f))
		}
	}
	t.step++
	n := float64(t.step)
	o := kern.AdamW{LR: float32(t.opt.Rate(s)), Beta1: float32(t.opt.Beta1), Beta2: float32(t.opt.Beta2), Eps: float32(t.opt.Eps),
		C1: float32(1 - math.Pow(t.opt.Beta1, n)), C2: float32(1 - math.Pow(t.opt.Beta2, n))}
	for i, x := range t.net.layout.Tensors() {
		o.Decay = 0
		if t.decay[i] {
			o.Decay = float32(t.opt.WeightDecay)
		}
		from, to := x.Off, x.Off+x.Len()
		t.net.k.Step(o, t.net.w.flat[from:to], t.grad.flat[from:to], t.m[from:to], t.v[from:to], nil)
	}
}

// Trained implements model.Trainer.
func (t *Trainer) Trained() model.Weights { return rows{t.net} }

// rows is a live view of a net's parameters.
type rows struct{ n *net }

func (r rows) Layout() *model.Layout { return r.n.layout }

func (r rows) Read(dst []float32, c model.ChunkRange) error {
	l := r.n.layout
	if err := l.CheckRange(c, len(dst)); err != nil {
		return err
	}
	for i := c.From; i < c.To; i++ {
		n := l.Chunk(i).Len
		l.Gather(dst[:n], r.n.w.flat, i)
		dst = dst[n:]
	}
	return nil
}

// Judge implements model.Judge and model.Forwarder.
type Judge struct {
	net *net
	idx []uint16
	val []float32
	at  []int     // positions that a delta touched
	old []float32 // their values before
}

// Reset implements model.Judge.
func (j *Judge) Reset(_ context.Context, w model.Weights) error {
	return load(j.net.w.flat, w, j.net.layout)
}

// Losses implements model.Judge.
func (j *Judge) Losses(ctx context.Context, d model.Delta, scale float32, sets [][]model.Batch) ([][]float64, error) {
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
			l := make([]float64, b.B)
			if err := j.net.losses(b, l); err != nil {
				return nil, err
			}
			out[i] = append(out[i], l...)
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
		}
	}
}

// undo puts the remembered values back, bit for bit; the last first, in case a delta names a position twice.
func (j *Judge) undo() {
	for k, p := range slices.Backward(j.at) {
		j.net.w.flat[p] = j.old[k]
	}
	j.at, j.old = j.at[:0], j.old[:0]
}

// Logits implements model.Forwarder.
func (j *Judge) Logits(dst []float32, x []int32, B, T int) error {
	if len(dst) != B*T*j.net.cfg.Vocab {
		return fmt.Errorf("logits of %d×%d tokens need %d values, got %d", B, T, B*T*j.net.cfg.Vocab, len(dst))
	}
	if _, err := j.net.check(model.Batch{B: B, T: T, X: x, Y: make([]int32, len(x))}); err != nil {
		return err
	}
	j.net.hidden(x, B, T)
	V := j.net.cfg.Vocab
	j.net.head(B*T, func(row int, l []float32) { copy(dst[row*V:], l) })
	return nil
}
