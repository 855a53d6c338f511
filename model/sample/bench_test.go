package sample

import (
	"testing"

	"sn3/model"
	"sn3/model/cpu"
)

// One more token after 255, with keys and values kept and by a whole forward pass: the 8.4M Llama of make bench-peers.
func BenchmarkToken(b *testing.B) {
	c := model.Config{Vocab: 4096, Width: 256, Layers: 6, Heads: 8, KVHeads: 8, HeadDim: 32, FFN: 1024, Seq: 256, RopeTheta: 1e4, NormEps: 1e-5}
	l, err := model.NewLayout(c)
	if err != nil {
		b.Fatal(err)
	}
	w := model.NewFlat(l)
	w.Init(1)
	for _, x := range []struct {
		name string
		e    model.Engine
	}{{"cache", cpu.New("")}, {"replay", plain{cpu.New("")}}} {
		b.Run(x.name, func(b *testing.B) {
			d, err := decoder(x.e, c, c.Seq, model.Options{Threads: 2})
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
			for b.Loop() {
				d.Rewind(len(prompt))
				if err := d.Next(logits, prompt[:1]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}
