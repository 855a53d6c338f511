// Package gpu is the training engine on one NVIDIA card: the Llama of model/cpu, forward and backward by hand over the kernels of
// kernels, through the driver alone. Factors of matrix products and activations are bfloat16; sums, norms, softmax, loss and master
// parameters float32. The same card, build, plan and input give the same bits.
//
// It has never run on a real card, only on the stand-in (standin).
//
// What it takes of the card is memory.Request.Arena, one allocation when a trainer or judge is made with a micro-batch. Without one,
// or for a batch with more tokens, what depends on the batch is an allocation of its own when it comes. Batches and, between steps,
// parameters pass through two pinned buffers; a part of a step is a CUDA graph from its second time on.
package gpu

import (
	"cmp"
	"errors"
	"fmt"

	"sn3/model"
	"sn3/model/gpu/cuda"
	"sn3/model/gpu/memory"
)

// Settings say which card an engine uses, and how.
type Settings struct {
	Library   string           // names the driver; "" is the system's
	Ordinal   int              // the card's number
	Plan      memory.Plan      // where the optimizer's state lies; "" is Classic
	Recompute memory.Recompute // "" is None
}

// Engine makes trainers and judges on one card.
type Engine struct{ s Settings }

// New makes the engine. Whether there is a card is known when it makes something, or chooses.
func New(s Settings) Engine { return Engine{s} }

// Settings are the engine's.
func (e Engine) Settings() Settings { return e.s }

// Name implements model.Engine.
func (Engine) Name() string { return "gpu" }

// request is what a trainer, or a judge, takes with batches of micro sequences.
func (e Engine) request(c model.Config, micro int, train bool) memory.Request {
	return memory.Request{Model: c, Plan: cmp.Or(e.s.Plan, memory.Classic), Recompute: cmp.Or(e.s.Recompute, memory.None), Ranks: 1, MicroBatch: micro, Judge: !train}
}

// Host is what a trainer takes of this machine's memory.
func (e Engine) Host(c model.Config) model.Need { return e.request(c, 1, true).HostNeed() }

// Need implements model.Sizer, of the card's memory.
func (e Engine) Need(c model.Config, opt model.Options, batch int, train bool) model.Need {
	if opt.MicroBatch > 0 {
		batch = opt.MicroBatch
	}
	return e.request(c, batch, train).Arena().Need()
}

// Choose fills in what settings and options leave open, plan, recomputation and micro-batch, so that batches of at most batch
// sequences fit into share of the card's memory, before anything is allocated. What does not fit is a *memory.TooLarge with the
// smallest change that would; without a driver or a card it is ErrUnsupported.
func (e Engine) Choose(c model.Config, opt model.Options, batch int, train bool, share float64) (Engine, model.Options, error) {
	if err := e.check(c, opt); err != nil {
		return e, opt, err
	}
	info, err := e.info()
	if err != nil {
		return e, opt, err
	}
	have := int64(float64(info.Memory) * share)
	r := e.request(c, min(opt.MicroBatch, batch), train)
	r.Plan, r.Recompute = e.s.Plan, e.s.Recompute
	r, ok := r.Choose(have, min(max(1, memory.FullCard/c.Seq), batch))
	if !ok { // the least there is: say what it would take from what was asked for
		r = e.request(c, max(1, min(opt.MicroBatch, batch)), train)
		if err := r.Check(have); err != nil {
			return e, opt, fmt.Errorf("%s: %w", info.Name, err)
		}
	}
	e.s.Plan, e.s.Recompute, opt.MicroBatch = r.Plan, r.Recompute, r.MicroBatch
	return e, opt, nil
}

// info describes the card.
func (e Engine) info() (cuda.Info, error) {
	d, err := e.driver()
	if err != nil {
		return cuda.Info{}, err
	}
	cards, err := d.Devices()
	if err != nil {
		return cuda.Info{}, unsupported(err)
	}
	if e.s.Ordinal < 0 || e.s.Ordinal >= len(cards) {
		return cuda.Info{}, fmt.Errorf("%w: there is no card %d, the driver lists %d; miner doctor names them", model.ErrUnsupported, e.s.Ordinal, len(cards))
	}
	return cards[e.s.Ordinal], nil
}

// driver opens it.
func (e Engine) driver() (*cuda.Driver, error) {
	open := cuda.Open
	if e.s.Library != "" {
		open = func() (*cuda.Driver, error) { return cuda.OpenAt(e.s.Library) }
	}
	d, err := open()
	if err != nil {
		return nil, unsupported(err)
	}
	return d, nil
}

// widest is the largest head that attention has a kernel for.
const widest = 128

// check refuses what the card has no kernels for.
func (e Engine) check(c model.Config, opt model.Options) error {
	if err := c.Validate(); err != nil { // a shape that none can run is no lack of this engine
		return err
	}
	switch {
	case opt.Precision != model.BF16:
		return fmt.Errorf("%w: precision %q; the card multiplies %s", model.ErrUnsupported, opt.Precision, model.BF16)
	case opt.MicroBatch < 0:
		return fmt.Errorf("micro-batch of %d sequences; give at least 1, or 0 for whole batches", opt.MicroBatch)
	case c.HeadDim > widest:
		return fmt.Errorf("%w: heads of %d values; the card has kernels for up to %d", model.ErrUnsupported, c.HeadDim, widest)
	}
	return e.request(c, max(1, opt.MicroBatch), true).Validate()
}

// make starts the card and makes a model's place on it.
func (e Engine) make(c model.Config, opt model.Options, train bool) (*net, error) {
	if err := e.check(c, opt); err != nil {
		return nil, err
	}
	l, err := model.NewLayout(c)
	if err != nil {
		return nil, err
	}
	k, err := e.open()
	if err != nil {
		return nil, err
	}
	n := newNet(l, k, e.request(c, opt.MicroBatch, train))
	if err := k.do(n.allocate); err != nil {
		return nil, errors.Join(err, k.close())
	}
	return n, nil
}

// open starts the card and loads the kernels.
func (e Engine) open() (*card, error) {
	d, err := e.driver()
	if err != nil {
		return nil, err
	}
	dev, err := d.Start(e.s.Ordinal)
	if err != nil {
		return nil, unsupported(fmt.Errorf("start card %d: %w", e.s.Ordinal, err))
	}
	k := &card{dev: dev, fns: map[string]*cuda.Func{}, held: map[cuda.Ptr]int64{}, graphs: map[graphKey]*cuda.Graph{}}
	if err := dev.Do(k.load); err != nil {
		return nil, errors.Join(unsupported(err), k.close())
	}
	return k, nil
}
