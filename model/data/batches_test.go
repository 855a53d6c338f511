package data

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"

	"sn3/model"
)

// While a batch is trained on, the next is read.
func TestBatchesReadAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := packed(t, toyCorpus(3*bytePage, 5_000))
		r := newBucket(p)
		d := open(t, r, p.Spec, "", 128)
		opened := r.total()
		it := d.Batches(Assignment{Samples: []uint64{1, bytePage/128 + 1, 2*bytePage/128 + 1}}, 1) // a page each
		for i, want := range []int{2, 3, 3} {
			if _, err := it.Next(t.Context()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if n := r.total() - opened; n != want {
				t.Errorf("after batch %d, %d pages were read, want %d", i, n, want)
			}
		}
	})
}

func TestBatches(t *testing.T) {
	p := packed(t, toyCorpus(3*bytePage, 5_000))
	r, ctx := newBucket(p), context.Background()
	d := open(t, r, p.Spec, "", 128)
	a, err := d.Assign([]byte("beacon"), 1, 2, 0, 11)
	if err != nil {
		t.Fatal(err)
	}
	var it model.Batches = d.Batches(a, 4)
	for b := range 2 {
		got, err := it.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		want, err := d.batch(ctx, Train, a.Samples[4*b:][:4])
		if err != nil {
			t.Fatal(err)
		}
		if got.B != 4 || got.T != 128 || !slices.Equal(got.X, want.X) || !slices.Equal(got.Y, want.Y) {
			t.Errorf("batch %d is not samples [%d,%d)", b, 4*b, 4*b+4)
		}
	}
	for range 2 {
		if _, err := it.Next(ctx); !errors.Is(err, io.EOF) {
			t.Errorf("after the last whole batch: %v, want io.EOF", err)
		}
	}
}

// An error costs no sample: the same batch comes when Next is called again, also when the error came while reading ahead.
func TestBatchesRetry(t *testing.T) {
	p := packed(t, toyCorpus(3*bytePage, 5_000))
	r, ctx := newBucket(p), context.Background()
	d := open(t, r, p.Spec, "", 128)
	a := Assignment{Samples: []uint64{1, bytePage/128 + 1, 2*bytePage/128 + 1}} // a page each
	it := d.Batches(a, 1)
	gone, end := context.WithCancel(ctx)
	if _, err := it.Next(gone); err != nil {
		t.Fatal(err)
	}
	end()
	if _, err := it.Next(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("under an ended context: %v", err)
	}
	if b, err := it.Next(ctx); err != nil || !bytes.Equal(text(b.X), toy("train", 3*bytePage)[bytePage+128:][:128]) {
		t.Errorf("second batch: %v", err)
	}
	it = open(t, r, p.Spec, "", 128).Batches(a, 1)
	r.mu.Lock()
	r.lie = func(string, int64, []byte) ([]byte, error) { return nil, errNoObject }
	r.mu.Unlock()
	for range 2 {
		if _, err := it.Next(ctx); !errors.Is(err, errNoObject) {
			t.Errorf("bucket down: %v", err)
		}
	}
	r.mu.Lock()
	r.lie = nil
	r.mu.Unlock()
	if b, err := it.Next(ctx); err != nil || !bytes.Equal(text(b.X), toy("train", 3*bytePage)[128:][:128]) {
		t.Errorf("bucket back: %v", err)
	}
}
