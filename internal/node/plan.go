package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"sn3/internal/plan"
	"sn3/internal/proc"
	"sn3/internal/spec"
	"sn3/model"
)

// Options are an engine's, from the flags; a role without --precision computes in float32.
func Options(c *cli.Context) model.Options {
	return model.Options{Threads: c.Int("threads"), Precision: model.Precision(c.String("precision")), MicroBatch: c.Int("micro-batch")}
}

// card is an engine that computes on a card: what it takes of this machine's memory, and whether there is room on the card.
type card interface {
	Host(c model.Config) model.Need
	Fits(c model.Config, opt model.Options, batch int, train bool, share float64) error
}

// request is what the flags and the run descriptor ask for.
func (n *Node) request(c *cli.Context, validator bool, e model.Engine) plan.Request {
	var host *model.Need
	if x, ok := e.(card); ok {
		need := x.Host(spec.Config(n.Run.Model))
		host = &need
	}
	return plan.Request{Host: host, Name: "network " + n.Run.Network, Run: n.Run, Validator: validator, Engine: e, Options: Options(c), Wait: c.String("gap") == "wait",
		Cache: c.Int64("data-cache") << 20}
}

// check refuses a run that no engine can train, and one that does not fit this machine, before anything is downloaded.
func (n *Node) check(c *cli.Context, validator bool, e model.Engine) error {
	if err := spec.Check(n.Run); err != nil {
		return proc.Refused(fmt.Errorf("the run descriptor of network %s is not one that this release can train: %w", n.Run.Network, err))
	}
	p, m := plan.Make(n.request(c, validator, e)), plan.Here(n.Dir)
	err := p.Check(m)
	var small *plan.TooSmall
	switch {
	case errors.As(err, &small) && c.Bool("ignore-plan"):
		n.Log.Warn("this machine seems too small; starting as told", "reason", err)
	case err != nil:
		return proc.Refused(fmt.Errorf("%w (--plan shows every part, --ignore-plan starts anyway)", err))
	}
	if x, ok := e.(card); ok {
		err := x.Fits(spec.Config(n.Run.Model), Options(c), n.Run.Train.Batch, !validator, c.Float64("gpu-memory"))
		if err != nil && !c.Bool("ignore-plan") {
			return proc.Refused(err)
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
	p, m := plan.Make(n.request(c, validator, e)), plan.Here(n.Dir)
	if err := p.Write(os.Stdout, m); err != nil {
		return fmt.Errorf("print plan: %w", err)
	}
	if err := p.Check(m); err != nil {
		return proc.Refused(err)
	}
	if x, ok := e.(card); ok {
		if err := x.Fits(spec.Config(n.Run.Model), Options(c), n.Run.Train.Batch, !validator, c.Float64("gpu-memory")); err != nil {
			return proc.Refused(err)
		}
	}
	fmt.Println("it fits")
	return nil
}
