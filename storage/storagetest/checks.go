package storagetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"

	"sn3/storage"
)

// Checks returns all checks, in the order in which they build on each other.
func Checks() []Check {
	return []Check{
		{Name: "put and get", Run: putAndGet},
		{Name: "empty object", Run: emptyObject},
		{Name: "overwrite", Run: overwrite},
		{Name: "body shorter than said", Run: shortBody},
		{Name: "missing object", Run: missing},
		{Name: "read cap", Run: readCap},
		{Name: "ranges", Run: ranges},
		{Name: "fetch by hash", Run: fetchByHash},
		{Name: "wrong hash, wrong size", Run: fetchWrong},
		{Name: "8 MiB object", Run: large},
		{Name: "list: order, prefix, pages", Run: listing},
		{Name: "delete", Run: deleting},
		{Name: "prune", Run: pruning},
		{Name: "16 writers and readers", Run: parallel},
		{Name: "put only if absent", Optional: true, Run: putNew},
		{Name: "anonymous: get, fetch", Run: publicRead},
		{Name: "anonymous: list", Run: publicList},
		{Name: "anonymous: no write", Run: func(ctx context.Context, t Target) error { return mayNotWrite(ctx, t, t.Public) }},
		{Name: "other account: read only", Run: otherAccount},
		{Name: "wrong secret", Run: func(ctx context.Context, t Target) error { return mayNotWrite(ctx, t, t.Forged) }},
	}
}

// pattern is n bytes that differ from place to place and from seed to seed.
func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	x := uint32(seed) + 1
	for i := range b {
		x = x*1664525 + 1013904223 // Numerical Recipes' generator; any will do
		b[i] = byte(x >> 24)
	}
	return b
}

func (t Target) key(name string) string { return t.Prefix + "/" + name }

// want turns "expected this error, got that" into an error.
func want(what string, got, kind error) error {
	if errors.Is(got, kind) {
		return nil
	}
	if got == nil {
		return fmt.Errorf("%s: want %q, got no error", what, kind)
	}
	return fmt.Errorf("%s: want %q, got: %w", what, kind, got)
}

func same(what string, got, wanted []byte) error {
	if !bytes.Equal(got, wanted) {
		return fmt.Errorf("%s: got %d bytes that differ from the %d expected", what, len(got), len(wanted))
	}
	return nil
}

func putAndGet(ctx context.Context, t Target) error {
	for i, name := range []string{"small", "payload/0123abc", "checkpoint/3/model.safetensors", "with_under-score.and.dots"} {
		data := pattern(1000*i+1, byte(i))
		if err := t.Owner.Put(ctx, t.key(name), data); err != nil {
			return err
		}
		got, err := t.Owner.Get(ctx, t.key(name), int64(len(data)))
		if err != nil {
			return err
		}
		if err := same(name, got, data); err != nil {
			return err
		}
	}
	return nil
}

func emptyObject(ctx context.Context, t Target) error {
	if err := t.Owner.Put(ctx, t.key("empty"), nil); err != nil {
		return err
	}
	got, err := t.Owner.Get(ctx, t.key("empty"), 0)
	if err != nil {
		return err
	}
	_, rangeErr := t.Owner.GetRange(ctx, t.key("empty"), 0, 1)
	return errors.Join(same("empty object", got, nil),
		want("range of an empty object", rangeErr, storage.ErrMismatch),
		t.Owner.Fetch(ctx, t.key("empty"), 0, sha256.Sum256(nil), make(memory, 0)))
}

func overwrite(ctx context.Context, t Target) error {
	key := t.key("overwritten")
	for i := range 3 {
		data := pattern(5000-i*1000, byte(i))
		if err := t.Owner.Put(ctx, key, data); err != nil {
			return err
		}
		got, err := t.Owner.Get(ctx, key, 5000)
		if err != nil {
			return err
		}
		if err := same(fmt.Sprintf("version %d", i), got, data); err != nil {
			return err
		}
	}
	return nil
}

// shortBody is an upload that cannot be finished because of this side: it is not stored, and the server is not blamed.
func shortBody(ctx context.Context, t Target) error {
	key := t.key("short")
	err := t.Owner.PutReader(ctx, key, bytes.NewReader(pattern(1000, 1)), 1001)
	if err == nil || errors.Is(err, storage.ErrUnavailable) {
		return fmt.Errorf("put of 1000 bytes said to be 1001: want an error that blames this side, got: %v", err)
	}
	_, get := t.Owner.Get(ctx, key, 2000)
	return want("get", get, storage.ErrNotFound)
}

func missing(ctx context.Context, t Target) error {
	key := t.key("there-is-no-such-object")
	_, get := t.Owner.Get(ctx, key, 10)
	_, rng := t.Owner.GetRange(ctx, key, 5, 10)
	fetch := t.Owner.Fetch(ctx, key, 10, [32]byte{}, make(memory, 10))
	return errors.Join(want("get", get, storage.ErrNotFound), want("range", rng, storage.ErrNotFound), want("fetch", fetch, storage.ErrNotFound))
}

func readCap(ctx context.Context, t Target) error {
	key, data := t.key("capped"), pattern(300_000, 1)
	if err := t.Owner.Put(ctx, key, data); err != nil {
		return err
	}
	if _, err := t.Owner.Get(ctx, key, int64(len(data))); err != nil {
		return fmt.Errorf("at the cap: %w", err)
	}
	_, err := t.Owner.Get(ctx, key, int64(len(data))-1)
	_, one := t.Owner.Get(ctx, key, 1)
	return errors.Join(want("a byte over the cap", err, storage.ErrTooLarge), want("far over the cap", one, storage.ErrTooLarge))
}

func ranges(ctx context.Context, t Target) error {
	key, data := t.key("ranged"), pattern(10_000, 2)
	if err := t.Owner.Put(ctx, key, data); err != nil {
		return err
	}
	for _, r := range []struct{ off, n int64 }{{0, 1}, {0, 10_000}, {17, 4096}, {9_999, 1}, {5_000, 5_000}, {3, 0}} {
		got, err := t.Owner.GetRange(ctx, key, r.off, r.n)
		if err != nil {
			return err
		}
		if err := same(fmt.Sprintf("range %d+%d", r.off, r.n), got, data[r.off:r.off+r.n]); err != nil {
			return err
		}
	}
	for _, r := range []struct{ off, n int64 }{{9_999, 2}, {10_000, 1}, {20_000, 5}} {
		_, err := t.Owner.GetRange(ctx, key, r.off, r.n)
		if err := want(fmt.Sprintf("range %d+%d of 10000", r.off, r.n), err, storage.ErrMismatch); err != nil {
			return err
		}
	}
	return nil
}

func fetchByHash(ctx context.Context, t Target) error {
	key, data := t.key("fetched"), pattern(200_001, 3)
	if err := t.Owner.PutReader(ctx, key, bytes.NewReader(data), int64(len(data))); err != nil {
		return err
	}
	got := make(memory, len(data))
	if err := t.Owner.Fetch(ctx, key, int64(len(data)), sha256.Sum256(data), got); err != nil {
		return err
	}
	return same("fetched", got, data)
}

func fetchWrong(ctx context.Context, t Target) error {
	key, data := t.key("fetched"), pattern(200_001, 3)
	sum := sha256.Sum256(data)
	n := int64(len(data))
	if err := t.Owner.Put(ctx, key, data); err != nil {
		return err
	}
	fetch := func(size int64, sum [32]byte) error { return t.Owner.Fetch(ctx, key, size, sum, make(memory, size)) }
	return errors.Join(
		want("other hash", fetch(n, sha256.Sum256(data[1:])), storage.ErrMismatch),
		want("longer than promised", fetch(n-1, sum), storage.ErrTooLarge),
		want("shorter than promised", fetch(n+1, sum), storage.ErrMismatch))
}

func large(ctx context.Context, t Target) error {
	key, data := t.key("large"), pattern(8<<20, 4)
	if err := t.Owner.PutReader(ctx, key, bytes.NewReader(data), int64(len(data))); err != nil {
		return err
	}
	got := make(memory, len(data))
	if err := t.Owner.Fetch(ctx, key, int64(len(data)), sha256.Sum256(data), got); err != nil {
		return err
	}
	return same("8 MiB", got, data)
}

func keysOf(objs []storage.Object) []string {
	var keys []string
	for _, o := range objs {
		keys = append(keys, o.Key)
	}
	return keys
}

func listing(ctx context.Context, t Target) error {
	names := []string{"list/a", "list/a0", "list/b/1", "list/b/10", "list/b/2", "list/c", "listed"}
	for i, name := range names {
		if err := t.Owner.Put(ctx, t.key(name), pattern(i, 5)); err != nil {
			return err
		}
	}
	var wanted []string
	for _, name := range names[:6] {
		wanted = append(wanted, t.key(name))
	}
	for _, max := range []int{1000, 6, 4, 1} { // pages of max keys must give the same as one page
		var got []string
		for after := ""; ; {
			page, err := t.Owner.List(ctx, t.key("list/"), after, max)
			if err != nil {
				return err
			}
			got = append(got, keysOf(page)...)
			if len(page) < max {
				break
			}
			after = page[len(page)-1].Key
		}
		if !slices.Equal(got, wanted) {
			return fmt.Errorf("in pages of %d: got %q, want %q", max, got, wanted)
		}
	}
	sub, err := t.Owner.List(ctx, t.key("list/b/1"), "", 10)
	if err != nil {
		return err
	}
	if len(sub) != 2 || sub[0].Size != 2 || sub[1].Size != 3 {
		return fmt.Errorf("prefix inside a name: got %v, want two objects of 2 and 3 bytes", sub)
	}
	none, err := t.Owner.List(ctx, t.key("nothing-here/"), "", 10)
	if err != nil || len(none) != 0 {
		return fmt.Errorf("list of nothing: %d objects, error %v", len(none), err)
	}
	return nil
}

func deleting(ctx context.Context, t Target) error {
	var keys []string
	for i := range 30 {
		keys = append(keys, t.key(fmt.Sprintf("deleted/%02d", i)))
		if err := t.Owner.Put(ctx, keys[i], pattern(i, 6)); err != nil {
			return err
		}
	}
	if err := t.Owner.Delete(ctx, keys[0]); err != nil {
		return fmt.Errorf("one: %w", err)
	}
	if err := t.Owner.Delete(ctx, keys[0]); err != nil {
		return fmt.Errorf("one again: %w", err)
	}
	if err := t.Owner.Delete(ctx, keys...); err != nil { // the first is missing by now
		return fmt.Errorf("batch: %w", err)
	}
	if err := t.Owner.Delete(ctx); err != nil {
		return fmt.Errorf("nothing: %w", err)
	}
	left, err := t.Owner.List(ctx, t.key("deleted/"), "", 100)
	if err != nil || len(left) != 0 {
		return fmt.Errorf("%d of 30 objects are left after deleting all; error %v", len(left), err)
	}
	_, err = t.Owner.Get(ctx, keys[7], 100)
	return want("get of a deleted object", err, storage.ErrNotFound)
}

func pruning(ctx context.Context, t Target) error {
	for w := range 12 {
		if err := t.Owner.Put(ctx, t.key(fmt.Sprintf("pruned/%02d", w)), pattern(w, 7)); err != nil {
			return err
		}
	}
	keep := func(o storage.Object) bool { return o.Key >= t.key("pruned/09") }
	n, err := t.Owner.Prune(ctx, t.key("pruned/"), keep)
	if err != nil {
		return err
	}
	left, err := t.Owner.List(ctx, t.key("pruned/"), "", 100)
	if err != nil {
		return err
	}
	if n != 9 || len(left) != 3 {
		return fmt.Errorf("pruned %d and left %d of 12, want 9 and 3", n, len(left))
	}
	return nil
}

func parallel(ctx context.Context, t Target) error {
	errs := make([]error, 16)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			key, data := t.key(fmt.Sprintf("parallel/%d", i)), pattern(100_000+i, byte(i))
			if errs[i] = t.Owner.Put(ctx, key, data); errs[i] != nil {
				return
			}
			got := make(memory, len(data))
			if errs[i] = t.Owner.Fetch(ctx, key, int64(len(data)), sha256.Sum256(data), got); errs[i] == nil {
				errs[i] = same(key, got, data)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func putNew(ctx context.Context, t Target) error {
	key := t.key("new")
	if err := t.Owner.PutNew(ctx, key, []byte("first")); err != nil {
		return err
	}
	err := t.Owner.PutNew(ctx, key, []byte("second"))
	if err := want("second put", err, storage.ErrExists); err != nil {
		return err
	}
	got, err := t.Owner.Get(ctx, key, 100)
	if err != nil {
		return err
	}
	return same("after a refused put", got, []byte("first"))
}

// memory is an io.WriterAt over a slice of fixed size.
type memory []byte

func (m memory) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(m)) {
		return 0, fmt.Errorf("write %d bytes at %d: beyond %d", len(p), off, len(m))
	}
	return copy(m[off:], p), nil
}
