// Package gpu is the training engine on one NVIDIA card: the Llama of model/cpu, forward and backward by hand over the kernels of
// kernels, through the driver alone. Factors of matrix products and activations are bfloat16; sums, norms, softmax, loss, gradients
// and master parameters float32. The same card, build and input give the same bits.
//
// It has never run on a real card, only on the stand-in (standin). Parameters come and go through host memory in one piece, and
// memory for activations is taken when the first batch comes.
package gpu

import (
	"errors"
	"fmt"

	"sn3/model"
	"sn3/model/gpu/cuda"
	"sn3/model/gpu/memory"
)

// Engine makes trainers and judges on one card.
type Engine struct {
	library string
	ordinal int
}

// New makes the engine for card ordinal of the driver that library names; "" is the system's.
func New(library string, ordinal int) Engine { return Engine{library, ordinal} }

// Host is what a trainer takes of this machine's memory: the parameters once while they lie there, once while new ones come, and
// the moments while they are saved or loaded.
func (Engine) Host(c model.Config) model.Need {
	p := int64(c.Params())
	return model.Need{Params: 8 * p, Moments: 8 * p}
}

// Fits refuses what does not fit into share of the card's memory, before anything is allocated, with the smallest change that
// would do.
func (e Engine) Fits(c model.Config, opt model.Options, batch int, train bool, share float64) error {
	if _, err := check(c, opt); err != nil {
		return err
	}
	d, err := e.driver()
	if err != nil {
		return err
	}
	cards, err := d.Devices()
	if err != nil {
		return fmt.Errorf("%w: %w", model.ErrUnsupported, err)
	}
	if e.ordinal < 0 || e.ordinal >= len(cards) {
		return fmt.Errorf("%w: there is no card %d, the driver lists %d; miner doctor names them", model.ErrUnsupported, e.ordinal, len(cards))
	}
	have := int64(float64(cards[e.ordinal].Memory) * share)
	size := func(batch int) int64 {
		return memory.Request{Model: c, Plan: memory.Classic, Recompute: memory.None, Ranks: 1, MicroBatch: batch, Judge: !train}.Arena().Size
	}
	if opt.MicroBatch > 0 {
		batch = min(batch, opt.MicroBatch)
	}
	need := size(batch)
	if need <= have {
		return nil
	}
	advice := "nothing that this build can change makes it fit: use a card with more memory, or the CPU engine"
	for m := batch / 2; m > 0; m /= 2 {
		if size(m) <= have {
			advice = fmt.Sprintf("it fits with --micro-batch %d", m)
			break
		}
	}
	return fmt.Errorf("%s needs %.1f GB, %.1f GB may be taken: %s", cards[e.ordinal].Name, float64(need)/1e9, float64(have)/1e9, advice)
}

// driver opens it.
func (e Engine) driver() (*cuda.Driver, error) {
	open := cuda.Open
	if e.library != "" {
		open = func() (*cuda.Driver, error) { return cuda.OpenAt(e.library) }
	}
	d, err := open()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", model.ErrUnsupported, err)
	}
	return d, nil
}

// Name implements model.Engine.
func (Engine) Name() string { return "gpu" }

// widest is the largest head that attention has a kernel for.
const widest = 128

// NewTrainer implements model.Engine. Without a driver or a card it is ErrUnsupported with the reason. Close the trainer.
func (e Engine) NewTrainer(c model.Config, o model.Optimizer, opt model.Options) (model.Trainer, error) {
	l, err := check(c, opt)
	if err != nil {
		return nil, err
	}
	card, err := e.open()
	if err != nil {
		return nil, err
	}
	t := &Trainer{net: newNet(c, l, card), opt: o, micro: opt.MicroBatch, host: make([]float32, l.Params())}
	if err := card.do(t.allocate); err != nil {
		return nil, errors.Join(err, card.close())
	}
	return t, nil
}

// check refuses what the card has no kernels for.
func check(c model.Config, opt model.Options) (*model.Layout, error) {
	l, err := model.NewLayout(c)
	if err != nil {
		return nil, err
	}
	switch {
	case opt.Precision != model.BF16:
		return nil, fmt.Errorf("%w: precision %q; the card multiplies %s", model.ErrUnsupported, opt.Precision, model.BF16)
	case opt.MicroBatch < 0:
		return nil, fmt.Errorf("micro-batch of %d sequences; give at least 1, or 0 for whole batches", opt.MicroBatch)
	case c.HeadDim > widest:
		return nil, fmt.Errorf("%w: heads of %d values; the card has kernels for up to %d", model.ErrUnsupported, c.HeadDim, widest)
	}
	return l, nil
}

// open starts the card and loads the kernels.
func (e Engine) open() (*card, error) {
	d, err := e.driver()
	if err != nil {
		return nil, err
	}
	dev, err := d.Start(e.ordinal)
	if err != nil {
		return nil, unsupported(fmt.Errorf("start card %d: %w", e.ordinal, err))
	}
	k := &card{dev: dev, fns: map[string]*cuda.Func{}, held: map[cuda.Ptr]bool{}}
	if err := dev.Do(k.load); err != nil {
		return nil, errors.Join(unsupported(err), k.close())
	}
	return k, nil
}
