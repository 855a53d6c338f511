package gpu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"sn3/model"
	"sn3/model/cpu"
	"sn3/model/gpu/cuda"
	"sn3/model/gpu/memory"
	"sn3/model/kern"
)

// Trainer implements model.Trainer, model.Persister and model.Gradienter. Close it.
type Trainer struct {
	net    *net
	opt    model.Optimizer
	micro  int
	step   uint64 // optimizer steps made, for bias correction and the noise of lean moments
	k      *kern.Kernels
	m, v   cuda.Ptr // moments, 0 where they lie on the host
	from   []int64  // pieces of the vector, one tensor's each, and the end,
	decay  []byte   // and whether weight decay applies to them
	host   *host    // what lies on the host with the plan offload
	cache  cache    // of parameters, until they change
	torn   bool     // a call of the driver failed while parameters or moments changed: there is nothing until a Reset, moments are new then
	forget bool     // the moments on the card are to be cleared
}

// NewTrainer implements model.Engine. Without a driver or a card it is ErrUnsupported with the reason. Close the trainer.
func (e Engine) NewTrainer(c model.Config, o model.Optimizer, opt model.Options) (model.Trainer, error) {
	k, err := kern.Select("")
	if err != nil {
		return nil, err
	}
	n, err := e.make(c, opt, true)
	if err != nil {
		return nil, err
	}
	t := &Trainer{net: n, opt: o, micro: opt.MicroBatch, k: k, m: n.at["m"], v: n.at["v"]}
	t.cut()
	if n.request.Plan == memory.Offload {
		t.host = newHost(n.vec.size, opt.Threads)
	}
	if err := n.do(func(q *queue) {
		put(q, n.at["pieces"], t.from)
		put(q, n.at["pieces that decay"], t.decay)
	}); err != nil {
		return nil, errors.Join(err, n.close())
	}
	return t, nil
}

// Close gives the card back.
func (t *Trainer) Close() error { return t.net.close() }

// Allocated is what the trainer holds of the card's memory, in bytes.
func (t *Trainer) Allocated() int64 { return t.net.allocated() }

// cut cuts every tensor into pieces; a gap behind a tensor belongs to its last one.
func (t *Trainer) cut() {
	for i, x := range t.net.layout.Tensors() {
		d := len(x.Shape) == 2 && x.Name != "model.embed_tokens.weight"
		if t.opt.Decays != nil {
			d = t.opt.Decays(x)
		}
		for at := 0; at < x.Len(); at += memory.PieceValues {
			t.from = append(t.from, int64(t.net.vec.at[i]+at))
			t.decay = append(t.decay, map[bool]byte{true: 1}[d])
		}
	}
	t.from = append(t.from, int64(t.net.vec.size))
}

// pieces is their number.
func (t *Trainer) pieces() int { return len(t.decay) }

// Train implements model.Trainer.
func (t *Trainer) Train(ctx context.Context, b model.Batches, budget model.Budget) (model.Report, error) {
	return model.MakeSteps(ctx, b, budget, t.opt, t.makeStep)
}

// outcome is what a step tells: see kernels/adamw.cu.
type outcome struct{ loss, norm, clip, made float32 }

// makeStep makes one inner step. The card itself makes none if loss or norm are not finite.
func (t *Trainer) makeStep(b model.Batch, rate float64) (float64, error) {
	var out outcome
	began := false
	t.cache.drop()
	err := t.enqueue(b, rate, func(q *queue) {
		n := t.net
		q.replay(graphKey{what: "norm"}, func() {
			q.run(t.net.gradKernel("squares"), t.pieces(), 1, 1, n.at["sums of pieces"], n.g, n.at["pieces"])
			q.run("clip", 1, 1, 1, n.outcome(), n.at["sums of pieces"], n.table(), t.pieces())
		})
		began = q.err == nil
		if t.host == nil {
			q.replay(graphKey{what: "update"}, func() { t.update(q) })
		}
		var o [4]float32
		get(q, o[:], n.outcome())
		if out = (outcome{o[0], o[1], o[2], o[3]}); q.err == nil && out.made != 0 && t.host != nil {
			t.host.update(q, t, rate, out.clip)
		}
	})
	switch {
	case err != nil:
		t.torn = t.torn || began
		return 0, err
	case out.made == 0:
		return 0, fmt.Errorf("%w: a batch has the loss %v and a gradient of norm %v", model.ErrDiverged, out.loss, out.norm)
	}
	t.step++
	return float64(out.loss), nil
}

// update makes AdamW's step on the card.
func (t *Trainer) update(q *queue) {
	n := t.net
	args := []any{n.w, t.m, t.v, n.half, n.g, n.at["pieces"], n.at["pieces that decay"], n.table(), n.outcome()}
	if n.request.Plan == memory.Lean {
		q.run("adamw_chance_bf16", t.pieces(), 1, 1, append(args, n.seed(), int64(0))...)
		return
	}
	q.run("adamw", t.pieces(), 1, 1, args...)
}

// constants are those of the next AdamW step.
func (t *Trainer) constants(rate float64) kern.AdamW {
	o, n := t.opt, float64(t.step+1)
	return kern.AdamW{LR: float32(rate), Beta1: float32(o.Beta1), Beta2: float32(o.Beta2), Eps: float32(o.Eps), Decay: float32(o.WeightDecay),
		C1: float32(1 - math.Pow(o.Beta1, n)), C2: float32(1 - math.Pow(o.Beta2, n))}
}

// tell sends what differs from step to step: a loss of zero, the table of AdamW, the mean's factor, the state of the noise.
func (t *Trainer) tell(q *queue, rate float64, counted int) {
	s := q.next()
	if s == nil {
		return
	}
	clear(values[uint8](s, 0, scalarsN))
	c := t.constants(rate)
	copy(values[float32](s, tableAt, 10), []float32{c.LR, c.Beta1, c.Beta2, c.Eps, c.Decay, 1 / c.C1, 1 / c.C2, 1 - c.Beta1, 1 - c.Beta2, float32(t.opt.Clip)})
	values[float32](s, scaleAt, 1)[0] = float32(1 / float64(max(1, counted)))
	values[uint64](s, seedAt, 1)[0] = noise(t.step)
	send(q, t.net.scalars, values[uint8](s, 0, scalarsN))
	q.used(s)
}

// noise is the state of a step's noise: the finaliser of MurmurHash3 (Appleby, fmix64) of the step, so that states are not one another's successors.
func noise(step uint64) uint64 {
	z := (step + 1) * 0x9E3779B97F4A7C15
	z = (z ^ (z >> 33)) * 0xff51afd7ed558ccd
	z = (z ^ (z >> 33)) * 0xc4ceb9fe1a85ec53
	return z ^ (z >> 33)
}

// enqueue computes loss and gradient of b, part by part, and then what then says.
func (t *Trainer) enqueue(b model.Batch, rate float64, then func(q *queue)) error {
	n := t.net
	counted, err := b.Check(n.cfg)
	if err != nil {
		return err
	}
	if t.torn {
		return model.ErrNoWeights
	}
	if err := t.clearMoments(); err != nil {
		return err
	}
	size := part(b, t.micro)
	return n.do(func(q *queue) {
		t.tell(q, rate, counted)
		for from := 0; from < b.B; from += size {
			p := b.Part(from, min(from+size, b.B))
			n.load(q, p)
			q.replay(graphKey{"gradient", p.B, p.T, from > 0}, func() {
				n.hidden(q, p.B, p.T)
				n.backward(q, p.B, p.T, from > 0)
			})
		}
		then(q)
	})
}

// part is how many sequences of b go through the model at once; micro 0: all.
func part(b model.Batch, micro int) int {
	if micro > 0 {
		return micro
	}
	return b.B
}

// LossGrad implements model.Gradienter.
func (t *Trainer) LossGrad(b model.Batch) (float64, []float32, error) {
	grad := make([]float32, t.net.layout.Params())
	var loss [1]float32
	err := t.enqueue(b, 0, func(q *queue) {
		get(q, loss[:], t.net.outcome())
		t.net.get(q, grad, 0, rowMajor{t.net.g, t.net.short, t.k})
	})
	return float64(loss[0]), grad, err
}

// moment is m, or v, on the card.
func (t *Trainer) moment(second bool) rowMajor {
	r := rowMajor{t.m, t.net.request.Plan == memory.Lean, t.k}
	if second {
		r.at = t.v
	}
	return r
}

// Save implements model.Persister. Moments in bfloat16 are written as float32.
func (t *Trainer) Save(w io.Writer) error {
	if t.torn {
		return model.ErrNoWeights
	}
	if err := t.clearMoments(); err != nil {
		return err
	}
	return model.SaveMomentsBy(w, t.net.layout, t.step, func(second bool, at int, dst []float32) error {
		if t.host != nil {
			t.net.vec.gather(dst, at, t.host.moment(second))
			return nil
		}
		return t.net.do(func(q *queue) { t.net.get(q, dst, at, t.moment(second)) })
	})
}

// Load implements model.Persister; on an error nothing is changed, or where r cannot be read a second time, or the card fails, moments are
// forgotten. Moments in bfloat16 are rounded to nearest.
func (t *Trainer) Load(r io.Reader) error {
	wrote := false
	step, err := model.LoadMomentsBy(r, t.net.layout, func(second bool, at int, src []float32) error {
		wrote = true
		if t.host != nil {
			t.net.vec.scatter(t.host.moment(second), at, src)
			return nil
		}
		return t.net.do(func(q *queue) { t.net.put(q, src, at, t.moment(second)) })
	})
	if err != nil {
		if wrote {
			t.Forget()
		}
		return err
	}
	t.step, t.forget = step, false
	return nil
}

// Forget implements model.Persister. The moments are cleared before they are read again, so that an error is told then.
func (t *Trainer) Forget() { t.step, t.forget = 0, true }

// clearMoments does what Forget asked for.
func (t *Trainer) clearMoments() error {
	if !t.forget {
		return nil
	}
	if t.host != nil {
		clear(t.host.m)
		clear(t.host.v)
	} else if err := t.net.do(func(q *queue) {
		each := int64(4)
		if t.net.request.Plan == memory.Lean {
			each = 2
		}
		q.clear(t.m, each*int64(t.net.vec.size))
		q.clear(t.v, each*int64(t.net.vec.size))
	}); err != nil {
		return err
	}
	t.forget = false
	return nil
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
