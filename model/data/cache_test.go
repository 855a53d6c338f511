package data

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestDiskCache(t *testing.T) {
	p := packed(t, toyCorpus(3*bytePage, 5_000))
	dir := filepath.Join(t.TempDir(), "pages")
	all := []uint64{1, bytePage/128 + 1, 2*bytePage/128 + 1}
	use := func() (*bucket, Stats) {
		r := newBucket(p)
		d := open(t, r, p.Spec, dir, 128)
		b, err := d.Load(context.Background(), all)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := text(b[0].X[:128]), toy("train", 3*bytePage)[128:256]; !bytes.Equal(got, want) {
			t.Fatalf("read %q, want %q", got, want)
		}
		return r, d.Stats()
	}
	if _, s := use(); s != (Stats{Fetched: 3}) {
		t.Errorf("first use: %+v", s)
	}
	if r, s := use(); s != (Stats{Disk: 3}) || r.total() != 0 {
		t.Errorf("second use: %+v and %d reads of the bucket", s, r.total())
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 4 {
		t.Fatalf("%d cache files, want 3 pages and the manifest; %v", len(files), err)
	}
	for i, f := range files { // poison all, each in another way
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		b = [][]byte{append(b, 1), b[:len(b)/2], nil, append([]byte("x"), b[1:]...)}[i]
		if err := os.WriteFile(f, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	half := filepath.Join(dir, "page-1.tmp")
	if err := os.WriteFile(half, []byte("half a page"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, s := use(); s != (Stats{Fetched: 3, Dropped: 3}) {
		t.Errorf("poisoned: %+v", s)
	}
	if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a file was left: %v", err)
	}
	if r, s := use(); s != (Stats{Disk: 3}) || r.total() != 0 {
		t.Errorf("healed: %+v and %d reads", s, r.total())
	}
	page := filepath.Join(dir, pageName(open(t, p, p.Spec, "", 128).manifest.Shards[Train][0], 0))
	if err := os.WriteFile(page, []byte("poison"), 0o600); err != nil {
		t.Fatal(err)
	}
	down := rangerFunc(func(context.Context, string, int64, int64) ([]byte, error) { return nil, errNoObject })
	if _, err := open(t, down, p.Spec, dir, 128).Load(context.Background(), all); !errors.Is(err, errNoObject) {
		t.Errorf("poisoned and the bucket down: %v", err)
	}
	if _, err := os.Stat(page); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the poisoned file was left: %v", err)
	}
}

// A disk that takes nothing costs speed only.
func TestUnwritableCache(t *testing.T) {
	p := packed(t, toyCorpus(3*bytePage, 5_000))
	dir := filepath.Join(t.TempDir(), "pages")
	d := open(t, p, p.Spec, dir, 128)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Load(context.Background(), []uint64{1}); err != nil {
		t.Fatal(err)
	}
	if s := d.Stats(); s.Fetched != 1 || s.Unkept != 1 {
		t.Errorf("%+v", s)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), From(p), p.Spec, ReadOptions{Seq: 128, Cache: file}); err == nil {
		t.Error("a file served as cache folder")
	}
}
