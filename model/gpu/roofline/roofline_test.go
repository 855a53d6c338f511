package roofline

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sn3/model"
	"sn3/model/gpu/memory"
)

var (
	llama160m = model.Config{Vocab: 32000, Width: 768, Layers: 12, Heads: 12, KVHeads: 4, HeadDim: 64, FFN: 2048, Seq: 1024, RopeTheta: 1e4, NormEps: 1e-5}
	llama1b   = model.Config{Vocab: 128256, Width: 2048, Layers: 16, Heads: 32, KVHeads: 8, HeadDim: 64, FFN: 8192, Seq: 2048, Tied: true, RopeTheta: 5e5, NormEps: 1e-5}
	llama8b   = model.Config{Vocab: 128256, Width: 4096, Layers: 32, Heads: 32, KVHeads: 8, HeadDim: 128, FFN: 14336, Seq: 2048, RopeTheta: 5e5, NormEps: 1e-5}
	llama70b  = model.Config{Vocab: 128256, Width: 8192, Layers: 80, Heads: 64, KVHeads: 8, HeadDim: 128, FFN: 28672, Seq: 2048, RopeTheta: 5e5, NormEps: 1e-5}
)

func card(t interface{ Fatalf(string, ...any) }, name string) Card {
	c, ok := Named(name)
	if !ok {
		t.Fatalf("no card %s", name)
	}
	return c
}

func predict(t interface{ Fatalf(string, ...any) }, name string, r memory.Request, batch int) Prediction {
	p, err := Predict(card(t, name), r, batch)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return p
}

func near(t *testing.T, what string, got, want, by float64) {
	t.Helper()
	if math.Abs(got-want) > by {
		t.Errorf("%s: %.4g, want %.4g ± %.2g", what, got, want, by)
	}
}

// FLOPs a token, and tokens a second at 35, 45 and 50 % MFU, of our notes' table.
func TestFLOPsPerToken(t *testing.T) {
	h100 := card(t, "H100")
	for _, c := range []struct {
		cfg   model.Config
		giga  float64
		at    [3]float64 // thousand tokens a second
		digit float64
	}{{llama1b, 7.8, [3]float64{44, 57, 63}, 0.5}, {llama8b, 46.6, [3]float64{7.4, 9.5, 10.6}, 0.06}, {llama70b, 425, [3]float64{0.81, 1.05, 1.16}, 0.006}} {
		f := FLOPsPerToken(c.cfg)
		near(t, "GFLOP a token", f/1e9, c.giga, 0.01*c.giga)
		for i, mfu := range []float64{0.35, 0.45, 0.50} {
			near(t, "thousand tokens a second", mfu*h100.FLOPs/f/1e3, c.at[i], c.digit)
		}
	}
}

// The roofline of our notes: 8B, 2048 tokens on one H200: 92 TFLOP of products in 132 ms, 3.8 of attention in 15 ms, element-wise
// 7 ms, the loss 1 ms: 155 ms or 62 %, before gaps and AdamW, which a step of many micro-batches hardly feels.
func TestRooflineOfTheNotes(t *testing.T) {
	r := memory.Request{Model: llama8b, Plan: memory.Lean, Recompute: memory.None, Ranks: 1, MicroBatch: 1}
	p := predict(t, "H200", r, 1)
	lines := map[string]Line{}
	sum := 0.0
	for _, l := range p.Lines {
		lines[l.Name] = l
		sum += l.Seconds
	}
	near(t, "TFLOP of products", lines["matrix products"].FLOP/1e12, 92, 0.5)
	near(t, "ms of products", lines["matrix products"].Seconds*1e3, 132, 2)
	near(t, "TFLOP of attention", lines["attention"].FLOP/1e12, 3.8, 0.1)
	near(t, "ms of attention", lines["attention"].Seconds*1e3, 15, 1)
	elements := lines["norms and residual stream"].Seconds + lines["SwiGLU"].Seconds + lines["rotary positions, embedding"].Seconds
	near(t, "ms of element-wise kernels", elements*1e3, 7, 2)
	near(t, "ms of the loss", lines["loss"].Seconds*1e3, 1, 0.5)
	near(t, "sum", sum, p.Seconds, 1e-9)
	adam, gaps := lines["norm of the gradient, AdamW"].Seconds, lines["gaps between launches"].Seconds
	near(t, "ms without gaps and AdamW", (p.Seconds-adam-gaps)*1e3, 155, 4)
	near(t, "MFU without gaps and AdamW", p.MFU*p.Seconds/(p.Seconds-adam-gaps), 0.62, 0.02)
	if adam < 0.03 || adam > 0.05 {
		t.Errorf("AdamW of 8B moves 176 GB: %v s", adam)
	}
}

// Recomputation costs what the notes say: selective about 5 %, full about 30 %; many micro-batches hide AdamW.
func TestRecomputationCosts(t *testing.T) {
	time := func(again memory.Recompute) float64 {
		return predict(t, "H200", memory.Request{Model: llama8b, Plan: memory.Lean, Recompute: again, Ranks: 1, MicroBatch: 1}, 128).Seconds
	}
	none := time(memory.None)
	near(t, "selective", time(memory.Selective)/none, 1.03, 0.03)
	near(t, "full", time(memory.Full)/none, 1.28, 0.05)
}

// 70B on 8 cards: 370 GB a pass a card, about 1.0 s at 350 GB/s, hidden behind 1.96 s at 45 %; 8B: 42 GB. Offloaded AdamW: 17.6 GB each
// way, and 1.8 TB of the host's memory.
func TestExchangeAndOffloadOfTheNotes(t *testing.T) {
	r := memory.Request{Model: llama70b, Plan: memory.Offload, Recompute: memory.Full, Ranks: 8, MicroBatch: 1}
	near(t, "GB of 70B", ExchangeBytes(r)/1e9, 370, 2)
	p := predict(t, "H200", r, 192)
	for _, l := range p.Lines {
		switch l.Name {
		case "exchange between cards that nothing hides":
			near(t, "exchange", l.Seconds, 0, 0)
			near(t, "GB of a step", l.Bytes/1e9, 24*370, 50)
		case "gradients and copies on the bus":
			near(t, "GB both ways", l.Bytes/1e9, 2*17.6, 0.2)
		case "AdamW on the host":
			near(t, "TB", l.Bytes/1e12, 1.83, 0.03)
			near(t, "seconds", l.Seconds, 4.6, 0.1)
		}
	}
	if p.MicroSteps != 24 {
		t.Errorf("%d passes", p.MicroSteps)
	}
	r.Model = llama8b
	near(t, "GB of 8B", ExchangeBytes(r)/1e9, 42, 0.3)
	slow := predict(t, "4090", memory.Request{Model: llama8b, Plan: memory.Lean, Recompute: memory.Full, Ranks: 8, MicroBatch: 1}, 8)
	hidden := true
	for _, l := range slow.Lines {
		hidden = hidden && (!strings.HasPrefix(l.Name, "exchange") || l.Seconds == 0)
	}
	if hidden {
		t.Error("an exchange over PCI Express is hidden")
	}
}

// Whatever is asked: parts add up, MFU stays below what products are taken to reach, and a card that is better in everything is faster.
func TestPredictions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := memory.Request{Model: rapid.SampledFrom([]model.Config{llama160m, llama1b, llama8b}).Draw(t, "model"),
			Plan: rapid.SampledFrom(memory.Plans()).Draw(t, "plan"), Recompute: rapid.SampledFrom(memory.Recomputes()).Draw(t, "recompute"),
			Ranks: rapid.IntRange(1, 8).Draw(t, "cards"), MicroBatch: rapid.IntRange(1, 16).Draw(t, "micro")}
		r.Model.Seq = rapid.IntRange(1, 4096).Draw(t, "T")
		batch := rapid.IntRange(1, 256).Draw(t, "batch")
		p := predict(t, "H100", r, batch)
		sum := 0.0
		for _, l := range p.Lines {
			if l.Seconds < 0 || l.Launches < 0 || l.FLOP < 0 || l.Bytes < 0 {
				t.Fatalf("%+v", l)
			}
			sum += l.Seconds
		}
		if math.Abs(sum-p.Seconds) > 1e-9*sum || !(p.MFU > 0) || p.MFU > Assumed.Products || p.PerSecond != float64(batch*r.Model.Seq)/p.Seconds {
			t.Fatalf("%v seconds in parts, %+v", sum, p)
		}
		if q := predict(t, "H200", r, batch); q.Seconds > p.Seconds {
			t.Fatalf("H200 %v s, H100 %v s", q.Seconds, p.Seconds)
		}
	})
}

// What cannot be predicted is an error.
func TestRefused(t *testing.T) {
	ok := memory.Request{Model: llama1b, Plan: memory.Classic, Recompute: memory.None, Ranks: 1, MicroBatch: 1}
	judge, none := ok, ok
	judge.Judge, none.MicroBatch = true, 0
	for name, f := range map[string]func() (Prediction, error){
		"no card":     func() (Prediction, error) { return Predict(Card{}, ok, 1) },
		"no batch":    func() (Prediction, error) { return Predict(card(t, "H100"), ok, 0) },
		"judge":       func() (Prediction, error) { return Predict(card(t, "H100"), judge, 1) },
		"no sequence": func() (Prediction, error) { return Predict(card(t, "H100"), none, 1) },
	} {
		if p, err := f(); err == nil {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func TestCards(t *testing.T) {
	for name, want := range map[string]string{"h200": "H200", "A100-80": "A100-80", "a100-40": "A100-40"} {
		if c, ok := Named(name); !ok || c.Name != want {
			t.Errorf("%s: %v, %v", name, c.Name, ok)
		}
	}
	for _, name := range []string{"", "A100", "V100"} {
		if _, ok := Named(name); ok {
			t.Errorf("%q is a card", name)
		}
	}
	for _, c := range []struct {
		name   string
		memory int64
		want   string
	}{
		{"NVIDIA H100 80GB HBM3", 85520809984, "H100"}, {"NVIDIA A100-SXM4-80GB", 85198045184, "A100-80"}, {"NVIDIA A100-SXM4-40GB", 42409000960, "A100-40"},
		{"NVIDIA H200", 150754820096, "H200"}, {"NVIDIA GeForce RTX 4090", 25386352640, "4090"}, {"NVIDIA L40S", 47810936832, "L40S"},
		{"NVIDIA H100 PCIe", 85520809984, ""}, {"NVIDIA GeForce RTX 4090 Laptop GPU", 17171480576, ""}, {"NVIDIA GeForce RTX 3090 Ti", 25438126080, ""},
		{"NVIDIA A100-SXM4-80GB MIG 1g.10gb", 10200547328, ""}, {"Stand-in", 1 << 30, ""}, {"", 0, ""},
	} {
		if got, _ := Recognised(c.name, c.memory); got.Name != c.want {
			t.Errorf("%s: %q, want %q", c.name, got.Name, c.want)
		}
	}
	all := Cards()
	for i, c := range all {
		if c.Memory < all[max(0, i-1)].Memory || c.FLOPs < 50e12 || c.Bytes < 800e9 || c.Link < c.Bus {
			t.Errorf("%+v", c)
		}
	}
}
