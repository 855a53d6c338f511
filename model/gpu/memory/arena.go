package memory

import (
	"fmt"

	"sn3/model"
)

// Align is where regions begin: what cuMemAlloc promises, and more than any vector access needs.
const Align = 256

// HeadRows is the most rows of logits that exist at once.
const HeadRows = 512

// Group is what a region belongs to, as a plan is printed.
type Group string

// The groups in the order in which they lie.
const (
	Masters   Group = "master weights, f32"
	Copies    Group = "weights, bf16"
	Start     Group = "θ at the window's start, bf16"
	Feedback  Group = "error feedback, f32"
	Gathered  Group = "two layers and the head, gathered"
	Gradients Group = "gradients"
	Sharing   Group = "gradients of a layer and the head, to be shared out"
	Moments   Group = "moments"
	Delta     Group = "a delta, and the values before it"
	Tables    Group = "tables of the model"
	Workspace Group = "workspace of matrix products"
	Kept      Group = "activations kept of every layer"
	Live      Group = "activations of the layer at work"
	Head      Group = "logits of 512 rows, final norm, losses"
	Backward  Group = "gradients of activations"
	Small     Group = "tokens and rotary angles"
)

// Groups lists them in order.
func Groups() []Group {
	return []Group{Masters, Copies, Start, Feedback, Gathered, Gradients, Sharing, Moments, Delta, Tables, Workspace, Kept, Live, Head, Backward, Small}
}

// Region is a named part of an arena: Size bytes from Off on.
type Region struct {
	Group     Group
	Name      string // unique in its arena
	Off, Size int64
}

// Arena is the memory of one card. All cards of a miner have the same.
type Arena struct {
	Regions []Region // in order, none overlaps another
	Fixed   int64    // where that begins which depends on the batch
	Size    int64    // of the one allocation
}

// Find returns the region of that name.
func (a Arena) Find(name string) (Region, bool) {
	for _, r := range a.Regions {
		if r.Name == name {
			return r, true
		}
	}
	return Region{}, false
}

// Sum is what a group takes, with the gaps behind its regions: groups add up to Size.
func (a Arena) Sum(g Group) (n int64) {
	for _, r := range a.Regions {
		if r.Group == g {
			n += aligned(r.Size)
		}
	}
	return n
}

// Parts are the groups that take anything.
func (a Arena) Parts() (parts []Part) {
	for _, g := range Groups() {
		if n := a.Sum(g); n > 0 {
			parts = append(parts, Part{string(g), n})
		}
	}
	return parts
}

// Need is the arena as an engine says it.
func (a Arena) Need() model.Need {
	n := model.Need{Params: a.Sum(Masters) + a.Sum(Copies) + a.Sum(Start) + a.Sum(Feedback) + a.Sum(Gathered),
		Grads: a.Sum(Gradients) + a.Sum(Sharing), Moments: a.Sum(Moments)}
	n.Acts = a.Size - n.Total()
	return n
}

func aligned(n int64) int64 { return (n + Align - 1) &^ (Align - 1) }

// add appends a region of elements of some bytes; sizes are multiplied.
func (a *Arena) add(g Group, name string, size ...int64) {
	n := product(size...)
	if n == 0 {
		return
	}
	a.Regions = append(a.Regions, Region{g, name, a.Size, n})
	a.Size += aligned(n)
}

// Bytes of a value.
const (
	bf16 = 2
	f32  = 4
	i32  = 4
)

// shape is a configuration in the letters of the package comment.
type shape struct {
	n, t, c, q, s, f, v, layers, heads, headDim int64
	params, layer, head, norms                  int64 // of the model, of a layer, of the output matrix, of all norms, each with its gap
	padded, chunks                              int64 // the model's with the gaps before its matrices; chunks of the protocol
}

func shapeOf(r Request) shape {
	c := r.Model
	q, k := int64(c.Heads*c.HeadDim), int64(c.KVHeads*c.HeadDim)
	s := shape{n: int64(r.MicroBatch) * int64(c.Seq), t: int64(c.Seq), c: int64(c.Width), q: q, s: q + 2*k, f: int64(c.FFN), v: int64(c.Vocab),
		layers: int64(c.Layers), heads: int64(c.Heads), headDim: int64(c.HeadDim)}
	s.layer = s.c*s.s + s.q*s.c + 3*s.c*s.f + 2*s.c
	s.head = s.v * s.c
	s.norms = (2*s.layers + 1) * gap(s.c)
	s.params = s.layers*s.layer + s.head + s.c // c.Params(), without a list of tensors
	s.padded = s.layers*(2*gap(s.c)+gap(s.s*s.c)+gap(s.q*s.c)+gap(2*s.c*s.f)+gap(s.c*s.f)) + gap(s.head) + gap(s.c)
	s.chunks = s.layers*(blocksOf(s.q, s.c)+2*blocksOf(k, s.c)+blocksOf(s.c, s.q)+2*blocksOf(s.f, s.c)+blocksOf(s.c, s.f)) + blocksOf(s.v, s.c) +
		(2*s.layers+1)*((s.c+model.ChunkSize-1)/model.ChunkSize)
	if !c.Tied {
		s.params, s.padded, s.chunks = s.params+s.head, s.padded+gap(s.head), s.chunks+blocksOf(s.v, s.c)
	}
	return s
}

// gap is n values and what is left free behind them: what kernels read as one matrix begins at a multiple of 8 values.
func gap(n int64) int64 { return (n + 7) &^ 7 }

// blocksOf is how many chunks a matrix has (model.NewLayout).
func blocksOf(rows, cols int64) int64 {
	const side = model.BlockSide
	return ((rows + side - 1) / side) * ((cols + side - 1) / side)
}

// own is the most values that one of n cards owns; one card has the model with its gaps.
func (s shape) own(n int) int64 {
	if n <= 1 {
		return s.padded
	}
	return Share(s.params, n)
}

// Share is the most values that one of n cards owns: whole chunks, cut where the values are even.
func Share(params int64, n int) int64 {
	if n <= 1 {
		return params
	}
	return min(params, (params+int64(n)-1)/int64(n)+model.ChunkSize)
}

// Arena lays out a card's memory for a request that Validate accepts. What works between windows (Δ, compression, aggregation, θ of
// other nodes coming in) has no region of its own: it uses those of activations and gradients, which are idle then.
func (r Request) Arena() Arena { return r.lay(true) }

// size is Arena().Size, without a list of every layer's regions.
func (r Request) size() int64 { return r.lay(false).Size }

// lay lays out an arena, whole or with the first of the layers standing for all. First comes what does not depend on the batch.
func (r Request) lay(whole bool) Arena {
	var a Arena
	s := shapeOf(r)
	r.states(&a, s)
	if r.Judge {
		a.add(Delta, "where chunks lie", 24, s.chunks)
		a.add(Delta, "where chunks' entries begin", 8, s.chunks+1)
		a.add(Delta, "indices", 2, r.Kept)
		a.add(Delta, "values", f32, r.Kept)
		a.add(Delta, "values before", f32, r.Kept)
	}
	s.tables(&a, s.own(r.Ranks), r.Judge)
	a.add(Workspace, "workspace", Slots, Slot(s.chunks))
	a.Fixed = a.Size
	if r.Judge {
		for _, prefix := range []string{"even layers: ", "odd layers: "}[:min(2, s.layers)] { // one is read while the next is made
			a.add(Live, prefix+"x", bf16, s.n, s.c)
			s.live(&a, Live, prefix, everything)
		}
	} else {
		r.activations(&a, s, whole)
	}
	r.head(&a, s)
	if !r.Judge {
		s.backward(&a)
	}
	s.small(&a, r.Judge)
	return a
}

// Slots are the halves of the workspace, and the pinned buffers of the host, each as large: batches go through the buffers and, between
// steps, parameters through both; offloaded, gradients and copies too.
const Slots = 2

// Slot is the size of one, for a model of chunks: all of them with what says where they lie, 52 bytes each, at most half of the workspace
// that NVIDIA advises for cuBLASLt on Hopper (32 MiB).
func Slot(chunks int64) int64 { return aligned(min(16<<20, max(1<<20, chunks*(4*model.ChunkSize+52)))) }

// states are the values that stay from step to step, and where those of other cards come to.
func (r Request) states(a *Arena, s shape) {
	own := s.own(r.Ranks)
	if r.Judge || r.Plan != Offload {
		a.add(Masters, "masters", f32, own)
	}
	a.add(Copies, "copies", bf16, own)
	if r.Ranks > 1 || !r.Judge && r.Plan == Offload { // kernels take these as they are
		a.add(Copies, "norm weights", f32, s.norms)
	}
	if r.Round && !r.Judge {
		a.add(Start, "start", bf16, own)
		a.add(Feedback, "feedback", f32, own)
	}
	if r.Ranks > 1 { // one layer is computed with while the next one comes
		a.add(Gathered, "gathered layers", bf16, 2, s.layer)
		a.add(Gathered, "gathered head", bf16, s.head)
	}
	if r.Judge {
		return
	}
	grad := int64(bf16)
	if r.Plan == Classic {
		grad = f32
	}
	a.add(Gradients, "gradients", grad, own)
	if r.Ranks > 1 {
		a.add(Sharing, "gradients of a layer", grad, s.layer)
		a.add(Sharing, "gradients of the head", grad, s.head)
	}
	moment := map[Plan]int64{Classic: f32, Lean: bf16}[r.Plan] // offloaded: 0
	a.add(Moments, "m", moment, own)
	a.add(Moments, "v", moment, own)
}

// which of a layer's activations
type which int

const (
	again      which = 1 << iota // what selective recomputation makes again
	expensive                    // products and attention
	everything = again | expensive
)

// live lays out a layer's activations behind its x, as model/cpu names them (its type acts).
func (s shape) live(a *Arena, g Group, prefix string, w which) {
	if w&again != 0 {
		a.add(g, prefix+"h1", bf16, s.n, s.c)
		a.add(g, prefix+"h2", bf16, s.n, s.c)
		a.add(g, prefix+"a", bf16, s.n, s.f)
	}
	if w&expensive != 0 {
		a.add(g, prefix+"qkv", bf16, s.n, s.s)
		a.add(g, prefix+"y", bf16, s.n, s.q)
		a.add(g, prefix+"x2", bf16, s.n, s.c)
		a.add(g, prefix+"gate_up", bf16, s.n, 2, s.f)
		a.add(g, prefix+"r1", f32, s.n)
		a.add(g, prefix+"r2", f32, s.n)
		a.add(g, prefix+"lse", f32, s.n, s.heads)
	}
}

// activations are what the backward pass finds of every layer, and what it makes again of one.
func (r Request) activations(a *Arena, s shape, whole bool) {
	kept := map[Recompute]which{None: everything, Selective: expensive, Full: 0}[r.Recompute]
	before := a.Size
	for l := range s.layers {
		prefix := fmt.Sprintf("layer %d: ", l)
		a.add(Kept, prefix+"x", bf16, s.n, s.c)
		s.live(a, Kept, prefix, kept)
		if !whole {
			a.Size += (s.layers - 1) * (a.Size - before)
			break
		}
	}
	s.live(a, Live, "", everything&^kept)
}

// head is what follows the layers. Logits exist for HeadRows rows, whose beginnings are multiples of 8 values, so that they are read as
// vectors; their gradient is the factor of two products, and so bf16.
func (r Request) head(a *Arena, s shape) {
	rows, ld := min(s.n, HeadRows), (s.v+7)&^7
	a.add(Head, "xf", bf16, s.n, s.c)
	a.add(Head, "hf", bf16, s.n, s.c)
	a.add(Head, "rf", f32, s.n)
	a.add(Head, "losses", f32, s.n)
	a.add(Head, "logits", f32, rows, ld)
	if !r.Judge {
		a.add(Head, "gradient of logits", bf16, rows, ld)
	}
}

// backward is what the backward pass computes in: the gradient of the residual stream in f32, rounded copies as factors.
func (s shape) backward(a *Arena) {
	a.add(Backward, "dx", f32, s.n, s.c)
	a.add(Backward, "dx, rounded", bf16, s.n, s.c)
	a.add(Backward, "dh", bf16, s.n, max(s.c, s.q))
	a.add(Backward, "da", bf16, s.n, s.f)
	a.add(Backward, "dgate_up", bf16, s.n, 2, s.f)
	a.add(Backward, "dqkv", bf16, s.n, s.s)
	a.add(Backward, "attention's delta", f32, s.n, s.heads)
	a.add(Backward, "norm weights by row block", f32, (s.n+NormRows-1)/NormRows, s.c)
}

// NormRows is how many rows a partial sum of a norm's weight gradient is of.
const NormRows = 16

// PieceValues is how many values of one tensor a partial sum of the gradient's norm, and a block of AdamW, is of.
const PieceValues = 1 << 16

// tables are the pieces that AdamW works on, the learning rate and what else a step is told or tells.
func (s shape) tables(a *Arena, own int64, judge bool) {
	a.add(Tables, "scalars", 4096)
	if judge {
		return
	}
	pieces := own/PieceValues + 9*s.layers + 3 // no tensor has more than one piece that is not full
	a.add(Tables, "sums of pieces", f32, pieces)
	a.add(Tables, "pieces", 8, pieces+1)
	a.add(Tables, "pieces that decay", pieces)
}

// small is what hardly counts: ids, targets, the order of ids for the embedding's gradient, rotary angles.
func (s shape) small(a *Arena, judge bool) {
	a.add(Small, "cosines", f32, s.t, s.headDim/2)
	a.add(Small, "sines", f32, s.t, s.headDim/2)
	a.add(Small, "tokens", i32, s.n)
	a.add(Small, "targets", i32, s.n)
	if judge {
		return
	}
	a.add(Small, "tokens in order", i32, s.n)
	a.add(Small, "where tokens begin", i32, s.n+1)
}
