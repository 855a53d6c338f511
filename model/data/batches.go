package data

import (
	"context"
	"io"

	"sn3/model"
)

// Batches yields the samples of a, batch at a time: batch b is Samples[b·batch : (b+1)·batch]. Samples that fill no whole
// batch at the end are not used. While a batch is trained on, the next one is read. An error can be retried by calling Next
// again.
func (d *Dataset) Batches(a Assignment, batch int) model.Batches {
	return &batches{d: d, samples: a.Samples, size: max(1, batch)}
}

type batches struct {
	d       *Dataset
	samples []uint64 // not yet yielded
	size    int
	ahead   chan fetched // the batch that comes next, being read; nil when none is
}

type fetched struct {
	b   model.Batch
	err error
}

// Next implements model.Batches.
func (s *batches) Next(ctx context.Context) (model.Batch, error) {
	if err := ctx.Err(); err != nil {
		return model.Batch{}, err
	}
	if len(s.samples) < s.size {
		return model.Batch{}, io.EOF
	}
	f, ok := s.waited(ctx)
	if !ok || f.err != nil { // what failed ahead of time, perhaps under a context that ended, is tried now
		f.b, f.err = s.d.batch(ctx, Train, s.samples[:s.size])
	}
	if f.err != nil {
		return model.Batch{}, f.err
	}
	s.samples = s.samples[s.size:]
	if len(s.samples) >= s.size {
		s.ahead = make(chan fetched, 1)
		go func(next []uint64, out chan<- fetched) {
			b, err := s.d.batch(ctx, Train, next)
			out <- fetched{b, err}
		}(s.samples[:s.size], s.ahead)
	}
	return f.b, nil
}

// waited is what was read ahead; ok is false if nothing was or ctx ended.
func (s *batches) waited(ctx context.Context) (f fetched, ok bool) {
	if s.ahead == nil {
		return f, false
	}
	select {
	case f = <-s.ahead:
		s.ahead = nil
		return f, true
	case <-ctx.Done():
		return f, false
	}
}
