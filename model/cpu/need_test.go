package cpu

import (
	"context"
	"math"
	"runtime"
	"testing"

	"sn3/model"
	"sn3/model/kern"
)

// What Need says of activations is what a step, or a judge, takes: for vocabularies that fit a product at once and others, long
// sequences, parts of a batch, both precisions.
func TestNeedOfActivations(t *testing.T) {
	small, long, wide, huge := benchShapes[1].cfg, benchShapes[1].cfg, benchShapes[1].cfg, benchShapes[1].cfg
	small.Layers = 2
	long.Layers, long.Seq = 1, 2048
	wide.Layers, wide.Width, wide.FFN, wide.Vocab, wide.Tied, wide.Seq = 1, 128, 256, 50304, true, 512
	huge.Layers, huge.Width, huge.FFN, huge.Vocab, huge.Tied, huge.Seq = 1, 64, 192, 128256, true, 512
	narrow := model.Config{Vocab: 128, Width: 64, Layers: 1, Heads: 4, KVHeads: 2, HeadDim: 34, FFN: 96, Seq: 2048, RopeTheta: 1e4, NormEps: 1e-5}
	for _, x := range []struct {
		name         string
		c            model.Config
		batch, micro int
		kernels      []string
	}{{"small", small, 4, 0, kern.Names()}, {"in parts", small, 4, 2, kern.Names()[:4]}, {"long", long, 1, 0, []string{""}}, {"long and narrow", narrow, 1, 0, kern.Names()[:4]}, {"wide vocabulary", wide, 1, 0, []string{""}},
		{"huge vocabulary", huge, 1, 0, []string{""}}} {
		if testing.Short() && x.name != "in parts" {
			continue // too slow under the race detector
		}
		for _, kernels := range x.kernels {
			if _, err := kern.Select(kernels); err != nil {
				t.Logf("skipped: %v", err)
				continue
			}
			for _, p := range []model.Precision{model.F32, model.BF16} {
				for _, training := range []bool{true, false} {
					opt, e := model.Options{Threads: 2, Precision: p, MicroBatch: x.micro}, New(kernels)
					got, want := activations(t, e, x.c, opt, x.batch, training), e.Need(x.c, opt, x.batch, training).Acts
					if float64(got) > 1.02*float64(want) || float64(got) < 0.9*float64(want) {
						t.Errorf("%s, kernels %q, %s, training %v: needs %.1f MB, takes %.1f MB", x.name, kernels, p, training, float64(want)/1e6, float64(got)/1e6)
					}
				}
			}
		}
	}
}

// Threads that no machine has take no memory, and change nothing.
func TestTooManyThreads(t *testing.T) {
	c, opt := shape(12, 4, 2, 6), model.Options{Threads: math.MaxInt32}
	w := randomWeights(t, c)
	if need := New("").Need(c, opt, 1, true).Total(); need > 1<<28 {
		t.Errorf("needs %d bytes", need)
	}
	many, one := trainerOf(t, "", w, opt), trainerOf(t, "", w, model.Options{})
	for _, tr := range []*Trainer{many, one} {
		train(t, tr, 0, tokens(1, 3, 9, c.Vocab))
	}
	if many.state() != one.state() {
		t.Error("other bits")
	}
}

// activations is what a first step or a first judgement adds to the heap.
func activations(t *testing.T, e Engine, c model.Config, opt model.Options, batch int, training bool) int64 {
	t.Helper()
	b, ctx := randomBatch(batch, c.Seq, c.Vocab), context.Background()
	var tr model.Trainer
	j, err := e.NewJudge(c, opt)
	if training {
		tr, err = e.NewTrainer(c, usual(), opt)
	}
	if err != nil {
		t.Fatal(err)
	}
	before := heap()
	if training {
		_, err = tr.Train(ctx, endless{b}, model.Budget{Steps: 1})
	} else {
		_, err = j.Losses(ctx, nil, 0, [][]model.Batch{{b}})
	}
	after := heap()
	if err != nil {
		t.Fatal(err)
	}
	runtime.KeepAlive(tr)
	runtime.KeepAlive(j)
	return after - before
}

// heap is what lives on Go's heap.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
