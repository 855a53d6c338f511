package enginetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"testing"

	"sn3/model"
)

// Nonsense is an error of NewTrainer, NewJudge and NewDecoder, never a panic or something else than asked for.
func (s suite) refuses(t *testing.T) {
	refused := func(name string, c model.Config, opt model.Options) {
		t.Helper()
		if tr, err := s.e.NewTrainer(c, usual(), opt); err == nil || tr != nil {
			t.Errorf("%s: a trainer, %v", name, err)
		}
		if j, err := s.e.NewJudge(c, opt); err == nil || j != nil {
			t.Errorf("%s: a judge, %v", name, err)
		}
		if g, ok := s.e.(model.Generator); ok {
			if d, err := g.NewDecoder(c, 4, opt); err == nil || d != nil {
				t.Errorf("%s: a decoder, %v", name, err)
			}
		}
	}
	for name, change := range map[string]func(*model.Config){
		"no width": func(c *model.Config) { c.Width = 0 }, "no words": func(c *model.Config) { c.Vocab = 0 }, "no layers": func(c *model.Config) { c.Layers = 0 },
		"negative": func(c *model.Config) { c.FFN = -1 }, "odd heads": func(c *model.Config) { c.HeadDim = 5 }, "ungrouped": func(c *model.Config) { c.KVHeads = 3 },
		"no head": func(c *model.Config) { c.Heads, c.KVHeads = 0, 0 }, "no eps": func(c *model.Config) { c.NormEps = 0 }, "NaN": func(c *model.Config) { c.RopeTheta = math.NaN() },
		"no sequence": func(c *model.Config) { c.Seq = 0 }, "rope": func(c *model.Config) { c.Rope = &model.RopeScaling{Type: "yarn", Factor: 2} },
		"huge": func(c *model.Config) { c.Width = math.MaxInt },
	} {
		c := small()
		change(&c)
		refused(name, c, s.options())
	}
	refused("precision", small(), model.Options{Precision: "f8"})
	refused("micro-batch", small(), s.parts(-1))
	if s.e.Name() == "" {
		t.Error("the engine has no name")
	}
}

// The same input gives the same bits for any number of threads and in every run, in all precisions and for batches of any
// number of sequences; sizes are such that work is really divided.
func (s suite) determinism(t *testing.T) {
	c := model.Config{Vocab: 301, Width: 72, Layers: 2, Heads: 6, KVHeads: 3, HeadDim: 12, FFN: 130, Seq: 33, Tied: true, RopeTheta: 1e4, NormEps: 1e-5}
	w, many := weights(t, c, 21), tokens(8, 9, 33, c.Vocab)
	variants := s.variants(2)
	if s.o.Slow {
		many = tokens(8, 3, 33, c.Vocab)
	}
	if s.o.Slow && testing.Short() {
		variants = variants[:1]
	}
	for _, opt := range variants {
		var want string
		for run, threads := range few(s, 2, 1, 2, 1, 3) {
			opt.Threads = threads
			tr, j := s.tryTrainer(t, c, usual(), opt, w), s.tryJudge(t, c, opt, w)
			if tr == nil || j == nil {
				t.Logf("%+v is not supported", opt)
				break
			}
			for i, B := range few(s, 2, 2, 5, 1) {
				train(t, tr, uint64(i), tokens(uint64(i), B, 33, c.Vocab))
			}
			if err := j.Reset(context.Background(), tr.Trained()); err != nil {
				t.Fatal(err)
			}
			got := state(t, tr) + fmt.Sprintf("%b", losses(t, j, nil, 0, []model.Batch{many}))
			if run == 0 {
				want = got
			}
			if got != want {
				t.Fatalf("%+v, run %d gives other bits", opt, run)
			}
		}
	}
}

// A decoder says token by token, or several at a time, what the judge says of the whole sequence.
func (s suite) decoder(t *testing.T) {
	g, ok := s.e.(model.Generator)
	if !ok {
		t.Skip("the engine does not decode")
	}
	for i, c := range []model.Config{small(), {Vocab: 33, Width: 20, Layers: 2, Heads: 3, KVHeads: 1, HeadDim: 10, FFN: 17, Seq: 70, Tied: true, RopeTheta: 1e2, NormEps: 1e-5, Rope: ropes[2]}} {
		for _, opt := range s.variants(0)[1:] {
			precision := precisionOf(opt)
			d, err := g.NewDecoder(c, c.Seq, opt)
			if errors.Is(err, model.ErrUnsupported) {
				t.Logf("%s: %v", precision, err)
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { shut(t, d) })
			w := weights(t, c, uint64(22+i))
			if err := d.Reset(context.Background(), w); err != nil {
				t.Fatal(err)
			}
			s.decode(t, d, s.tryJudge(t, c, opt, w), c, precision)
			if err := d.Reset(context.Background(), other(t, c)); err == nil {
				t.Error("weights of another layout were accepted")
			}
			if err := d.Reset(context.Background(), unreadable{weights(t, c, 1)}); !errors.Is(err, errDisk) {
				t.Errorf("weights that cannot be read: %v", err)
			}
			torn, whole := make([]float32, c.Vocab), make([]float32, c.Vocab)
			failed := d.Next(torn, []int32{1})
			if err := errors.Join(d.Reset(context.Background(), w), d.Next(whole, []int32{1})); err != nil {
				t.Error(err)
			}
			if d.Rewind(0); !errors.Is(failed, model.ErrNoWeights) && (failed != nil || bits(torn) != bits(whole)) {
				t.Errorf("after a Reset that failed half way it decodes with a model that nobody gave it (%v)", failed)
			}
			s.decode(t, d, s.tryJudge(t, c, opt, w), c, precision)
		}
	}
}

// decode feeds one sequence in pieces of several sizes.
func (s suite) decode(t *testing.T, d model.Decoder, j Judge, c model.Config, precision model.Precision) {
	x, V, T := tokens(5, 1, c.Seq, c.Vocab).X, c.Vocab, c.Seq
	whole, dst := make([]float32, T*V), make([]float32, V)
	if err := j.Logits(whole, x, 1, T); err != nil {
		t.Fatal(err)
	}
	limit := precisions[precision].near
	next := func(from, to int) {
		t.Helper()
		if err := d.Next(dst, x[from:to]); err != nil {
			t.Fatal(err)
		}
		if off := apart(wide(dst), wide(whole[(to-1)*V:to*V])); !(off <= limit) {
			t.Fatalf("%s: after tokens %d to %d the logits are off by %.2g", precision, from, to, off)
		}
	}
	for i := range T { // one by one
		next(i, i+1)
	}
	keep := bits(dst)
	for name, err := range map[string]error{"overflow": d.Next(dst, x[:1]), "overflow of many": d.Next(dst, x)} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	d.Rewind(T - 1) // nothing was changed by what was refused
	if next(T-1, T); bits(dst) != keep {
		t.Error("the last token again gives other bits")
	}
	d.Rewind(3)
	next(3, T)
	d.Rewind(0)
	next(0, T/2)
	for name, err := range map[string]error{
		"overflow": d.Next(dst, x[:T-T/2+1]), "token above": d.Next(dst, []int32{int32(V)}), "token below": d.Next(dst, []int32{1, -1}),
		"short dst": d.Next(dst[1:], x[:1]), "no tokens": d.Next(dst, nil),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	next(T/2, T) // still where it was
}

// counter is a trainer or judge that knows what it has allocated outside of Go's heap too.
type counter interface{ Allocated() int64 }

// Need is within a fifth of what is really allocated.
func (s suite) need(t *testing.T) {
	z, ok := s.e.(model.Sizer)
	if !ok {
		t.Skip("the engine does not say what it needs")
	}
	c := model.Config{Vocab: 1200, Width: 256, Layers: 3, Heads: 4, KVHeads: 2, HeadDim: 64, FFN: 512, Seq: 128, RopeTheta: 1e4, NormEps: 1e-5}
	if s.o.Slow { // such an engine counts for itself, so that Go's garbage does not hide a small model
		c = model.Config{Vocab: 300, Width: 64, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 16, FFN: 128, Seq: 16, RopeTheta: 1e4, NormEps: 1e-5}
	}
	w, b := weights(t, c, 30), tokens(1, 4, c.Seq, c.Vocab)
	for _, opt := range s.variants(2) {
		for _, training := range []bool{true, false} {
			var use any
			before := heap()
			if training {
				if tr := s.tryTrainer(t, c, usual(), opt, w); tr != nil {
					train(t, tr, 0, b)
					use = tr
				}
			} else if j := s.tryJudge(t, c, opt, w); j != nil {
				losses(t, j, nil, 0, []model.Batch{b})
				use = j
			}
			if use == nil {
				t.Logf("%+v is not supported", opt)
				continue
			}
			got, want := heap()-before, z.Need(c, opt, b.B, training).Total()
			if a, ok := use.(counter); ok {
				got = a.Allocated()
			}
			if runtime.KeepAlive(use); float64(got) < 0.8*float64(want) || float64(got) > 1.2*float64(want) {
				t.Errorf("%+v, training %v: needs %d bytes, %d are allocated", opt, training, want, got)
			}
		}
	}
}

// heap is what lives on Go's heap.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
