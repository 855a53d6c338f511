package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"sn3/internal/proc"
	"sn3/model"
)

// goals are what our train step should reach of torch's best.
var goals = map[string]float64{"8m f32": 1.1, "8m bf16": 1.5, "160m f32": 1.0, "160m bf16": 1.2}

func peerFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "tasks", Value: "step,matmul,codec", Usage: "what to compare"},
		&cli.StringFlag{Name: "shapes", Value: "8m,160m", Usage: "models of the step: presets or paths of them"},
		&cli.StringFlag{Name: "precision", Value: "f32,bf16", Usage: "f32, bf16 or both"},
		&cli.IntFlag{Name: "steps", Usage: "steps or products of a round (default: about a second)"},
		&cli.StringFlag{Name: "python", Value: "python3", Usage: "interpreter that makes the environment"},
		&cli.StringFlag{Name: "env", Usage: "use the environment in `FOLDER`, which has torch or is made; it stays"},
		&cli.BoolFlag{Name: "keep", Usage: "do not remove what was made"},
		&cli.StringFlag{Name: "index", Usage: "package index `URL` for torch (default: its CPU builds if they can be reached, else pip's own)"},
		&cli.Float64Flag{Name: "millions", Value: codecMillions, Usage: "size of the codec's vector in torch; ours is always 100"},
	}
}

// peers makes the environment, runs the comparisons and removes it.
func (b *bench) peers() (err error) {
	tasks := map[string]func(*python) error{"step": b.peerSteps, "matmul": b.peerMatmuls, "codec": b.peerCodec}
	var chosen []string
	for t := range strings.SplitSeq(b.flags.String("tasks"), ",") {
		if tasks[t] == nil {
			return proc.Usage(fmt.Errorf("unknown task %q; there are step, matmul, codec", t))
		}
		chosen = append(chosen, t)
	}
	if _, err := precisions(b.flags.String("precision")); err != nil {
		return err
	}
	dir, remove, err := scratch()
	if err != nil {
		return err
	}
	defer func() {
		if b.flags.Bool("keep") {
			b.say("\nkept: %s", dir)
			return
		}
		err = errors.Join(err, remove())
	}()
	p, err := b.newPython(dir, b.flags.String("env"))
	if err != nil {
		return err
	}
	if p.why != "" {
		b.say("MKL shim: none: %s", p.why)
	}
	var errs []error
	for _, t := range chosen {
		if errs = append(errs, tasks[t](p)); b.ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// variant is one way to run the torch model.
type variant struct {
	kind, attention string
	tuned           bool
}

func (v variant) String() string {
	return "torch " + v.kind + " " + v.attention + map[bool]string{true: "", false: " stock"}[v.tuned]
}

// variants of a model of n parameters: all of them for a small one; a large one is spared those that are slower everywhere.
func variants(n int) []variant {
	tuned := []variant{{"compile", "math", true}, {"compile", "sdpa", true}}
	if n > 50e6 {
		return tuned
	}
	return append(tuned, variant{"eager", "math", true}, variant{"compile", "sdpa", false}, variant{"eager", "sdpa", false})
}

// peerSteps compares the train step, a shape and a precision at a time.
func (b *bench) peerSteps(p *python) error {
	ps, _ := precisions(b.flags.String("precision")) // checked in peers
	var errs []error
	for shape := range strings.SplitSeq(b.flags.String("shapes"), ",") {
		t, err := newTask(shape, 0, 0)
		if err != nil {
			return err
		}
		if err := t.plain(); err != nil {
			return err
		}
		dir := filepath.Join(p.dir, "task")
		if err := os.Mkdir(dir, 0o700); err != nil {
			return fmt.Errorf("write task: %w", err)
		}
		if err := t.save(dir); err != nil {
			return fmt.Errorf("%w (is the disk full?)", err)
		}
		for _, precision := range ps {
			errs = append(errs, b.peerStep(p, t, dir, precision))
		}
		if errs = append(errs, os.RemoveAll(dir)); b.ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

func (b *bench) peerStep(p *python, t *task, dir string, precision model.Precision) error {
	what := filepath.Base(t.Name) + " " + string(precision)
	l, err := model.NewLayout(t.Config)
	if err != nil {
		return err
	}
	b.section("peers", "train step of %s (%.1f million parameters), batch %d×%d, losses of %d steps compared", what, float64(l.Params())/1e6, t.Batch, t.Seq, t.Warm)
	h := &heat{b: b}
	defer h.close()
	h.join("sn3", func() (*worker, error) { return ours(b.ctx, b.job("step", dir, precision)) })
	for _, v := range variants(l.Params()) {
		env := p.stock(b.threads)
		if v.tuned {
			env = p.tuned(b.threads)
		}
		h.join(v.String(), func() (*worker, error) {
			return start(b.ctx, env, p.bin, filepath.Join(p.dir, "llama.py"), dir, string(precision), v.kind, v.attention, fmt.Sprint(b.threads))
		})
	}
	if err := h.run(); err != nil {
		return err
	}
	h.print(what, "tokens/s", goals[what])
	return h.parity(map[model.Precision]float64{model.F32: 5e-5, model.BF16: 1e-2}[precision])
}

// peerMatmuls compares products as a linear layer makes them (nt) and plain ones (nn).
func (b *bench) peerMatmuls(p *python) error {
	ps, _ := precisions(b.flags.String("precision")) // checked in peers
	for _, precision := range ps {
		for _, s := range [][3]int{{512, 512, 512}, {2048, 3072, 768}} {
			for _, form := range []string{"nt", "nn"} {
				err := b.peerMatmul(p, precision, form, s)
				if errors.Is(err, model.ErrUnsupported) {
					b.say("  left out: %v", err)
				} else if err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (b *bench) peerMatmul(p *python, precision model.Precision, form string, s [3]int) error {
	b.section("peers", "product %d×%d×%d %s %s", s[0], s[1], s[2], precision, form)
	h := &heat{b: b}
	defer h.close()
	j := b.job("gemm", "", precision)
	j.Form, j.M, j.N, j.K = form, s[0], s[1], s[2]
	h.join("sn3 (f32 out)", func() (*worker, error) { return ours(b.ctx, j) })
	peer := func(by, kind string, env []string) {
		h.join(by, func() (*worker, error) {
			return start(b.ctx, env, p.bin, filepath.Join(p.dir, "matmul.py"), kind, form, fmt.Sprint(s[0]), fmt.Sprint(s[1]), fmt.Sprint(s[2]), fmt.Sprint(b.threads))
		})
	}
	peer("torch "+string(precision)+" out", string(precision), p.tuned(b.threads))
	if precision == model.BF16 && form == "nt" {
		peer("torch f32 in and out, cast", "cast", p.tuned(b.threads))
	}
	if precision == model.F32 && p.shim != "" {
		peer("torch f32 out stock", "f32", p.stock(b.threads))
	}
	if err := h.run(); err != nil {
		return err
	}
	h.print(fmt.Sprintf("%d×%d×%d %s %s", s[0], s[1], s[2], precision, form), "GFLOP/s", 0)
	return nil
}

// heat is one comparison: the first contender is ours, the others are what it is held against.
type heat struct {
	b    *bench
	cs   []*contender
	errs []error
}

// join starts a contender. A peer that cannot start is left out and named; ours must.
func (h *heat) join(by string, start func() (*worker, error)) {
	if len(h.errs) > 0 || h.b.ctx.Err() != nil {
		return
	}
	w, err := start()
	switch {
	case err == nil:
		h.b.say("  ready: %s, %s", by, w.ready.What)
		h.cs = append(h.cs, &contender{by: by, w: w, turns: h.b.flags.Int("steps")})
	case len(h.cs) == 0:
		h.errs = append(h.errs, unsupported(err))
	case h.b.ctx.Err() == nil:
		h.b.say("  left out: %s: %v", by, err)
	}
}

func (h *heat) run() error {
	switch {
	case h.b.ctx.Err() != nil:
		return context.Cause(h.b.ctx)
	case len(h.errs) > 0:
		return errors.Join(h.errs...)
	case len(h.cs) < 2:
		return fmt.Errorf("%w: no peer could start", errPython)
	}
	return interleave(h.b.ctx, h.b.rounds, h.b.wait, h.cs)
}

// print adds the rows: first the peers, then ours as a share of the best of them.
func (h *heat) print(what, unit string, goal float64) {
	var best Row
	for _, c := range h.cs[1:] {
		r := c.row(what, unit, h.b.threads)
		if r.Median > best.Median {
			best = r
		}
		h.b.add(r)
	}
	r := h.cs[0].row(what, unit, h.b.threads)
	r.Others = max(r.Others, best.Others) // a ratio is as good as the worse of its two
	r.Share, r.Of, r.Goal = r.Median/best.Median, best.By, goal
	r.Note = fmt.Sprintf("(best rounds %.2f) %s", r.High/best.High, r.Note)
	h.b.add(r)
}

// errWork: the contenders did not do the same.
var errWork = errors.New("the losses differ: this was not the same work")

// parity compares the losses of the first steps: of the same weights and batch all must have the same, to rounding.
func (h *heat) parity(tolerance float64) error {
	var errs []error
	for _, c := range h.cs[1:] {
		off := distance(h.cs[0].w.ready.Losses, c.w.ready.Losses)
		h.b.say("  losses: %-26s within %.1g of ours", c.by, off)
		if !(off <= tolerance) {
			errs = append(errs, fmt.Errorf("%w: %s %.6f, ours %.6f", errWork, c.by, c.w.ready.Losses, h.cs[0].w.ready.Losses))
		}
	}
	return errors.Join(errs...)
}

// distance is the largest difference; infinite if the lists have not the same length, or none.
func distance(a, b []float64) float64 {
	if len(a) != len(b) || len(a) == 0 {
		return math.Inf(1)
	}
	var d []float64
	for i := range a {
		d = append(d, math.Abs(a[i]-b[i]))
	}
	return slices.Max(d) // NaN if one is
}

func (h *heat) close() {
	for _, c := range h.cs {
		_ = c.w.close() // what a worker could say, it has said
	}
}
