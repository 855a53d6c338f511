package model

import (
	"context"
	"errors"
	"io"
)

// ErrDiverged: the loss of a batch or its gradient is not finite. The step was not made.
var ErrDiverged = errors.New("model: training diverged")

// Weights gives read access to a model's float32 parameters, wherever they live (arena, file, device, several ranks).
type Weights interface {
	Layout() *Layout
	// Read copies the values of the chunks in c, in chunk order, to dst, whose length must be the range's span.
	Read(dst []float32, c ChunkRange) error
}

// Batch is B sequences of T tokens with their targets, row-major [B][T]. Targets of -100 are not counted.
type Batch struct {
	B, T int
	X, Y []int32
}

// Batches yields the batches of a window in order. Next returns io.EOF when the assignment is used up.
// The batch is valid until the next call.
type Batches interface {
	Next(ctx context.Context) (Batch, error)
}

// Budget bounds a call of Train: at most Steps inner steps, the first of which is global step First (w·H + i), which fixes
// the learning rate.
type Budget struct {
	First uint64
	Steps int
}

// Report says what a call of Train did.
type Report struct {
	Steps  int     // whole inner steps made
	Tokens int     // tokens consumed
	Loss   float64 // mean training loss over the steps, nats per token; 0 if none
}

// Trainer makes inner steps on its own copy of the parameters. Not safe for concurrent use.
type Trainer interface {
	// Reset replaces the parameters only; moments and the optimizer's step count live on.
	Reset(ctx context.Context, w Weights) error
	// Train makes inner steps until the budget is spent, batches are used up or ctx ends; it returns after a whole step,
	// with a nil error in all three cases. ErrDiverged, a batch that does not fit the model, or an error of b ends it too:
	// the steps before count, the parameters and moments are those after them.
	Train(ctx context.Context, b Batches, budget Budget) (Report, error)
	// Rebase adds to − from to the local parameters; moments are untouched.
	Rebase(ctx context.Context, from, to Weights) error
	// Trained is a live view of the local parameters, valid until the next call of another method.
	Trained() Weights
}

// Delta is what a payload offers: chunk i's kept indices, ascending, and their values.
type Delta interface {
	// Chunk writes the kept entries of chunk i to idx and val (both at least the chunk's Len long) and returns their number.
	Chunk(i int, idx []uint16, val []float32) int
}

// Judge measures losses of θ and of θ − scale·delta. Not safe for concurrent use.
type Judge interface {
	Reset(ctx context.Context, w Weights) error
	// Losses returns, for every set and every sequence of its batches in order, the mean loss in nats per token of
	// θ − scale·delta; delta nil measures θ itself. Afterwards θ is bit for bit what it was.
	Losses(ctx context.Context, delta Delta, scale float32, sets [][]Batch) ([][]float64, error)
}

// Persister saves the inner optimizer: moments, step count, RNG. Load of an unknown format is an error and changes nothing.
type Persister interface {
	Save(w io.Writer) error
	Load(r io.Reader) error
}

// Gradienter is a Trainer that gives away its gradients, so that engines can be compared.
type Gradienter interface {
	// LossGrad returns the mean loss of b in nats per counted token and its gradient, row-major in tensor order. The gradient
	// is valid until the next call.
	LossGrad(b Batch) (loss float64, grad []float32, err error)
}

// Forwarder is a Judge that gives away its logits, for sampling and comparison.
type Forwarder interface {
	// Logits writes the logits of the B×T tokens x, [B][T][V], to dst.
	Logits(dst []float32, x []int32, B, T int) error
}

// Optimizer is AdamW with its schedule: warm-up, flat, linear down to LR·MinLR over the last Decay of Total global steps.
// Norms and the embedding are not decayed.
type Optimizer struct {
	LR, MinLR, Decay  float64
	Warmup, Total     int
	Beta1, Beta2, Eps float64
	WeightDecay, Clip float64             // Clip 0 = none
	Decays            func(t Tensor) bool // which tensors are decayed; nil: matrices other than the embedding
}

// Rate is the learning rate of global step s (0-based).
func (o Optimizer) Rate(s uint64) float64 {
	total, warm := float64(o.Total), float64(o.Warmup)
	x := float64(s)
	if x < warm {
		return o.LR * (x + 1) / warm
	}
	from := total * (1 - o.Decay)
	if x <= from || o.Decay == 0 {
		return o.LR
	}
	if x >= total {
		return o.LR * o.MinLR
	}
	return o.LR * (1 - (1-o.MinLR)*(x-from)/(total-from))
}

// Engine makes trainers and judges for one configuration; threads is the number of compute threads it may use.
type Engine interface {
	Name() string
	NewTrainer(c Config, o Optimizer, threads int) (Trainer, error)
	NewJudge(c Config, threads int) (Judge, error)
}
