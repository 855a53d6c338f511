package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/urfave/cli/v2"

	"sn3/chain"
	"sn3/internal/plan"
	"sn3/internal/preset"
	"sn3/internal/proc"
	"sn3/model"
	"sn3/model/cpu"
	"sn3/model/data"
)

func planCommand() *cli.Command {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "model", EnvVars: []string{"SN3_PLAN_MODEL"}, Usage: "`MODEL` to plan for: a preset or a file of one, as the argument"},
		&cli.BoolFlag{Name: "validator", Usage: "plan a validator, not a miner"},
		&cli.IntFlag{Name: "threads", Value: runtime.NumCPU(), Usage: "compute with `N` threads"},
		&cli.StringFlag{Name: "precision", Value: string(model.F32), Usage: "`P`: f32 or bf16"},
		&cli.IntFlag{Name: "micro-batch", DefaultText: "whole batches", Usage: "keep `N` sequences in the model at once"},
		&cli.StringFlag{Name: "gap", Value: "auto", Usage: "`MODE` of the miner: auto, train or wait"},
		&cli.StringFlag{Name: "dir", Value: ".", Usage: "`FOLDER` on the disk that is meant"},
		&cli.Float64Flag{Name: "memory", Usage: "plan for a machine with `N` GiB of free memory (default: this one)"},
		&cli.Float64Flag{Name: "disk", Usage: "and `N` GiB of free disk"},
	}
	return command("plan", "what a node needs to train a preset, against what this machine or another has, on the CPU or with --gpus", "MODEL", -1, append(flags, gpuFlags()...), func(c *cli.Context) error {
		if c.String("gpus") != "" {
			return planGPUs(c)
		}
		if err := onlyWithGPUs(c); err != nil {
			return proc.Usage(err)
		}
		p, m, err := planned(c)
		if err != nil {
			return proc.Usage(err)
		}
		if err := p.Write(os.Stdout, m); err != nil {
			return fmt.Errorf("print plan: %w", err)
		}
		if err := p.Check(m); err != nil {
			return proc.Refused(err)
		}
		fmt.Println("it fits")
		return nil
	})
}

// planned reads the arguments of plan.
func planned(c *cli.Context) (plan.Plan, plan.Machine, error) {
	x, run, m, err := planArgs(c)
	if err != nil {
		return plan.Plan{}, m, err
	}
	return plan.Make(plan.Request{Name: x.Name, Run: run, Validator: c.Bool("validator"), Engine: cpu.New(""), Wait: c.String("gap") == "wait", Cache: data.DefaultCache,
		Options: model.Options{Threads: c.Int("threads"), Precision: model.Precision(c.String("precision")), MicroBatch: c.Int("micro-batch")}}), m, nil
}

// planArgs reads what plans for the CPU and for cards have in common.
func planArgs(c *cli.Context) (*preset.Preset, *chain.Run, plan.Machine, error) {
	m := plan.Here(c.String("dir"))
	m.Used = 0 // the folder is only an example of the disk
	const gib = 1 << 30
	gap, precision := c.String("gap"), model.Precision(c.String("precision"))
	name := c.String("model")
	switch {
	case c.NArg() > 1, c.NArg() == 1 && name != os.Getenv("SN3_PLAN_MODEL"):
		return nil, nil, m, errors.New("plan takes one MODEL, as an argument or with --model")
	case c.NArg() == 1:
		name = c.Args().First()
	case name == "":
		return nil, nil, m, errors.New("plan takes MODEL, as an argument or with --model")
	}
	switch {
	case gap != "auto" && gap != "train" && gap != "wait":
		return nil, nil, m, fmt.Errorf("--gap %s: use auto, train or wait", gap)
	case precision != model.F32 && precision != model.BF16:
		return nil, nil, m, fmt.Errorf("--precision %s: use %s or %s", precision, model.F32, model.BF16)
	case c.Int("threads") < 1 || c.Int("micro-batch") < 0:
		return nil, nil, m, errors.New("--threads and --micro-batch must be at least 1")
	case !(c.Float64("memory") >= 0 && c.Float64("memory") < 1e9) || !(c.Float64("disk") >= 0 && c.Float64("disk") < 1e9):
		return nil, nil, m, errors.New("--memory and --disk are in GiB")
	}
	if c.IsSet("memory") {
		m.Memory = int64(c.Float64("memory") * gib)
	}
	if c.IsSet("disk") {
		m.Disk = int64(c.Float64("disk") * gib)
	}
	x, err := preset.Open(name)
	if err != nil {
		return nil, nil, m, err
	}
	run, err := x.Run(0)
	return x, run, m, err
}
