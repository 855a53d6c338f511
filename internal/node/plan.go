package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"sn3/internal/plan"
	"sn3/internal/proc"
	"sn3/internal/spec"
	"sn3/model"
	"sn3/model/gpu/memory"
)

// Options are an engine's, from the flags; a role without --precision computes in float32.
func Options(c *cli.Context) model.Options {
	return model.Options{Threads: c.Int("threads"), Precision: model.Precision(c.String("precision")), MicroBatch: c.Int("micro-batch")}
}

// card is an engine that computes on a card. Fit chooses what the flags leave open, so that batches of a run fit there, and says with what
// options; the engine's trainers are made so from then on. With *memory.TooLarge they are made as the flags say.
type card interface {
	Fit(c model.Config, opt model.Options, batch int) (model.Options, error)
	Host(c model.Config) model.Need // of this machine's memory
	Write(w io.Writer) error        // what it takes of the card
}

// fit is what the flags and the run descriptor ask for, and what a card makes of it. It sets Options.
func (n *Node) fit(c *cli.Context, validator bool, e model.Engine) (plan.Request, error) {
	n.Options = Options(c)
	r := plan.Request{Name: "network " + n.Run.Network, Run: n.Run, Validator: validator, Engine: e, Wait: c.String("gap") == "wait", Cache: c.Int64("data-cache") << 20}
	var err error
	if x, ok := e.(card); ok {
		n.Options, err = x.Fit(spec.Config(n.Run.Model), n.Options, n.Run.Train.Batch)
		r.Host = x.Host
	}
	r.Options = n.Options
	return r, err
}

// ignored logs that something does not seem to fit, and forgets it, where the operator wants to start all the same.
func (n *Node) ignored(c *cli.Context, err error) error {
	_, small := errors.AsType[*plan.TooSmall](err)
	_, large := errors.AsType[*memory.TooLarge](err)
	switch {
	case !small && !large: // no driver, or a card in trouble
		return err
	case c.Bool("ignore-plan"):
		n.Log.Warn("this machine seems too small; starting as told", "reason", err)
		return nil
	}
	return proc.Refused(fmt.Errorf("%w (--plan shows every part, --ignore-plan starts anyway)", err))
}

// check refuses a run that no engine can train, and one that does not fit this machine or its card, before anything is downloaded.
func (n *Node) check(c *cli.Context, validator bool, e model.Engine) error {
	if err := spec.Check(n.Run); err != nil {
		return proc.Refused(fmt.Errorf("the run descriptor of network %s is not one that this release can train: %w", n.Run.Network, err))
	}
	r, err := n.fit(c, validator, e)
	if err != nil {
		if err := n.ignored(c, err); err != nil {
			return err
		}
	}
	p, m := plan.Make(r), plan.Here(n.Dir)
	if err := p.Check(m); err != nil {
		if err := n.ignored(c, err); err != nil {
			return err
		}
	}
	if limit := softLimit(plan.Sum(p.Memory), m.Memory); limit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit)
	}
	return nil
}

// softLimit is from where on the garbage collector works harder: Go would else let garbage grow as large as the model. 0 is no
// limit.
func softLimit(need, free int64) int64 {
	const least = 1 << 30 // below this, garbage does not matter
	limit := max(least, need+need/4)
	if free > 0 {
		limit = min(limit, free-free/20)
	}
	if limit < need { // --ignore-plan
		return 0
	}
	return limit
}

// Plan prints what a node with these flags would need on the network behind --chain, and refuses as a start would.
func Plan(ctx context.Context, c *cli.Context, validator bool, e model.Engine) (err error) {
	n := &Node{Dir: c.String("dir")}
	if n.Log, err = proc.Logger(c.String("log-format"), c.Bool("verbose")); err != nil {
		return err
	}
	n.Events = discard
	if _, err := n.dial(ctx, c.String("chain"), nil); err != nil {
		return err
	}
	if err := spec.Check(n.Run); err != nil {
		return proc.Refused(err)
	}
	r, misfit := n.fit(c, validator, e)
	if _, ok := errors.AsType[*memory.TooLarge](misfit); misfit != nil && !ok {
		return misfit
	}
	p, m := plan.Make(r), plan.Here(n.Dir)
	if err := p.Write(os.Stdout, m); err != nil {
		return fmt.Errorf("print plan: %w", err)
	}
	if x, ok := e.(card); ok {
		if err := x.Write(os.Stdout); err != nil {
			return fmt.Errorf("print plan: %w", err)
		}
	}
	if err := errors.Join(misfit, p.Check(m)); err != nil {
		return proc.Refused(err)
	}
	fmt.Println("it fits")
	return nil
}
