// Command bench measures the training engine and the chain on this machine: peaks, matrix products, the train step, generation,
// scaling, attention and the codec; transactions, latency, blocks, disk and replay of chain nodes; with peers it runs the same work in torch, interleaved with ours, and prints the ratios.
//
// Every figure comes from rounds that alternate between what is compared, in the same command on the same machine; what stands in
// a table is the median and the range of the rounds. `make bench` and `make bench-peers` build and run it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/urfave/cli/v2"

	"sn3/internal/proc"
	"sn3/model"
)

func main() { os.Exit(proc.Main("bench", run(os.Args))) }

func run(args []string) error {
	shared := []cli.Flag{
		&cli.StringFlag{Name: "json", Usage: "write the report as JSON to `FILE` too; - is stdout, without the table"},
		&cli.IntFlag{Name: "rounds", Value: 7, Usage: "rounds of each measurement"},
		&cli.IntFlag{Name: "threads", Value: runtime.GOMAXPROCS(0), Usage: "compute threads"},
		&cli.DurationFlag{Name: "wait", Value: 5 * time.Second, Usage: "wait at most so long for a quiet machine before each round of a step; 0: not at all"},
		&cli.StringFlag{Name: "kernels", Usage: "kernels of our engine; the fastest if not given"},
	}
	precision := &cli.StringFlag{Name: "precision", Value: "f32,bf16", Usage: "f32, bf16 or both"}
	shape := &cli.StringFlag{Name: "shape", Value: "8m", Usage: "model: a preset or the path of one"}
	seq := &cli.IntFlag{Name: "seq", Usage: "tokens of a sequence instead of the shape's"}
	batch := &cli.IntFlag{Name: "batch", Usage: "sequences of a batch instead of the shape's"}
	steps := &cli.IntFlag{Name: "steps", Usage: "optimizer steps of a round (default: about a second)"}
	profile := &cli.StringFlag{Name: "profile", Usage: "write CPU profiles of our steps to `PREFIX`-PRECISION.prof"}
	command := func(name, usage string, act func(*bench) error, flags ...cli.Flag) *cli.Command {
		return &cli.Command{Name: name, Usage: usage, Flags: append(flags, shared...), Action: func(c *cli.Context) error { return report(c, act) }}
	}
	stepFlags := []cli.Flag{shape, seq, batch, precision, steps, profile}
	app := &cli.App{Name: "bench", Usage: "measure the training engine", Suggest: true, Commands: []*cli.Command{
		command("all", "everything but peers, on the 8m shape", (*bench).all, stepFlags...),
		command("peak", "what this machine could do", (*bench).peak),
		command("gemm", "matrix products, as a share of the peak", (*bench).gemm, precision, &cli.BoolFlag{Name: "no-gonum", Usage: "leave the slow baseline out"}),
		command("step", "one train step: forward, backward, AdamW", (*bench).step, stepFlags...),
		command("scaling", "the train step on 1 to --threads threads", (*bench).scaling, stepFlags...),
		command("attention", "the train step at growing length, the same tokens a batch", (*bench).attention, stepFlags...),
		command("generate", "inference with a cache of keys and values", (*bench).generate, shape, precision),
		command("codec", "compression of a pseudo-gradient, and 15 payloads applied", (*bench).codec),
		command("peers", "the same work in torch, in a throw-away Python environment", (*bench).peers, peerFlags()...),
		command("chain", "chain nodes against the bare consensus engine, and the state machine", (*bench).chain, chainFlags()...),
		gpuCommand(shared),
		workCommand(),
	}}
	return proc.Frame(app).Run(args)
}

// bench is one run of a command.
type bench struct {
	ctx     context.Context
	flags   *cli.Context
	report  *Report
	quiet   bool   // no table
	name    string // of the section that is being measured
	rounds  int
	threads int
	kernels string
	wait    time.Duration // for a quiet machine
}

// newBench reads the flags that all commands share. Call done at the end.
func newBench(c *cli.Context) (b *bench, done func(), err error) {
	if c.Args().Present() {
		return nil, nil, proc.Usage(fmt.Errorf("unexpected argument %q", c.Args().First()))
	}
	b = &bench{flags: c, rounds: c.Int("rounds"), threads: c.Int("threads"), kernels: c.String("kernels"), wait: c.Duration("wait"), quiet: c.String("json") == "-"}
	if b.rounds < 1 || b.threads < 1 || b.threads > 1024 {
		return nil, nil, proc.Usage(errors.New("rounds must be at least 1, threads 1 to 1024"))
	}
	machine, err := describe(b.kernels)
	if err != nil {
		return nil, nil, proc.Usage(err)
	}
	b.report = &Report{Machine: machine, Version: proc.Version, Command: c.Command.Name}
	ctx, cancel := proc.Context(0)
	b.ctx = ctx
	return b, func() { cancel(nil) }, nil
}

// report runs act and writes what it measured: what was measured before an error too.
func report(c *cli.Context, act func(*bench) error) error {
	b, done, err := newBench(c)
	if err != nil {
		return err
	}
	defer done()
	out, err := newOutput(c.String("json"))
	if err != nil {
		return err
	}
	b.say("%s", b.report.Machine)
	err = act(b)
	return proc.Ended(b.ctx, errors.Join(err, out.write(b.report, len(b.report.Rows) == 0)))
}

// all runs the other commands in turn; one that cannot run here does not keep the rest from running.
func (b *bench) all() error {
	var errs []error
	for _, act := range []func(*bench) error{(*bench).peak, (*bench).gemm, (*bench).step, (*bench).scaling, (*bench).attention, (*bench).generate, (*bench).codec} {
		err := act(b)
		if errors.Is(err, model.ErrUnsupported) {
			b.say("  left out: %v", err)
			err = nil
		}
		if errs = append(errs, err); b.ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// say prints a line for a person.
func (b *bench) say(format string, a ...any) {
	if !b.quiet {
		fmt.Printf(format+"\n", a...)
	}
}
