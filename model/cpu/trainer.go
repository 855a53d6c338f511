package cpu

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sn3/model"
	"sn3/model/kern"
)

// Trainer implements model.Trainer, model.Persister and model.Gradienter.
type Trainer struct {
	net    *net
	opt    model.Optimizer
	micro  int // sequences in the model at once; 0: all
	grad   views
	used   []int32 // rows of the embedding's gradient that are not zero,
	sparse bool    // if that is known
	m, v   []float32
	step   uint64 // optimizer steps made, for bias correction
	pieces []piece
	sums   []float64 // Σ g² of the pieces
	task   updateTask
}

// piece is a part of one tensor, [from, to) of the flat vector. Pieces are cut by the model alone, so that sums over them do not
// depend on threads.
type piece struct {
	from, to int
	decay    bool
}

const pieceSize = 1 << 16

func appendPieces(ps []piece, x model.Tensor, decay bool) []piece {
	for from, end := x.Off, x.Off+x.Len(); from < end; from += pieceSize {
		ps = append(ps, piece{from, min(from+pieceSize, end), decay})
	}
	return ps
}

// Reset implements model.Trainer. Nobody needs the gradient between steps: what is read goes into its memory, and replaces the
// parameters when all of it is there.
func (t *Trainer) Reset(_ context.Context, w model.Weights) error {
	n := t.net
	if err := n.fits(w); err != nil {
		return err
	}
	t.sparse = false
	if err := n.read(t.grad.flat, w); err != nil {
		return err
	}
	copy(n.w.flat, t.grad.flat)
	n.refresh(0, len(n.w.flat))
	return nil
}

// Rebase implements model.Trainer; to − from waits in the gradient's memory as in Reset.
func (t *Trainer) Rebase(_ context.Context, from, to model.Weights) error {
	n, l := t.net, t.net.layout
	if from.Layout().Hash() != l.Hash() || to.Layout().Hash() != l.Hash() {
		return errors.New("rebase: weights of another layout")
	}
	t.sparse = false
	a, b := make([]float32, model.ChunkSize), make([]float32, model.ChunkSize)
	for i := range l.Chunks() {
		size, r := l.Chunk(i).Len, model.ChunkRange{From: i, To: i + 1}
		if err := errors.Join(from.Read(a[:size], r), to.Read(b[:size], r)); err != nil {
			return fmt.Errorf("rebase: %w", err)
		}
		for j := range size {
			b[j] -= a[j]
		}
		l.Scatter(t.grad.flat, b[:size], i)
	}
	n.k.Add(n.w.flat, t.grad.flat)
	n.refresh(0, len(n.w.flat))
	return nil
}

// LossGrad implements model.Gradienter.
func (t *Trainer) LossGrad(b model.Batch) (float64, []float32, error) {
	counted, err := b.Check(t.net.cfg)
	if err != nil {
		return 0, t.grad.flat, err
	}
	t.clearRows()
	loss := 0.0
	size := partSize(b, t.micro)
	for from := 0; from < b.B; from += size {
		loss += t.net.lossGrad(b.Part(from, min(from+size, b.B)), counted, &t.grad, from > 0)
	}
	t.used = append(t.used, b.X...)
	return loss, t.grad.flat, nil
}

// clearRows clears the gradient of the embedding, to which rows are added; all else of a gradient is overwritten.
func (t *Trainer) clearRows() {
	c := t.net.cfg
	switch {
	case c.Tied: // it is the output matrix's, overwritten too
	case !t.sparse:
		clear(t.grad.emb)
	default:
		for _, row := range t.used {
			clear(t.grad.emb[int(row)*c.Width : (int(row)+1)*c.Width])
		}
	}
	t.used, t.sparse = t.used[:0], true
}

// partSize is how many sequences of b go through the model at once; 0: all.
func partSize(b model.Batch, micro int) int {
	if micro > 0 {
		return micro
	}
	return b.B
}

// Train implements model.Trainer.
func (t *Trainer) Train(ctx context.Context, b model.Batches, budget model.Budget) (model.Report, error) {
	return model.MakeSteps(ctx, b, budget, t.opt, t.makeStep)
}

// makeStep makes one inner step at a learning rate.
func (t *Trainer) makeStep(b model.Batch, rate float64) (float64, error) {
	loss, _, err := t.LossGrad(b)
	if err != nil {
		return 0, err
	}
	norm := t.GradNorm()
	if math.IsNaN(loss+norm) || math.IsInf(loss+norm, 0) { // before it gets into the moments, which would never recover
		return 0, fmt.Errorf("%w: a batch has the loss %v and a gradient of norm %v", model.ErrDiverged, loss, norm)
	}
	t.update(rate, norm)
	return loss, nil
}

// updateTask is a loop over the pieces of the parameters.
type updateTask struct {
	t    *Trainer
	step bool // the AdamW step; else Σ g²
	o    kern.AdamW
}

// Run implements kern.Task.
func (u *updateTask) Run(_, from, to int) {
	for i := from; i < to; i++ {
		u.one(i)
	}
}

func (u *updateTask) one(i int) {
	t := u.t
	p, n := t.pieces[i], t.net
	g := t.grad.flat[p.from:p.to]
	if !u.step {
		t.sums[i] = n.k.SumSquares(g)
		return
	}
	o := u.o
	if !p.decay {
		o.Decay = 0
	}
	var h []kern.BF16
	if n.style == halves {
		h = n.p.flat.h[p.from:p.to]
	}
	n.k.Step(o, n.w.flat[p.from:p.to], g, t.m[p.from:p.to], t.v[p.from:p.to], h)
	if n.style == rounded {
		n.refresh(p.from, p.to)
	}
}

// GradNorm is the L2 norm of the gradient.
func (t *Trainer) GradNorm() float64 {
	t.task = updateTask{t: t}
	t.net.team.Do(t.net.threads, len(t.pieces), 1, &t.task)
	sum := 0.0
	for _, s := range t.sums {
		sum += s
	}
	return math.Sqrt(sum)
}

// update clips the gradient, whose norm is given, and makes one AdamW step.
func (t *Trainer) update(rate, norm float64) {
	t.step++
	n := float64(t.step)
	o := kern.AdamW{LR: float32(rate), Beta1: float32(t.opt.Beta1), Beta2: float32(t.opt.Beta2), Eps: float32(t.opt.Eps),
		Decay: float32(t.opt.WeightDecay), C1: float32(1 - math.Pow(t.opt.Beta1, n)), C2: float32(1 - math.Pow(t.opt.Beta2, n)), Scale: 1}
	if f := t.opt.Clip / (norm + 1e-6); t.opt.Clip > 0 && f < 1 {
		o.Scale = float32(f)
	}
	t.task = updateTask{t: t, step: true, o: o}
	t.net.team.Do(t.net.threads, len(t.pieces), 1, &t.task)
}

// Trained implements model.Trainer.
func (t *Trainer) Trained() model.Weights { return rows{t.net} }
