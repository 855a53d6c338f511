// Package hf reads and writes models as Hugging Face folders: config.json and safetensors.
package hf

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// maxHeader is the longest header in bytes. That of the deepest Llama that a model.Config can describe has 6 million; the
	// reference allows 100 million, which in the hands of a stranger are gigabytes of memory and a minute of parsing.
	maxHeader = 16 << 20
	// maxList is the longest shape in bytes: torch has at most 64 dimensions.
	maxList = 1 << 11
)

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

func (e Entry) readable() bool { return e.DType == "F32" || e.DType == "BF16" || e.DType == "F16" }

// File is a checked safetensors file.
type File struct {
	Entries  map[string]Entry
	Metadata map[string]string // nil: none given
	data     io.ReaderAt
	start    int64
	mapped   []byte // the whole file, or nil: then data is read
	file     *os.File
}

// Open reads and checks a header. The tensors must cover the data without hole or overlap to its last byte. A header longer
// than any Llama's is refused too (maxHeader).
//
// Some files that the reference (safetensors 0.8.0) reads by accident are refused here too. A tensor's name twice, or a key of
// the metadata twice: the reference lets the last one win, other readers the first, so one file would be two models. A space
// before the brace: the format says that the header begins with "{". A field of a tensor other than dtype, shape and
// data_offsets: a later format may give it a meaning, and the tensor another one. Metadata that is null: it must be a map. No
// version of the library or of transformers writes any of these.
func Open(r io.ReaderAt, size int64) (*File, error) {
	var n [8]byte
	if size < 8 {
		return nil, invalid("%d bytes", size)
	}
	if err := readAt(r, n[:], 0); err != nil {
		return nil, fmt.Errorf("read safetensors: %w", err)
	}
	length := binary.LittleEndian.Uint64(n[:])
	if length > maxHeader || length > uint64(size-8) {
		return nil, invalid("header of %d bytes in a file of %d", length, size)
	}
	head := make([]byte, length)
	if err := readAt(r, head, 8); err != nil {
		return nil, fmt.Errorf("read safetensors: %w", err)
	}
	f := &File{Entries: map[string]Entry{}, data: r, start: 8 + int64(length)}
	if err := f.header(head); err != nil {
		return nil, err
	}
	if err := f.cover(uint64(size - f.start)); err != nil {
		return nil, err
	}
	return f, nil
}

// readAt fills b; a reader may report its end together with the last bytes.
func readAt(r io.ReaderAt, b []byte, off int64) error {
	_, err := io.ReadFull(io.NewSectionReader(r, off, int64(len(b))), b)
	return err
}

// header parses the JSON as strictly as the reference: encoding/json alone would take any letter case for a field, null for
// a number and broken UTF-8 for a name.
func (f *File) header(b []byte) error {
	if !utf8.Valid(b) || !json.Valid(b) || b[0] != '{' {
		return invalid("header is not a JSON object in UTF-8")
	}
	return eachField(b, func(name string, raw []byte) error {
		if name == "__metadata__" {
			if f.Metadata != nil {
				return invalid("metadata twice")
			}
			return f.metadata(raw)
		}
		if strings.ContainsRune(name, utf8.RuneError) { // a lone surrogate: readers differ in what they make of it
			return invalid("tensor name %q", name)
		}
		if _, twice := f.Entries[name]; twice {
			return invalid("tensor %q twice", name)
		}
		e, err := entry(name, raw)
		if err != nil {
			return err
		}
		f.Entries[name] = e
		return nil
	})
}

// metadata is an object of strings.
func (f *File) metadata(raw []byte) error {
	f.Metadata = map[string]string{}
	return eachField(raw, func(key string, v []byte) error {
		if _, twice := f.Metadata[key]; twice {
			return invalid("metadata %q twice", key)
		}
		if v[0] != '"' {
			return invalid("metadata %q is not a string", key)
		}
		var s string
		if err := json.Unmarshal(v, &s); err != nil {
			return invalid("metadata %q: %v", key, err)
		}
		f.Metadata[key] = s
		return nil
	})
}

// eachField calls fn with the fields of a JSON object, in order, repeated ones too. b must be valid JSON.
func eachField(b []byte, fn func(name string, raw []byte) error) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return invalid("%.20q is not a JSON object", b)
	}
	for d.More() {
		k, err := d.Token()
		if err != nil {
			return invalid("%v", err)
		}
		name, ok := k.(string)
		var raw json.RawMessage
		if err := d.Decode(&raw); !ok || err != nil {
			return invalid("field %v: %v", k, err)
		}
		if err := fn(name, raw); err != nil {
			return err
		}
	}
	return nil
}

func entry(name string, raw []byte) (Entry, error) {
	e, fields := Entry{Name: name}, map[string][]byte{}
	err := eachField(raw, func(key string, v []byte) error {
		if _, twice := fields[key]; twice {
			return invalid("field %q twice", key)
		}
		if key != "dtype" && key != "shape" && key != "data_offsets" {
			return invalid("unknown field %q", key)
		}
		fields[key] = v
		return nil
	})
	if err != nil {
		return e, fmt.Errorf("tensor %q: %w", name, err)
	}
	shape, err := integers(fields["shape"])
	offsets, err2 := integers(fields["data_offsets"])
	if err := errors.Join(err, err2, json.Unmarshal(fields["dtype"], &e.DType)); err != nil || len(offsets) != 2 {
		return e, invalid("tensor %q: dtype, shape and two data_offsets are needed (%v)", name, err)
	}
	e.Shape, e.From, e.To = shape, offsets[0], offsets[1]
	return e, e.check()
}

// integers reads a JSON array of plain unsigned integers; 4.0, 4e0, -4, "4" and null are errors.
func integers(raw []byte) ([]uint64, error) {
	if len(raw) == 0 || raw[0] != '[' || len(raw) > maxList {
		return nil, errors.New("not an array, or a very long one")
	}
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, err
	}
	out := make([]uint64, len(list))
	for i, x := range list {
		n, err := strconv.ParseUint(string(x), 10, 64)
		if err != nil {
			return nil, err
		}
		out[i] = n
	}
	return out, nil
}

// check compares the extent of the data with dtype and shape; products are checked before a zero can hide an overflow.
func (e Entry) check() error {
	width, ok := widths[e.DType]
	if !ok {
		return invalid("tensor %q: dtype %q", e.Name, e.DType)
	}
	count := uint64(1)
	for _, s := range e.Shape {
		hi, lo := bits.Mul64(count, s)
		if hi != 0 {
			return invalid("tensor %q: shape overflows", e.Name)
		}
		count = lo
	}
	hi, size := bits.Mul64(count, width)
	if hi != 0 || size%8 != 0 || e.From > e.To || e.To-e.From != size/8 {
		return invalid("tensor %q: shape and data_offsets disagree", e.Name)
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
