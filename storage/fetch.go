package storage

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// maxCuts is how often in a row a connection may break without a new byte before the server counts as unavailable.
const maxCuts = 4

var (
	errCut  = errors.New("connection cut") // while reading an object: worth resuming
	errSlow = fmt.Errorf("%w: slower than %d KiB/s", ErrUnavailable, minRate>>10)
)

// Fetch downloads an object of which size and SHA-256 are known into dst. It asks for no more than size bytes and a look
// at what follows, resumes after a cut, gives up with ErrUnavailable on a server that is too slow, with ErrTooLarge or
// ErrMismatch on an object that is not the promised one. dst holds garbage unless the error is nil.
func (b *Bucket) Fetch(ctx context.Context, key string, size int64, sum [32]byte, dst io.WriterAt) error {
	const op = "fetch"
	if err := checkKey(op, key); err != nil {
		return err
	}
	if size < 0 {
		return &opError{op: op, key: key, err: &localError{fmt.Errorf("negative size %d", size)}}
	}
	ctx, s, stop := b.stream(ctx, key)
	defer stop()
	h := sha256.New()
	var off int64
	for cuts := 0; ; {
		before := off
		err := s.drain(ctx, off, -1, size-off, func(p []byte) error {
			h.Write(p)
			_, err := dst.WriteAt(p, off)
			off += int64(len(p))
			return err
		})
		if off > before {
			cuts = 0
		}
		if err == nil || off == size && errors.Is(err, errCut) { // whole; the hash decides
			break
		}
		if cuts++; !errors.Is(err, errCut) || cuts == maxCuts || pause(ctx, cuts) != nil {
			return failed(ctx, op, key, err)
		}
	}
	if off < size {
		return failed(ctx, op, key, fmt.Errorf("%w: ends after %d of %d bytes", ErrMismatch, off, size))
	}
	if [32]byte(h.Sum(nil)) != sum {
		return failed(ctx, op, key, fmt.Errorf("%w: SHA-256 differs", ErrMismatch))
	}
	return nil
}

// pace is the slowest transfer that is waited for: at least so many bytes in each window.
type pace struct {
	window time.Duration
	bytes  int64
}

// stream reads one object, possibly in several attempts, under one pace.
type stream struct {
	d   Driver
	key string
	n   atomic.Int64 // bytes so far
	buf []byte
}

// stream starts the clock: the context it returns ends, with errSlow as cause, when the pace is missed.
func (b *Bucket) stream(ctx context.Context, key string) (context.Context, *stream, func()) {
	s := &stream{d: b.d, key: key}
	ctx, cancel := context.WithCancelCause(ctx)
	var mu sync.Mutex // orders the timer's own variable with the first call of its function
	var last int64
	var timer *time.Timer
	mu.Lock()
	timer = time.AfterFunc(2*b.pace.window, func() {
		mu.Lock()
		defer mu.Unlock()
		now := s.n.Load()
		if now-last < b.pace.bytes {
			cancel(errSlow)
			return
		}
		last = now
		timer.Reset(b.pace.window)
	})
	mu.Unlock()
	return ctx, s, func() {
		mu.Lock()
		timer.Stop()
		mu.Unlock()
		cancel(nil)
	}
}

// drain reads the object from off on (n bytes, or all when n < 0) and hands at most limit bytes to sink; more is
// ErrTooLarge. An error that matches errCut came from the connection while reading.
func (s *stream) drain(ctx context.Context, off, n, limit int64, sink func([]byte) error) (err error) {
	body, err := s.d.Get(ctx, s.key, off, n)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := body.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("%w: %w", errCut, cerr)
		}
	}()
	if s.buf == nil {
		s.buf = make([]byte, 64<<10)
	}
	for left := limit; ; {
		m, rerr := body.Read(s.buf[:min(int64(len(s.buf))-1, left)+1]) // left+1 could overflow
		s.n.Add(int64(m))
		if int64(m) > left {
			return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
		}
		if m > 0 {
			if err := sink(s.buf[:m]); err != nil {
				return &localError{fmt.Errorf("write what was read: %w", err)}
			}
			left -= int64(m)
		}
		switch {
		case rerr == io.EOF:
			return nil
		case rerr != nil && ctx.Err() != nil:
			return rerr
		case rerr != nil:
			return fmt.Errorf("%w: %w", errCut, rerr)
		}
	}
}
