package model

import (
	"context"
	"errors"
	"io"
)

// ErrDiverged: the loss of a batch or its gradient is not finite. The step was not made.
var ErrDiverged = errors.New("model: training diverged")

// ErrUnsupported: the engine lacks what its options or the configuration ask for; another engine or option may do.
var ErrUnsupported = errors.New("model: not supported by this engine")

// ErrNoWeights: the last Reset failed half way, so there is no model to compute with; Reset again.
var ErrNoWeights = errors.New("model: no parameters are loaded, the last attempt failed half way")

// Weights gives read access to a model's float32 parameters, wherever they live (arena, file, device, several ranks).
type Weights interface {
	Layout() *Layout
	// Read copies the values of the chunks in c, in chunk order, to dst, whose length must be the range's span. It is safe for
	// concurrent use.
	Read(dst []float32, c ChunkRange) error
}

// Ignored is the target that does not count.
const Ignored = -100

// Batch is B sequences of T tokens with their targets, row-major [B][T]. Targets of Ignored are not counted.
type Batch struct {
	B, T int
	X, Y []int32
}

// Batches yields the batches of a window in order. Next returns io.EOF when the assignment is used up.
// The batch is valid until the next call.
type Batches interface {
	Next(ctx context.Context) (Batch, error)
}

// Budget bounds a call of Train: at most Steps inner steps, the first of which is global step First (w·H + i). First and Cold
// fix the learning rate (Optimizer.WarmRate).
type Budget struct {
	First uint64
	Steps int
	Cold  int // warm-up steps left because the moments are stale or new: ColdSteps at first, one less after every step, at last 0
}

// Report says what a call of Train did.
type Report struct {
	Steps  int     // whole inner steps made
	Tokens int     // tokens consumed
	Loss   float64 // mean training loss over the steps, nats per token; 0 if none
}

// Trainer makes inner steps on its own copy of the parameters. Not safe for concurrent use.
type Trainer interface {
	// Reset replaces the parameters only; moments and the optimizer's step count live on. An error changes nothing, also where
	// w fails half way.
	Reset(ctx context.Context, w Weights) error
	// Train makes inner steps until the budget is spent, batches are used up or ctx ends; it returns after a whole step,
	// with a nil error in all three cases. ErrDiverged, a batch that does not fit the model, or an error of b ends it too:
	// the steps before count, the parameters and moments are those after them.
	Train(ctx context.Context, b Batches, budget Budget) (Report, error)
	// Rebase adds to − from to the local parameters; moments are untouched. An error changes nothing.
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
	// Reset replaces θ. After an error θ is what it was, or Losses is ErrNoWeights until a Reset succeeds: a judge has no room for
	// two models.
	Reset(ctx context.Context, w Weights) error
	// Losses returns, for every set and every sequence of its batches in order, the mean loss in nats per token of
	// θ − scale·delta; delta nil measures θ itself. Afterwards θ is bit for bit what it was.
	Losses(ctx context.Context, delta Delta, scale float32, sets [][]Batch) ([][]float64, error)
}

// Persister saves the inner optimizer: moments, step count, RNG. Load of an unknown format is an error and changes nothing.
type Persister interface {
	Save(w io.Writer) error
	Load(r io.Reader) error
	// Forget makes it that of a new trainer.
	Forget()
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

// Decoder continues one sequence with a cache of keys and values, so that a token costs one row. Not safe for concurrent use.
type Decoder interface {
	// Reset replaces the parameters and empties the sequence; after an error as that of Judge.
	Reset(ctx context.Context, w Weights) error
	// Next appends the tokens x to the sequence and writes the logits after the last of them, (V), to dst. It fails, and
	// changes nothing, if the sequence would grow beyond the decoder's length.
	Next(dst []float32, x []int32) error
	// Rewind shortens the sequence to n tokens.
	Rewind(n int)
}

// Precision is what the operands of matrix products are rounded to. Sums, norms, softmax, losses, gradients, moments and
// master parameters are float32 in both.
type Precision string

// The precisions. BF16 rounds to nearest even; it trains in the same time steps to nearly the same loss (LOG.md).
const (
	F32  Precision = "f32"
	BF16 Precision = "bf16"
)

// Options say how an engine runs; the zero value is float32 on one thread with whole batches.
type Options struct {
	Threads    int       // compute threads of an engine on the CPU; below 1 is 1
	Precision  Precision // "" is F32
	MicroBatch int       // sequences in the model at once; a batch's gradients are summed over its parts in order. 0: all
}

// Engine makes trainers and judges for one configuration. What it cannot do, a precision or micro-batches, is ErrUnsupported,
// never done otherwise. Package enginetest is this contract as code.
type Engine interface {
	Name() string
	NewTrainer(c Config, o Optimizer, opt Options) (Trainer, error)
	NewJudge(c Config, opt Options) (Judge, error)
}

// Generator is an Engine that can also decode; seq is the most tokens of a sequence.
type Generator interface {
	NewDecoder(c Config, seq int, opt Options) (Decoder, error)
}
