// Command miner trains the shared model of a network on this machine and is paid for what it adds.
package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
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
)

func main() { os.Exit(proc.Main("miner", run(os.Args))) }

func run(args []string) error {
	if handled, err := node.VerboseVersion(os.Stdout, args); handled {
		return err
	}
	if len(args) > 1 && args[1] == "doctor" {
		return doctorApp().Run(append([]string{"miner doctor"}, args[2:]...))
	}
	flags := append(node.Flags(),
		&cli.StringFlag{Name: "gap", Value: string(mining.Auto), Category: "This machine:",
			Usage: "until the window's model arrives, `MODE`: wait, train (from a proxy, then shift) or auto (train only what would not fit afterwards)"},
		&cli.StringFlag{Name: "precision", Value: string(model.F32), Category: "This machine:",
			Usage: "of the operands of matrix products, `P`: f32, or bf16 (faster on CPUs with instructions for it)"},
		&cli.IntFlag{Name: "save-every", Category: "This machine:", DefaultText: "by the model's size: 1 to 8",
			Usage: "save the optimizer's moments every `K` windows; a crash with older ones costs a window without submission"})
	flags = append(flags, gpuFlags()...)
	return node.App("miner", "train the shared model and earn emissions",
		"Needs a registered hotkey (sn3 register) and an own bucket; the network's run descriptor tells the rest.\nminer doctor says what this machine has and what it could train.", flags,
		func(c *cli.Context) error {
			if err := checkGPU(c); err != nil {
				return err
			}
			if g := mining.Gap(c.String("gap")); !g.Valid() {
				return proc.Usage(fmt.Errorf("unknown gap mode %q; use one of %v", g, mining.Gaps()))
			}
			if p := model.Precision(c.String("precision")); p != model.F32 && p != model.BF16 {
				return proc.Usage(fmt.Errorf("unknown precision %q; use %s or %s", p, model.F32, model.BF16))
			}
			if k := c.Int("save-every"); k < 0 || k == 0 && c.IsSet("save-every") {
				return proc.Usage(fmt.Errorf("--save-every %d: at least 1 window", k))
			}
			return nil
		}, mine).Run(args)
}

// mine wires a miner and runs it until a signal.
func mine(c *cli.Context) error {
	engine, err := engineOf(c)
	if err != nil {
		return err
	}
	sayCards(c, slog.Default())
	ctx, cancel := proc.Context(c.Int("parent-fd"))
	defer cancel(nil)
	if c.Bool("plan") {
		return proc.Ended(ctx, node.Plan(ctx, c, false, engine))
	}
	n, err := node.Open(ctx, c, false, engine)
	if err != nil {
		return proc.Ended(ctx, err)
	}
	defer n.Close()
	if err := n.Registered(ctx); err != nil {
		return proc.Ended(ctx, err)
	}
	trainer, err := engine.NewTrainer(replica.ModelConfig(n.Run), replica.Optimizer(n.Run), n.Options)
	if err != nil {
		return failed(fmt.Errorf("make trainer: %w", err))
	}
	if x, ok := trainer.(io.Closer); ok {
		defer func() {
			if err := x.Close(); err != nil { // what ended the miner says more, and is what it returns
				n.Log.Warn("the card was not given back in order; what it holds goes with this process", "reason", err)
			}
		}()
	}
	if x, ok := engine.(*cardEngine); ok {
		x.say(n.Log)
	}
	feedback, err := gradients.OpenFeedback(filepath.Join(n.Dir, "feedback"), n.Replica.Layout(), float32(n.Run.Payload.Beta))
	if err != nil {
		return err
	}
	feedback.Use(n.Replica.Compute())
	m, err := mining.New(mining.Config{Dir: n.Dir, Hotkey: n.Hotkey, Replica: n.Replica, Trainer: trainer, Feedback: feedback, Data: n.Data,
		Gap: mining.Gap(c.String("gap")), SaveEvery: c.Int("save-every"), Events: n.Events, Log: n.Log, Compute: n.Compute})
	if err != nil {
		return fmt.Errorf("make miner: %w", err)
	}
	n.Events(events.Event{Kind: events.Start, Role: "miner", Hotkey: &n.Hotkey, Engine: engine.Name(), Version: proc.Version})
	n.Log.Info("mining", "hotkey", n.Hotkey.Short(), "network", n.Run.Network, "engine", engine.Name(), "kernels", n.Replica.Compute().Kernels.Name, "parameters", n.Replica.Layout().Params())
	err = m.Run(ctx)
	if errors.Is(err, mining.ErrUnstable) {
		err = proc.Unstable(err)
	}
	return proc.Ended(ctx, err)
}
