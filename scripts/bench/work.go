package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"time"

	"github.com/urfave/cli/v2"

	"sn3/internal/proc"
	"sn3/model"
	"sn3/model/cpu"
	"sn3/model/gpu"
	"sn3/model/gpu/memory"
	"sn3/model/kern"
)

// job is what a worker of ours is to do, as it stands in its command line.
type job struct {
	Task       string // step, card (the step on a card), generate, gemm or chain-…
	Dir        string // of the task
	Precision  model.Precision
	Kernels    string
	Threads    int
	Form       string // of a product: nn, nt, tn or tt
	M, N, K    int
	Card       int // its number, and sequences of a micro-batch on it
	MicroBatch int
	Plan       memory.Plan
	Recompute  memory.Recompute
	Profile    string // file for a CPU profile of what is timed
	Chain      chainJob
	Peers      []string // of a node that is a process
}

// piece is work that can be repeated: turn does work units of it.
type piece struct {
	ready  ready
	work   float64
	before func(context.Context) error // a turn, not timed; or nil
	turn   func(context.Context) error
	found  figures      // by the turns since the last reply; or nil
	close  func() error // or nil

	memory func() int64   // of processes that do the work instead; or nil
	cpu    func() float64 // seconds that they have used; or nil
}

// workCommand is this program as a worker.
func workCommand() *cli.Command {
	return &cli.Command{Name: "work", Hidden: true, Usage: "do what standard input asks for; started by the other commands", ArgsUsage: "JOB",
		Action: func(c *cli.Context) error {
			var j job
			if err := json.Unmarshal([]byte(c.Args().First()), &j); err != nil {
				return proc.Usage(errors.New("work is started by the other commands"))
			}
			ctx, cancel := proc.Context(0)
			defer cancel(nil)
			return proc.Ended(ctx, j.serve(ctx, os.Stdin, os.Stdout))
		}}
}

// ours starts this program as a worker.
func ours(ctx context.Context, j job) (*worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start worker: %w", err)
	}
	arg, err := json.Marshal(j)
	if err != nil {
		return nil, fmt.Errorf("start worker: %w", err)
	}
	return start(ctx, nil, self, "work", string(arg))
}

// serve is the worker's side of the protocol. What goes wrong is said to the other side, which reports it.
func (j job) serve(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	enc := json.NewEncoder(out)
	p, err := j.prepare(ctx)
	if err != nil {
		return enc.Encode(ready{Error: err.Error()})
	}
	if p.close != nil {
		defer func() { err = errors.Join(err, p.close()) }()
	}
	debug.FreeOSMemory() // what only preparing took
	resetPeak()
	if err := enc.Encode(p.ready); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	if j.Profile != "" {
		end, err := profiled(j.Profile)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, end()) }()
	}
	for s := bufio.NewScanner(in); s.Scan(); {
		var q request
		if err := json.Unmarshal(s.Bytes(), &q); err != nil {
			return enc.Encode(reply{Error: fmt.Sprintf("request %.100q", s.Text())})
		}
		r, err := p.turns(ctx, q.N)
		if err != nil {
			return enc.Encode(reply{Error: err.Error()})
		}
		if err := enc.Encode(r); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
	return nil
}

// profiled writes a CPU profile until end is called, and then, beside it, for which locks others waited.
func profiled(path string) (end func() error, err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("write profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("write profile: %w", err), f.Close())
	}
	const oneOf = 10 // waits
	runtime.SetMutexProfileFraction(oneOf)
	return func() error {
		pprof.StopCPUProfile()
		m, err := os.Create(path + ".mutex")
		if err != nil {
			return errors.Join(fmt.Errorf("write profile: %w", err), f.Close())
		}
		return errors.Join(pprof.Lookup("mutex").WriteTo(m, 0), m.Close(), f.Close())
	}, nil
}

func (p *piece) turns(ctx context.Context, n int) (reply, error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var took time.Duration
	var cpu float64
	if p.cpu != nil {
		cpu = -p.cpu()
	}
	for range n {
		if p.before != nil {
			if err := p.before(ctx); err != nil {
				return reply{}, err
			}
		}
		from := time.Now()
		if err := p.turn(ctx); err != nil {
			return reply{}, err
		}
		took += time.Since(from)
	}
	runtime.ReadMemStats(&after)
	allocs := after.Mallocs - before.Mallocs
	r := reply{Seconds: max(took, 1).Seconds(), Work: p.work * float64(n), Memory: peakMemory(), Allocs: &allocs, Figures: maps.Clone(p.found)}
	clear(p.found)
	if p.cpu != nil {
		r.Memory, r.Others = p.memory(), cpu+p.cpu()
		r.Allocs = nil
	}
	return r, nil
}

func (j job) prepare(ctx context.Context) (*piece, error) {
	switch j.Task {
	case "step", "card":
		return j.step(ctx)
	case "generate":
		return j.generate(ctx)
	case "gemm":
		return j.gemm()
	case "chain-tx", "chain-latency", "chain-window", "chain-life", "chain-snapshot", "chain-disk":
		return j.chain(ctx)
	case "chain-state":
		return j.chainState()
	case "chain-member":
		return j.member()
	}
	return nil, fmt.Errorf("unknown task %q", j.Task)
}

// one yields the same batch again and again.
type one struct{ b model.Batch }

func (o *one) Next(context.Context) (model.Batch, error) { return o.b, nil }

// what names this program and the kernels it uses.
func (j job) what() (string, *kern.Kernels, error) {
	k, err := kern.Select(j.Kernels)
	if err != nil {
		return "", nil, err
	}
	return "sn3 " + proc.Version + " " + k.Name, k, nil
}

func (j job) options() model.Options {
	return model.Options{Threads: j.Threads, Precision: j.Precision}
}

// step makes optimizer steps on one batch; the work of a turn is its tokens.
func (j job) step(ctx context.Context) (*piece, error) {
	what, _, err := j.what()
	if err != nil {
		return nil, err
	}
	t, w, b, err := openTask(j.Dir)
	if err != nil {
		return nil, err
	}
	engine, o := model.Engine(cpu.New(j.Kernels)), j.options()
	if j.Task == "card" {
		what, engine = "sn3 "+proc.Version, gpu.New(gpu.Settings{Ordinal: j.Card, Plan: j.Plan, Recompute: j.Recompute})
		o.Threads, o.MicroBatch = 0, j.MicroBatch
	}
	tr, err := engine.NewTrainer(t.Config, t.optimizer(), o)
	if err != nil {
		return nil, err
	}
	if err := tr.Reset(ctx, w); err != nil {
		return nil, err
	}
	batches, n := &one{b}, uint64(0)
	step := func(ctx context.Context) (model.Report, error) {
		r, err := tr.Train(ctx, batches, model.Budget{First: n, Steps: 1})
		if err == nil && r.Steps == 0 {
			err = context.Cause(ctx)
		}
		n++
		return r, err
	}
	p := &piece{ready: ready{What: what}, work: float64(t.Batch * t.Seq), turn: func(ctx context.Context) error { _, err := step(ctx); return err }}
	for range t.Warm {
		r, err := step(ctx)
		if err != nil {
			return nil, err
		}
		p.ready.Losses = append(p.ready.Losses, r.Loss)
	}
	return p, nil
}

// prompt is how many tokens of a sequence are given.
const prompt = 16

// generate continues a prompt greedily, token by token, until the sequence is full; the work of a turn is the tokens it adds.
func (j job) generate(ctx context.Context) (*piece, error) {
	what, _, err := j.what()
	if err != nil {
		return nil, err
	}
	t, w, b, err := openTask(j.Dir)
	if err != nil {
		return nil, err
	}
	g, ok := any(cpu.New(j.Kernels)).(model.Generator)
	if !ok {
		return nil, fmt.Errorf("generate: %w", model.ErrUnsupported)
	}
	d, err := g.NewDecoder(t.Config, t.Seq, j.options())
	if err != nil {
		return nil, err
	}
	if err := d.Reset(ctx, w); err != nil {
		return nil, err
	}
	logits, last := make([]float32, t.Vocab), make([]int32, 1)
	given := min(prompt, t.Seq-1)
	turn := func(context.Context) error {
		d.Rewind(0)
		next := b.X[:given]
		for range t.Seq - given {
			if err := d.Next(logits, next); err != nil {
				return err
			}
			last[0] = 0
			for i, x := range logits {
				if x > logits[last[0]] {
					last[0] = int32(i)
				}
			}
			next = last
		}
		return nil
	}
	return &piece{ready: ready{What: what}, work: float64(t.Seq - given), turn: turn}, turn(ctx)
}

// gemm makes one product; the work of a turn is its GFLOP.
func (j job) gemm() (*piece, error) {
	what, k, err := j.what()
	if err != nil {
		return nil, err
	}
	x := newProduct(k, j.Threads, j.Form, j.M, j.N, j.K, rand.New(rand.NewPCG(3, 4)))
	if j.Precision == model.BF16 && !k.Half() {
		return nil, fmt.Errorf("kernels %s multiply no bfloat16: %w", k.Name, model.ErrUnsupported)
	}
	turn := func(context.Context) error { x.run(j.Precision); return nil }
	for range 3 {
		if err := turn(nil); err != nil {
			return nil, err
		}
	}
	return &piece{ready: ready{What: what}, work: x.gflop(), turn: turn}, nil
}
