// Package cpu is the training engine on the CPU: a Llama forward and backward by hand over the kernels of model/kern, AdamW,
// and a judge that measures losses. It is the reference that every other engine is compared with. Matrix products
// take float32 or bfloat16 operands, everything else is float32; the same build, kernels and input give the same bits for any number of threads.
package cpu

import (
	"errors"
	"fmt"

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
	n, err := newNet(c, k, opt, true)
	if err != nil {
		return nil, err
	}
	p := n.layout.Params()
	t := &Trainer{net: n, opt: o, micro: opt.MicroBatch, m: kern.Alloc[float32](p), v: kern.Alloc[float32](p)}
	t.grad = viewsOf(c, kern.Alloc[float32](p))
	for _, x := range n.layout.Tensors() {
		decay := len(x.Shape) == 2 && x.Name != "model.embed_tokens.weight"
		if o.Decays != nil {
			decay = o.Decays(x)
		}
		t.pieces = appendPieces(t.pieces, x, decay)
	}
	t.sums = make([]float64, len(t.pieces))
	return t, nil
}

// NewJudge implements model.Engine.
func (e Engine) NewJudge(c model.Config, opt model.Options) (model.Judge, error) {
	n, err := e.forward(c, opt)
	if err != nil {
		return nil, err
	}
	return &Judge{net: n, micro: opt.MicroBatch, idx: make([]uint16, model.ChunkSize), val: make([]float32, model.ChunkSize)}, nil
}

// forward is a net that does not train.
func (e Engine) forward(c model.Config, opt model.Options) (*net, error) {
	k, err := kern.Select(e.kernels)
	if err != nil {
		return nil, err
	}
	return newNet(c, k, opt, false)
}

// fits refuses weights of another layout.
func (n *net) fits(w model.Weights) error {
	if w.Layout().Hash() != n.layout.Hash() {
		return errors.New("load weights: made for another layout")
	}
	return nil
}

// load replaces the parameters, chunk by chunk; there is no room for both. Where w fails half way none can be used.
func (n *net) load(w model.Weights) error {
	if err := n.fits(w); err != nil {
		return err
	}
	n.torn = true
	if err := n.read(n.w.flat, w); err != nil {
		return err
	}
	n.refresh(0, len(n.w.flat))
	n.torn = false
	return nil
}

// read writes all of w, which fits, to the row-major vector dst.
func (n *net) read(dst []float32, w model.Weights) error {
	l := n.layout
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
