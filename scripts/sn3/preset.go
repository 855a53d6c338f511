package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"sn3/internal/plan"
	"sn3/internal/preset"
	"sn3/internal/proc"
	"sn3/internal/spec"
	"sn3/model"
	"sn3/model/cpu"
	"sn3/model/data"
)

func presetCommand() *cli.Command {
	return command("preset", "list the model presets, or print one to start a file of your own from", "[NAME]", -1, nil, func(c *cli.Context) error {
		switch c.NArg() {
		case 0:
			return listPresets()
		case 1:
			p, err := preset.Open(c.Args().First())
			if err != nil {
				return proc.Usage(err)
			}
			_, err = os.Stdout.Write(p.Text())
			return err
		}
		return proc.Usage(fmt.Errorf("preset takes at most one name, got %d arguments", c.NArg()))
	})
}

func listPresets() error {
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, name := range preset.Names() {
		p, err := preset.Open(name)
		if err != nil {
			return err
		}
		run, err := p.Run(0)
		if err != nil {
			return err
		}
		local := ""
		if p.Bytes {
			local = "make up"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", name, count(spec.Config(run.Model).Params()), local, p.About)
	}
	return t.Flush()
}

// count writes a number of parameters as people say it.
func count(n int) string {
	if n < 1e9 {
		return fmt.Sprintf("%.1fM", float64(n)/1e6)
	}
	return fmt.Sprintf("%.2fB", float64(n)/1e9)
}

func planCommand() *cli.Command {
	flags := []cli.Flag{
		&cli.BoolFlag{Name: "validator", Usage: "plan a validator, not a miner"},
		&cli.IntFlag{Name: "threads", Value: runtime.NumCPU(), Usage: "compute with `N` threads"},
		&cli.StringFlag{Name: "precision", Value: string(model.F32), Usage: "`P`: f32 or bf16"},
		&cli.IntFlag{Name: "micro-batch", DefaultText: "whole batches", Usage: "keep `N` sequences in the model at once"},
		&cli.StringFlag{Name: "gap", Value: "auto", Usage: "`MODE` of the miner: auto, train or wait"},
		&cli.StringFlag{Name: "dir", Value: ".", Usage: "`FOLDER` on the disk that is meant"},
		&cli.Float64Flag{Name: "memory", Usage: "plan for a machine with `N` GiB of free memory (default: this one)"},
		&cli.Float64Flag{Name: "disk", Usage: "and `N` GiB of free disk"},
	}
	return command("plan", "what a node needs to train a preset, against what this machine or another has", "MODEL", 1, flags, func(c *cli.Context) error {
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
	var none plan.Plan
	m := plan.Here(c.String("dir"))
	m.Used = 0 // the folder is only an example of the disk
	const gib = 1 << 30
	gap, precision := c.String("gap"), model.Precision(c.String("precision"))
	switch {
	case gap != "auto" && gap != "train" && gap != "wait":
		return none, m, fmt.Errorf("--gap %s: use auto, train or wait", gap)
	case precision != model.F32 && precision != model.BF16:
		return none, m, fmt.Errorf("--precision %s: use %s or %s", precision, model.F32, model.BF16)
	case c.Int("threads") < 1 || c.Int("micro-batch") < 0:
		return none, m, errors.New("--threads and --micro-batch must be at least 1")
	case !(c.Float64("memory") >= 0 && c.Float64("memory") < 1e9) || !(c.Float64("disk") >= 0 && c.Float64("disk") < 1e9):
		return none, m, errors.New("--memory and --disk are in GiB")
	}
	if c.IsSet("memory") {
		m.Memory = int64(c.Float64("memory") * gib)
	}
	if c.IsSet("disk") {
		m.Disk = int64(c.Float64("disk") * gib)
	}
	x, err := preset.Open(c.Args().First())
	if err != nil {
		return none, m, err
	}
	run, err := x.Run(0)
	if err != nil {
		return none, m, err
	}
	return plan.Make(plan.Request{Name: x.Name, Run: run, Validator: c.Bool("validator"), Engine: cpu.New(""), Wait: gap == "wait", Cache: data.DefaultCache,
		Options: model.Options{Threads: c.Int("threads"), Precision: precision, MicroBatch: c.Int("micro-batch")}}), m, nil
}
