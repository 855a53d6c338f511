// Package preset holds the run descriptors of local networks by name. A preset says everything except what is only known
// when a network starts: its name, dataset, seed and schedule.
package preset

import (
	"fmt"

	"sn3/chain"
)

// Names lists the presets in the order of the help text.
func Names() []string { return []string{"local", "wire"} }

// LeastWindows is for how many windows the learning rate is planned at least: a network that was made for fewer goes on with
// the next make up, and would then stand at its floor before it has learned anything.
const LeastWindows = 24

// Run returns the descriptor of a preset for a network that is planned to run for windows windows (0 or less = until
// stopped, which plans the learning rate for 67; fewer than LeastWindows plan for so many).
//
// Figures: notes/local-preset.md. The schedule is filled with the shortest legal one; the launcher replaces it by what it
// measured.
func Run(name string, windows int) (*chain.Run, error) {
	r := local(windows)
	switch name {
	case "local":
	case "wire": // the density of a production network from the first window on
		r.Payload.K = []chain.KStep{{From: 0, K: 64}}
		r.Outer.Alpha, r.Train.LR = 2, 3e-3 // LOG.md, 2026-11-26
	default:
		return nil, fmt.Errorf("unknown model preset %q; use one of %v", name, Names())
	}
	return r, nil
}

func local(windows int) *chain.Run {
	if windows <= 0 {
		windows = 67
	}
	windows = max(windows, LeastWindows)
	const innerSteps = 10
	return &chain.Run{
		Version:   chain.RunVersion,
		Loopback:  true,
		Model:     chain.ModelSpec{Vocab: 256, Width: 128, Layers: 4, Heads: 4, KVHeads: 4, HeadDim: 32, FFN: 384, Seq: 128, Tied: true, RopeTheta: 10000, NormEps: 1e-5},
		Tokenizer: "bytes",
		Schedule:  chain.ScheduleParams{First: 4, Length: 8, Lead: 2, Deadline: 2, ScoreBy: 4, Select: 5, Apply: 6},
		Rules:     chain.Rules{Gather: 15, Shards: 1},
		Train: chain.TrainSpec{Schedule: "wsd", InnerSteps: innerSteps, Batch: 4, LR: 2e-3, MinLR: 0.1, Warmup: 50, Total: windows * innerSteps,
			Decay: 0.3, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, Clip: 1},
		Payload:    chain.PayloadSpec{K: []chain.KStep{{From: 0, K: 1024}, {From: 10, K: 512}}, Beta: 0.95},
		Outer:      chain.OuterSpec{Alpha: 1, MinDivisor: 2, RootEvery: 1},
		Score:      chain.ScoreSpec{Winners: 4, HeldOut: 32, Own: 16, EMA: 0.25},
		Checkpoint: 4,
		Keep:       16,
		Tempo:      16, // two windows of the schedule above; the launcher keeps it so
	}
}
