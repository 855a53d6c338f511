package spec_test

import (
	"strings"
	"testing"

	"sn3/chain"
	"sn3/internal/preset"
	"sn3/internal/spec"
	"sn3/model"
)

// Every field arrives where it belongs.
func TestConversions(t *testing.T) {
	m := chain.ModelSpec{Vocab: 1, Width: 2, Layers: 3, Heads: 4, KVHeads: 5, HeadDim: 6, FFN: 7, Seq: 8, Tied: true, RopeTheta: 9, NormEps: 10}
	want := model.Config{Vocab: 1, Width: 2, Layers: 3, Heads: 4, KVHeads: 5, HeadDim: 6, FFN: 7, Seq: 8, Tied: true, RopeTheta: 9, NormEps: 10}
	if got := spec.Config(m); got != want {
		t.Errorf("%+v", got)
	}
	m.Rope = &chain.RopeSpec{Type: "llama3", Factor: 11, LowFreq: 12, HighFreq: 13, Original: 14}
	if got := spec.Config(m).Rope; *got != (model.RopeScaling{Type: "llama3", Factor: 11, LowFreq: 12, HighFreq: 13, Original: 14}) {
		t.Errorf("%+v", got)
	}
	o := spec.Optimizer(chain.TrainSpec{LR: 1, MinLR: 2, Warmup: 3, Total: 4, Schedule: "cosine", Decay: 5, Beta1: 6, Beta2: 7, Eps: 8, WeightDecay: 9, Clip: 10})
	if o.LR != 1 || o.MinLR != 2 || o.Warmup != 3 || o.Total != 4 || o.Schedule != "cosine" || o.Decay != 5 || o.Beta1 != 6 || o.Beta2 != 7 || o.Eps != 8 ||
		o.WeightDecay != 9 || o.Clip != 10 {
		t.Errorf("%+v", o)
	}
}

// Contradictions are refused by the names of a descriptor; the presets' own tests have the rest.
func TestCheck(t *testing.T) {
	for want, change := range map[string]func(*chain.Run){
		"":                             func(*chain.Run) {},
		"model.vocab is 257":           func(r *chain.Run) { r.Model.Vocab = 257 },
		"head dimension 0":             func(r *chain.Run) { r.Model.HeadDim = 0 },
		"train.min_lr 7":               func(r *chain.Run) { r.Train.MinLR = 7 },
		"batch 2097152":                func(r *chain.Run) { r.Train.Batch = 1 << 21 },
		"rules.gather 2097152":         func(r *chain.Run) { r.Rules.Gather = 1 << 21 },
		"parameters, beyond any use":   func(r *chain.Run) { r.Model.Layers, r.Model.Width, r.Model.FFN = 4096, 1<<17, 1<<20 },
		"payload.beta 1.01":            func(r *chain.Run) { r.Payload.Beta = 1.01 },
		"score.expected_winners 16":    func(r *chain.Run) { r.Score.Winners = 16 },
		"model.rope.low_freq":          func(r *chain.Run) { r.Model.Rope = &chain.RopeSpec{Type: "linear", Factor: 2, LowFreq: 1} },
		"unknown rope scaling \"ntk\"": func(r *chain.Run) { r.Model.Rope = &chain.RopeSpec{Type: "ntk", Factor: 2} },
		"is longer than the 120 tokens": func(r *chain.Run) {
			r.Model.Rope = &chain.RopeSpec{Type: "llama3", Factor: 2, LowFreq: 1, HighFreq: 4, Original: 60}
		},
	} {
		r, err := preset.Run("local", 0)
		if err != nil {
			t.Fatal(err)
		}
		change(r)
		if err := spec.Check(r); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
