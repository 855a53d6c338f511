package cpu

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"sn3/model"
)

func localConfig() model.Config {
	return model.Config{Vocab: 256, Width: 128, Layers: 4, Heads: 4, KVHeads: 4, HeadDim: 32, FFN: 384, Seq: 128, Tied: true,
		RopeTheta: 1e4, NormEps: 1e-5}
}

// benchShapes are the local preset, and the two shapes that notes/cpu-baselines.md measures other trainers with.
var benchShapes = []struct {
	name  string
	batch int
	cfg   model.Config
}{
	{"local", 4, localConfig()},
	{"8m", 8, model.Config{Vocab: 4096, Width: 256, Layers: 6, Heads: 8, KVHeads: 8, HeadDim: 32, FFN: 1024, Seq: 256, RopeTheta: 1e4, NormEps: 1e-5}},
	{"160m", 4, model.Config{Vocab: 50304, Width: 768, Layers: 12, Heads: 12, KVHeads: 12, HeadDim: 64, FFN: 2048, Seq: 256, RopeTheta: 1e4, NormEps: 1e-5}},
}

type endless struct{ b model.Batch }

func (e endless) Next(context.Context) (model.Batch, error) { return e.b, nil }

func randomBatch(B, T, V int) model.Batch {
	r := rand.New(rand.NewPCG(1, 2))
	b := model.Batch{B: B, T: T, X: make([]int32, B*T), Y: make([]int32, B*T)}
	for i := range b.X {
		b.X[i], b.Y[i] = int32(r.IntN(V)), int32(r.IntN(V))
	}
	return b
}

func benchTrainer(b *testing.B, kernels string, c model.Config, opt model.Options) model.Trainer {
	tr, err := New(kernels).NewTrainer(c, model.Optimizer{LR: 1e-3, Warmup: 1, Total: 1000, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Clip: 1, WeightDecay: 0.1}, opt)
	if err != nil {
		b.Skip(err)
	}
	l, err := model.NewLayout(c)
	if err != nil {
		b.Fatal(err)
	}
	f := model.NewFlat(l)
	f.Init(1)
	if err := tr.Reset(context.Background(), f); err != nil {
		b.Fatal(err)
	}
	return tr
}

// BenchmarkTrainStep: forward, backward and AdamW on whole batches. best is the fastest step, which others on the machine
// disturb least.
func BenchmarkTrainStep(b *testing.B) {
	for _, s := range benchShapes {
		for _, p := range []model.Precision{model.F32, model.BF16} {
			for _, threads := range []int{1, 2} {
				for _, k := range []string{"", "avx2", "portable"} {
					b.Run(fmt.Sprintf("%s/%s/threads=%d/kernels=%s", s.name, p, threads, k), func(b *testing.B) {
						tr := benchTrainer(b, k, s.cfg, model.Options{Threads: threads, Precision: p})
						benchSteps(b, tr, endless{randomBatch(s.batch, s.cfg.Seq, s.cfg.Vocab)}, s.batch*s.cfg.Seq)
					})
				}
			}
		}
	}
}

func benchSteps(b *testing.B, tr model.Trainer, data model.Batches, tokens int) {
	step := func() {
		if _, err := tr.Train(context.Background(), data, model.Budget{Steps: 1}); err != nil {
			b.Fatal(err)
		}
	}
	step()
	b.ReportAllocs()
	best := math.Inf(1)
	for b.Loop() {
		from := time.Now()
		step()
		best = min(best, time.Since(from).Seconds())
	}
	b.ReportMetric(float64(tokens*b.N)/b.Elapsed().Seconds(), "tokens/s")
	b.ReportMetric(float64(tokens)/best, "best-tokens/s")
}

// A step allocates nothing: the arena is made by the first one.
func TestStepDoesNotAllocate(t *testing.T) {
	for _, p := range []model.Precision{model.F32, model.BF16} {
		x, err := New("").NewTrainer(localConfig(), model.Optimizer{LR: 1e-3, Total: 10, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Clip: 1}, model.Options{Threads: 2, Precision: p, MicroBatch: 3})
		if err != nil {
			t.Fatal(err)
		}
		tr, data := x.(*Trainer), model.Batches(endless{randomBatch(4, 128, 256)})
		step := func() {
			if _, err := tr.Train(context.Background(), data, model.Budget{Steps: 1}); err != nil {
				t.Fatal(err)
			}
		}
		if tr.net.k.Name == "portable" {
			t.Skip("gonum's products allocate")
		}
		step()
		if n := testing.AllocsPerRun(3, step); n > 0 {
			t.Errorf("%s: %v allocations in a step", p, n)
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	j, err := New("").NewJudge(localConfig(), model.Options{})
	if err != nil {
		b.Fatal(err)
	}
	l, _ := model.NewLayout(localConfig())
	f := model.NewFlat(l)
	f.Init(1)
	if err := j.Reset(context.Background(), f); err != nil {
		b.Fatal(err)
	}
	set := [][]model.Batch{{randomBatch(8, 128, 256)}}
	for b.Loop() {
		if _, err := j.Losses(context.Background(), nil, 0, set); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(1024*float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
}

// BenchmarkDecode: one more token after 255, with 8m. best is the fastest token.
func BenchmarkDecode(b *testing.B) {
	c := benchShapes[1].cfg
	l, err := model.NewLayout(c)
	if err != nil {
		b.Fatal(err)
	}
	w := model.NewFlat(l)
	w.Init(1)
	for _, p := range []model.Precision{model.F32, model.BF16} {
		for _, threads := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/threads=%d", p, threads), func(b *testing.B) {
				d, err := New("").NewDecoder(c, c.Seq, model.Options{Threads: threads, Precision: p})
				if err == nil {
					err = d.Reset(b.Context(), w)
				}
				if err != nil {
					b.Fatal(err)
				}
				logits, prompt := make([]float32, c.Vocab), make([]int32, c.Seq-1)
				if err := d.Next(logits, prompt); err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				best := math.Inf(1)
				for b.Loop() {
					d.Rewind(len(prompt))
					from := time.Now()
					if err := d.Next(logits, prompt[:1]); err != nil {
						b.Fatal(err)
					}
					best = min(best, time.Since(from).Seconds())
				}
				b.ReportMetric(1/best, "best-tokens/s")
			})
		}
	}
}
