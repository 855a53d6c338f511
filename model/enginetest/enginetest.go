// Package enginetest is the contract of a training engine as code: whatever implements model.Engine passes Run, on the CPU, as
// a graph or on a GPU. It knows no engine; what it compares with is a Llama in float64 of its own (reference.go).
//
// A trainer must also be a model.Gradienter and a model.Persister, a judge a model.Forwarder. A precision, micro-batches or
// decoding may be missing; the engine then refuses them with model.ErrUnsupported and the suite skips what needs them. An engine
// that is a model.Sizer is held to it; if its memory is not Go's, its trainers and judges say what they hold by a method
// Allocated() int64.
package enginetest

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"math"
	"slices"
	"strconv"
	"testing"

	"sn3/model"
)

// Options say how an engine is tested; the zero value is for a fast one in float32. In bfloat16 the contract is the same and figures
// may be further from the reference (numbers.go); what is exact stays so.
type Options struct {
	Checks    int             // random configurations of each property, 0: 100, under -short a fifth of it
	Slow      bool            // a step takes tens of milliseconds: fewer repetitions, of the same kinds
	Precision model.Precision // that the engine computes in, "": float32
	// Where gradients are kept in bfloat16 sums over parts are rounded; where moments are, by chance, AdamW is near its reference only.
	ShortGradients, ShortMoments bool
	Parts                        []string // of the suite, by name; nil: all
}

// Trainer is what the suite needs of an engine's trainer.
type Trainer interface {
	model.Trainer
	model.Gradienter
	model.Persister
}

// Judge is what the suite needs of an engine's judge.
type Judge interface {
	model.Judge
	model.Forwarder
}

// suite is an engine under test.
type suite struct {
	e   model.Engine
	o   Options
	how precise
}

// Run runs the suite.
func Run(t *testing.T, e model.Engine, o Options) {
	if o.Precision == "" {
		o.Precision = model.F32
	}
	s, ran := suite{e, o, precisions[o.Precision]}, 0
	for _, x := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"refuses what no engine can run", s.refuses},
		{"gradients", s.gradients},
		{"logits", s.logits},
		{"long batches, wide heads", s.long},
		{"logits are causal", s.causal},
		{"precision", s.precision},
		{"micro-batches", s.microBatches},
		{"micro-batches without targets", s.microBatchesWithoutTargets},
		{"AdamW", s.adamW},
		{"decay", s.decay},
		{"schedule goes on", s.scheduleGoesOn},
		{"warm-up of cold moments", s.cold},
		{"train ends after a whole step", s.trainEnds},
		{"train reads one batch a step", s.trainReads},
		{"bad batches", s.badBatches},
		{"a step that is not finite is not made", s.diverged},
		{"reset keeps moments", s.reset},
		{"rebase", s.rebase},
		{"forget", s.forget},
		{"nothing is stale", s.nothingIsStale},
		{"trained", s.trained},
		{"judge and trainer agree", s.judgeAgrees},
		{"delta", s.delta},
		{"judge leaves θ alone", s.judgeLeavesTheta},
		{"restart", s.restart},
		{"damaged state", s.damaged},
		{"determinism", s.determinism},
		{"decoder", s.decoder},
		{"need", s.need},
	} {
		if o.Parts == nil || slices.Contains(o.Parts, x.name) {
			t.Run(x.name, x.run)
			ran++
		}
	}
	if o.Parts != nil && ran != len(o.Parts) {
		t.Errorf("of the parts %q the suite has %d", o.Parts, ran)
	}
}

// failer is what may fail: a test, one check of a property.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// tb is a failer that ends.
type tb interface {
	failer
	Cleanup(f func())
}

// checks sets how often the properties of t are checked, unless the command line or RAPID_CHECKS says so.
func checks(t *testing.T, n int) {
	t.Helper()
	f, given := flag.Lookup("rapid.checks"), false
	flag.Visit(func(g *flag.Flag) { given = given || g.Name == "rapid.checks" })
	if given || n == 0 || f.DefValue != "100" {
		return
	}
	old := f.Value.String()
	set := func(v string) {
		if err := f.Value.Set(v); err != nil {
			t.Fatal(err)
		}
	}
	set(strconv.Itoa(n))
	t.Cleanup(func() { set(old) })
}

// options are those of an engine that does nothing special; for float32 nothing is said.
func (s suite) options() model.Options {
	if s.o.Precision == model.F32 {
		return model.Options{}
	}
	return model.Options{Precision: s.o.Precision}
}

// parts are options with micro-batches.
func (s suite) parts(size int) model.Options {
	opt := s.options()
	opt.MicroBatch = size
	return opt
}

// few are all of v, or the first n of it for a slow engine.
func few[T any](s suite, n int, v ...T) []T {
	if s.o.Slow {
		return v[:n]
	}
	return v
}

// variants are all options to try: plain, rounded where the suite is about float32, and in parts.
func (s suite) variants(size int) []model.Options {
	v := []model.Options{s.options(), s.parts(size)}
	if s.o.Precision == model.F32 {
		v = append(v, model.Options{Precision: model.BF16})
	}
	return v
}

// shut closes x, a trainer, judge or decoder, if it can be closed; x may be closed again.
func shut(t failer, x any) {
	t.Helper()
	if c, ok := x.(io.Closer); ok {
		if err := c.Close(); err != nil {
			t.Errorf("close a %T: %v", x, err)
		}
	}
}

// tryTrainer is a new trainer at w until t ends, or nil if the engine does not support opt.
func (s suite) tryTrainer(t tb, c model.Config, o model.Optimizer, opt model.Options, w model.Weights) Trainer {
	t.Helper()
	x, err := s.e.NewTrainer(c, o, opt)
	if errors.Is(err, model.ErrUnsupported) {
		return nil
	}
	if err != nil {
		t.Fatalf("%+v, %+v: %v", c, opt, err)
	}
	t.Cleanup(func() { shut(t, x) })
	tr, ok := x.(Trainer)
	if !ok {
		t.Fatalf("a trainer of type %T is no model.Gradienter or no model.Persister", x)
	}
	if err := tr.Reset(context.Background(), w); err != nil {
		t.Fatal(err)
	}
	return tr
}

func (s suite) trainer(t tb, c model.Config, o model.Optimizer, w model.Weights) Trainer {
	t.Helper()
	tr := s.tryTrainer(t, c, o, s.options(), w)
	if tr == nil {
		t.Fatalf("%+v is not supported in %s on one thread", c, s.o.Precision)
	}
	return tr
}

// tryJudge is a new judge at w until t ends, or nil if the engine does not support opt.
func (s suite) tryJudge(t tb, c model.Config, opt model.Options, w model.Weights) Judge {
	t.Helper()
	x, err := s.e.NewJudge(c, opt)
	if errors.Is(err, model.ErrUnsupported) {
		return nil
	}
	if err != nil {
		t.Fatalf("%+v, %+v: %v", c, opt, err)
	}
	t.Cleanup(func() { shut(t, x) })
	j, ok := x.(Judge)
	if !ok {
		t.Fatalf("a judge of type %T is no model.Forwarder", x)
	}
	if err := j.Reset(context.Background(), w); err != nil {
		t.Fatal(err)
	}
	return j
}

func (s suite) judge(t tb, c model.Config, w model.Weights) Judge {
	t.Helper()
	j := s.tryJudge(t, c, s.options(), w)
	if j == nil {
		t.Fatalf("%+v is not supported in %s on one thread", c, s.o.Precision)
	}
	return j
}

// usual is an optimizer of which every part is in use.
func usual() model.Optimizer {
	return model.Optimizer{LR: 3e-3, MinLR: 0.1, Decay: 0.3, Warmup: 3, Total: 100, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, Clip: 1}
}

// small is the shape of tests in which the shape does not matter: grouped heads, edge blocks, more than one chunk.
func small() model.Config {
	return model.Config{Vocab: 70, Width: 12, Layers: 1, Heads: 4, KVHeads: 2, HeadDim: 6, FFN: 10, Seq: 9, RopeTheta: 1e4, NormEps: 1e-5}
}

func weights(t tb, c model.Config, seed uint64) *model.Flat {
	t.Helper()
	w, err := random(c, seed)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// script yields batches, then an error.
type script struct {
	batches []model.Batch
	err     error
	calls   int
	next    func(call int) // called by Next, first call 0
}

// Next implements model.Batches; the batch given out before is overwritten, as a reader may do.
func (s *script) Next(ctx context.Context) (model.Batch, error) {
	call := s.calls
	s.calls++
	if s.next != nil {
		s.next(call)
	}
	if call > 0 && call <= len(s.batches) {
		clear(s.batches[call-1].X)
		clear(s.batches[call-1].Y)
	}
	if call >= len(s.batches) {
		return model.Batch{}, s.err
	}
	s.batches[call] = clone(s.batches[call])
	return s.batches[call], nil
}

func reader(err error, batches ...model.Batch) *script {
	return &script{batches: append([]model.Batch(nil), batches...), err: err}
}

// train makes one step per batch.
func train(t tb, tr model.Trainer, first uint64, batches ...model.Batch) model.Report {
	t.Helper()
	rep, err := tr.Train(context.Background(), reader(io.EOF, batches...), model.Budget{First: first, Steps: len(batches)})
	if err != nil || rep.Steps != len(batches) {
		t.Fatalf("%+v, %v", rep, err)
	}
	return rep
}

// flat are the parameters of a trainer, in chunk order.
func flat(t tb, tr model.Trainer) []float32 {
	t.Helper()
	w := tr.Trained()
	out := make([]float32, w.Layout().Params())
	if err := w.Read(out, w.Layout().All()); err != nil {
		t.Fatal(err)
	}
	return out
}

// state is everything that a trainer carries from step to step, bit for bit.
func state(t tb, tr Trainer) string {
	t.Helper()
	var b bytes.Buffer
	if err := tr.Save(&b); err != nil {
		t.Fatal(err)
	}
	return b.String() + bits(flat(t, tr))
}

func bits(v []float32) string {
	b := make([]byte, 0, 4*len(v))
	for _, x := range v {
		u := math.Float32bits(x)
		b = append(b, byte(u), byte(u>>8), byte(u>>16), byte(u>>24))
	}
	return string(b)
}

func losses(t tb, j model.Judge, d model.Delta, scale float32, sets ...[]model.Batch) [][]float64 {
	t.Helper()
	l, err := j.Losses(context.Background(), d, scale, sets)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
