// Command validator scores what miners submit, votes on what enters the model, and sets their weights.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"sn3/internal/events"
	"sn3/internal/node"
	"sn3/internal/proc"
	"sn3/internal/replica"
	"sn3/model"
	"sn3/model/cpu"
	"sn3/model/graph"
	"sn3/validator/scoring"
)

func main() { os.Exit(proc.Main("validator", run(os.Args))) }

func run(args []string) error {
	if handled, err := node.VerboseVersion(os.Stdout, args); handled {
		return err
	}
	return node.App("validator", "score submissions, vote, set weights, publish checkpoints",
		"Needs a registered hotkey with a validator permit and an own bucket; the network's run descriptor tells the rest.",
		node.Flags(), nil, validate).Run(args)
}

// validate wires a validator and runs it until a signal; before it ends it publishes a last checkpoint.
func validate(c *cli.Context) error {
	engine, err := node.Engine(c.String("engine"), cpu.New(c.String("kernels")), graph.New())
	if err != nil {
		return err
	}
	ctx, cancel := proc.Context(c.Int("parent-fd"))
	defer cancel(nil)
	if c.Bool("plan") {
		return proc.Ended(ctx, node.Plan(ctx, c, true, engine))
	}
	n, err := node.Open(ctx, c, true, engine)
	if err != nil {
		return proc.Ended(ctx, err)
	}
	defer n.Close()
	if err := n.Permitted(ctx); err != nil {
		return proc.Ended(ctx, err)
	}
	judge, err := engine.NewJudge(replica.ModelConfig(n.Run), node.Options(c))
	if errors.Is(err, model.ErrUnsupported) {
		return proc.Refused(err)
	}
	if err != nil {
		return fmt.Errorf("make judge: %w", err)
	}
	book, err := scoring.OpenBook(filepath.Join(n.Dir, "book.json"))
	if err != nil {
		return err
	}
	if err := book.Damaged(); err != nil {
		n.Log.Warn("starting without ratings: miners begin anew with this validator", "reason", err)
	}
	v := scoring.New(scoring.Config{Hotkey: n.Hotkey, Replica: n.Replica, Dropped: n.Client.Dropped, Judge: judge, Data: n.Data, Book: book, Events: n.Events,
		Log: n.Log, Compute: n.Compute, Failpoint: n.Failpoint})
	n.Events(events.Event{Kind: events.Start, Role: "validator", Hotkey: &n.Hotkey, Engine: engine.Name(), Version: proc.Version})
	n.Log.Info("validating", "hotkey", n.Hotkey.Short(), "network", n.Run.Network, "engine", engine.Name())
	err = proc.Ended(ctx, v.Run(ctx))
	if ctx.Err() != nil {
		last, done := context.WithTimeout(context.Background(), 5*time.Second)
		defer done()
		if cerr := n.Replica.PublishCheckpoint(last); cerr != nil && !errors.Is(cerr, context.DeadlineExceeded) {
			n.Log.Warn("last checkpoint not published", "reason", cerr)
		}
	}
	return err
}
