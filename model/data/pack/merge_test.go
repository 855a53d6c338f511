package pack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sn3/model/data"
	"sn3/model/tokenizer"
)

// packParts packs n parts and returns their folders.
func packParts(t *testing.T, n int, o Options) (dirs []string) {
	t.Helper()
	for i := range n {
		o.Part, o.Parts = i+1, n
		dirs = append(dirs, filepath.Join(t.TempDir(), fmt.Sprint("part", i+1)))
		run(t, dirs[i], o)
	}
	return dirs
}

// Parts, merged in any order, hold the same documents as one job. By document, also across files, none is there twice.
func TestPartsMakeTheWhole(t *testing.T) {
	docs := texts("parts", 200, 600)
	files := map[string][]byte{}
	for i := range 5 {
		files[fmt.Sprintf("%d.jsonl", i)] = asLines(docs[i*40 : min(i*40+50, 200)]) // ten documents are in two files
	}
	o := Options{Inputs: []string{folder(t, files)}, Tokenizer: wide{}, HeldOut: 4, Source: "s", Licence: "l"}
	want, duplicates := parted(docs, 4)
	for _, byDocument := range []bool{false, true} {
		o.ByDocument = byDocument
		dirs := packParts(t, 3, o)
		slices.Reverse(dirs)
		out := filepath.Join(t.TempDir(), "merged")
		res, err := Merge(context.Background(), out, dirs)
		if err != nil {
			t.Fatal(err)
		}
		got := documents(t, out, wide{})
		for s := range got {
			slices.Sort(got[s])
			slices.Sort(want[s])
			if unique := slices.Compact(slices.Clone(got[s])); !slices.Equal(unique, want[s]) {
				t.Errorf("by document %v: %d documents in split %d, want %d", byDocument, len(unique), s, len(want[s]))
			}
		}
		if twice := len(got[0]) + len(got[1]) - 200; byDocument && twice != 0 || !byDocument && twice != 40 {
			t.Errorf("by document %v: %d documents are there twice", byDocument, twice)
		}
		m := res.Manifest
		if len(m.Provenance.Sources) != 1 || m.Provenance.Part != "" || res.Elsewhere != 0 || duplicates != 0 {
			t.Errorf("%+v", m.Provenance)
		}
		if s := m.Provenance.Sources[0]; s.Documents[0]+s.Documents[1] != uint64(len(got[0])+len(got[1])) || s.Name != "s" || s.Licence != "l" {
			t.Errorf("%+v", s)
		}
		slices.Reverse(dirs)
		again, err := Merge(context.Background(), filepath.Join(t.TempDir(), "again"), dirs)
		if err != nil || again.Spec.Manifest != res.Spec.Manifest {
			t.Errorf("in another order: %v, %v", again.Spec, err)
		}
		if _, err := os.Stat(filepath.Join(out, workFolder)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a working folder is left: %v", err)
		}
	}
}

// Datasets of several sources keep each its licence; objects that are not here are counted, not made up.
func TestMergeSources(t *testing.T) {
	var dirs []string
	for i, licence := range []string{"MIT", "CC0-1.0", "MIT"} {
		in := folder(t, map[string][]byte{"a.jsonl": asLines(texts(fmt.Sprint("source", i), 40, 300))})
		dirs = append(dirs, filepath.Join(t.TempDir(), "out"))
		run(t, dirs[i], Options{Inputs: []string{in}, Tokenizer: byBytes(t), HeldOut: 4, Source: "web", Licence: licence})
	}
	pin, err := data.ReadPin(dirs[1])
	check(t, err)
	m, err := data.ReadManifest(dirs[1], pin)
	check(t, err)
	check(t, os.Remove(filepath.Join(dirs[1], data.Key(m.Shards[0][0].Sum))))
	out := filepath.Join(t.TempDir(), "out")
	res, err := Merge(context.Background(), out, dirs)
	if err != nil {
		t.Fatal(err)
	}
	s := res.Manifest.Provenance.Sources
	if len(s) != 2 || s[0].Licence != "MIT" || s[0].Documents[0]+s[0].Documents[1] != 80 || s[1].Documents[0]+s[1].Documents[1] != 40 || res.Elsewhere != 1 || res.Objects != 5 {
		t.Errorf("%+v, %d objects, %d elsewhere", s, res.Objects, res.Elsewhere)
	}
	var bad []string
	_, err = data.Verify(context.Background(), data.Folder(out), res.Manifest, 2, func(k string, err error) { bad = append(bad, k) })
	if !errors.Is(err, data.ErrUnsound) || !slices.Equal(bad, []string{data.Key(m.Shards[0][0].Sum)}) {
		t.Errorf("%v, named %v", err, bad)
	}
	if _, err := Merge(context.Background(), out, dirs); !errors.Is(err, ErrDone) {
		t.Errorf("into a finished folder: %v", err)
	}
}

func TestMergeRefuses(t *testing.T) {
	docs := texts("refuse", 80, 300)
	in := folder(t, map[string][]byte{"1.jsonl": asLines(docs[:40]), "2.jsonl": asLines(docs[40:])})
	o := Options{Inputs: []string{in}, Tokenizer: byBytes(t), HeldOut: 4}
	parts := packParts(t, 2, o)
	one := func(change func(o *Options)) string {
		t.Helper()
		o := o
		change(&o)
		out := filepath.Join(t.TempDir(), "out")
		run(t, out, o)
		return out
	}
	whole := one(func(*Options) {})
	for name, c := range map[string]struct {
		dirs []string
		says string
		want error
	}{
		"none":            {nil, "none", ErrMerge},
		"one is missing":  {parts[:1], "part 2 of 2 is missing", ErrMerge},
		"one twice":       {[]string{parts[0], parts[0]}, "both part 1", ErrMerge},
		"a whole one":     {append(slices.Clone(parts), whole), "is whole", ErrMerge},
		"another form":    {[]string{parts[0], one(func(o *Options) { o.Part, o.Parts, o.ByDocument = 2, 2, true })}, "others are of", ErrMerge},
		"of another n":    {[]string{parts[0], one(func(o *Options) { o.Part, o.Parts, o.ByDocument = 3, 3, true })}, "others are of", ErrMerge},
		"of other inputs": {[]string{parts[0], one(func(o *Options) { o.Part, o.Parts, o.Licence = 2, 2, "MIT" })}, "others are of", ErrMerge},
		"the same twice":  {[]string{whole, whole}, "the same shard", ErrMerge},
		"another split":   {[]string{whole, one(func(o *Options) { o.HeldOut = 5 })}, "both splits", ErrMerge},
		"other tokens":    {[]string{whole, one(func(o *Options) { o.Tokenizer = wide{} })}, "other tokenizers", ErrMerge},
		"vocabulary":      {[]string{whole, one(func(o *Options) { o.Vocab = 300 })}, "vocabularies", ErrMerge},
		"not a dataset":   {[]string{in}, "no finished dataset", fs.ErrNotExist},
		"a broken part":   {[]string{broken(t, whole)}, "do not match their hash", data.ErrCorrupt},
		"a pin of nobody": {[]string{folder(t, map[string][]byte{data.PinFile: []byte("{}")})}, "parse dataset.json", nil},
	} {
		_, err := Merge(context.Background(), filepath.Join(t.TempDir(), "out"), c.dirs)
		if err == nil || !strings.Contains(err.Error(), c.says) || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

// A part without a document holds up nobody: its files were empty. What cannot be trained on in the end is refused.
func TestEmptyParts(t *testing.T) {
	in := folder(t, map[string][]byte{"1.txt": nil, "2.jsonl": asLines(texts("empty", 40, 300))})
	for _, byDocument := range []bool{false, true} {
		o := Options{Inputs: []string{in}, Tokenizer: wide{}, HeldOut: 4, ByDocument: byDocument}
		n := 2
		if byDocument {
			n = 90 // more than there are documents
		}
		dirs, out := packParts(t, n, o), filepath.Join(t.TempDir(), "merged")
		if _, err := Merge(context.Background(), out, dirs); err != nil {
			t.Fatal(err)
		}
		if got := documents(t, out, wide{}); len(got[0])+len(got[1]) != 40 {
			t.Errorf("by document %v: %d documents", byDocument, len(got[0])+len(got[1]))
		}
	}
	in = folder(t, map[string][]byte{"1.txt": nil, "2.txt": []byte("one")})
	dirs := packParts(t, 2, Options{Inputs: []string{in}, Tokenizer: byBytes(t)})
	if _, err := Merge(context.Background(), filepath.Join(t.TempDir(), "out"), dirs); !errors.Is(err, ErrMerge) || !strings.Contains(err.Error(), "both splits") {
		t.Errorf("one document in all: %v", err)
	}
}

// Merge leaves a folder alone that another command works in, and takes objects that are links.
func TestMergeInto(t *testing.T) {
	in := folder(t, map[string][]byte{"a.jsonl": asLines(texts("into", 80, 9000))})
	o := Options{Inputs: []string{in}, Tokenizer: wide{}, HeldOut: 4}
	whole, busy := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "busy")
	run(t, whole, o)
	steps := []string{}
	o.every, o.batch, o.fault = 1, 30_000, dies(15, &steps)
	if _, err := Run(context.Background(), busy, o); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	if _, err := Merge(context.Background(), busy, []string{whole}); !errors.Is(err, ErrOtherJob) {
		t.Errorf("into unfinished work: %v", err)
	}
	o.fault = nil
	if res := run(t, busy, o); !res.Resumed {
		t.Error("the unfinished work is gone")
	}
	if _, err := Merge(context.Background(), busy, []string{whole}); !errors.Is(err, ErrDone) || strings.Contains(err.Error(), "%!") {
		t.Errorf("into a finished dataset: %v", err)
	}
	links := folder(t, nil)
	check(t, os.Symlink(filepath.Join(whole, "data"), filepath.Join(links, "to")))
	check(t, os.Mkdir(filepath.Join(links, "data"), 0o755))
	for name := range tree(t, whole) {
		if strings.HasPrefix(name, "data/") {
			check(t, os.Symlink(filepath.Join("..", "to", filepath.Base(name)), filepath.Join(links, name)))
			continue
		}
		check(t, os.Link(filepath.Join(whole, name), filepath.Join(links, name)))
	}
	out := filepath.Join(t.TempDir(), "out")
	if res, err := Merge(context.Background(), out, []string{links}); err != nil || res.Objects != 3 {
		t.Fatalf("%+v, %v", res, err)
	}
	documents(t, out, wide{})
	pin, err := data.ReadPin(whole)
	check(t, err)
	for name, b := range tree(t, whole) {
		if strings.HasPrefix(name, "data/") && name != data.Key(pin.Manifest) {
			check(t, os.WriteFile(filepath.Join(whole, name), append([]byte(b), 0), 0o644))
		}
	}
	if _, err := Merge(context.Background(), filepath.Join(t.TempDir(), "out"), []string{links}); !errors.Is(err, data.ErrCorrupt) {
		t.Errorf("objects that are not what their names say: %v", err)
	}
}

// broken copies a dataset and flips a bit of its manifest.
func broken(t *testing.T, dir string) string {
	files := map[string][]byte{}
	pin, err := data.ReadPin(dir)
	check(t, err)
	for name, b := range tree(t, dir) {
		files[name] = []byte(b)
	}
	files[data.Key(pin.Manifest)][30] ^= 1
	return folder(t, files)
}

// The tokenizer.json travels: Open reads it back, checked.
func TestTokenizerTravels(t *testing.T) {
	in := folder(t, map[string][]byte{"a.jsonl": asLines(texts("travel", 40, 3000))})
	var tok tokenizer.Tokenizer = wide{}
	out := filepath.Join(t.TempDir(), "out")
	res := run(t, out, Options{Inputs: []string{in}, Tokenizer: tok, HeldOut: 4})
	d, err := data.Open(context.Background(), data.From(data.Folder(out)), res.Spec, data.ReadOptions{Seq: 32, Vocab: tok.Vocab(), Tokenizer: tok.Name()})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := d.Tokenizer(context.Background()); err != nil || string(b) != "{}" {
		t.Errorf("%q, %v", b, err)
	}
	b, err := d.Load(context.Background(), []uint64{0})
	if err != nil || b[0].X[0] != 255_001 {
		t.Errorf("%v: the first token is %d", err, b[0].X[0])
	}
	sum, _ := d.Manifest().Provenance.TokenizerSum()
	check(t, os.WriteFile(filepath.Join(out, data.Key(sum)), []byte("[]"), 0o644))
	if _, err := d.Tokenizer(context.Background()); !errors.Is(err, data.ErrCorrupt) {
		t.Errorf("another file: %v", err)
	}
}
