package main

import (
	"errors"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"sn3/internal/preset"
	"sn3/internal/spec"
	"sn3/model"
	"sn3/model/gpu"
	"sn3/model/gpu/memory"
	"sn3/model/gpu/roofline"
	"sn3/model/gpu/standin"
)

// What sn3 plan chooses for a card of so many bytes is what miner --gpu chooses when it starts on one, and what is refused here is refused
// there, with the same figures.
func TestPlanIsTheStart(t *testing.T) {
	standin.Only(t, "cards of every size")
	card := standin.Load(t)
	engine := gpu.New(gpu.Settings{Library: card.Path})
	names := slices.DeleteFunc(preset.Names(), func(name string) bool { return name == "8b" || name == "70b" }) // their layouts take seconds
	rapid.Check(t, func(r *rapid.T) {
		name := rapid.SampledFrom(names).Draw(r, "preset")
		bytes := rapid.Int64Range(1e7, 300e9).Draw(r, "bytes")
		share := rapid.Float64Range(0.01, 1).Draw(r, "share")
		s := engine.Settings()
		s.Plan = rapid.SampledFrom(append(memory.Plans(), "")).Draw(r, "plan")
		s.Recompute = rapid.SampledFrom(append(memory.Recomputes(), "")).Draw(r, "recompute")
		micro := rapid.IntRange(0, 40).Draw(r, "micro-batch")
		run, err := preset.Run(name, 0)
		if err != nil {
			r.Fatal(err)
		}

		p := newGPUPlan(name, run, roofline.Card{Memory: bytes}, share)
		p.request = memory.Request{Model: spec.Config(run.Model), Plan: s.Plan, Recompute: s.Recompute, Ranks: 1, MicroBatch: micro}
		if err := p.choose(false); err != nil {
			r.Fatal(err)
		}
		refusal := p.request.Check(p.allowed)

		card.Set(t, "memory", strconv.FormatInt(bytes, 10))
		e, opt, err := gpu.New(s).Choose(spec.Config(run.Model), model.Options{Precision: model.BF16, MicroBatch: micro}, run.Train.Batch, true, share)
		large, refused := errors.AsType[*memory.TooLarge](err)
		switch {
		case refused != (refusal != nil) || err != nil && !refused:
			r.Fatalf("sn3 plan says %v, the engine %v", refusal, err)
		case refused:
			if large.Have != p.allowed || large.Need != large.Request.Arena().Size {
				r.Errorf("%d of %d bytes are too many, %d may be taken", large.Need, large.Have, p.allowed)
			}
			return
		}
		if e.Settings().Plan != p.request.Plan || e.Settings().Recompute != p.request.Recompute || opt.MicroBatch != p.request.MicroBatch {
			r.Errorf("the engine takes %v, micro-batch %d; sn3 plan says %s, %s, %d", e.Settings(), opt.MicroBatch, p.request.Plan, p.request.Recompute, p.request.MicroBatch)
		}
		if need := e.Need(spec.Config(run.Model), opt, run.Train.Batch, true).Total(); need != p.request.Arena().Size || need > p.allowed {
			r.Errorf("the engine needs %d bytes, sn3 plan says %d of %d", need, p.request.Arena().Size, p.allowed)
		}
	})
}
