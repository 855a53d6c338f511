package hf

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"testing"

	"sn3/internal/golden"
	"sn3/model"
)

// As many shards as transformers makes, with the reference's figures and bytes. (Which tensor is in which shard differs where
// the order does: transformers has a layer's norms after its matrices.)
func TestShardsGolden(t *testing.T) {
	src := golden.Case(t, "llama", "sharded")
	dir := folder(t, open(t, src), SaveOptions{MaxShard: 60_000, Special: Special{BOS: []int32{1}, EOS: []int32{2}}})
	var ours, theirs struct {
		Metadata map[string]int64  `json:"metadata"`
		Map      map[string]string `json:"weight_map"`
	}
	for path, into := range map[string]any{dir: &ours, src: &theirs} {
		b, err := os.ReadFile(filepath.Join(path, indexFile))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, into); err != nil {
			t.Fatal(err)
		}
	}
	if !maps.Equal(ours.Metadata, theirs.Metadata) || len(ours.Map) != len(theirs.Map) {
		t.Errorf("index %v, the reference has %v", ours, theirs)
	}
	for name := range theirs.Map {
		if ours.Map[name] == "" {
			t.Errorf("tensor %s is not in the index", name)
		}
	}
	names := func(m map[string]string) []string { return slices.Compact(slices.Sorted(maps.Values(m))) }
	if a, b := names(ours.Map), names(theirs.Map); !slices.Equal(a, b) {
		t.Errorf("files %q, the reference has %q", a, b)
	}
	a, b := open(t, dir), open(t, src)
	if a.Config != b.Config || !reflect.DeepEqual(a.Special, b.Special) {
		t.Errorf("%+v %+v, want %+v %+v", a.Config, a.Special, b.Config, b.Special)
	}
	for name, x := range a.files {
		y := b.files[name]
		p, err := os.ReadFile(x.file.Name())
		if err != nil {
			t.Fatal(err)
		}
		q, err := os.ReadFile(y.file.Name())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(rawTensor(t, p, x.Entries[name]), rawTensor(t, q, y.Entries[name])) {
			t.Errorf("%s differs", name)
		}
	}
}

// No file is larger than asked for unless a single tensor is; the folder reads back as what was written.
func TestShardSizes(t *testing.T) {
	w := initial(t, small())
	largest := int64(0)
	for _, x := range w.Layout().Tensors() {
		largest = max(largest, int64(4*x.Len()))
	}
	for _, limit := range []int64{1, 500, 20_000, 50_000, 1 << 40} {
		dir := folder(t, w, SaveOptions{MaxShard: limit, Files: map[string][]byte{"LICENSE": []byte("free")}})
		f := open(t, dir)
		for _, x := range f.open {
			data := int64(0)
			for _, e := range x.Entries {
				data = max(data, int64(e.To))
			}
			if data > limit && len(x.Entries) > 1 || data > max(limit, largest) {
				t.Errorf("a shard of %d bytes and %d tensors, at most %d were asked for", data, len(x.Entries), limit)
			}
		}
		if got, err := f.Load(); err != nil || !reflect.DeepEqual(got.Data, w.Data) {
			t.Errorf("shards of %d: %v", limit, err)
		}
		files, err := ReadCompanions(dir)
		if err != nil || len(files) != 1 || string(files["LICENSE"]) != "free" {
			t.Errorf("companions %q, %v", files, err)
		}
	}
}

// What goes wrong leaves nothing behind, and what is there is never touched.
func TestSaveIsWholeOrNothing(t *testing.T) {
	w, ctx := initial(t, small()), t.Context()
	ended, cancel := context.WithCancelCause(ctx)
	why := errors.New("enough")
	cancel(why)
	parent := t.TempDir()
	dir := filepath.Join(parent, "model")
	for name, err := range map[string]error{
		"ended":      Save(ended, dir, w, SaveOptions{DType: F32}),
		"weights":    Save(ctx, dir, sparing{w, 1}, SaveOptions{DType: F32, MaxShard: 1000}),
		"type":       Save(ctx, dir, w, SaveOptions{DType: "F64"}),
		"shard size": Save(ctx, dir, w, SaveOptions{DType: F32, MaxShard: -1}),
		"file name":  Save(ctx, dir, w, SaveOptions{DType: F32, Files: map[string][]byte{"no/folder": nil}}),
		"same name":  Save(ctx, dir, w, SaveOptions{DType: F32, Files: map[string][]byte{singleFile: nil}}),
	} {
		if err == nil || name == "ended" && !errors.Is(err, why) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Save(ctx, dir+"/", w, SaveOptions{DType: F32}); err != nil {
		t.Errorf("into an empty folder: %v", err)
	}
	if err := Save(ctx, dir, w, SaveOptions{DType: F32}); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("into a full folder: %v", err)
	}
	put(t, filepath.Join(parent, "file"), []byte("thesis"))
	if err := Save(ctx, filepath.Join(parent, "file"), w, SaveOptions{DType: F32}); err == nil {
		t.Error("over a file")
	}
	if b, err := os.ReadFile(filepath.Join(parent, "file")); err != nil || string(b) != "thesis" {
		t.Errorf("the file is %q, %v", b, err)
	}
	if _, _, err := OpenDir(dir); err != nil {
		t.Error(err)
	}
}

// A folder is converted without being in memory: what is allocated does not grow with the number of layers.
func TestConversionStreams(t *testing.T) {
	allocated := func(layers int) uint64 {
		c := small()
		c.Width, c.FFN, c.Layers = 256, 512, layers
		src := folder(t, initial(t, c), SaveOptions{MaxShard: 1 << 20})
		var sum uint64
		for _, f := range []*Folder{open(t, src), unmapped(t, src)} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if err := Save(t.Context(), filepath.Join(t.TempDir(), "out"), f, SaveOptions{DType: BF16, MaxShard: 1 << 40}); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			sum += after.TotalAlloc - before.TotalAlloc
		}
		return sum
	}
	few, many := allocated(2), allocated(10)
	perLayer := uint64(4 * (4*256*66 + 3*256*512))               // bytes of a layer's weights in float32
	if grown := many - few; many > few && grown > 8*perLayer/2 { // of two conversions
		t.Errorf("8 layers more took %d bytes more, their weights have %d", grown, 8*perLayer)
	}
}

// Progress ends at all values.
func TestProgress(t *testing.T) {
	w, last, calls := initial(t, small()), 0, 0
	o := SaveOptions{DType: F32, MaxShard: 20_000, Progress: func(done, all int) {
		if done <= last || all != w.Layout().Params() {
			t.Errorf("%d of %d after %d", done, all, last)
		}
		last = done
		calls++
	}}
	folder(t, w, o)
	if last != w.Layout().Params() || calls < len(w.Layout().Tensors()) {
		t.Errorf("%d values in %d calls", last, calls)
	}
}

// A converted folder is a model.Weights like any other.
var _ model.Weights = (*Folder)(nil)
