package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Bucket is what the rest of the program uses: one bucket with deadlines, read caps, hash checks and resuming, over any
// Driver. Safe for concurrent use.
type Bucket struct {
	d    Driver
	pace pace
}

// Deadlines. A call that moves no object has callTimeout in all; one that does is ended when less than minRate arrives
// in a row of 5 seconds (twice that for the first, which includes connecting).
const (
	callTimeout = 20 * time.Second
	minRate     = 64 << 10 // bytes per second
	rateWindow  = 5 * time.Second
)

// firstBuffer is how much memory is taken for an object before any of it has come.
const firstBuffer = 1 << 20

// NewBucket returns the bucket behind d.
func NewBucket(d Driver) *Bucket {
	return &Bucket{d: d, pace: pace{window: rateWindow, bytes: minRate * int64(rateWindow/time.Second)}}
}

// Put uploads data under key, all or nothing, replacing what is there.
func (b *Bucket) Put(ctx context.Context, key string, data []byte) error {
	return b.put(ctx, key, bytes.NewReader(data), int64(len(data)), PutOptions{})
}

// PutReader uploads size bytes of body under key, all or nothing. The body is read more than once.
func (b *Bucket) PutReader(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	return b.put(ctx, key, body, size, PutOptions{})
}

// PutNew is Put for a key that must be free; a taken key is ErrExists. After an answer that got lost, a repeated attempt
// reports ErrExists too: the caller compares hashes.
func (b *Bucket) PutNew(ctx context.Context, key string, data []byte) error {
	return b.put(ctx, key, bytes.NewReader(data), int64(len(data)), PutOptions{IfAbsent: true})
}

func (b *Bucket) put(ctx context.Context, key string, body io.ReaderAt, size int64, o PutOptions) error {
	const op = "put"
	if err := checkKey(op, key); err != nil {
		return err
	}
	if size < 0 {
		return &opError{op: op, key: key, err: &localError{fmt.Errorf("negative size %d", size)}}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout+time.Duration(size/minRate)*time.Second)
	defer cancel()
	return failed(ctx, op, key, b.d.Put(ctx, key, body, size, o))
}

// Get returns the whole object if it has at most max bytes, else ErrTooLarge after reading max+1 bytes. A connection cut
// on the way makes it start again, never resume: the object may have been replaced.
func (b *Bucket) Get(ctx context.Context, key string, max int64) ([]byte, error) {
	const op = "get"
	if max < 0 {
		return nil, &opError{op: op, key: key, err: &localError{fmt.Errorf("negative cap %d", max)}}
	}
	return b.whole(ctx, op, key, func(ctx context.Context, s *stream) ([]byte, error) {
		var buf bytes.Buffer
		err := s.drain(ctx, 0, -1, max, func(p []byte) error { buf.Write(p); return nil })
		return buf.Bytes(), err
	})
}

// GetRange returns exactly n bytes from byte off on; ErrMismatch if the object ends before.
func (b *Bucket) GetRange(ctx context.Context, key string, off, n int64) ([]byte, error) {
	const op = "get range of"
	if off < 0 || n < 0 || off+n < 0 {
		return nil, &opError{op: op, key: key, err: &localError{fmt.Errorf("impossible range: %d bytes from %d on", n, off)}}
	}
	if n == 0 {
		return nil, nil
	}
	return b.whole(ctx, op, key, func(ctx context.Context, s *stream) ([]byte, error) {
		buf := make([]byte, 0, min(n, firstBuffer)) // n may be a promise of the object's owner
		err := s.drain(ctx, off, n, n, func(p []byte) error { buf = append(buf, p...); return nil })
		if err == nil && int64(len(buf)) < n {
			err = fmt.Errorf("%w: ends after %d of %d bytes", ErrMismatch, len(buf), n)
		}
		return buf, err
	})
}

// whole reads an object or range from the start, again if the connection is cut.
func (b *Bucket) whole(ctx context.Context, op, key string, read func(context.Context, *stream) ([]byte, error)) ([]byte, error) {
	if err := checkKey(op, key); err != nil {
		return nil, err
	}
	ctx, s, stop := b.stream(ctx, key)
	defer stop()
	for cuts := 0; ; {
		data, err := read(ctx, s)
		if err == nil {
			return data, nil
		}
		if cuts++; !errors.Is(err, errCut) || cuts == maxCuts || pause(ctx, cuts) != nil {
			return nil, failed(ctx, op, key, err)
		}
	}
}

// List returns up to max objects with keys greater than after that start with prefix, ascending; fewer than max only at
// the end. Keys that ValidKey refuses are left out, and what a server adds that was not asked for.
func (b *Bucket) List(ctx context.Context, prefix, after string, max int) ([]Object, error) {
	const op = "list"
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var objs []Object
	for len(objs) < max {
		ask := min(max-len(objs), MaxList)
		page, err := b.d.List(ctx, prefix, after, ask)
		if err != nil {
			return nil, failed(ctx, op, prefix, err)
		}
		page = page[:min(len(page), ask)]
		for _, o := range page {
			if after = o.Key; ValidKey(o.Key) && strings.HasPrefix(o.Key, prefix) && o.Size >= 0 {
				objs = append(objs, o)
			}
		}
		if len(page) < ask {
			break
		}
	}
	return objs, nil
}

// Delete removes keys, in batches; a missing key is no error. After an error some of them may be gone.
func (b *Bucket) Delete(ctx context.Context, keys ...string) error {
	const op = "delete"
	for _, key := range keys {
		if err := checkKey(op, key); err != nil {
			return err
		}
	}
	for len(keys) > 0 {
		n := min(len(keys), MaxDelete)
		if err := b.deleteBatch(ctx, op, keys[:n]); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

func (b *Bucket) deleteBatch(ctx context.Context, op string, keys []string) error {
	each := time.Duration(len(keys)) * 100 * time.Millisecond // for providers that take them one by one
	ctx, cancel := context.WithTimeout(ctx, callTimeout+each)
	defer cancel()
	return failed(ctx, op, keys[0], b.d.Delete(ctx, keys...))
}

// Prune deletes the objects under prefix for which keep says no, and returns how many. What to keep is decided by key and
// size alone: there is no trustworthy time.
func (b *Bucket) Prune(ctx context.Context, prefix string, keep func(Object) bool) (int, error) {
	pruned := 0
	for after := ""; ; {
		page, err := b.List(ctx, prefix, after, MaxList)
		if err != nil {
			return pruned, err
		}
		var old []string
		for _, o := range page {
			after = o.Key
			if !keep(o) {
				old = append(old, o.Key)
			}
		}
		if err := b.Delete(ctx, old...); err != nil {
			return pruned, err
		}
		pruned += len(old)
		if len(page) < MaxList {
			return pruned, nil
		}
	}
}

func checkKey(op, key string) error {
	if !ValidKey(key) {
		return &opError{op: op, key: key, err: &localError{errors.New("not a valid key")}}
	}
	return nil
}

// pause waits a little before the next attempt, longer each time.
func pause(ctx context.Context, attempt int) error {
	t := time.NewTimer(min(firstWait<<min(attempt, 10), longestWait))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
