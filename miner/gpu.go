package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"sn3/internal/node"
	"sn3/internal/plan"
	"sn3/internal/proc"
	"sn3/model"
	"sn3/model/cpu"
	"sn3/model/gpu"
	"sn3/model/gpu/cuda"
	"sn3/model/gpu/memory"
	"sn3/model/graph"
)

func gpuFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "gpu", Category: "This machine:", Usage: "train on an NVIDIA card, in bf16 (experimental: no real card has run it yet)"},
		&cli.StringFlag{Name: "gpus", Value: "0", Category: "This machine:", Usage: "with --gpu, the `CARD` to use, as miner doctor numbers them; of several, 0,1, the first"},
		&cli.StringFlag{Name: "gpu-plan", DefaultText: "the first that fits", Category: "This machine:",
			Usage: "with --gpu, `PLAN` of the optimizer's state: classic, lean (rounded) or offload (on the host)"},
		&cli.StringFlag{Name: "recompute", DefaultText: "the least that fits", Category: "This machine:",
			Usage: "with --gpu, `WHAT` the backward pass makes again: none, selective or full"},
		&cli.Float64Flag{Name: "gpu-memory", Value: 0.9, Category: "This machine:", Usage: "with --gpu, `SHARE` of the card's memory that may be taken"},
	}
}

// checkGPU looks for NVIDIA's driver, so that --gpu without one ends with a clear word, and settles what --gpu implies.
func checkGPU(c *cli.Context) error {
	if !c.Bool("gpu") {
		return onlyWithGPU(c)
	}
	if _, err := cuda.Open(); err != nil {
		return failed(fmt.Errorf("--gpu: %w", err))
	}
	if _, err := cards(c.String("gpus")); err != nil {
		return err
	}
	if s := c.Float64("gpu-memory"); !(s > 0 && s <= 1) {
		return proc.Usage(fmt.Errorf("--gpu-memory %v: a share of the card's memory, above 0 and at most 1", s))
	}
	if p := memory.Plan(c.String("gpu-plan")); p != "" && !slices.Contains(memory.Plans(), p) {
		return proc.Usage(fmt.Errorf("--gpu-plan %s: use one of %v", p, memory.Plans()))
	}
	if r := memory.Recompute(c.String("recompute")); r != "" && !slices.Contains(memory.Recomputes(), r) {
		return proc.Usage(fmt.Errorf("--recompute %s: use one of %v", r, memory.Recomputes()))
	}
	if c.IsSet("engine") {
		return proc.Usage(fmt.Errorf("--gpu is an engine of its own; leave --engine %s out", c.String("engine")))
	}
	if c.IsSet("precision") && model.Precision(c.String("precision")) != model.BF16 {
		return proc.Usage(fmt.Errorf("--precision %s: cards compute in %s; leave it out", c.String("precision"), model.BF16))
	}
	return c.Set("precision", string(model.BF16))
}

// onlyWithGPU refuses flags that mean nothing on the CPU.
func onlyWithGPU(c *cli.Context) error {
	for _, name := range []string{"gpus", "gpu-memory", "gpu-plan", "recompute"} {
		if c.IsSet(name) {
			return proc.Usage(fmt.Errorf("--%s belongs to --gpu", name))
		}
	}
	return nil
}

// failed gives an error of a card its exit code: refused where this machine has no driver or card for us, so that trying again is no use;
// else a failure, which may be over the next time.
func failed(err error) error {
	if errors.Is(err, model.ErrUnsupported) || cuda.Missing(err) {
		return proc.Refused(err)
	}
	return err
}

// cards are those that --gpus names. This release uses the first.
func cards(gpus string) (list []int, err error) {
	for word := range strings.SplitSeq(gpus, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil || n < 0 {
			return nil, proc.Usage(fmt.Errorf("--gpus %q: the number of a card, or several as in 0,1; miner doctor lists them", gpus))
		}
		if slices.Contains(list, n) {
			return nil, proc.Usage(fmt.Errorf("--gpus %s names card %d twice", gpus, n))
		}
		list = append(list, n)
	}
	return list, nil
}

// sayCards tells who named several cards that one is used.
func sayCards(c *cli.Context, log *slog.Logger) {
	if list, err := cards(c.String("gpus")); c.Bool("gpu") && err == nil && len(list) > 1 {
		log.Warn("one card is used: several for one miner come with a later release; until then run one miner, with a hotkey and a folder of its own, for each",
			"card", list[0], "named", c.String("gpus"))
	}
}

// engineOf is the engine that the flags name.
func engineOf(c *cli.Context) (model.Engine, error) {
	if !c.Bool("gpu") {
		return node.Engine(c.String("engine"), cpu.New(c.String("kernels")), graph.New())
	}
	list, err := cards(c.String("gpus"))
	if err != nil {
		return nil, err
	}
	s := gpu.Settings{Ordinal: list[0], Plan: memory.Plan(c.String("gpu-plan")), Recompute: memory.Recompute(c.String("recompute"))}
	return &cardEngine{Engine: gpu.New(s), share: c.Float64("gpu-memory")}, nil
}

// cardEngine is the engine on a card, with what it chose for a run.
type cardEngine struct {
	gpu.Engine
	share float64
	fit   plan.Card
}

// Fit chooses plan, recomputation and micro-batch, where the flags leave them open, so that batches of a run fit the card. Without room
// the error is *plan.CardTooSmall; who goes on has what the flags say, a sequence at a time if they say nothing.
func (o *cardEngine) Fit(c model.Config, opt model.Options, batch int) (model.Options, error) {
	info, err := o.info()
	if err != nil {
		return opt, failed(err)
	}
	o.fit = plan.Card{Name: fmt.Sprintf("card %d, %s", info.Ordinal, info.Name), Memory: int64(info.Memory), Allowed: int64(float64(info.Memory) * o.share)}
	e, chosen, err := o.Choose(c, opt, batch, true, o.share)
	large, misfit := errors.AsType[*memory.TooLarge](err)
	switch {
	case misfit:
		o.fit.Request, opt.MicroBatch = large.Request, large.Request.MicroBatch
		return opt, &plan.CardTooSmall{Card: o.fit, Err: large}
	case err != nil:
		return opt, failed(err)
	}
	o.Engine = e
	o.fit.Request = memory.Request{Model: c, Plan: e.Settings().Plan, Recompute: e.Settings().Recompute, Ranks: 1, MicroBatch: chosen.MicroBatch}
	return chosen, nil
}

// info describes the card.
func (o *cardEngine) info() (cuda.Info, error) {
	d, err := cuda.Open()
	if err != nil {
		return cuda.Info{}, err
	}
	list, err := d.Devices()
	if err != nil {
		return cuda.Info{}, err
	}
	n := o.Settings().Ordinal
	if n >= len(list) {
		return cuda.Info{}, fmt.Errorf("--gpus %d: %w: there is no card %d, the driver has %d; miner doctor lists them", n, model.ErrUnsupported, n, len(list))
	}
	return list[n], nil
}

// Write prints what it takes of the card.
func (o *cardEngine) Write(w io.Writer) error { return o.fit.Write(w) }

// say logs what was chosen, in the words of sn3 plan.
func (o *cardEngine) say(log *slog.Logger) {
	log.Info(o.fit.Name, "plan", o.fit.Request.Plan, "recompute", o.fit.Request.Recompute, "micro_batch", o.fit.Request.MicroBatch, "takes", plan.GB(o.fit.Size()), "of", o.fit.Of(), "products", o.Products())
	log.Warn("this engine has only run on a stand-in so far, on no real card: compare its losses with the CPU's, and report what differs")
}
