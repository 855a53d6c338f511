package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Op is a method of Driver, for a plan of faults.
type Op uint8

// The methods of Driver.
const (
	OpPut Op = iota + 1
	OpGet
	OpList
	OpDelete
)

// Fault is what goes wrong with one call; the zero value is nothing.
type Fault struct {
	Delay time.Duration // late: wait first
	Err   error         // then fail with this, doing nothing: ErrUnavailable, ErrNotFound, …
	Lost  bool          // do it, then fail with ErrUnavailable: the answer got lost

	Serve string // Get: swapped: the bytes of this key instead
	Flip  bool   // Get: wrong: one bit flipped in the first byte read
	Cut   int64  // Get: the connection breaks after so many bytes; 0 = never
	End   int64  // Get: truncated: the object ends after so many bytes; 0 = never
	Huge  bool   // Get: zeros follow the object for ever
}

// NewFaulty returns d as it behaves under a plan. The plan is asked at every call with the method, the key (the prefix of
// a List, the first key of a Delete) and how many such calls there were before, so the same calls give the same faults.
func NewFaulty(d Driver, plan func(op Op, key string, earlier int) Fault) Driver {
	return &faulty{d: d, plan: plan, calls: map[faultCall]int{}}
}

type faultCall struct {
	op  Op
	key string
}

type faulty struct {
	d    Driver
	plan func(Op, string, int) Fault

	mu    sync.Mutex
	calls map[faultCall]int
}

// next takes the fault of this call and lets it happen as far as it comes before the call.
func (f *faulty) next(ctx context.Context, op Op, key string) (Fault, error) {
	f.mu.Lock()
	c := faultCall{op, key}
	fault := f.plan(op, key, f.calls[c])
	f.calls[c]++
	f.mu.Unlock()
	if fault.Delay > 0 {
		t := time.NewTimer(fault.Delay)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return fault, ctx.Err()
		case <-t.C:
		}
	}
	return fault, fault.Err
}

func (t Fault) after(err error) error {
	if err == nil && t.Lost {
		return fmt.Errorf("%w: answer lost", ErrUnavailable)
	}
	return err
}

func (f *faulty) Put(ctx context.Context, key string, body io.ReaderAt, size int64, o PutOptions) error {
	t, err := f.next(ctx, OpPut, key)
	if err != nil {
		return err
	}
	return t.after(f.d.Put(ctx, key, body, size, o))
}

func (f *faulty) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	t, err := f.next(ctx, OpGet, key)
	if err != nil {
		return nil, err
	}
	if t.Serve != "" {
		key = t.Serve
	}
	body, err := f.d.Get(ctx, key, off, n)
	if err = t.after(err); err != nil {
		return nil, err
	}
	return &faultyBody{ReadCloser: body, t: t, off: off}, nil
}

func (f *faulty) List(ctx context.Context, prefix, after string, max int) ([]Object, error) {
	t, err := f.next(ctx, OpList, prefix)
	if err != nil {
		return nil, err
	}
	objs, err := f.d.List(ctx, prefix, after, max)
	return objs, t.after(err)
}

func (f *faulty) Delete(ctx context.Context, keys ...string) error {
	var first string
	if len(keys) > 0 {
		first = keys[0]
	}
	t, err := f.next(ctx, OpDelete, first)
	if err != nil {
		return err
	}
	return t.after(f.d.Delete(ctx, keys...))
}

type faultyBody struct {
	io.ReadCloser
	t    Fault
	off  int64 // of the range in the object
	read int64 // on this connection
}

func (b *faultyBody) Read(p []byte) (int, error) {
	if b.t.Cut > 0 {
		if b.read >= b.t.Cut {
			return 0, io.ErrUnexpectedEOF
		}
		p = p[:min(int64(len(p)), b.t.Cut-b.read)]
	}
	if b.t.End > 0 {
		if b.off+b.read >= b.t.End {
			return 0, io.EOF
		}
		p = p[:min(int64(len(p)), b.t.End-b.off-b.read)]
	}
	n, err := b.ReadCloser.Read(p)
	if n > 0 && b.read == 0 && b.t.Flip {
		p[0] ^= 1
	}
	if errors.Is(err, io.EOF) && b.t.Huge {
		clear(p[n:])
		n, err = len(p), nil
	}
	b.read += int64(n)
	return n, err
}
