package hf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"

	"sn3/model"
)

// Limits on the small files of a folder.
const (
	maxConfig = 1 << 20
	maxIndex  = 64 << 20
)

const (
	singleFile = "model.safetensors"
	indexFile  = singleFile + ".index.json"
)

// Folder is an open model folder: configuration and headers are checked, of the weights nothing has been read. It implements
// model.Weights over the files, so that a model can be converted without being in memory. Safe for concurrent use.
type Folder struct {
	Config  model.Config
	Special Special

	dir    string
	layout *model.Layout
	files  map[string]*File // by tensor
	open   []*File
	band   bandCache
}

// OpenFolder opens a folder with config.json and model.safetensors, or shards with an index. Everything that can be wrong
// without looking at a weight is refused, with the name of the field or tensor: ErrFormat. Close it when done.
func OpenFolder(dir string) (*Folder, error) {
	raw, err := readSmall(filepath.Join(dir, "config.json"), maxConfig)
	if err != nil {
		return nil, fmt.Errorf("open model folder: %w", err)
	}
	f := &Folder{dir: dir, files: map[string]*File{}}
	if f.Config, f.Special, err = parseConfig(raw); err != nil {
		return nil, err
	}
	if err := f.generation(); err != nil {
		return nil, err
	}
	if err := regular(dir); err != nil {
		return nil, err
	}
	if err := f.openFiles(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// generation takes the end of text from generation_config.json, which wins over config.json as in transformers.
func (f *Folder) generation() error {
	raw, err := readSmall(filepath.Join(f.dir, "generation_config.json"), maxConfig)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open model folder: %w", err)
	}
	var g struct {
		EOS ids `json:"eos_token_id"`
	}
	if err := json.Unmarshal(raw, &g); err != nil {
		return invalid("generation_config.json: %v", err)
	}
	if len(g.EOS) > 0 {
		f.Special.EOS = g.EOS
	}
	return g.EOS.within(f.Config.Vocab, "generation_config.json: eos_token_id")
}

func (f *Folder) openFiles() error {
	index, err := parts(f.dir)
	if err != nil {
		return err
	}
	where := func(tensor string) string { return singleFile }
	names := []string{singleFile}
	if index != nil {
		where = func(tensor string) string { return index[tensor] }
		names = slices.Compact(slices.Sorted(maps.Values(index)))
	}
	byName := map[string]*File{}
	for _, name := range names {
		x, err := OpenFile(filepath.Join(f.dir, name))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		f.open, byName[name] = append(f.open, x), x
		for tensor := range x.Entries {
			if !redundant(tensor) && where(tensor) != name {
				return invalid("%s holds tensor %q, the index says it is in %q", name, tensor, where(tensor))
			}
		}
	}
	for tensor, name := range index {
		if _, ok := byName[name].Entries[tensor]; !ok {
			return invalid("the index says that %s holds tensor %q", name, tensor)
		}
	}
	if err := check(f.Config, f.open, func(tensor string) *File { return byName[where(tensor)] }); err != nil {
		return err
	}
	if f.layout, err = model.NewLayout(f.Config); err != nil {
		return err
	}
	for _, t := range f.layout.Tensors() {
		f.files[t.Name] = byName[where(t.Name)]
	}
	return f.sameHead(byName[where(headName)])
}

// Close closes the files; views of them must not be used afterwards.
func (f *Folder) Close() error {
	var errs []error
	for _, x := range f.open {
		errs = append(errs, x.Close())
	}
	return errors.Join(errs...)
}

// Dir is where the folder is.
func (f *Folder) Dir() string { return f.dir }

// Layout implements model.Weights.
func (f *Folder) Layout() *model.Layout { return f.layout }

// DTypes are the element types of the weights, sorted, each once.
func (f *Folder) DTypes() []string {
	set := map[string]bool{}
	for name, x := range f.files {
		set[x.Entries[name].DType] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// Read implements model.Weights.
func (f *Folder) Read(dst []float32, c model.ChunkRange) error {
	if err := f.layout.CheckRange(c, len(dst)); err != nil {
		return err
	}
	ts := f.layout.Tensors()
	for i := c.From; i < c.To; i++ {
		x := f.layout.Chunk(i)
		t := ts[sort.Search(len(ts), func(k int) bool { return ts[k].Off > x.Off })-1]
		file, at := f.files[t.Name], x.Off-t.Off
		var err error
		if file.mapped != nil {
			err = file.readRows(t.Name, at, x.Rows, x.Cols, x.Stride, dst[:x.Len])
		} else {
			err = f.band.read(file, t, x, dst[:x.Len])
		}
		if err != nil {
			return err
		}
		dst = dst[x.Len:]
	}
	return nil
}

// bandCache keeps the 64 rows read last: where files are not mapped, the chunks of a matrix would else be read in runs of 256
// bytes.
type bandCache struct {
	mu     sync.Mutex
	tensor string
	at     int
	rows   []float32
}

func (b *bandCache) read(f *File, t model.Tensor, c model.Chunk, dst []float32) error {
	at, n := c.Off-t.Off, c.Len // a run of a vector
	if len(t.Shape) == 2 {
		at -= at % c.Stride
		n = c.Rows * c.Stride
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tensor != t.Name || b.at != at || len(b.rows) != n {
		b.tensor, b.rows = "", slices.Grow(b.rows[:0], n)[:n]
		if err := f.Read(t.Name, at, b.rows); err != nil {
			return err
		}
		b.tensor, b.at = t.Name, at
	}
	for r := range c.Rows {
		copy(dst[r*c.Cols:(r+1)*c.Cols], b.rows[c.Off-t.Off-at+r*c.Stride:])
	}
	return nil
}

// Load reads the weights into memory.
func (f *Folder) Load() (*model.Flat, error) {
	w := model.NewFlat(f.layout)
	return w, f.Read(w.Data, f.layout.All())
}

// OpenDir reads a model folder into memory, in one file or sharded with an index.
func OpenDir(dir string) (c model.Config, w *model.Flat, err error) {
	f, err := OpenFolder(dir)
	if err != nil {
		return c, nil, err
	}
	if w, err = f.Load(); err != nil {
		return c, nil, errors.Join(err, f.Close())
	}
	return f.Config, w, f.Close()
}

// ReadModel reads one safetensors file that holds exactly the tensors of c.
func ReadModel(r io.ReaderAt, size int64, c model.Config) (*model.Flat, error) {
	x, err := Open(r, size)
	if err != nil {
		return nil, err
	}
	if err := check(c, []*File{x}, func(string) *File { return x }); err != nil {
		return nil, err
	}
	l, err := model.NewLayout(c)
	if err != nil {
		return nil, err
	}
	f := &Folder{Config: c, layout: l, files: map[string]*File{}, open: []*File{x}}
	for _, t := range l.Tensors() {
		f.files[t.Name] = x
	}
	if err := f.sameHead(x); err != nil {
		return nil, err
	}
	return f.Load()
}

// parts is the index of a sharded folder, which says what file holds a tensor; nil if there is one file.
func parts(dir string) (map[string]string, error) {
	_, noSingle := os.Stat(filepath.Join(dir, singleFile))
	raw, err := readSmall(filepath.Join(dir, indexFile), maxIndex)
	switch {
	case errors.Is(err, os.ErrNotExist) && errors.Is(noSingle, os.ErrNotExist):
		return nil, fmt.Errorf("open model folder: %w: neither %s nor %s in %s%s", os.ErrNotExist, singleFile, indexFile, dir, pickled(dir))
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("open model folder: %w", err)
	case noSingle == nil:
		return nil, invalid("%s is beside %s: one folder would be two models; remove the one that is not meant", singleFile, indexFile)
	}
	return weightMap(raw)
}

// pickled is advice for a folder with torch's own files, which are programs and never opened here.
func pickled(dir string) string {
	if m, err := filepath.Glob(filepath.Join(dir, "pytorch_model*.bin*")); err != nil || len(m) == 0 {
		return ""
	}
	return "; pytorch_model.bin cannot be read safely: convert it with transformers, AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(OUT)"
}

// weightMap reads the index of a sharded model.
func weightMap(raw []byte) (map[string]string, error) {
	var index struct {
		Map json.RawMessage `json:"weight_map"`
	}
	if err := json.Unmarshal(raw, &index); err != nil || len(index.Map) == 0 {
		return nil, invalid("%s: no weight_map (%v)", indexFile, err)
	}
	where := map[string]string{}
	err := eachField(index.Map, func(tensor string, raw []byte) error {
		var f string
		if _, twice := where[tensor]; twice || raw[0] != '"' || json.Unmarshal(raw, &f) != nil {
			return invalid("%s: tensor %q is there twice or not in a file", indexFile, tensor)
		}
		if f != filepath.Base(f) || strings.HasPrefix(f, ".") || strings.ContainsAny(f, `/\`) {
			return invalid("%s names the file %q", indexFile, f)
		}
		where[tensor] = f
		return nil
	})
	return where, err
}

// openRegular opens a file, or what a link leads to. A pipe, which a stranger's archive may hold, would make us wait forever.
func openRegular(path string) (*os.File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, invalid("%s is not a regular file", filepath.Base(path))
	}
	return os.Open(path)
}

// readSmall reads a file of at most limit bytes.
func readSmall(path string, limit int64) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(f, limit+1))
	if err == nil && n > limit {
		err = invalid("%s: more than %d bytes", filepath.Base(path), limit)
	}
	return b.Bytes(), err
}
