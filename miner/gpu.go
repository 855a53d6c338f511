package main

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"sn3/internal/node"
	"sn3/internal/proc"
	"sn3/model"
	"sn3/model/cpu"
	"sn3/model/gpu"
	"sn3/model/gpu/cuda"
	"sn3/model/graph"
)

func gpuFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "gpu", Category: "This machine:", Usage: "train on an NVIDIA card, in bf16 (experimental: no real card has run it yet)"},
		&cli.StringFlag{Name: "gpus", Value: "0", Category: "This machine:", Usage: "with --gpu, the `CARD` to use, as miner doctor numbers them; of several, 0,1, the first"},
		&cli.Float64Flag{Name: "gpu-memory", Value: 0.9, Category: "This machine:", Usage: "with --gpu, `SHARE` of the card's memory that may be taken"},
	}
}

// checkGPU looks for NVIDIA's driver, so that --gpu without one ends with a clear word, and settles what --gpu implies.
func checkGPU(c *cli.Context) error {
	if !c.Bool("gpu") {
		return nil
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
	if c.IsSet("engine") {
		return proc.Usage(fmt.Errorf("--gpu is an engine of its own; leave --engine %s out", c.String("engine")))
	}
	if c.IsSet("precision") && model.Precision(c.String("precision")) != model.BF16 {
		return proc.Usage(fmt.Errorf("--precision %s: cards compute in %s; leave it out", c.String("precision"), model.BF16))
	}
	return c.Set("precision", string(model.BF16))
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
	return gpu.New(gpu.Settings{Ordinal: list[0]}), nil
}
