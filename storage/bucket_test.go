package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestValidKey(t *testing.T) {
	for _, key := range []string{"a", "payload/0123abc", "window/12", "checkpoint/3/model.safetensors", "a.b_c-d/E", strings.Repeat("x", MaxKey)} {
		if !ValidKey(key) {
			t.Errorf("%q refused", key)
		}
	}
	for _, key := range []string{"", "/a", "a/", "a//b", ".", "..", "a/../b", "a/.hidden", ".sgwtmp/x", "a b", "a%2fb", "a\x00", "ä", "a\\b", "a?b", "a#b", strings.Repeat("x", MaxKey+1)} {
		if ValidKey(key) {
			t.Errorf("%q accepted", key)
		}
		b := NewMemory().Bucket("alice", true)
		_, get := b.Get(t.Context(), key, 1)
		_, rng := b.GetRange(t.Context(), key, 0, 1)
		for _, err := range []error{get, rng, b.Put(t.Context(), key, nil), b.Delete(t.Context(), key), b.Fetch(t.Context(), key, 1, [32]byte{}, discard{})} {
			if err == nil || kindOf(err) != nil {
				t.Errorf("%q: %v, want a refusal without a kind", key, err)
			}
		}
	}
}

// counting counts the keys of each Delete and the calls of List.
type counting struct {
	Driver
	deletes []int
	lists   int
}

func (c *counting) Delete(ctx context.Context, keys ...string) error {
	c.deletes = append(c.deletes, len(keys))
	return c.Driver.Delete(ctx, keys...)
}

func (c *counting) List(ctx context.Context, prefix, after string, max int) ([]Object, error) {
	c.lists++
	if max > MaxList {
		return nil, errors.New("page too large")
	}
	return c.Driver.List(ctx, prefix, after, max)
}

func TestManyObjects(t *testing.T) {
	ctx := t.Context()
	d := &counting{Driver: NewMemory().Driver("alice", true)}
	b := NewBucket(d)
	for i := range 2500 {
		if err := b.Put(ctx, fmt.Sprintf("w/%04d", i), make([]byte, i%3)); err != nil {
			t.Fatal(err)
		}
		// A foreign program's odd keys lie in between and are never shown, nor do they end a page early.
		if err := d.Put(ctx, fmt.Sprintf("w/%04d~", i), bytes.NewReader(nil), 0, PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	objs, err := b.List(ctx, "w/", "w/0099", 2000)
	if err != nil || len(objs) != 2000 || objs[0].Key != "w/0100" || objs[1999].Key != "w/2099" || objs[0].Size != 1 {
		t.Errorf("%d objects, %v", len(objs), err)
	}
	n, err := b.Prune(ctx, "w/", func(o Object) bool { return o.Key >= "w/2300" })
	if err != nil || n != 2300 {
		t.Errorf("pruned %d, %v; want 2300", n, err)
	}
	for _, k := range d.deletes {
		if k > MaxDelete {
			t.Errorf("a batch of %d", k)
		}
	}
	if objs, err := b.List(ctx, "w/", "", 5000); err != nil || len(objs) != 200 || objs[0].Key != "w/2300" {
		t.Errorf("after pruning: %d objects, %v", len(objs), err)
	}
	d.deletes = nil
	keys := make([]string, 2001)
	for i := range keys {
		keys[i] = fmt.Sprintf("w/%04d", i)
	}
	if err := b.Delete(ctx, keys...); err != nil || fmt.Sprint(d.deletes) != "[1000 1000 1]" {
		t.Errorf("batches %v, %v", d.deletes, err)
	}
}

func TestMemoryPermissions(t *testing.T) {
	m, ctx := NewMemory(), t.Context()
	if _, err := m.Bucket("alice", false).Get(ctx, "k", 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("bucket that nobody made: %v", err)
	}
	alice, reader := m.Bucket("alice", true), m.Bucket("alice", false)
	data := []byte("mine")
	if err := alice.Put(ctx, "k", data); err != nil {
		t.Fatal(err)
	}
	data[0] = 'M' // the bucket keeps its own copy
	if got, err := reader.Get(ctx, "k", 10); err != nil || string(got) != "mine" {
		t.Errorf("%q, %v", got, err)
	}
	for _, err := range []error{reader.Put(ctx, "k", nil), reader.Delete(ctx, "k"), reader.PutNew(ctx, "l", nil)} {
		if !errors.Is(err, ErrDenied) {
			t.Errorf("%v, want ErrDenied", err)
		}
	}
	if err := alice.PutReader(ctx, "short", strings.NewReader("abc"), 4); err == nil || kindOf(err) != nil {
		t.Errorf("body shorter than said: %v", err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := alice.Put(gone, "k", nil); !errors.Is(err, context.Canceled) || kindOf(err) != nil {
		t.Errorf("cancelled: %v", err)
	}
}

func TestFaultsAreDeterministic(t *testing.T) {
	run := func() string {
		var log strings.Builder
		b := NewBucket(NewFaulty(NewMemory().Driver("alice", true), func(op Op, key string, earlier int) Fault {
			fmt.Fprintf(&log, "%d %s %d\n", op, key, earlier)
			if op == OpPut && earlier == 0 {
				return Fault{Lost: true}
			}
			return Fault{}
		}))
		for _, key := range []string{"a", "b", "a"} {
			fmt.Fprintln(&log, b.Put(t.Context(), key, []byte("x")))
		}
		_, err := b.List(t.Context(), "", "", 10)
		fmt.Fprintln(&log, err, b.Delete(t.Context(), "a", "b"))
		return log.String()
	}
	want := "1 a 0\nput a: storage unavailable: answer lost\n1 b 0\nput b: storage unavailable: answer lost\n1 a 1\n<nil>\n3  0\n4 a 0\n<nil> <nil>\n"
	if got := run(); got != want || run() != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// A lost answer: the object is there all the same.
	d := NewMemory().Driver("alice", true)
	b := NewBucket(NewFaulty(d, func(op Op, _ string, _ int) Fault { return Fault{Lost: op == OpPut} }))
	if err := b.Put(t.Context(), "k", []byte("x")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("lost: %v", err)
	}
	if got, err := b.Get(t.Context(), "k", 1); err != nil || string(got) != "x" {
		t.Errorf("after a lost answer: %q, %v", got, err)
	}
}

// busy is a driver that notes how many calls run at a time.
type busy struct {
	Driver
	now, most atomic.Int32
}

func (b *busy) enter() {
	if n := b.now.Add(1); n > b.most.Load() {
		b.most.Store(n)
	}
	time.Sleep(time.Second) // in a synctest bubble
}

func (b *busy) Put(context.Context, string, io.ReaderAt, int64, PutOptions) error {
	b.enter()
	defer b.now.Add(-1)
	return nil
}

func (b *busy) Get(context.Context, string, int64, int64) (io.ReadCloser, error) {
	b.enter()
	return &busyBody{strings.NewReader("x"), b}, nil
}

func (b *busy) Delete(context.Context, ...string) error {
	b.enter()
	defer b.now.Add(-1)
	return ErrDenied
}

type busyBody struct {
	io.Reader
	b *busy
}

func (b *busyBody) Close() error { b.b.now.Add(-1); return nil }

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &busy{}
		b := NewBucket(NewLimit(d, 3))
		var wg sync.WaitGroup
		for i := range 15 {
			wg.Go(func() {
				var err error
				switch i % 3 {
				case 0:
					err = b.Put(t.Context(), "k", nil)
				case 1:
					_, err = b.Get(t.Context(), "k", 10)
				case 2:
					if derr := b.Delete(t.Context(), "k"); !errors.Is(derr, ErrDenied) {
						err = derr
					}
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if d.most.Load() != 3 || d.now.Load() != 0 {
			t.Errorf("%d calls at a time, %d left; want 3 and 0", d.most.Load(), d.now.Load())
		}
		full := NewLimit(d, 1)
		body, err := full.Get(t.Context(), "k", 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := full.Put(ctx, "k", strings.NewReader(""), 0, PutOptions{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with an open reader in the only slot: %v", err)
		}
		if err := errors.Join(body.Close(), body.Close()); err != nil { // twice must not free two slots
			t.Error(err)
		}
		if err := full.Put(t.Context(), "k", strings.NewReader(""), 0, PutOptions{}); err != nil {
			t.Errorf("after closing the reader: %v", err)
		}
	})
}

func TestErrorsOfStrangersAreTame(t *testing.T) {
	b := object(t, nil, func(Op, string, int) Fault {
		return Fault{Err: fmt.Errorf("\x1b[31mred\nnext line %s", strings.Repeat("x", 1000))}
	})
	_, err := b.Get(t.Context(), "key", 1)
	if s := err.Error(); len(s) > 300 || strings.ContainsAny(s, "\n\x1b") {
		t.Errorf("%q", s)
	}
}
