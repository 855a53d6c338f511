package hf

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sn3/model"
)

// DType is the element type that weights are written in.
type DType string

// What WriteModel writes. Only F32 keeps the state root.
const (
	F32  DType = "F32"
	BF16 DType = "BF16"
)

// WriteModel writes weights as one safetensors file, at most 64 rows of a tensor in memory at a time. The same weights and
// metadata give the same bytes.
func WriteModel(w io.Writer, weights model.Weights, dtype DType, meta map[string]string) error {
	l := weights.Layout()
	head, err := header(l, dtype, meta)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 1<<18)
	if _, err := out.Write(append(binary.LittleEndian.AppendUint64(nil, uint64(len(head))), head...)); err != nil {
		return fmt.Errorf("write model: %w", err)
	}
	var chunks, rows []float32
	for b := range bands(l) {
		chunks, rows = slices.Grow(chunks[:0], b.len)[:b.len], slices.Grow(rows[:0], b.len)[:b.len]
		if err := weights.Read(chunks, b.chunks); err != nil {
			return fmt.Errorf("write model: %w", err)
		}
		b.runs(l, func(chunk, row, n int) { copy(rows[row:row+n], chunks[chunk:]) })
		if err := writeValues(out, rows, dtype); err != nil {
			return fmt.Errorf("write model: %w", err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write model: %w", err)
	}
	return nil
}

// band is the smallest part of a tensor that is contiguous both row-major and in chunk order: 64 rows of a matrix, one run of
// a vector.
type band struct {
	tensor model.Tensor
	chunks model.ChunkRange
	at     int // first element within the tensor, row-major
	len    int
}

// bands yields the bands of a layout, in the order of both its tensors and its chunks.
func bands(l *model.Layout) iter.Seq[band] {
	return func(yield func(band) bool) {
		chunk := 0
		for _, t := range l.Tensors() {
			for at := 0; at < t.Len(); {
				b := band{tensor: t, chunks: model.ChunkRange{From: chunk}, at: at}
				size := l.Chunk(chunk).Len
				if len(t.Shape) == 2 {
					size = l.Chunk(chunk).Rows * t.Shape[1]
				}
				for ; b.len < size; chunk++ {
					b.len += l.Chunk(chunk).Len
				}
				b.chunks.To = chunk
				if !yield(b) {
					return
				}
				at += b.len
			}
		}
	}
}

// runs calls fn for every run of n values that lies at chunk in the band's values in chunk order, at row in row-major order.
func (b band) runs(l *model.Layout, fn func(chunk, row, n int)) {
	start, _ := l.Span(b.chunks)
	for i := b.chunks.From; i < b.chunks.To; i++ {
		c := l.Chunk(i)
		for r := range c.Rows {
			fn(c.Start-start+r*c.Cols, c.Off-b.tensor.Off-b.at+r*c.Stride, c.Cols)
		}
	}
}

func writeValues(w io.Writer, v []float32, dtype DType) error {
	var b []byte
	for _, x := range v {
		if dtype == BF16 {
			b = binary.LittleEndian.AppendUint16(b, BF16Bits(x))
		} else {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
		if len(b) >= 1<<16 {
			if _, err := w.Write(b); err != nil {
				return err
			}
			b = b[:0]
		}
	}
	_, err := w.Write(b)
	return err
}

// header lists the tensors in layout order and is padded with spaces so that the data starts at a multiple of 8.
func header(l *model.Layout, dtype DType, meta map[string]string) ([]byte, error) {
	width := uint64(4)
	switch dtype {
	case F32:
	case BF16:
		width = 2
	default:
		return nil, fmt.Errorf("write model: unknown dtype %q", dtype)
	}
	if meta == nil {
		meta = map[string]string{"format": "pt"} // older readers ask for it
	}
	m, err := json.Marshal(meta)
	if err != nil {
		return nil, fmt.Errorf("write model: %w", err)
	}
	b := append([]byte(`{"__metadata__":`), m...)
	off := uint64(0)
	for _, t := range l.Tensors() {
		shape, err := json.Marshal(t.Shape)
		if err != nil {
			return nil, fmt.Errorf("write model: %w", err)
		}
		end := off + width*uint64(t.Len())
		b = fmt.Appendf(b, `,%q:{"dtype":%q,"shape":%s,"data_offsets":[%d,%d]}`, t.Name, dtype, shape, off, end)
		off = end
	}
	b = append(b, '}')
	for (8+len(b))%8 != 0 {
		b = append(b, ' ')
	}
	return b, nil
}

// ReadModel reads one safetensors file that holds exactly the tensors of c.
func ReadModel(r io.ReaderAt, size int64, c model.Config) (*model.Flat, error) {
	f, err := Open(r, size)
	if err != nil {
		return nil, err
	}
	return assemble(c, []*File{f}, func(string) *File { return f })
}

// assemble fills weights from files; where says which of them holds a tensor, nil for none.
func assemble(c model.Config, files []*File, where func(name string) *File) (*model.Flat, error) {
	if err := check(c, files, where); err != nil {
		return nil, err
	}
	l, err := model.NewLayout(c)
	if err != nil {
		return nil, err
	}
	w := model.NewFlat(l)
	var rows []float32
	for b := range bands(l) {
		rows = slices.Grow(rows[:0], b.len)[:b.len]
		if err := where(b.tensor.Name).Read(b.tensor.Name, b.at, rows); err != nil {
			return nil, err
		}
		from, to := l.Span(b.chunks)
		chunks := w.Data[from:to]
		b.runs(l, func(chunk, row, n int) { copy(chunks[chunk:chunk+n], rows[row:]) })
	}
	return w, nil
}

// check compares the files with the configuration before anything of the configuration's size is allocated: a configuration
// may come from a stranger, the files are as large as they say.
func check(c model.Config, files []*File, where func(name string) *File) error {
	if err := c.Validate(); err != nil {
		return invalid("config.json: %v", err)
	}
	have := 0
	for _, f := range files {
		for name := range f.Entries {
			if !strings.HasSuffix(name, ".rotary_emb.inv_freq") { // old exports carry what the configuration already says
				have++
			}
		}
	}
	ts := c.Tensors()
	if have != len(ts) {
		return invalid("%d tensors, the configuration has %d", have, len(ts))
	}
	for _, t := range ts {
		f := where(t.Name)
		if f == nil {
			return invalid("no file holds tensor %q", t.Name)
		}
		e, ok := f.Entries[t.Name]
		if same := ok && slices.EqualFunc(e.Shape, t.Shape, func(a uint64, b int) bool { return a == uint64(b) }); !same {
			return invalid("tensor %q: shape %v, the configuration says %v", t.Name, e.Shape, t.Shape)
		}
		if !e.readable() {
			return invalid("tensor %q: cannot read dtype %s", t.Name, e.DType)
		}
	}
	return nil
}

// OpenDir reads a model folder, in one file or sharded with an index.
func OpenDir(dir string) (c model.Config, w *model.Flat, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return c, nil, fmt.Errorf("open model folder: %w", err)
	}
	if c, err = ParseConfig(raw); err != nil {
		return c, nil, err
	}
	names, where, err := parts(dir)
	if err != nil {
		return c, nil, err
	}
	var files []*File
	byName := map[string]*File{}
	for _, name := range names {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return c, nil, fmt.Errorf("open model folder: %w", err)
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			return c, nil, fmt.Errorf("open model folder: %w", err)
		}
		if byName[name], err = Open(f, st.Size()); err != nil {
			return c, nil, fmt.Errorf("%s: %w", name, err)
		}
		files = append(files, byName[name])
	}
	w, err = assemble(c, files, func(tensor string) *File { return byName[where(tensor)] })
	return c, w, err
}

// parts finds the weight files of a folder and which of them holds a tensor.
func parts(dir string) ([]string, func(string) string, error) {
	const single = "model.safetensors"
	raw, err := os.ReadFile(filepath.Join(dir, single+".index.json"))
	if errors.Is(err, os.ErrNotExist) {
		return []string{single}, func(string) string { return single }, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open model folder: %w", err)
	}
	var index struct {
		Map map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, nil, invalid("index: %v", err)
	}
	set := map[string]bool{}
	for _, f := range index.Map {
		if f != filepath.Base(f) || strings.HasPrefix(f, ".") {
			return nil, nil, invalid("index names the file %q", f)
		}
		set[f] = true
	}
	return slices.Sorted(maps.Keys(set)), func(t string) string { return index.Map[t] }, nil
}
