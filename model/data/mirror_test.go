package data

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// names of the three mirrors in these tests.
func three(p *Packed) (alice, bob, carol *bucket, from []Mirror) {
	alice, bob, carol = newBucket(p), newBucket(p), newBucket(p)
	return alice, bob, carol, []Mirror{{"alice", alice}, {"bob", bob}, {"carol", carol}}
}

func gone(string, int64, []byte) ([]byte, error) { return nil, errNoObject }

// A page that one mirror lacks and another has wrong comes from the third, and each is counted.
func TestMirrors(t *testing.T) {
	p := packed(t, toyCorpus(3*bytePage, 5_000))
	alice, bob, carol, from := three(p)
	alice.lie = gone
	bob.lie = flip(p.Objects[0].Key, 5)
	d, err := Open(context.Background(), from, p.Spec, ReadOptions{Seq: 128})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Load(context.Background(), []uint64{0}); err != nil {
		t.Fatal(err)
	}
	want := []MirrorStats{{"alice", 0, 1, 0}, {"bob", 1, 0, 1}, {"carol", 1, 0, 0}} // bob served the manifest, and was asked first since
	if got := d.Mirrors(); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	before := alice.total() + bob.total()
	if _, err := d.Load(context.Background(), []uint64{bytePage / 128 * 2}); err != nil {
		t.Fatal(err)
	}
	if n := alice.total() + bob.total(); n != before {
		t.Errorf("carol serves, but %d reads went to the others", n-before)
	}
	carol.lie = gone
	_, err = d.Load(context.Background(), []uint64{bytePage/128 + 1})
	if err != nil {
		t.Errorf("bob has page 1: %v", err)
	}
}

// If nobody has a page, the error names the page, and every mirror with what it did.
func TestNoMirror(t *testing.T) {
	p := packed(t, toyCorpus(3*bytePage, 5_000))
	alice, bob, carol, from := three(p)
	d, err := Open(context.Background(), from, p.Spec, ReadOptions{Seq: 128})
	if err != nil {
		t.Fatal(err)
	}
	alice.lie, bob.lie, carol.lie = gone, gone, flip(p.Objects[0].Key, 5)
	_, err = d.Load(context.Background(), []uint64{0})
	var pe *PageError
	if !errors.As(err, &pe) || pe.Page != 0 || pe.Shard != p.Objects[0].Key || !errors.Is(err, errNoObject) || !errors.Is(err, ErrCorrupt) {
		t.Errorf("%v", err)
	}
	for _, name := range []string{"alice", "bob", "carol"} {
		if !strings.Contains(err.Error(), "mirror "+name) {
			t.Errorf("%v does not name %s", err, name)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	stop()
	before := d.Mirrors()
	if _, err := d.Load(ctx, []uint64{0}); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
	if after := d.Mirrors(); !slices.Equal(before, after) {
		t.Errorf("the reader gave up, the mirrors were blamed: %+v", after)
	}
}

// A mirror that is right but slow serves its read, and is not asked first again; the only one is.
func TestSlowMirror(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := packed(t, toyCorpus(4*bytePage, 5_000))
		slow := newBucket(p)
		slow.lie = func(_ string, _ int64, b []byte) ([]byte, error) { <-time.After(slowRead + time.Second); return b, nil }
		for _, c := range []struct {
			from []Mirror
			want []uint64 // pages and objects that each served: the manifest, and a page each time
		}{
			{[]Mirror{{"slow", slow}, {"quick", newBucket(p)}}, []uint64{1, 3}},
			{[]Mirror{{"quick", newBucket(p)}, {"slow", slow}}, []uint64{4, 0}},
			{[]Mirror{{"slow", slow}}, []uint64{4}},
			{[]Mirror{{"slow", slow}, {"slower", slow}}, []uint64{2, 2}},
		} {
			d, err := Open(t.Context(), c.from, p.Spec, ReadOptions{Seq: 128})
			if err != nil {
				t.Fatal(err)
			}
			for page := range uint64(3) {
				if _, err := d.Load(t.Context(), []uint64{page * bytePage / 128}); err != nil {
					t.Fatal(err)
				}
			}
			for i, m := range d.Mirrors() {
				if m.Served != c.want[i] {
					t.Errorf("%s of %d served %d, want %d", m.Name, len(c.from), m.Served, c.want[i])
				}
			}
		}
	})
}

// A range of two pages of which a mirror has one wrong: the right one is kept, only the other is asked for elsewhere.
func TestMirrorsShareARange(t *testing.T) {
	p, m := builtSet(t, 50_257, 4, [splits][]int32{someIDs(4*widePage, 50_257), someIDs(widePage, 50_257)})
	alice, bob, _, from := three(p)
	g := geometryOf(2)
	second, _ := g.record(1, m.Shards[Train][0].Tokens)
	alice.lie = flip(p.Objects[0].Key, second+3)
	d, err := Open(context.Background(), from, p.Spec, ReadOptions{Seq: 3000})
	if err != nil {
		t.Fatal(err)
	}
	var asked int64
	bob.lie = func(_ string, _ int64, b []byte) ([]byte, error) { asked += int64(len(b)); return b, nil }
	if _, err := d.Load(context.Background(), []uint64{1}); err != nil {
		t.Fatal(err)
	}
	if got := d.Mirrors()[:2]; got[0] != (MirrorStats{"alice", 2, 0, 1}) || got[1] != (MirrorStats{"bob", 1, 0, 0}) {
		t.Errorf("%+v", got)
	}
	if _, n := g.record(1, m.Shards[Train][0].Tokens); asked != n {
		t.Errorf("%d bytes from bob, a page has %d", asked, n)
	}
}

// The folder never holds more than it may; what was used last stays, also after a restart.
func TestCacheIsBounded(t *testing.T) {
	const pages = 10
	p := packed(t, toyCorpus(pages*bytePage, 5_000))
	dir, ctx := t.TempDir(), context.Background()
	room := int64(3 * (bytePage + 8*32))
	o := ReadOptions{Seq: 128, Cache: dir, CacheBytes: room}
	d, err := Open(ctx, From(p), p.Spec, o)
	if err != nil {
		t.Fatal(err)
	}
	read := func(d *Dataset, page int) Stats {
		t.Helper()
		d.memory = newLRU(0)
		before := d.Stats()
		if _, err := d.pages(ctx, pageID{page: page}, page); err != nil {
			t.Fatal(err)
		}
		after := d.Stats()
		return Stats{Fetched: after.Fetched - before.Fetched, Disk: after.Disk - before.Disk, Evicted: after.Evicted - before.Evicted}
	}
	used := func() (n int64) {
		files, err := filepath.Glob(filepath.Join(dir, "*-*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			info, err := os.Stat(f)
			if err != nil {
				t.Fatal(err)
			}
			n += info.Size()
		}
		return n
	}
	for i := range pages {
		read(d, i)
		if used() > room {
			t.Fatalf("%d bytes in the cache, at most %d", used(), room)
		}
	}
	if s := read(d, 7); s != (Stats{Disk: 1}) { // now the last used of 7, 8, 9
		t.Errorf("page 7: %+v", s)
	}
	if s := read(d, 0); s != (Stats{Fetched: 1, Evicted: 1}) {
		t.Errorf("page 0: %+v", s)
	}
	if s := read(d, 8); s.Disk != 0 {
		t.Errorf("page 8, used longest ago, was kept: %+v", s)
	}
	if s := read(d, 7); s != (Stats{Disk: 1}) {
		t.Errorf("page 7, used lately, was dropped: %+v", s)
	}
	d.disk.hold(pageName(d.manifest.Shards[Train][0], 7)) // somebody reads it
	for i := range 4 {
		read(d, i)
	}
	if s := read(d, 7); s != (Stats{Disk: 1}) {
		t.Errorf("page 7 was removed while it was read: %+v", s)
	}
	if d, err = Open(ctx, From(p), p.Spec, ReadOptions{Seq: 128, Cache: dir, CacheBytes: 1}); err != nil || used() != 0 {
		t.Errorf("opened with no room: %d bytes are left, %v", used(), err)
	}
	read(d, 1)
	if used() != 0 {
		t.Errorf("no room, but %d bytes", used())
	}
	if err := os.WriteFile(filepath.Join(dir, "mine-1"), []byte("not a page"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = Open(ctx, From(p), p.Spec, ReadOptions{Seq: 128, Cache: dir, CacheBytes: 1}); err != nil || used() == 0 {
		t.Errorf("a file of somebody else was removed, %v", err)
	}
}
