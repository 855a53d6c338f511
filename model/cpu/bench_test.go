package cpu

import (
	"context"
	"math/rand/v2"
	"testing"

	"sn3/model"
)

func localConfig() model.Config {
	return model.Config{Vocab: 256, Width: 128, Layers: 4, Heads: 4, KVHeads: 4, HeadDim: 32, FFN: 384, Seq: 128, Tied: true,
		RopeTheta: 1e4, NormEps: 1e-5}
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

func BenchmarkTrainStep(b *testing.B) {
	for _, k := range []string{"", "portable"} {
		b.Run("local/kernels="+k, func(b *testing.B) {
			c := localConfig()
			tr, err := New(k).NewTrainer(c, model.Optimizer{LR: 1e-3, Warmup: 1, Total: 1000, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Clip: 1}, model.Options{})
			if err != nil {
				b.Fatal(err)
			}
			l, _ := model.NewLayout(c)
			f := model.NewFlat(l)
			f.Init(1)
			if err := tr.Reset(context.Background(), f); err != nil {
				b.Fatal(err)
			}
			data := endless{randomBatch(4, 128, 256)}
			if _, err := tr.Train(context.Background(), data, model.Budget{Steps: 1}); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				if _, err := tr.Train(context.Background(), data, model.Budget{Steps: 1}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(512*float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
		})
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
