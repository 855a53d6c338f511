// Package memory says what training, or judging, a model takes of a card's memory and of the host's, before anything is allocated.
// The figure is not an estimate: Request.Arena lays out the one piece of memory that the engine allocates on each card when it starts,
// region by region, and what is printed is its size.
//
// Letters as in package model: B sequences, T tokens of each, N = B·T, C width, Q = heads·head dimension, K the same of keys, F of the
// feed-forward, V vocabulary, L layers, P parameters. Bytes a parameter of the plans, and why: docs/GPU.md.
package memory

import (
	"fmt"
	"slices"

	"sn3/model"
)

// Plan says where the optimizer's state lies and in what format.
type Plan string

// The plans. A parameter's bytes on the card: its bf16 copy, gradient, master, first and second moment.
const (
	Classic Plan = "classic" // 18: 2 + 4 + 4 + 4 + 4
	Lean    Plan = "lean"    // 12: 2 + 2 + 4 + 2 + 2, moments rounded stochastically
	Offload Plan = "offload" // 4: 2 + 2; master and moments, 12 bytes, in the host's memory, where AdamW runs
)

// Plans lists them from the most exact and fastest to the smallest.
func Plans() []Plan { return []Plan{Classic, Lean, Offload} }

// Recompute says which activations the backward pass makes again instead of finding them.
type Recompute string

// What is recomputed.
const (
	None      Recompute = "none"
	Selective Recompute = "selective" // the normed rows and SwiGLU's product: cheap, and two fifths of what is kept
	Full      Recompute = "full"      // everything but the residual stream at the layers' borders: the forward pass once more
)

// Recomputes lists them from the fastest to the smallest.
func Recomputes() []Recompute { return []Recompute{None, Selective, Full} }

// Request is what shall run on each card of one miner or validator.
type Request struct {
	Model      model.Config // Seq is the length of a sequence
	Plan       Plan
	Recompute  Recompute
	Ranks      int   // cards that share the states among them (ZeRO-3); 1: one card has all
	MicroBatch int   // sequences on each card at once; a batch's gradients are summed over its parts
	Round      bool  // θ at the window's start (bf16) and the error feedback (f32) lie on the cards, not with the node on the host
	Judge      bool  // measure losses of θ and of θ − scale·delta; nothing is trained
	Kept       int64 // of a judge: values of the largest delta
}

// The most that is planned for: more cards or sequences are a slip of the keyboard.
const (
	maxRanks = 4096
	maxMicro = 1 << 16
	maxHead  = 128 // the widest head that the kernels of attention take
)

// Validate refuses what the GPU engine could not run, whatever the memory.
func (r Request) Validate() error {
	if err := r.Model.Validate(); err != nil {
		return err
	}
	switch {
	case r.Ranks < 1 || r.Ranks > maxRanks:
		return fmt.Errorf("memory: %d cards; want 1 to %d", r.Ranks, maxRanks)
	case r.MicroBatch < 1 || r.MicroBatch > maxMicro:
		return fmt.Errorf("memory: micro-batch of %d sequences; want 1 to %d", r.MicroBatch, maxMicro)
	case r.Model.HeadDim > maxHead:
		return fmt.Errorf("memory: heads of %d values; the GPU's kernels take at most %d", r.Model.HeadDim, maxHead)
	case r.Kept < 0:
		return fmt.Errorf("memory: %d values of a delta", r.Kept)
	case !r.Judge && !slices.Contains(Plans(), r.Plan):
		return fmt.Errorf("memory: unknown plan %q; use one of %v", r.Plan, Plans())
	case !r.Judge && !slices.Contains(Recomputes(), r.Recompute):
		return fmt.Errorf("memory: unknown recomputation %q; use one of %v", r.Recompute, Recomputes())
	}
	return nil
}

// Part is a part of a machine's memory.
type Part struct {
	Name  string
	Bytes int64
}

// pinned are the buffers of every card.
func (r Request) pinned() int64 { return product(int64(r.Ranks), Slots, Slot(shapeOf(r).chunks)) }

// ReadCache is what a trainer keeps of parameters that are read from the card a few chunks at a time.
const ReadCache = 32 << 20

// Host is what the engine takes of the host's memory, for all cards together. What the node takes is not in it: internal/plan has
// that, with θ at the window's start and the error feedback.
func (r Request) Host() (parts []Part) {
	p := int64(r.Model.Params())
	add := func(name string, size int64) { parts = append(parts, Part{name, size}) }
	add("pinned buffers", r.pinned())
	if r.Judge {
		return parts
	}
	if r.Plan == Offload {
		add("parameters while new ones come, f32", product(4, p)) // the others have room for them on the card
		add("master weights, f32", product(4, p))
		add("moments, f32", product(8, p))
	} else {
		add("parameters that are read", ReadCache)
	}
	return parts
}

// HostNeed is Host as an engine says it.
func (r Request) HostNeed() (n model.Need) {
	for _, p := range r.Host() {
		switch p.Name {
		case "moments, f32":
			n.Moments += p.Bytes
		case "master weights, f32", "parameters while new ones come, f32":
			n.Params += p.Bytes
		default:
			n.Acts += p.Bytes
		}
	}
	return n
}

// beyond is more than any card or host has: sizes of absurd shapes stop there, so that sums of them do not overflow.
const beyond = 1 << 46

// product multiplies sizes, at most up to beyond.
func product(a ...int64) int64 {
	out := int64(1)
	for _, x := range a {
		if x <= 0 {
			return 0
		}
		if out > beyond/x {
			return beyond
		}
		out *= x
	}
	return out
}
