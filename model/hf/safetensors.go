// Package hf reads and writes models as Hugging Face folders: config.json and safetensors.
package hf

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"sort"
)

// maxHeader is safetensors' own limit on a header.
const maxHeader = 100_000_000

// ErrFormat: the bytes are not a valid safetensors file or model folder.
var ErrFormat = errors.New("hf: invalid file")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

// widths of the element types in bits; sub-byte ones must fill whole bytes.
var widths = map[string]uint64{"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16,
	"BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}

// Entry is one tensor of a file.
type Entry struct {
	Name     string
	DType    string
	Shape    []uint64
	From, To uint64 // within the data
}

// File is a checked safetensors file.
type File struct {
	Entries  map[string]Entry
	Metadata map[string]string
	data     io.ReaderAt
	start    int64
}

// Open reads and checks a header. The tensors must cover the data without hole or overlap to its last byte; a repeated name
// is refused (the reference lets the last one win: two readers could disagree).
func Open(r io.ReaderAt, size int64) (*File, error) {
	var n [8]byte
	if size < 8 {
		return nil, invalid("%d bytes", size)
	}
	if _, err := r.ReadAt(n[:], 0); err != nil {
		return nil, fmt.Errorf("read safetensors: %w", err)
	}
	length := binary.LittleEndian.Uint64(n[:])
	if length > maxHeader || length > uint64(size-8) {
		return nil, invalid("header of %d bytes in a file of %d", length, size)
	}
	head := make([]byte, length)
	if _, err := r.ReadAt(head, 8); err != nil {
		return nil, fmt.Errorf("read safetensors: %w", err)
	}
	f := &File{Entries: map[string]Entry{}, data: r, start: 8 + int64(length)}
	if err := f.header(head); err != nil {
		return nil, err
	}
	return f, f.cover(uint64(size - f.start))
}

func (f *File) header(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if !json.Valid(b) || len(bytes.TrimLeft(b, " ")) == 0 || bytes.TrimLeft(b, " ")[0] != '{' {
		return invalid("header is not a JSON object")
	}
	if _, err := d.Token(); err != nil {
		return invalid("header: %v", err)
	}
	meta := false
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return invalid("header: %v", err)
		}
		name := key.(string) // a key of valid JSON
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return invalid("header: %v", err)
		}
		if name == "__metadata__" {
			if meta {
				return invalid("metadata twice")
			}
			meta = true
			if err := json.Unmarshal(raw, &f.Metadata); err != nil {
				return invalid("metadata: %v", err)
			}
			continue
		}
		if _, twice := f.Entries[name]; twice {
			return invalid("tensor %q twice", name)
		}
		e, err := entry(name, raw)
		if err != nil {
			return err
		}
		f.Entries[name] = e
	}
	return nil
}

func entry(name string, raw []byte) (Entry, error) {
	var x struct {
		DType   *string   `json:"dtype"`
		Shape   *[]uint64 `json:"shape"`
		Offsets *[]uint64 `json:"data_offsets"`
	}
	if err := checkKeys(raw); err != nil {
		return Entry{}, invalid("tensor %q: %v", name, err)
	}
	if err := json.Unmarshal(raw, &x); err != nil || x.DType == nil || x.Shape == nil || x.Offsets == nil || len(*x.Offsets) != 2 {
		return Entry{}, invalid("tensor %q: dtype, shape and two data_offsets are needed", name)
	}
	e := Entry{name, *x.DType, *x.Shape, (*x.Offsets)[0], (*x.Offsets)[1]}
	width, ok := widths[e.DType]
	if !ok {
		return Entry{}, invalid("tensor %q: dtype %q", name, e.DType)
	}
	count := uint64(1)
	for _, s := range e.Shape {
		hi, lo := bits.Mul64(count, s)
		if hi != 0 {
			return Entry{}, invalid("tensor %q: shape overflows", name)
		}
		count = lo
	}
	hi, size := bits.Mul64(count, width)
	if hi != 0 || size%8 != 0 || e.From > e.To || e.To-e.From != size/8 {
		return Entry{}, invalid("tensor %q: shape and data_offsets disagree", name)
	}
	return e, nil
}

// checkKeys refuses a field given twice, which encoding/json would let pass.
func checkKeys(raw []byte) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("not an object")
	}
	seen := map[string]bool{}
	for d.More() {
		k, err := d.Token()
		if err != nil {
			return err
		}
		if name := k.(string); seen[name] { // a key of valid JSON
			return fmt.Errorf("field %q twice", name)
		} else {
			seen[name] = true
		}
		var skip json.RawMessage
		if err := d.Decode(&skip); err != nil {
			return err
		}
	}
	return nil
}

func (f *File) cover(size uint64) error {
	all := make([]Entry, 0, len(f.Entries))
	for _, e := range f.Entries {
		all = append(all, e)
	}
	sort.Slice(all, func(i, j int) bool {
		if all[i].From != all[j].From {
			return all[i].From < all[j].From
		}
		return all[i].To < all[j].To
	})
	at := uint64(0)
	for _, e := range all {
		if e.From != at {
			return invalid("hole or overlap at %d", at)
		}
		at = e.To
	}
	if at != size {
		return invalid("tensors end at %d, the data at %d", at, size)
	}
	return nil
}

// Read converts a tensor's elements [at, at+len(dst)) to float32; F32, BF16 and F16 can be read.
func (f *File) Read(name string, at int, dst []float32) error {
	e, ok := f.Entries[name]
	if !ok {
		return invalid("no tensor %q", name)
	}
	width := int(widths[e.DType] / 8)
	b := make([]byte, width*len(dst))
	from := int64(e.From) + int64(width*at)
	if from+int64(len(b)) > int64(e.To) {
		return invalid("tensor %q has fewer than %d elements", name, at+len(dst))
	}
	if _, err := f.data.ReadAt(b, f.start+from); err != nil {
		return fmt.Errorf("read tensor %q: %w", name, err)
	}
	for i := range dst {
		switch e.DType {
		case "F32":
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		case "BF16":
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(b[2*i:])) << 16)
		case "F16":
			dst[i] = fromHalf(binary.LittleEndian.Uint16(b[2*i:]))
		default:
			return invalid("tensor %q: cannot read dtype %s", name, e.DType)
		}
	}
	return nil
}

// fromHalf widens an IEEE binary16.
func fromHalf(h uint16) float32 {
	sign, exp, frac := uint32(h>>15)<<31, uint32(h>>10&31), uint32(h&1023)
	switch {
	case exp == 31:
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	case exp == 0:
		return math.Float32frombits(sign | math.Float32bits(float32(frac)/(1<<24)))
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}

// BF16Bits rounds to bfloat16, to nearest even; a NaN becomes 0x7FC0 (golden/llama/bf16).
func BF16Bits(x float32) uint16 {
	b := math.Float32bits(x)
	if b&0x7fffffff > 0x7f800000 {
		return 0x7FC0
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}
