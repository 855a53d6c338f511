// Command arms trains the preset's model in one process without a network, chain or bucket, once per arm. Each arm adds one
// thing to the arm before it, so that a failure of the whole network has an address:
//
//	adamw   one miner with the batch of all: no outer step at all
//	dense   H inner steps each, outer step = mean of the dense pseudo-gradients
//	topk    + top-k with error feedback, values in float32
//	2bit    + the codec: two bits a value
//	clip    + clip to the median norm: gradients.OuterStep, what the network does with --gap wait
//	gap     + training through the gap from the proxy, shift after half of the window (--gap train)
//
// All arms see the same tokens in every window. It prints held-out nats per byte after some windows, for LOG.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"sn3/chain"
	"sn3/internal/preset"
	"sn3/internal/proc"
	"sn3/internal/replica"
	"sn3/model"
	"sn3/model/cpu"
	"sn3/model/data"
)

func main() { os.Exit(proc.Main("arms", run(os.Args))) }

func run(args []string) error {
	usage := func(_ *cli.Context, err error, _ bool) error { return proc.Usage(err) }
	app := &cli.App{Name: "arms", Usage: "compare the training methods in one process", Version: proc.Version, Suggest: true,
		OnUsageError: usage, ExitErrHandler: func(*cli.Context, error) {}, Action: compare,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "arms", Value: strings.Join(armNames(), ","), Usage: "which, in this order"},
			&cli.IntFlag{Name: "seeds", Value: 1, Usage: "runs of each arm, with seeds 1 to `N`"},
			&cli.IntFlag{Name: "windows", Value: 67, Usage: "windows to train; the learning rate is planned for them, at least for 24"},
			&cli.StringFlag{Name: "model", Value: "local", Usage: "preset, " + strings.Join(preset.Local(), " or ") + ", or a file of one"},
			&cli.IntFlag{Name: "miners", Value: 4, Usage: "miners"},
			&cli.Float64Flag{Name: "alpha", Usage: "outer step size instead of the preset's"},
			&cli.Float64Flag{Name: "lr", Usage: "inner learning rate instead of the preset's"},
			&cli.IntFlag{Name: "warmup", Usage: "inner steps of warm-up instead of the preset's"},
			&cli.IntFlag{Name: "k", Usage: "values per 4096 in every window instead of the preset's schedule"},
			&cli.IntFlag{Name: "shift", Value: -1, Usage: "arm gap: inner steps made on the proxy (default: half of H)"},
			&cli.IntFlag{Name: "held-out", Value: 2048, Usage: "held-out samples measured"},
			&cli.IntFlag{Name: "threads", Value: runtime.GOMAXPROCS(0), Usage: "compute threads"},
			&cli.StringFlag{Name: "text", Usage: "`FOLDER` of text (default: the Go standard library's source)"},
		}}
	return app.Run(args)
}

// compare runs every arm with every seed, one at a time.
func compare(c *cli.Context) error {
	ctx, cancel := proc.Context(0)
	defer cancel(nil)
	arms, err := parseArms(c.String("arms"))
	if err != nil {
		return proc.Usage(err)
	}
	lab, err := newLab(ctx, c)
	if err != nil {
		return err
	}
	t := &table{marks: marks(lab.windows)}
	for _, a := range arms {
		for seed := 1; seed <= c.Int("seeds"); seed++ {
			began := time.Now()
			r, err := lab.train(ctx, a, uint64(seed), t.marks)
			if err != nil {
				return proc.Ended(ctx, fmt.Errorf("arm %s, seed %d: %w", a.name, seed, err))
			}
			r.seconds = time.Since(began).Seconds()
			t.add(a.name, r)
			fmt.Fprintf(os.Stderr, "%-6s seed %d: %.3f nats/byte after window %d, %.0f s\n", a.name, seed, r.loss[lab.windows], lab.windows, r.seconds)
		}
	}
	lab.print(t)
	return nil
}

// lab is what all arms share: text, held-out set, settings.
type lab struct {
	run                    *chain.Run
	cfg                    model.Config
	layout                 *model.Layout
	data                   *data.Dataset
	heldOut                []model.Batch
	baselines              data.Baselines
	judge                  model.Judge
	windows, miners, shift int
	threads                int
}

func newLab(ctx context.Context, c *cli.Context) (*lab, error) {
	l := &lab{windows: c.Int("windows"), miners: c.Int("miners"), threads: c.Int("threads"), shift: c.Int("shift")}
	if l.windows < 1 || l.miners < 1 || c.Int("seeds") < 1 {
		return nil, proc.Usage(errors.New("windows, miners and seeds must be at least 1"))
	}
	var err error
	if l.run, err = preset.Run(c.String("model"), l.windows); err != nil {
		return nil, proc.Usage(err)
	}
	if c.IsSet("alpha") {
		l.run.Outer.Alpha = c.Float64("alpha")
	}
	if c.IsSet("lr") {
		l.run.Train.LR = c.Float64("lr")
	}
	if c.IsSet("warmup") {
		l.run.Train.Warmup = c.Int("warmup")
	}
	if c.IsSet("k") {
		l.run.Payload.K = []chain.KStep{{K: c.Int("k")}}
	}
	h := l.run.Train.InnerSteps
	if l.shift < 0 {
		l.shift = h / 2
	}
	l.shift = min(l.shift, h)
	l.cfg = replica.ModelConfig(l.run)
	if l.layout, err = model.NewLayout(l.cfg); err != nil {
		return nil, err
	}
	if l.judge, err = cpu.New("").NewJudge(l.cfg, model.Options{Threads: l.threads}); err != nil {
		return nil, err
	}
	return l, l.openText(ctx, c.String("text"), c.Int("held-out"))
}

// openText packs the text as a network would and reads it back through the dataset, without a bucket.
func (l *lab) openText(ctx context.Context, dir string, heldOut int) error {
	var only []string
	if dir == "" {
		out, err := exec.Command("go", "env", "GOROOT").Output()
		if err != nil {
			return errors.New("no go command to find text with: give a folder with --text")
		}
		dir, only = filepath.Join(strings.TrimSpace(string(out)), "src"), []string{".go"}
	}
	corpus, err := data.Collect(dir, data.Options{Exts: only})
	if err != nil {
		return err
	}
	packed, err := data.Pack(corpus)
	if err != nil {
		return err
	}
	if l.data, err = data.Open(ctx, data.From(packed), packed.Spec, data.ReadOptions{Seq: l.cfg.Seq, Vocab: l.cfg.Vocab}); err != nil {
		return err
	}
	heldOut = int(min(uint64(heldOut), l.data.Samples(data.HeldOut)))
	if l.heldOut, err = l.data.HeldOut(ctx, []byte("sn3/arms"), heldOut); err != nil {
		return err
	}
	l.baselines, err = l.data.Baselines(ctx, []byte("sn3/arms"), heldOut)
	return err
}

// measure is the held-out loss of w in nats per byte.
func (l *lab) measure(ctx context.Context, w model.Weights) (float64, error) {
	if err := l.judge.Reset(ctx, w); err != nil {
		return 0, err
	}
	losses, err := l.judge.Losses(ctx, nil, 0, [][]model.Batch{l.heldOut})
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for _, x := range losses[0] {
		sum += x
	}
	return sum / float64(len(losses[0])), nil
}

// marks are the windows after which the loss is measured: those of notes/local-preset.md and the last.
func marks(windows int) []int {
	var m []int
	for _, w := range []int{10, 20, 40, 67} {
		if w < windows {
			m = append(m, w)
		}
	}
	return append(m, windows)
}

// result is one run of an arm.
type result struct {
	loss          map[int]float64 // by number of windows done
	bytes, values float64         // mean payload and what it carries, of the last window; 0 where nothing is packed
	seconds       float64
}

type table struct {
	marks []int
	arms  []string
	runs  map[string][]result
}

func (t *table) add(arm string, r result) {
	if t.runs == nil {
		t.runs = map[string][]result{}
	}
	if !slices.Contains(t.arms, arm) {
		t.arms = append(t.arms, arm)
	}
	t.runs[arm] = append(t.runs[arm], r)
}

func (l *lab) print(t *table) {
	tr, tokens := l.run.Train, l.miners*l.run.Train.InnerSteps*l.run.Train.Batch*l.cfg.Seq
	fmt.Printf("%d parameters, %d miners, H %d, B %d, T %d, %d windows = %.2fM tokens, k %v, alpha %g, beta %g, shift after %d steps, lr %g; "+
		"held out %d bytes; %s, %s\n", l.layout.Params(), l.miners, tr.InnerSteps, tr.Batch, l.cfg.Seq, l.windows, float64(tokens*l.windows)/1e6,
		l.run.Payload.K, l.run.Outer.Alpha, l.run.Payload.Beta, l.shift, tr.LR, l.baselines.Positions, runtime.Version(), runtime.GOARCH)
	b := l.baselines
	fmt.Printf("count models (%s): order-0 %.3f, bigram %.3f, order-2 %.3f\n\n| arm | seeds |", b.Smoothing, b.Order0, b.Bigram, b.Order2)
	for _, w := range t.marks {
		fmt.Printf(" window %d |", w)
	}
	fmt.Printf(" payload bytes | bits per value | seconds |\n|---|---|%s---|---|---|\n", strings.Repeat("---|", len(t.marks)))
	for _, name := range t.arms {
		runs := t.runs[name]
		fmt.Printf("| %s | %d |", name, len(runs))
		for _, w := range t.marks {
			fmt.Printf(" %s |", spread(runs, func(r result) float64 { return r.loss[w] }))
		}
		last := runs[len(runs)-1]
		if last.bytes > 0 {
			fmt.Printf(" %.0f | %.2f |", last.bytes, 8*last.bytes/last.values)
		} else {
			fmt.Print(" – | – |")
		}
		fmt.Printf(" %.0f |\n", last.seconds)
	}
}

// spread prints mean ± standard deviation.
func spread(runs []result, of func(result) float64) string {
	n, sum, sq := float64(len(runs)), 0.0, 0.0
	for _, r := range runs {
		sum += of(r)
	}
	mean := sum / n
	for _, r := range runs {
		sq += (of(r) - mean) * (of(r) - mean)
	}
	if n < 2 {
		return fmt.Sprintf("%.3f", mean)
	}
	return fmt.Sprintf("%.3f ± %.3f", mean, math.Sqrt(sq/(n-1)))
}
