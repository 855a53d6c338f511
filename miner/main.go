// Command miner trains the shared model of a network on this machine and is paid for what it adds.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"sn3/gradients"
	"sn3/internal/events"
	"sn3/internal/node"
	"sn3/internal/proc"
	"sn3/internal/replica"
	"sn3/miner/mining"
	"sn3/model"
	"sn3/model/cpu"
	"sn3/model/graph"
)

func main() { os.Exit(proc.Main("miner", run(os.Args))) }

func run(args []string) error {
	flags := append(node.Flags(),
		&cli.StringFlag{Name: "gap", Value: string(mining.Auto), Category: "This machine:",
			Usage: "until the window's model arrives, `MODE`: wait, train (from a proxy, then shift) or auto (train only what would not fit afterwards)"},
		&cli.BoolFlag{Name: "gpu", Category: "This machine:", Usage: "train on NVIDIA GPUs"})
	return node.App("miner", "train the shared model and earn emissions",
		"Needs a registered hotkey (sn3 register) and an own bucket; the network's run descriptor tells the rest.", flags,
		func(c *cli.Context) error {
			if c.Bool("gpu") {
				return probeGPU()
			}
			if g := mining.Gap(c.String("gap")); !g.Valid() {
				return proc.Usage(fmt.Errorf("unknown gap mode %q; use one of %v", g, mining.Gaps()))
			}
			return nil
		}, mine).Run(args)
}

// mine wires a miner and runs it until a signal.
func mine(c *cli.Context) error {
	engine, err := node.Engine(c.String("engine"), cpu.New(c.String("kernels")), graph.New())
	if err != nil {
		return err
	}
	ctx, cancel := proc.Context(c.Int("parent-fd"))
	defer cancel(nil)
	n, err := node.Open(ctx, c, false)
	if err != nil {
		return proc.Ended(ctx, err)
	}
	defer n.Close()
	if err := n.Registered(ctx); err != nil {
		return proc.Ended(ctx, err)
	}
	trainer, err := engine.NewTrainer(replica.ModelConfig(n.Run), replica.Optimizer(n.Run), model.Options{Threads: c.Int("threads")})
	if err != nil {
		return fmt.Errorf("make trainer: %w", err)
	}
	feedback, err := gradients.OpenFeedback(filepath.Join(n.Dir, "feedback"), n.Replica.Layout(), float32(n.Run.Payload.Beta))
	if err != nil {
		return err
	}
	m, err := mining.New(mining.Config{Dir: n.Dir, Hotkey: n.Hotkey, Replica: n.Replica, Trainer: trainer, Feedback: feedback, Data: n.Data,
		Gap: mining.Gap(c.String("gap")), Events: n.Events, Log: n.Log, Compute: n.Compute})
	if err != nil {
		return fmt.Errorf("make miner: %w", err)
	}
	n.Events(events.Event{Kind: events.Start, Role: "miner", Hotkey: &n.Hotkey, Engine: engine.Name(), Version: proc.Version})
	n.Log.Info("mining", "hotkey", n.Hotkey.Short(), "network", n.Run.Network, "engine", engine.Name(), "parameters", n.Replica.Layout().Params())
	return proc.Ended(ctx, m.Run(ctx))
}
