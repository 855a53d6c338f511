package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

type sink []byte

func (s sink) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > int64(len(s)) {
		return 0, errors.New("beyond the end")
	}
	return copy(s[off:], p), nil
}

// object is a memory bucket with one object, under a plan of faults.
func object(t testing.TB, data []byte, plan func(op Op, key string, earlier int) Fault) *Bucket {
	t.Helper()
	d := NewMemory().Driver("alice", true)
	if err := d.Put(t.Context(), "key", bytes.NewReader(data), int64(len(data)), PutOptions{}); err != nil {
		t.Fatal(err)
	}
	return NewBucket(NewFaulty(d, plan))
}

func blob(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

func TestFetchUnderFaults(t *testing.T) {
	data := blob(200_000)
	first := func(f Fault) func(Op, string, int) Fault {
		return func(op Op, _ string, earlier int) Fault {
			if op == OpGet && earlier == 0 {
				return f
			}
			return Fault{}
		}
	}
	always := func(f Fault) func(Op, string, int) Fault { return func(Op, string, int) Fault { return f } }
	for _, c := range []struct {
		name string
		plan func(Op, string, int) Fault
		want error
	}{
		{"none", always(Fault{}), nil},
		{"cut once", first(Fault{Cut: 1000}), nil},
		{"cut at the very end", first(Fault{Cut: 200_000}), nil},
		{"cut every 30 kB", always(Fault{Cut: 30_000}), nil},
		{"absent", always(Fault{Err: ErrNotFound}), ErrNotFound},
		{"denied", always(Fault{Err: ErrDenied}), ErrDenied},
		{"unavailable", always(Fault{Err: ErrUnavailable}), ErrUnavailable},
		{"unknown error", always(Fault{Err: errors.New("what")}), ErrUnavailable},
		{"truncated", always(Fault{End: 199_999}), ErrMismatch},
		{"endless", always(Fault{Huge: true}), ErrTooLarge},
		{"wrong bit", always(Fault{Flip: true}), ErrMismatch},
		{"wrong bit after a cut", func(_ Op, _ string, earlier int) Fault { return Fault{Cut: 100_000, Flip: earlier == 1} }, ErrMismatch},
		{"swapped for a missing one", always(Fault{Serve: "other"}), ErrNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := make(sink, len(data))
				err := object(t, data, c.plan).Fetch(t.Context(), "key", int64(len(data)), sha256.Sum256(data), got)
				if c.want == nil && (err != nil || !bytes.Equal(got, data)) || c.want != nil && kindOf(err) != c.want {
					t.Errorf("%v, want %v", err, c.want)
				}
			})
		})
	}
}

// Any sequence of cuts ends in the right bytes.
func TestFetchResumesAnywhere(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		data := blob(rapid.IntRange(0, 300).Draw(r, "size"))
		cuts := rapid.SliceOfN(rapid.Int64Range(0, 120), 0, 8).Draw(r, "cuts")
		got := make(sink, len(data))
		var err error
		synctest.Test(t, func(t *testing.T) {
			b := object(t, data, func(op Op, _ string, earlier int) Fault {
				if op == OpGet && earlier < len(cuts) {
					return Fault{Cut: cuts[earlier]}
				}
				return Fault{}
			})
			err = b.Fetch(t.Context(), "key", int64(len(data)), sha256.Sum256(data), got)
		})
		if err != nil || !bytes.Equal(got, data) {
			r.Fatalf("%d bytes, cuts %v: %v", len(data), cuts, err)
		}
	})
}

func TestGetStartsAgainAfterACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := blob(1000)
		b := object(t, data, func(_ Op, _ string, earlier int) Fault { return Fault{Cut: []int64{10, 999, 0}[min(earlier, 2)]} })
		if got, err := b.Get(t.Context(), "key", 1000); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		b = object(t, data, func(Op, string, int) Fault { return Fault{Cut: 500} })
		if _, err := b.Get(t.Context(), "key", 1000); !errors.Is(err, ErrUnavailable) {
			t.Errorf("always cut: %v, want ErrUnavailable", err)
		}
		if got, err := b.GetRange(t.Context(), "key", 600, 400); err != nil || !bytes.Equal(got, data[600:]) {
			t.Errorf("range that fits before the cut: %d bytes, %v", len(got), err)
		}
	})
}

// drip is a driver whose objects come at a given rate, endlessly.
type drip struct {
	Driver
	chunk int
	every time.Duration
}

func (d drip) Get(ctx context.Context, _ string, _, _ int64) (io.ReadCloser, error) {
	return &dripBody{ctx, d}, nil
}

type dripBody struct {
	ctx context.Context
	d   drip
}

func (b *dripBody) Close() error { return nil }

func (b *dripBody) Read(p []byte) (int, error) {
	select {
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	case <-time.After(b.d.every):
		return min(b.d.chunk, len(p)), nil
	}
}

func TestMinimumRate(t *testing.T) {
	for _, c := range []struct {
		name  string
		d     drip
		size  int64
		want  error
		least time.Duration
		most  time.Duration
	}{
		{"silent", drip{chunk: 1, every: time.Hour}, 1000, ErrUnavailable, 2 * rateWindow, 2 * rateWindow},
		{"a byte a second", drip{chunk: 1, every: time.Second}, 1000, ErrUnavailable, 2 * rateWindow, 2 * rateWindow},
		{"half the rate", drip{chunk: minRate / 4, every: time.Second / 2}, 100 << 20, ErrUnavailable, 2 * rateWindow, 3 * rateWindow},
		{"just fast enough", drip{chunk: minRate / 4, every: time.Second / 5}, 20 << 20, ErrTooLarge, time.Minute, 10 * time.Minute},
		{"small and done in time", drip{chunk: 100, every: time.Second}, 500, ErrTooLarge, 5 * time.Second, 7 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				err := NewBucket(c.d).Fetch(t.Context(), "key", c.size, [32]byte{}, discard{})
				took := time.Since(start)
				if !errors.Is(err, c.want) || took < c.least || took > c.most {
					t.Errorf("%v after %s; want %v within %s to %s", err, took, c.want, c.least, c.most)
				}
				if c.want == ErrUnavailable && (!errors.Is(err, errSlow) || errors.Is(err, context.Canceled)) {
					t.Errorf("unclear reason: %v", err)
				}
			})
		})
	}
}

func TestEveryCallHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := object(t, blob(10), func(_ Op, _ string, earlier int) Fault { return Fault{Delay: time.Hour} })
		calls := map[string]func() error{
			"put":    func() error { return b.Put(t.Context(), "key", nil) },
			"get":    func() error { _, err := b.Get(t.Context(), "key", 10); return err },
			"range":  func() error { _, err := b.GetRange(t.Context(), "key", 0, 5); return err },
			"fetch":  func() error { return b.Fetch(t.Context(), "key", 10, [32]byte{}, discard{}) },
			"list":   func() error { _, err := b.List(t.Context(), "", "", 10); return err },
			"delete": func() error { return b.Delete(t.Context(), "key") },
			"prune":  func() error { _, err := b.Prune(t.Context(), "", func(Object) bool { return true }); return err },
		}
		for name, call := range calls {
			start := time.Now()
			err := call()
			if took := time.Since(start); !errors.Is(err, ErrUnavailable) || took > 30*time.Second {
				t.Errorf("%s: %v after %s; want ErrUnavailable within half a minute", name, err, took)
			}
		}
	})
}

func TestOwnTroubleIsNotTheServers(t *testing.T) {
	b := object(t, blob(1000), func(Op, string, int) Fault { return Fault{} })
	err := b.Fetch(t.Context(), "key", 1000, sha256.Sum256(blob(1000)), make(sink, 10))
	if err == nil || kindOf(err) != nil || !strings.Contains(err.Error(), "beyond the end") {
		t.Errorf("a full disk: %v, want an error without a kind", err)
	}
}

// Sizes can come from a manifest: impossible ones are this side's refusal, huge ones cost nothing until bytes arrive.
func TestSizesOfStrangers(t *testing.T) {
	data := blob(1000)
	b := object(t, data, func(Op, string, int) Fault { return Fault{} })
	for _, size := range []int64{-1, -2, -1 << 40, math.MinInt64} {
		_, get := b.Get(t.Context(), "key", size)
		_, rng := b.GetRange(t.Context(), "key", 0, size)
		_, off := b.GetRange(t.Context(), "key", size, 1)
		fetch := b.Fetch(t.Context(), "key", size, [32]byte{}, discard{})
		for what, err := range map[string]error{"get": get, "range": rng, "offset": off, "fetch": fetch, "put": b.PutReader(t.Context(), "key", bytes.NewReader(nil), size)} {
			if err == nil || kindOf(err) != nil || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s with %d: %v, want a refusal without a kind", what, size, err)
			}
		}
	}
	for _, size := range []int64{1001, 1 << 40, math.MaxInt64 - 1, math.MaxInt64} {
		if got, err := b.Get(t.Context(), "key", size); err != nil || !bytes.Equal(got, data) {
			t.Errorf("get of at most %d: %d bytes, %v", size, len(got), err)
		}
		if _, err := b.GetRange(t.Context(), "key", 0, size); !errors.Is(err, ErrMismatch) {
			t.Errorf("range of %d: %v, want ErrMismatch", size, err)
		}
		if _, err := b.GetRange(t.Context(), "key", 1, size); err == nil {
			t.Errorf("range of %d from 1 on was read", size)
		}
		if err := b.Fetch(t.Context(), "key", size, [32]byte{}, discard{}); !errors.Is(err, ErrMismatch) {
			t.Errorf("fetch of %d: %v, want ErrMismatch", size, err)
		}
	}
}
