package data

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"sn3/chain"
)

// bucket is a Ranger that counts, and that can be made to lie or fail.
type bucket struct {
	*Packed
	mu    sync.Mutex
	reads map[string]int
	lie   func(key string, off int64, b []byte) ([]byte, error)
}

func newBucket(p *Packed) *bucket { return &bucket{Packed: p, reads: map[string]int{}} }

func (r *bucket) GetRange(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b, err := r.Packed.GetRange(ctx, key, off, n)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads[key]++
	if err == nil && r.lie != nil {
		return r.lie(key, off, b)
	}
	return b, err
}

func (r *bucket) total() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.reads {
		n += k
	}
	return n
}

func text(tokens []int32) []byte {
	b := make([]byte, len(tokens))
	for i, x := range tokens {
		b[i] = byte(x)
	}
	return b
}

// Sample i is bytes [i·T, i·T+T+1) of its split, whatever the sizes; nothing of the other split is ever in it.
func TestSamplesAreTheText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seq := rapid.IntRange(1, 300).Draw(t, "T")
		c := toyCorpus(rapid.IntRange(seq+1, 3*bytePage).Draw(t, "train"), rapid.IntRange(seq+1, bytePage+999).Draw(t, "held"))
		p, err := Pack(c)
		if err != nil {
			t.Fatal(err)
		}
		d, err := Open(context.Background(), From(p), p.Spec, ReadOptions{Seq: seq})
		if err != nil {
			t.Fatal(err)
		}
		for s, all := range map[Split][]byte{Train: c.Train, HeldOut: c.HeldOut} {
			n := d.Samples(s)
			if last := n * uint64(seq); last >= uint64(len(all)) || last+uint64(seq) < uint64(len(all)) {
				t.Fatalf("%d samples of %d in %d bytes", n, seq, len(all))
			}
			for _, i := range []uint64{0, n - 1, rapid.Uint64Range(0, n-1).Draw(t, "i")} {
				b, err := d.batch(context.Background(), s, []uint64{i})
				if err != nil {
					t.Fatal(err)
				}
				want := all[i*uint64(seq):][:seq+1]
				if !bytes.Equal(text(b.X), want[:seq]) || !bytes.Equal(text(b.Y), want[1:]) {
					t.Fatalf("sample %d of the %v split is not the text", i, s)
				}
			}
			if _, err := d.batch(context.Background(), s, []uint64{n}); err == nil {
				t.Fatalf("read sample %d of %d", n, n)
			}
		}
	})
}

func TestLoadAndHeldOut(t *testing.T) {
	d, ctx := toySet(t, 16), context.Background()
	samples := make([]uint64, loadBatch+3)
	for i := range samples {
		samples[i] = uint64(7 * i)
	}
	b, err := d.Load(ctx, samples)
	if err != nil || len(b) != 2 || b[0].B != loadBatch || b[1].B != 3 || b[1].T != 16 {
		t.Fatalf("%d batches, %v", len(b), err)
	}
	train := toyCorpus(36_000, 4_000).Train
	if got := text(b[1].X[:16]); !bytes.Equal(got, train[7*loadBatch*16:][:16]) {
		t.Errorf("first of the second batch is %q", got)
	}
	n := int(d.Samples(HeldOut))
	all, err := d.HeldOut(ctx, []byte("beacon"), n)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, b := range all {
		for i := range b.B {
			s := text(b.X[i*16:][:16])
			if !bytes.Contains(toy("held out", 4_000), s) {
				t.Fatalf("held-out sample %q is not held-out text", s)
			}
			seen[string(s)] = true
		}
	}
	if len(seen) < n*9/10 { // the toy text repeats itself a little
		t.Errorf("%d different of %d", len(seen), n)
	}
	if _, err := d.HeldOut(ctx, nil, n+1); !errors.Is(err, ErrTooSmall) {
		t.Errorf("asked for more than there is: %v", err)
	}
	other, err := d.HeldOut(ctx, []byte("another"), n)
	if err != nil || slices.Equal(other[0].X, all[0].X) {
		t.Errorf("another beacon draws the same order, or %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	p := packed(t, toyCorpus(3*bytePage, 5_000))
	other := packed(t, toyCorpus(3*bytePage, 5_001))
	tiny := packed(t, toyCorpus(500, 100))
	manifest := Key(p.Spec.Manifest)
	for name, c := range map[string]struct {
		r    *bucket
		spec chain.DatasetSpec
		want error
	}{
		"no manifest":     {newBucket(other), p.Spec, errNoObject},
		"another root":    {newBucket(p), chain.DatasetSpec{Manifest: p.Spec.Manifest, Root: other.Spec.Root}, ErrCorrupt},
		"a flipped bit":   {&bucket{Packed: p, reads: map[string]int{}, lie: flip(manifest, 60)}, p.Spec, ErrCorrupt},
		"not a manifest":  {&bucket{Packed: p, reads: map[string]int{}, lie: flip(manifest, 1)}, p.Spec, ErrManifest},
		"held-out is one": {newBucket(tiny), tiny.Spec, ErrTooSmall},
	} {
		if _, err := Open(context.Background(), From(c.r), c.spec, ReadOptions{Seq: 128, Cache: t.TempDir()}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := Open(context.Background(), From(p), p.Spec, ReadOptions{}); err == nil {
		t.Error("opened with T = 0")
	}
}

// flip changes byte at of an object.
func flip(key string, at int64) func(string, int64, []byte) ([]byte, error) {
	return func(k string, off int64, b []byte) ([]byte, error) {
		if i := at - off; k == key && i >= 0 && i < int64(len(b)) {
			b[i] ^= 0x20
		}
		return b, nil
	}
}

// A page that is not what the manifest says is refused by name, and not kept; once the bucket is right again, all is well.
func TestCorruptPageIsNamed(t *testing.T) {
	p := packed(t, toyCorpus(3*bytePage, 5_000))
	r, ctx := newBucket(p), context.Background()
	dir := t.TempDir()
	d := open(t, r, p.Spec, dir, 128)
	inPage2 := []uint64{2*bytePage/128 + 3}
	for name, lie := range map[string]func(string, int64, []byte) ([]byte, error){
		"a flipped bit": flip(p.Objects[0].Key, 2*(bytePage+8*32)+77),
		"cut short":     func(_ string, _ int64, b []byte) ([]byte, error) { return b[:len(b)-1], nil },
		"too long":      func(_ string, _ int64, b []byte) ([]byte, error) { return append(b, 0), nil },
		"empty":         func(string, int64, []byte) ([]byte, error) { return nil, nil },
	} {
		r.lie = lie
		_, err := d.Load(ctx, inPage2)
		var pe *PageError
		if !errors.As(err, &pe) || pe.Page != 2 || pe.Shard != p.Objects[0].Key || !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.lie = func(string, int64, []byte) ([]byte, error) { return nil, errNoObject }
	if _, err := d.Load(ctx, inPage2); !errors.Is(err, errNoObject) || errors.Is(err, ErrCorrupt) {
		t.Errorf("bucket down: %v", err)
	}
	r.lie = nil
	if _, err := d.Load(ctx, inPage2); err != nil {
		t.Errorf("after the bucket came back: %v", err)
	}
}

// Many readers of one page make one read; memory holds a bounded number of pages.
func TestConcurrentReaders(t *testing.T) {
	const memoryPages = memoryBytes / bytePage
	p := packed(t, toyCorpus((memoryPages+8)*bytePage, 5_000))
	r := newBucket(p)
	d := open(t, r, p.Spec, "", 1024)
	before := r.total()
	start := make(chan struct{})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			<-start
			for i := range uint64(memoryPages / 2) {
				if _, err := d.Load(context.Background(), []uint64{i * bytePage / 1024}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	close(start)
	wg.Wait()
	if n := r.total() - before; n != memoryPages/2 {
		t.Errorf("%d pages were read %d times", memoryPages/2, n)
	}
	for i := range uint64(memoryPages + 8) {
		if _, err := d.Load(context.Background(), []uint64{i * bytePage / 1024}); err != nil {
			t.Fatal(err)
		}
	}
	if n := d.memory.order.Len(); n != memoryPages || len(d.memory.at) != n {
		t.Errorf("%d pages in memory, %d in its index, at most %d", n, len(d.memory.at), memoryPages)
	}
}

// A reader that gives up does not fail another that waits for the same page.
func TestGivingUpIsOnesOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := packed(t, toyCorpus(3*bytePage, 5_000))
		d := open(t, p, p.Spec, "", 128)
		first, stop := context.WithCancel(t.Context())
		d.from = From(rangerFunc(func(ctx context.Context, key string, off, n int64) ([]byte, error) {
			if ctx == first {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return p.GetRange(ctx, key, off, n)
		}))
		gaveUp, second := make(chan error, 1), make(chan error, 1)
		go func() { _, err := d.pages(first, pageID{}, 0); gaveUp <- err }()
		synctest.Wait() // the first reads
		go func() { _, err := d.pages(t.Context(), pageID{}, 0); second <- err }()
		synctest.Wait() // the second waits for it
		stop()
		if err := <-gaveUp; !errors.Is(err, context.Canceled) {
			t.Errorf("the first reader: %v", err)
		}
		if err := <-second; err != nil {
			t.Errorf("the second reader: %v", err)
		}
	})
}

type rangerFunc func(ctx context.Context, key string, off, n int64) ([]byte, error)

func (f rangerFunc) GetRange(ctx context.Context, key string, off, n int64) ([]byte, error) {
	return f(ctx, key, off, n)
}

// Memory keeps what was used last, by bytes; the last one always.
func TestMemoryOrder(t *testing.T) {
	l := newLRU(10)
	for i := range 2 {
		l.put(pageID{page: i}, make([]byte, 5))
	}
	if b, ok := l.get(pageID{}); !ok || len(b) != 5 {
		t.Error("page 0 is not there")
	}
	l.put(pageID{page: 2}, []byte{1})
	if _, ok := l.get(pageID{page: 1}); ok {
		t.Error("page 1, used longest ago, was kept")
	}
	if _, ok := l.get(pageID{}); !ok {
		t.Error("page 0, used lately, was dropped")
	}
	l.put(pageID{page: 3}, make([]byte, 50))
	if _, ok := l.get(pageID{page: 3}); !ok || len(l.at) != 1 || l.order.Len() != 1 || *l.size != 50 {
		t.Errorf("after one that is too large: %d pages, %d bytes", l.order.Len(), *l.size)
	}
}
