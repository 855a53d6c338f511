package main

import (
	"fmt"
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
		&cli.StringFlag{Name: "gpus", Value: "0", Category: "This machine:", Usage: "with --gpu, the `CARD` to use, as miner doctor numbers them"},
		&cli.Float64Flag{Name: "gpu-memory", Value: 0.9, Category: "This machine:", Usage: "with --gpu, `SHARE` of the card's memory that may be taken"},
	}
}

// checkGPU looks for NVIDIA's driver, so that --gpu without one ends with a clear word, and settles what --gpu implies.
func checkGPU(c *cli.Context) error {
	if !c.Bool("gpu") {
		return nil
	}
	if _, err := cuda.Open(); err != nil {
		return proc.Refused(fmt.Errorf("--gpu: %w", err))
	}
	if _, err := ordinal(c.String("gpus")); err != nil {
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

// ordinal is the card that --gpus names. Several are for a later release.
func ordinal(gpus string) (int, error) {
	n, err := strconv.Atoi(strings.TrimSpace(gpus))
	if err != nil || n < 0 {
		if strings.Contains(gpus, ",") {
			return 0, proc.Usage(fmt.Errorf("--gpus %s: this release uses one card; name one, and run another miner for each further card", gpus))
		}
		return 0, proc.Usage(fmt.Errorf("--gpus %q: the number of a card; miner doctor lists them", gpus))
	}
	return n, nil
}

// engineOf is the engine that the flags name.
func engineOf(c *cli.Context) (model.Engine, error) {
	if !c.Bool("gpu") {
		return node.Engine(c.String("engine"), cpu.New(c.String("kernels")), graph.New())
	}
	n, err := ordinal(c.String("gpus"))
	return gpu.New("", n), err
}
