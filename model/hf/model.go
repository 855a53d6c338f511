package hf

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"sort"
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

// WriteModel writes weights as one safetensors file, tensor by tensor. The same weights and metadata give the same bytes.
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
	chunk := 0
	var buf [model.ChunkSize]float32
	for _, t := range l.Tensors() {
		flat := make([]float32, t.Len())
		for done := 0; done < len(flat); chunk++ { // the chunks of a tensor follow each other
			c := l.Chunk(chunk)
			if err := weights.Read(buf[:c.Len], model.ChunkRange{From: chunk, To: chunk + 1}); err != nil {
				return fmt.Errorf("write model: %w", err)
			}
			for r := range c.Rows {
				copy(flat[c.Off-t.Off+r*c.Stride:][:c.Cols], buf[r*c.Cols:])
			}
			done += c.Len
		}
		if err := writeValues(out, flat, dtype); err != nil {
			return fmt.Errorf("write model: %w", err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write model: %w", err)
	}
	return nil
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
	return assemble(c, map[string]*File{"": f}, func(string) string { return "" })
}

// assemble fills weights from files; where says which file holds a tensor.
func assemble(c model.Config, files map[string]*File, where func(name string) string) (*model.Flat, error) {
	l, err := model.NewLayout(c)
	if err != nil {
		return nil, err
	}
	have := 0
	for _, f := range files {
		have += len(f.Entries)
	}
	if have != len(l.Tensors()) {
		return nil, invalid("%d tensors, the configuration has %d", have, len(l.Tensors()))
	}
	flat := make([]float32, l.Params())
	for _, t := range l.Tensors() {
		f := files[where(t.Name)]
		if f == nil {
			return nil, invalid("no file holds tensor %q", t.Name)
		}
		e, ok := f.Entries[t.Name]
		same := ok && len(e.Shape) == len(t.Shape)
		for i := 0; same && i < len(e.Shape); i++ {
			same = e.Shape[i] == uint64(t.Shape[i])
		}
		if !same {
			return nil, invalid("tensor %q: shape %v, the configuration says %v", t.Name, e.Shape, t.Shape)
		}
		if err := f.Read(t.Name, 0, flat[t.Off:t.Off+t.Len()]); err != nil {
			return nil, err
		}
	}
	w := model.NewFlat(l)
	w.SetRows(flat)
	return w, nil
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
	files := map[string]*File{}
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
		if files[name], err = Open(f, st.Size()); err != nil {
			return c, nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	w, err = assemble(c, files, where)
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
	var names []string
	for f := range set {
		names = append(names, f)
	}
	sort.Strings(names)
	return names, func(t string) string { return index.Map[t] }, nil
}
