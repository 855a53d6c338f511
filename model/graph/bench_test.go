package graph

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"sn3/model"
	"sn3/model/cpu"
)

// How much slower the oracle is: the same inner step of MODEL=local on both engines in turns, the CPU engine on one thread; the best
// step of each counts.
func BenchmarkStep(b *testing.B) {
	c := model.Config{Vocab: 256, Width: 128, Layers: 4, Heads: 4, KVHeads: 4, HeadDim: 32, FFN: 384, Seq: 128, Tied: true, RopeTheta: 10000, NormEps: 1e-5}
	l, err := model.NewLayout(c)
	if err != nil {
		b.Fatal(err)
	}
	w := model.NewFlat(l)
	w.Init(1)
	data := repeated{batch(rand.New(rand.NewPCG(1, 1)), c)}
	var best [2]float64
	var trainers []model.Trainer
	for i, e := range []model.Engine{New(), cpu.New("")} {
		best[i] = math.Inf(1)
		trainers = append(trainers, trainer(b, e, c, model.Optimizer{LR: 1e-4, Total: 100, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8}, w))
	}
	for b.Loop() {
		for i, tr := range trainers {
			from := time.Now()
			if _, err := tr.Train(context.Background(), data, model.Budget{Steps: 1}); err != nil {
				b.Fatal(err)
			}
			best[i] = min(best[i], time.Since(from).Seconds())
		}
	}
	n := float64(data.b.B * data.b.T)
	b.ReportMetric(n/best[0], "gorgonia-tokens/s")
	b.ReportMetric(n/best[1], "cpu-tokens/s")
	b.ReportMetric(best[0]/best[1], "times-slower")
}
