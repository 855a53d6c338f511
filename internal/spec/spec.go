// Package spec turns a run descriptor into what engines take, and refuses descriptors that contradict themselves before a
// node downloads anything for them. It knows no storage, so that presets, plans and nodes share one opinion.
package spec

import (
	"fmt"

	"sn3/chain"
	"sn3/model"
)

// Limits beyond which a descriptor is a mistake or an attack: sizes computed from one stay far from overflow.
const (
	MaxParams = 1 << 44
	maxCount  = 1 << 20
	maxTotal  = 1 << 40
)

// ByteVocab is the vocabulary of the tokenizer "bytes".
const ByteVocab = 256

// Config is the shape that a run descriptor describes.
func Config(m chain.ModelSpec) model.Config {
	c := model.Config{Vocab: m.Vocab, Width: m.Width, Layers: m.Layers, Heads: m.Heads, KVHeads: m.KVHeads, HeadDim: m.HeadDim,
		FFN: m.FFN, Seq: m.Seq, Tied: m.Tied, RopeTheta: m.RopeTheta, NormEps: m.NormEps}
	if s := m.Rope; s != nil {
		c.Rope = &model.RopeScaling{Type: s.Type, Factor: s.Factor, LowFreq: s.LowFreq, HighFreq: s.HighFreq, Original: s.Original}
	}
	return c
}

// Optimizer is the inner optimizer that a run descriptor describes.
func Optimizer(t chain.TrainSpec) model.Optimizer {
	return model.Optimizer{LR: t.LR, MinLR: t.MinLR, Decay: t.Decay, Warmup: t.Warmup, Total: t.Total, Beta1: t.Beta1, Beta2: t.Beta2,
		Eps: t.Eps, WeightDecay: t.WeightDecay, Clip: t.Clip, Schedule: t.Schedule}
}

// Check refuses what chain.Run.Validate cannot see, because the chain knows no models: shapes that no engine can train, and
// settings that contradict each other. Errors name the fields as they stand in a descriptor.
func Check(r *chain.Run) error {
	c := Config(r.Model)
	if err := c.Validate(); err != nil {
		return err
	}
	if n := int64(c.Params()); n > MaxParams {
		return fmt.Errorf("model has %d parameters, beyond any use", n)
	}
	if err := Optimizer(r.Train).Validate(); err != nil {
		return err
	}
	switch {
	case r.Train.InnerSteps > maxCount || r.Train.Batch > maxCount || int64(r.Train.Total) > maxTotal:
		return fmt.Errorf("train.inner_steps %d, batch %d, total %d beyond any use", r.Train.InnerSteps, r.Train.Batch, r.Train.Total)
	case r.Rules.Gather > maxCount || r.Score.HeldOut > maxCount || r.Score.Own > maxCount || int64(r.Keep) > maxTotal:
		return fmt.Errorf("rules.gather %d, score.held_out %d, own %d, keep_windows %d beyond any use", r.Rules.Gather, r.Score.HeldOut, r.Score.Own, r.Keep)
	case r.Tokenizer == "bytes" && r.Model.Vocab != ByteVocab:
		return fmt.Errorf("model.vocab is %d, but the tokenizer \"bytes\" has %d tokens", r.Model.Vocab, ByteVocab)
	case r.Model.Rope != nil && r.Model.Rope.Type == "linear" && (r.Model.Rope.LowFreq != 0 || r.Model.Rope.HighFreq != 0 || r.Model.Rope.Original != 0):
		return fmt.Errorf("model.rope.low_freq, high_freq and original belong to the type \"llama3\", the type is \"linear\"")
	case r.Model.Rope != nil && r.Model.Rope.Type == "llama3" && float64(r.Model.Seq) > r.Model.Rope.Factor*float64(r.Model.Rope.Original):
		return fmt.Errorf("model.seq %d is longer than the %v tokens (factor times original) that model.rope reaches", r.Model.Seq,
			r.Model.Rope.Factor*float64(r.Model.Rope.Original))
	case r.Payload.Beta > 1:
		return fmt.Errorf("payload.beta %v is more than 1: the error feedback would grow without end", r.Payload.Beta)
	case r.Score.Winners > r.Rules.Gather:
		return fmt.Errorf("score.expected_winners %d is more than the %d submissions that rules.gather lets in", r.Score.Winners, r.Rules.Gather)
	}
	return nil
}
