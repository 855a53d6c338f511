package simnet

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"sn3/chain"
	"sn3/internal/replica"
)

// Dispute says that the chain nodes behind a client contradict each other: reading goes on, and nothing is signed.
type Dispute struct {
	Open   atomic.Bool
	Fails  bool         // writes fail at once; else they wait for its end, as local.Client's do
	Signed atomic.Int32 // writes that went out
}

// disputed is the writer of such a client.
type disputed struct {
	chain.Writer
	d     *Dispute
	clock *replica.Clock
}

// agree returns when the nodes agree.
func (w disputed) agree(ctx context.Context) error {
	why := errors.Join(chain.ErrDisputed, chain.ErrUnavailable)
	for w.d.Open.Load() {
		if w.d.Fails {
			return why
		}
		if err := w.clock.WaitNext(ctx); err != nil {
			return fmt.Errorf("%w; the last attempt: %w", err, why)
		}
	}
	w.d.Signed.Add(1)
	return nil
}

// Publish implements chain.Writer.
func (w disputed) Publish(ctx context.Context, r chain.Record) (chain.Receipt, error) {
	if err := w.agree(ctx); err != nil {
		return chain.Receipt{}, err
	}
	return w.Writer.Publish(ctx, r)
}

// SetWeights implements chain.Writer.
func (w disputed) SetWeights(ctx context.Context, row []chain.Weight) (chain.Receipt, error) {
	if err := w.agree(ctx); err != nil {
		return chain.Receipt{}, err
	}
	return w.Writer.SetWeights(ctx, row)
}
