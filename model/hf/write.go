package hf

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"

	"sn3/model"
)

// DType is the element type that weights are written in.
type DType string

// What WriteModel writes. Only F32 keeps the state root.
const (
	F32  DType = "F32"
	BF16 DType = "BF16"
)

// width is the bytes of an element.
func (d DType) width() (int64, error) {
	switch d {
	case F32:
		return 4, nil
	case BF16:
		return 2, nil
	}
	return 0, fmt.Errorf("write model: unknown dtype %q", d)
}

// WriteModel writes weights as one safetensors file, at most 64 rows of a tensor in memory at a time. The same weights and
// metadata give the same bytes.
func WriteModel(w io.Writer, weights model.Weights, dtype DType, meta map[string]string) error {
	p := newPrinter(weights, dtype)
	defer p.stop()
	return p.file(w, weights.Layout().Tensors(), meta)
}

// printer writes the bands of a model one after the other, to one file or to several.
type printer struct {
	weights      model.Weights
	layout       *model.Layout
	dtype        DType
	next         func() (band, bool)
	stop         func()
	chunks, rows []float32
	bytes        []byte
	done         func(n int) error // told after n more values
}

func newPrinter(w model.Weights, dtype DType) *printer {
	p := &printer{weights: w, layout: w.Layout(), dtype: dtype, done: func(int) error { return nil }}
	p.next, p.stop = iter.Pull(bands(p.layout))
	return p
}

// file writes a safetensors file of the next tensors.
func (p *printer) file(w io.Writer, tensors []model.Tensor, meta map[string]string) error {
	head, err := header(tensors, p.dtype, meta)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 1<<18)
	if _, err := out.Write(append(binary.LittleEndian.AppendUint64(nil, uint64(len(head))), head...)); err != nil {
		return fmt.Errorf("write model: %w", err)
	}
	left := 0
	for _, t := range tensors {
		left += t.Len()
	}
	for left > 0 {
		n, err := p.band(out)
		if err != nil {
			return fmt.Errorf("write model: %w", err)
		}
		left -= n
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write model: %w", err)
	}
	return nil
}

// band writes the next band and returns how many values it had.
func (p *printer) band(w io.Writer) (int, error) {
	b, ok := p.next()
	if !ok {
		return 0, io.ErrUnexpectedEOF
	}
	p.chunks, p.rows = slices.Grow(p.chunks[:0], b.len)[:b.len], slices.Grow(p.rows[:0], b.len)[:b.len]
	if err := p.weights.Read(p.chunks, b.chunks); err != nil {
		return 0, err
	}
	b.runs(p.layout, func(chunk, row, n int) { copy(p.rows[row:row+n], p.chunks[chunk:]) })
	if err := p.values(w); err != nil {
		return 0, err
	}
	return b.len, p.done(b.len)
}

// values writes p.rows.
func (p *printer) values(w io.Writer) error {
	if p.dtype == F32 && littleEndian {
		_, err := w.Write(raw(p.rows))
		return err
	}
	width := 4
	if p.dtype == BF16 {
		width = 2
	}
	p.bytes = slices.Grow(p.bytes[:0], width*len(p.rows))[:width*len(p.rows)]
	for i, x := range p.rows {
		if width == 2 {
			binary.LittleEndian.PutUint16(p.bytes[2*i:], BF16Bits(x))
		} else {
			binary.LittleEndian.PutUint32(p.bytes[4*i:], math.Float32bits(x))
		}
	}
	_, err := w.Write(p.bytes)
	return err
}

// header lists the tensors in order and is padded with spaces so that the data starts at a multiple of 8.
func header(tensors []model.Tensor, dtype DType, meta map[string]string) ([]byte, error) {
	width, err := dtype.width()
	if err != nil {
		return nil, err
	}
	if meta == nil {
		meta = map[string]string{"format": "pt"} // older readers ask for it
	}
	m, err := json.Marshal(meta)
	if err != nil {
		return nil, fmt.Errorf("write model: %w", err)
	}
	b := append([]byte(`{"__metadata__":`), m...)
	off := int64(0)
	for _, t := range tensors {
		shape, err := json.Marshal(t.Shape)
		if err != nil {
			return nil, fmt.Errorf("write model: %w", err)
		}
		end := off + width*int64(t.Len())
		b = fmt.Appendf(b, `,%q:{"dtype":%q,"shape":%s,"data_offsets":[%d,%d]}`, t.Name, dtype, shape, off, end)
		off = end
	}
	b = append(b, '}')
	for (8+len(b))%8 != 0 {
		b = append(b, ' ')
	}
	return b, nil
}
