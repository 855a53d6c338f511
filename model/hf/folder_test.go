package hf

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"sn3/internal/golden"
	"sn3/model"
)

// folder writes a model folder and returns its path.
func folder(t testing.TB, w model.Weights, o SaveOptions) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	if o.DType == "" {
		o.DType = F32
	}
	if err := Save(t.Context(), dir, w, o); err != nil {
		t.Fatal(err)
	}
	return dir
}

func open(t testing.TB, dir string) *Folder {
	t.Helper()
	f, err := OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// unmapped is a folder as it is where files cannot be mapped.
func unmapped(t testing.TB, dir string) *Folder {
	f := open(t, dir)
	for _, x := range f.open {
		if err := unmap(x.mapped); err != nil {
			t.Fatal(err)
		}
		x.mapped = nil
	}
	return f
}

// Every range of chunks is what the model in memory has, mapped and read, in one file and in several, by several readers at
// once.
func TestFolderIsWeights(t *testing.T) {
	c := small()
	c.Vocab, c.Width = 200, 130
	w := initial(t, c)
	for name, o := range map[string]SaveOptions{"one file": {}, "shards": {MaxShard: 60_000}} {
		dir := folder(t, w, o)
		for kind, f := range map[string]*Folder{"mapped": open(t, dir), "read": unmapped(t, dir)} {
			var wait sync.WaitGroup
			for from := range 8 {
				wait.Go(func() {
					for r := (model.ChunkRange{From: from, To: from + 5}); r.To <= w.Layout().Chunks(); r.From, r.To = r.From+7, r.To+7 {
						a, b := w.Layout().Span(r)
						got := make([]float32, b-a)
						if err := f.Read(got, r); err != nil || !slices.Equal(got, w.Data[a:b]) {
							t.Errorf("%s, %s: chunks %v differ: %v", name, kind, r, err)
						}
					}
				})
			}
			wait.Wait()
			if flat, err := f.Load(); err != nil || !slices.Equal(flat.Data, w.Data) {
				t.Errorf("%s, %s: %v", name, kind, err)
			}
			if err := f.Read(make([]float32, 3), model.ChunkRange{From: 0, To: 1}); err == nil {
				t.Errorf("%s, %s: a destination of another size was accepted", name, kind)
			}
		}
	}
}

// A view is the tensor itself, without a copy; other types have none.
func TestView(t *testing.T) {
	w := initial(t, small())
	f := open(t, folder(t, w, SaveOptions{})).open[0]
	rows := make([]float32, len(w.Data))
	w.Rows(rows)
	for _, x := range w.Layout().Tensors() {
		v, ok := f.View(x.Name)
		if f.mapped == nil || !littleEndian {
			t.Skip("this system has no views")
		}
		if !ok || !slices.Equal(v, rows[x.Off:x.Off+x.Len()]) {
			t.Errorf("%s: another view than what was written", x.Name)
		}
	}
	if n := testing.AllocsPerRun(10, func() { f.View("model.norm.weight") }); n != 0 {
		t.Errorf("a view allocates %v times", n)
	}
	if _, ok := f.View("none"); ok {
		t.Error("a view of no tensor")
	}
	half := open(t, folder(t, w, SaveOptions{DType: BF16})).open[0]
	if _, ok := half.View("model.norm.weight"); ok {
		t.Error("a view of BF16 as float32")
	}
	for shift, want := range map[int]bool{3: false, 4: true} { // a header that is padded by its writer or not
		path := filepath.Join(t.TempDir(), "x.safetensors")
		head := `{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`
		head += strings.Repeat(" ", 8-len(head)%8+shift)
		if err := os.WriteFile(path, file(head, 4), 0o600); err != nil {
			t.Fatal(err)
		}
		x, err := OpenFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if v, ok := x.View("x"); ok != want || ok && v[0] != 0 {
			t.Errorf("data at %d: view %v", x.start, ok)
		}
		if err := errors.Join(x.Read("x", 0, make([]float32, 1)), x.Close(), x.Close()); err != nil {
			t.Error(err)
		}
		if err := x.Read("x", 0, make([]float32, 1)); err == nil {
			t.Error("read after Close")
		}
	}
}

// Somebody cuts a file that is being read: an error, not the end of the process.
func TestFileCutWhileRead(t *testing.T) {
	c := small()
	c.Vocab = 5000 // more than a page
	dir := folder(t, initial(t, c), SaveOptions{})
	for kind, f := range map[string]*Folder{"mapped": open(t, dir), "read": unmapped(t, dir)} {
		if err := os.Truncate(filepath.Join(dir, singleFile), 8192); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Load(); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if _, err := OpenFolder(dir); !errors.Is(err, ErrFormat) {
		t.Errorf("opened again: %v", err)
	}
}

// edit changes a JSON file.
func edit(t *testing.T, path string, set keys) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m := keys{}
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	maps.Copy(m, set)
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	put(t, path, b)
}

func put(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A configuration that is not that of the weights is refused when the folder is opened, with the field's name; the data of
// the weights is cut off here, so that reading any of it would fail otherwise.
func TestOpenFolderRefuses(t *testing.T) {
	w := initial(t, small())
	for _, c := range []struct {
		name, says string
		set        keys
	}{
		{"vocabulary", "vocab_size", keys{"vocab_size": 71}},
		{"width", "hidden_size", keys{"hidden_size": 68}},
		{"heads", "num_attention_heads", keys{"num_attention_heads": 4}},
		{"groups", "num_key_value_heads", keys{"num_key_value_heads": 3}},
		{"ffn", "intermediate_size", keys{"intermediate_size": 64}},
		{"a layer more", "num_hidden_layers", keys{"num_hidden_layers": 3}},
		{"a layer less", "num_hidden_layers", keys{"num_hidden_layers": 1}},
		{"untied", "tie_word_embeddings", keys{"tie_word_embeddings": false}},
		{"a terabyte", map[int]string{32: "beyond any use", 64: "vocab_size"}[strconv.IntSize], keys{"vocab_size": 1 << 20, "hidden_size": 1 << 17, "intermediate_size": 1 << 20}},
		{"end of text", "eos_token_id", keys{"eos_token_id": 70}},
	} {
		dir := folder(t, w, SaveOptions{})
		edit(t, filepath.Join(dir, "config.json"), c.set)
		if _, err := OpenFolder(dir); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	spoil := func(name string, does func(dir string), want error) {
		t.Helper()
		dir := folder(t, w, SaveOptions{MaxShard: 20_000})
		does(dir)
		if _, err := OpenFolder(dir); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	path := func(dir, name string) string {
		m, err := filepath.Glob(filepath.Join(dir, name)) // the name of a shard says how many there are
		if err != nil || len(m) > 1 {
			t.Fatal(m, err)
		}
		return append(m, filepath.Join(dir, name))[0]
	}
	spoil("no config", func(dir string) { os.Remove(path(dir, "config.json")) }, os.ErrNotExist)
	spoil("huge config", func(dir string) { put(t, path(dir, "config.json"), bytes.Repeat([]byte(" "), maxConfig+1)) }, ErrFormat)
	spoil("no weights", func(dir string) { os.Remove(path(dir, indexFile)) }, os.ErrNotExist)
	spoil("a shard is gone", func(dir string) { os.Remove(path(dir, "model-00002-of-*")) }, os.ErrNotExist)
	spoil("two models", func(dir string) { os.Link(path(dir, "model-00002-of-*"), path(dir, singleFile)) }, ErrFormat)
	spoil("index without a map", func(dir string) { put(t, path(dir, indexFile), []byte("{}")) }, ErrFormat)
	spoil("index is no JSON", func(dir string) { put(t, path(dir, indexFile), []byte("{")) }, ErrFormat)
	spoil("tensor twice", func(dir string) { put(t, path(dir, indexFile), []byte(`{"weight_map":{"a":"x","a":"y"}}`)) }, ErrFormat)
	spoil("generation", func(dir string) { put(t, path(dir, "generation_config.json"), []byte(`{"eos_token_id":[1,70]}`)) }, ErrFormat)
	spoil("a folder for a shard", func(dir string) {
		shard := path(dir, "model-00002-of-*")
		os.Remove(shard)
		os.Mkdir(shard, 0o700)
	}, ErrFormat)
}

// Torch's own files are never opened, and the message says what to do.
func TestPickledWeights(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "config.json"), Config(small(), F32))
	put(t, filepath.Join(dir, "pytorch_model.bin"), nil)
	if _, err := OpenFolder(dir); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "save_pretrained") {
		t.Error(err)
	}
}

// compose writes a safetensors file of the given type and values.
func compose(t *testing.T, path, dtype string, tensors []model.Tensor, value func(x model.Tensor, i int) uint32) {
	t.Helper()
	var head, data []byte
	for _, x := range tensors {
		from := len(data)
		for i := range x.Len() {
			switch v := value(x, i); dtype {
			case "F32":
				data = binary.LittleEndian.AppendUint32(data, v)
			default:
				data = binary.LittleEndian.AppendUint16(data, uint16(v))
			}
		}
		shape, err := json.Marshal(x.Shape)
		if err != nil {
			t.Fatal(err)
		}
		e, err := json.Marshal(map[string]any{"dtype": dtype, "shape": json.RawMessage(shape), "data_offsets": []int{from, len(data)}})
		if err != nil {
			t.Fatal(err)
		}
		head = append(append(head, `,"`+x.Name+`":`...), e...)
	}
	head[0] = '{'
	head = append(head, '}')
	put(t, path, append(file(string(head), 0), data...))
}

// Half precision comes in exactly; a tensor that old exports carry is let pass.
func TestHalfPrecisionFolder(t *testing.T) {
	dir := t.TempDir()
	c := small()
	put(t, filepath.Join(dir, "config.json"), Config(c, F32))
	ts := append(c.Tensors(), model.Tensor{Name: "model.layers.0.self_attn.rotary_emb.inv_freq", Shape: []int{11}})
	compose(t, filepath.Join(dir, singleFile), "F16", ts, func(x model.Tensor, i int) uint32 { return uint32(i*7+len(x.Name)) % 0x7c00 })
	for kind, f := range map[string]*Folder{"mapped": open(t, dir), "read": unmapped(t, dir)} {
		w, err := f.Load()
		if err != nil || !slices.Equal(f.DTypes(), []string{"F16"}) {
			t.Fatal(f.DTypes(), err)
		}
		rows := make([]float32, len(w.Data))
		w.Rows(rows)
		for _, x := range c.Tensors() {
			for i, got := range rows[x.Off : x.Off+x.Len()] {
				if want := fromHalf(uint16(uint32(i*7+len(x.Name)) % 0x7c00)); got != want {
					t.Fatalf("%s: %s[%d] is %v, want %v", kind, x.Name, i, got, want)
				}
			}
		}
	}
}

// A tied model may carry its output matrix twice, if it is the embedding.
func TestTiedModelWithHead(t *testing.T) {
	c := small()
	ts := append(c.Tensors(), model.Tensor{Name: headName, Shape: []int{c.Vocab, c.Width}})
	for name, last := range map[string]uint32{"same": 7, "differs in the last value": 8} {
		dir := t.TempDir()
		put(t, filepath.Join(dir, "config.json"), Config(c, F32))
		compose(t, filepath.Join(dir, singleFile), "F32", ts, func(x model.Tensor, i int) uint32 {
			if x.Name == headName && i == x.Len()-1 {
				return math.Float32bits(float32(last))
			}
			return math.Float32bits(7)
		})
		if _, _, err := OpenDir(dir); (err == nil) != (last == 7) || err != nil && !strings.Contains(err.Error(), "tie_word_embeddings") {
			t.Errorf("%s: %v", name, err)
		}
	}
	ts[len(ts)-1].Shape = []int{c.Width, c.Vocab}
	dir := t.TempDir()
	put(t, filepath.Join(dir, "config.json"), Config(c, F32))
	compose(t, filepath.Join(dir, singleFile), "F32", ts, func(model.Tensor, int) uint32 { return 0 })
	if _, err := OpenFolder(dir); !errors.Is(err, ErrFormat) {
		t.Errorf("transposed: %v", err)
	}
}

// An index lies by a tensor that no file has, or that a second file has too: readers that go by the files would take another model.
func TestIndexLies(t *testing.T) {
	w := initial(t, small())
	for name, does := range map[string]func(dir, first string){
		`index says that [^ ]+ holds tensor "model.extra"`: func(dir, first string) {
			raw, err := os.ReadFile(filepath.Join(dir, indexFile))
			if err != nil {
				t.Fatal(err)
			}
			put(t, filepath.Join(dir, indexFile), bytes.Replace(raw, []byte(`"weight_map": {`), []byte(`"weight_map": {"model.extra": "`+first+`",`), 1))
		},
		`holds tensor "model.norm.weight", the index says it is in`: func(dir, first string) {
			compose(t, filepath.Join(dir, first), "F32", append(slices.Clone(w.Layout().Tensors()[:1]), model.Tensor{Name: "model.norm.weight", Shape: []int{66}}),
				func(model.Tensor, int) uint32 { return 0 })
		},
	} {
		dir := folder(t, w, SaveOptions{MaxShard: 1})
		files, err := filepath.Glob(filepath.Join(dir, "model-*.safetensors"))
		if err != nil || len(files) < 2 {
			t.Fatal(files, err)
		}
		does(dir, filepath.Base(files[0]))
		if _, err := OpenFolder(dir); !errors.Is(err, ErrFormat) || !regexp.MustCompile(name).MatchString(err.Error()) {
			t.Errorf("%v, want %s", err, name)
		}
	}
}

func FuzzWeightMap(f *testing.F) {
	f.Add([]byte(`{"metadata":{"total_size":1},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"x"}}`))
	f.Add([]byte(`{"weight_map":{"a":"../x"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := weightMap(b)
		for tensor, name := range m {
			if err == nil && (filepath.Dir(filepath.Join("dir", name)) != "dir" || !filepath.IsLocal(name)) {
				t.Fatalf("tensor %q in %q", tensor, name)
			}
		}
	})
}

// A sharded folder is what its index says; an index that lies, or points out of the folder, is refused.
func TestShardedGolden(t *testing.T) {
	src := golden.Case(t, "llama", "sharded")
	if _, _, err := OpenDir(src); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(src, "model.safetensors.index.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]string{"missing file": "model-9.safetensors", "outside": "../sharded/model.safetensors", "hidden": ".model.safetensors", "wrong file": "?"} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(src)); err != nil {
			t.Fatal(err)
		}
		var index struct {
			Map map[string]string `json:"weight_map"`
		}
		if err := json.Unmarshal(raw, &index); err != nil {
			t.Fatal(err)
		}
		if file == "?" {
			for _, f := range index.Map {
				if f != index.Map["model.norm.weight"] {
					file = f
				}
			}
		}
		index.Map["model.norm.weight"] = file
		b, err := json.Marshal(index)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "model.safetensors.index.json"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := OpenDir(dir); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
