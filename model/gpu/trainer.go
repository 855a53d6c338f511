package gpu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"sn3/model"
	"sn3/model/cpu"
	"sn3/model/gpu/cuda"
)

// pieceSize is the most values that a block of AdamW, or a partial sum of the gradient's norm, takes.
const pieceSize = 1 << 16

// Trainer implements model.Trainer, model.Persister and model.Gradienter. Close it.
type Trainer struct {
	net    *net
	opt    model.Optimizer
	micro  int
	step   uint64 // optimizer steps made, for bias correction
	m, v   cuda.Ptr
	pieces int
	from   cuda.Ptr // (pieces+1) where each begins
	decay  cuda.Ptr // (pieces) whether weight decay applies
	sums   cuda.Ptr

	mu    sync.Mutex
	host  []float32 // the parameters, flat,
	fresh bool      // if these are the card's
}

// allocate takes the memory of parameters, gradient and moments, all zero.
func (t *Trainer) allocate(q *queue) {
	n := t.net
	from, decay := t.cut()
	t.pieces = len(decay)
	var size int64
	base := q.allocate(0, func(a *arena) {
		p := n.vec.size
		n.w, n.g, t.m, t.v, n.half = a.f32(p), a.f32(p), a.f32(p), a.f32(p), a.half(p)
		n.scalars, t.from, t.decay, t.sums = a.f32(64), a.take(8*int64(len(from))), a.take(int64(len(decay))), a.f32(len(decay))
		size = a.used
	})
	q.clear(base, size)
	put(q, t.from, from)
	put(q, t.decay, decay)
}

// cut cuts every tensor into pieces; a gap behind a tensor belongs to its last one.
func (t *Trainer) cut() (from []int64, decay []byte) {
	for i, x := range t.net.layout.Tensors() {
		d := len(x.Shape) == 2 && x.Name != "model.embed_tokens.weight"
		if t.opt.Decays != nil {
			d = t.opt.Decays(x)
		}
		for at := 0; at < x.Len(); at += pieceSize {
			from = append(from, int64(t.net.vec.at[i]+at))
			decay = append(decay, map[bool]byte{true: 1}[d])
		}
	}
	return append(from, int64(t.net.vec.size)), decay
}

// Close gives the card back.
func (t *Trainer) Close() error { return t.net.close() }

// Reset implements model.Trainer. What is read waits on the host until all of it is there.
func (t *Trainer) Reset(_ context.Context, w model.Weights) error {
	flat, err := t.net.read(w)
	if err != nil {
		return err
	}
	return t.replace(flat)
}

// replace makes flat the parameters.
func (t *Trainer) replace(flat []float32) error {
	t.fresh = false
	err := t.net.do(func(q *queue) { t.net.replace(q, flat) })
	if err == nil {
		t.host, t.fresh = flat, true
	}
	return err
}

// Rebase implements model.Trainer.
func (t *Trainer) Rebase(_ context.Context, from, to model.Weights) error {
	l := t.net.layout
	if from.Layout().Hash() != l.Hash() || to.Layout().Hash() != l.Hash() {
		return errors.New("rebase: weights of another layout")
	}
	if err := t.fetch(); err != nil {
		return err
	}
	flat := append([]float32(nil), t.host...)
	a, local := make([]float32, model.ChunkSize), make([]float32, model.ChunkSize)
	if err := each(l, func(i int, b []float32, r model.ChunkRange) error {
		if err := errors.Join(from.Read(a[:len(b)], r), to.Read(b, r)); err != nil {
			return err
		}
		l.Gather(local[:len(b)], flat, i)
		for j := range b {
			local[j] += b[j] - a[j]
		}
		l.Scatter(flat, local[:len(b)], i)
		return nil
	}); err != nil {
		return fmt.Errorf("rebase: %w", err)
	}
	return t.replace(flat)
}

// fetch brings the parameters to the host.
func (t *Trainer) fetch() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fresh {
		return nil
	}
	err := t.net.do(func(q *queue) { t.net.vec.down(q, t.host, t.net.w) })
	t.fresh = err == nil
	return err
}

// Trained implements model.Trainer.
func (t *Trainer) Trained() model.Weights { return rows{t} }

// rows is a live view of the parameters.
type rows struct{ t *Trainer }

func (r rows) Layout() *model.Layout { return r.t.net.layout }

func (r rows) Read(dst []float32, c model.ChunkRange) error {
	l := r.t.net.layout
	if err := l.CheckRange(c, len(dst)); err != nil {
		return err
	}
	if err := r.t.fetch(); err != nil {
		return err
	}
	for i := c.From; i < c.To; i++ {
		n := l.Chunk(i).Len
		l.Gather(dst[:n], r.t.host, i)
		dst = dst[n:]
	}
	return nil
}

// Train implements model.Trainer.
func (t *Trainer) Train(ctx context.Context, b model.Batches, budget model.Budget) (model.Report, error) {
	return model.MakeSteps(ctx, b, budget, t.opt, t.makeStep)
}

// outcome is what a step tells: see kernels/adamw.cu.
type outcome struct{ loss, norm, clip, made float32 }

// makeStep makes one inner step. The card itself makes none if loss or norm are not finite.
func (t *Trainer) makeStep(b model.Batch, rate float64) (float64, error) {
	var out outcome
	err := t.enqueue(b, func(q *queue) {
		n := t.net
		put(q, n.table(), t.table(rate))
		q.run("squares", t.pieces, 1, 1, t.sums, n.g, t.from)
		q.run("clip", 1, 1, 1, n.outcome(), t.sums, n.table(), t.pieces)
		q.run("adamw", t.pieces, 1, 1, n.w, t.m, t.v, n.half, n.g, t.from, t.decay, n.table(), n.outcome())
		var o [4]float32
		get(q, o[:], n.outcome())
		out = outcome{o[0], o[1], o[2], o[3]}
	})
	switch {
	case err != nil:
		return 0, err
	case out.made == 0:
		return 0, fmt.Errorf("%w: a batch has the loss %v and a gradient of norm %v", model.ErrDiverged, out.loss, out.norm)
	}
	t.step++
	t.fresh = false
	return float64(out.loss), nil
}

// table are the constants of the next AdamW step.
func (t *Trainer) table(rate float64) []float32 {
	o, n := t.opt, float64(t.step+1)
	c1, c2 := float32(1-math.Pow(o.Beta1, n)), float32(1-math.Pow(o.Beta2, n))
	b1, b2 := float32(o.Beta1), float32(o.Beta2)
	return []float32{float32(rate), b1, b2, float32(o.Eps), float32(o.WeightDecay), 1 / c1, 1 / c2, 1 - b1, 1 - b2, float32(o.Clip)}
}

// enqueue computes loss and gradient of b, part by part, and then what then says.
func (t *Trainer) enqueue(b model.Batch, then func(q *queue)) error {
	n := t.net
	counted, err := b.Check(n.cfg)
	if err != nil {
		return err
	}
	size := part(b, t.micro)
	return n.do(func(q *queue) {
		put(q, n.outcome(), make([]float32, 4))
		put(q, n.scale(), []float32{float32(1 / float64(max(1, counted)))})
		for from := 0; from < b.B; from += size {
			p := b.Part(from, min(from+size, b.B))
			n.load(q, p)
			n.hidden(q, p.B, p.T)
			n.backward(q, p.B, p.T, from > 0)
		}
		then(q)
	})
}

// LossGrad implements model.Gradienter.
func (t *Trainer) LossGrad(b model.Batch) (float64, []float32, error) {
	grad := make([]float32, t.net.layout.Params())
	var loss [1]float32
	err := t.enqueue(b, func(q *queue) {
		get(q, loss[:], t.net.outcome())
		t.net.vec.down(q, grad, t.net.g)
	})
	return float64(loss[0]), grad, err
}

// moments brings both moments to the host.
func (t *Trainer) moments() (m, v []float32, err error) {
	m, v = make([]float32, len(t.host)), make([]float32, len(t.host))
	err = t.net.do(func(q *queue) {
		t.net.vec.down(q, m, t.m)
		t.net.vec.down(q, v, t.v)
	})
	return m, v, err
}

// Save implements model.Persister.
func (t *Trainer) Save(w io.Writer) error {
	m, v, err := t.moments()
	if err != nil {
		return err
	}
	return model.SaveMoments(w, t.net.layout, t.step, m, v)
}

// Load implements model.Persister; on an error nothing is changed.
func (t *Trainer) Load(r io.Reader) error {
	m, v := make([]float32, len(t.host)), make([]float32, len(t.host))
	step, err := model.LoadMoments(r, t.net.layout, m, v)
	if err != nil {
		return err
	}
	if err := t.net.do(func(q *queue) {
		t.net.vec.up(q, t.m, m)
		t.net.vec.up(q, t.v, v)
	}); err != nil {
		return err
	}
	t.step = step
	return nil
}

// Forget implements model.Persister.
func (t *Trainer) Forget() {
	t.step = 0
	// What fails here fails again in the next step, which says so.
	_ = t.net.do(func(q *queue) {
		q.clear(t.m, 4*int64(t.net.vec.size))
		q.clear(t.v, 4*int64(t.net.vec.size))
	})
}

// angles are the rotary tables: float32 products of position and frequency, as Llama's reference does.
func angles(c model.Config, T int) (cos, sin []float32) {
	freq := cpu.InvFreq(c)
	cos, sin = make([]float32, T*len(freq)), make([]float32, T*len(freq))
	for t := range T {
		for i, f := range freq {
			a := float64(float32(t) * f)
			cos[t*len(freq)+i], sin[t*len(freq)+i] = float32(math.Cos(a)), float32(math.Sin(a))
		}
	}
	return cos, sin
}
