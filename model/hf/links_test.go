//go:build unix

package hf

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sn3/model"
)

// A pipe in the place of any file of a folder is refused; opened, it would never answer, nor let Ctrl-C through.
func TestPipesAreRefused(t *testing.T) {
	dir := folder(t, initial(t, small()), SaveOptions{})
	for _, name := range append([]string{"config.json", singleFile, indexFile}, Companions...) {
		path := filepath.Join(dir, name)
		saved, err := os.ReadFile(path)
		there := err == nil
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Skip("no pipes here:", err)
		}
		if _, err := OpenFolder(dir); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "regular") {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if there {
			put(t, path, saved)
		}
	}
	open(t, dir)
}

// link makes a folder in which name leads to target.
func link(t *testing.T, dir, name, target string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

// A folder of the Hub's cache is links to blobs beside it: they are followed, by name and by where they lead. Any other file that a link
// leads to is not the model's and is not copied with it.
func TestLinksOfCompanions(t *testing.T) {
	top := t.TempDir()
	for _, dir := range []string{"models--x/blobs", "models--y/blobs"} {
		if err := os.MkdirAll(filepath.Join(top, dir), 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(top, dir, "abc"), []byte("free"))
	}
	put(t, filepath.Join(top, "secret"), []byte("key"))
	snapshot := func(rev string) string { return filepath.Join(top, "models--x", "snapshots", rev) }
	link(t, snapshot("cache"), "LICENSE", "../../blobs/abc")
	link(t, snapshot("absolute"), "LICENSE", filepath.Join(top, "models--x", "blobs", "abc"))
	link(t, snapshot("inner"), "LICENSE", "NOTICE")
	put(t, filepath.Join(snapshot("inner"), "NOTICE"), []byte("free"))
	link(t, top, "alias", snapshot("cache")) // the folder itself may be a link
	link(t, snapshot("up"), "LICENSE", "../../../secret")
	link(t, snapshot("root"), "LICENSE", filepath.Join(top, "secret"))
	link(t, snapshot("other"), "LICENSE", "../../../models--y/blobs/abc")
	link(t, snapshot("chain"), "LICENSE", "one")
	link(t, snapshot("chain"), "one", "../../../secret")
	t.Chdir(snapshot("cache"))
	for _, dir := range []string{snapshot("cache"), snapshot("absolute"), snapshot("inner"), filepath.Join(top, "alias"), ".", "../absolute"} {
		if files, err := ReadCompanions(dir); err != nil || string(files["LICENSE"]) != "free" {
			t.Errorf("%s: %q, %v", dir, files, err)
		}
	}
	for _, name := range []string{"up", "root", "other", "chain"} {
		if files, err := ReadCompanions(snapshot(name)); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "LICENSE is a link to ") {
			t.Errorf("%s: %q, %v", name, files, err)
		}
	}
}

// The weights may lie anywhere: what is not a model is refused by its content.
func TestLinkedWeights(t *testing.T) {
	w := initial(t, small())
	src, dir := folder(t, w, SaveOptions{MaxShard: 20_000}), t.TempDir()
	entries, err := os.ReadDir(src)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		link(t, dir, e.Name(), filepath.Join(src, e.Name()))
	}
	if got, err := open(t, dir).Load(); err != nil || !slices.Equal(got.Data, w.Data) {
		t.Error(err)
	}
}

// A cut within the last page leaves zeros that no fault tells from values.
func TestLastPageCut(t *testing.T) {
	c := small()
	c.Vocab = 5000
	for _, cut := range []int64{1, 4, 100} {
		dir := folder(t, initial(t, c), SaveOptions{})
		path := filepath.Join(dir, singleFile)
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		for kind, f := range map[string]*Folder{"mapped": open(t, dir), "read": unmapped(t, dir)} {
			if err := os.Truncate(path, st.Size()-cut); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Load(); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
				t.Errorf("%d bytes less, %s: %v", cut, kind, err)
			}
		}
	}
}

// Save fills an empty folder that is there, also one that it could not replace: the working directory, what a link leads to.
func TestSaveIntoEmptyFolder(t *testing.T) {
	w, top := initial(t, small()), t.TempDir()
	for _, name := range []string{"here", "real"} {
		if err := os.Mkdir(filepath.Join(top, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	link(t, top, "link", "real")
	t.Chdir(filepath.Join(top, "here"))
	for dir, real := range map[string]string{".": filepath.Join(top, "here"), filepath.Join(top, "link"): filepath.Join(top, "real")} {
		before, err := os.Stat(real)
		if err != nil {
			t.Fatal(err)
		}
		if err := Save(t.Context(), dir, w, SaveOptions{DType: F32, MaxShard: 20_000}); err != nil {
			t.Fatal(dir, err)
		}
		if after, err := os.Stat(real); err != nil || !os.SameFile(before, after) {
			t.Errorf("%s: another folder is there: %v", dir, err)
		}
		if f, err := open(t, real).Load(); err != nil || !slices.Equal(f.Data, w.Data) {
			t.Errorf("%s: %v", dir, err)
		}
		if left, err := filepath.Glob(filepath.Join(real, ".partial-*")); err != nil || len(left) > 0 {
			t.Errorf("%s: left behind %q, %v", dir, left, err)
		}
	}
	link(t, top, "nowhere", "gone")
	for _, dir := range []string{"", filepath.Join(top, "nowhere")} {
		if err := Vacant(dir); err == nil || Save(t.Context(), dir, w, SaveOptions{DType: F32}) == nil {
			t.Errorf("%q was accepted", dir)
		}
	}
}

// What came into the folder meanwhile stays, and the files that were moved before an error are taken away again.
func TestFolderTakenMeanwhile(t *testing.T) {
	w, dir := initial(t, small()), t.TempDir()
	o := SaveOptions{DType: F32, Progress: func(done, all int) {
		if done == all {
			put(t, filepath.Join(dir, "config.json"), []byte("thesis"))
		}
	}}
	if err := Save(t.Context(), dir, w, o); !errors.Is(err, ErrNotEmpty) {
		t.Error(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if left, err2 := os.ReadDir(dir); err != nil || err2 != nil || len(left) != 1 || string(b) != "thesis" {
		t.Errorf("left %v with %q: %v, %v", left, b, err, err2)
	}
	half := t.TempDir()
	tmp := filepath.Join(half, "z")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "z", "config.json"} { // z cannot go where its folder is
		put(t, filepath.Join(tmp, name), nil)
	}
	if err := moveInto(tmp, half); err == nil {
		t.Error("moved over a folder")
	}
	if left, err := os.ReadDir(half); err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
}

// A tensor that is a bias is named as one, the same one every time.
func TestBiasIsNamed(t *testing.T) {
	c, dir := small(), t.TempDir()
	put(t, filepath.Join(dir, "config.json"), Config(c, F32))
	ts := c.Tensors()
	for _, n := range []string{"model.layers.1.self_attn.v_proj.bias", "model.layers.0.self_attn.q_proj.bias", "model.layers.0.self_attn.k_proj.bias"} {
		ts = append(ts, model.Tensor{Name: n, Shape: []int{22}})
	}
	compose(t, filepath.Join(dir, singleFile), "BF16", ts, func(model.Tensor, int) uint32 { return 0 })
	for range 10 {
		if _, err := OpenFolder(dir); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), `layers.0.self_attn.k_proj.bias" [22]: this engine computes a Llama without biases`) {
			t.Fatal(err)
		}
	}
}
