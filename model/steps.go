package model

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// MakeSteps is the loop of a Trainer's Train, the same for every engine: step makes one whole inner step with b at a
// learning rate and returns the loss before it, or makes none and returns why. One batch is read for each step, none ahead.
func MakeSteps(ctx context.Context, b Batches, budget Budget, o Optimizer, step func(b Batch, rate float64) (loss float64, err error)) (Report, error) {
	var rep Report
	for rep.Steps < budget.Steps && ctx.Err() == nil {
		batch, err := b.Next(ctx)
		if errors.Is(err, io.EOF) || err != nil && ctx.Err() != nil {
			break
		}
		if err != nil {
			return rep, fmt.Errorf("read batch: %w", err)
		}
		loss, err := step(batch, o.WarmRate(budget.First+uint64(rep.Steps), budget.Cold-rep.Steps))
		if err != nil {
			return rep, err
		}
		rep.Loss = (rep.Loss*float64(rep.Steps) + loss) / float64(rep.Steps+1)
		rep.Steps++
		rep.Tokens += batch.B * batch.T
	}
	return rep, nil
}

// Check refuses a batch that does not fit a model of c: sizes that contradict each other, tokens or targets outside the
// vocabulary. It returns the number of targets that count.
func (b Batch) Check(c Config) (counted int, err error) {
	const most = 1 << 24 // tokens: beyond any memory, and by mistake
	if b.B < 1 || b.T < 1 || b.B > len(b.X) || b.T > len(b.X) || int64(len(b.X)) != int64(b.B)*int64(b.T) || len(b.Y) != len(b.X) || len(b.X) > most {
		return 0, fmt.Errorf("batch of %d×%d tokens has %d inputs and %d targets", b.B, b.T, len(b.X), len(b.Y))
	}
	for i, x := range b.X {
		if x < 0 || int(x) >= c.Vocab {
			return 0, fmt.Errorf("token %d at %d is outside the vocabulary of %d", x, i, c.Vocab)
		}
		if y := b.Y[i]; y != Ignored && (y < 0 || int(y) >= c.Vocab) {
			return 0, fmt.Errorf("target %d at %d is outside the vocabulary of %d", y, i, c.Vocab)
		} else if y != Ignored {
			counted++
		}
	}
	return counted, nil
}

// Part is sequences from to to−1 of the batch, in its memory.
func (b Batch) Part(from, to int) Batch {
	return Batch{B: to - from, T: b.T, X: b.X[from*b.T : to*b.T], Y: b.Y[from*b.T : to*b.T]}
}
