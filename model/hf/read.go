package hf

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"runtime/debug"
	"sync"
	"unsafe"

	"sn3/model/kern"
)

// OpenFile opens a safetensors file and maps it into memory where the system can; elsewhere it is read piece by piece. Close
// it when done.
func OpenFile(path string) (*File, error) {
	file, err := openRegular(path)
	if err != nil {
		return nil, fmt.Errorf("open safetensors: %w", err)
	}
	f, err := openFile(file)
	if err != nil {
		file.Close()
		return nil, err
	}
	return f, nil
}

func openFile(file *os.File) (*File, error) {
	st, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("open safetensors: %w", err)
	}
	f, err := Open(file, st.Size())
	if err != nil {
		return nil, err
	}
	if f.mapped, err = mapFile(file, st.Size()); err != nil {
		f.mapped = nil // reading does the same, slower
	}
	f.file = file
	return f, nil
}

// Close releases what OpenFile took. Views of the file must not be used afterwards.
func (f *File) Close() error {
	if f.file == nil {
		return nil
	}
	mapped, file := f.mapped, f.file
	f.mapped, f.file, f.Entries = nil, nil, nil
	if err := unmap(mapped); err != nil {
		file.Close()
		return fmt.Errorf("close safetensors: %w", err)
	}
	return file.Close()
}

// View is a tensor's values where they lie in the file, row-major, without a copy: if the file is mapped, the tensor is F32,
// aligned, and this machine little-endian. Valid until Close; it must not be written to. If somebody cuts the file meanwhile, a
// touch of what is gone ends the process: use Read where that may happen.
func (f *File) View(name string) ([]float32, bool) {
	e, ok := f.Entries[name]
	if !ok || f.mapped == nil || e.DType != "F32" || !littleEndian {
		return nil, false
	}
	if e.From == e.To {
		return []float32{}, true
	}
	b := f.mapped[f.start+int64(e.From) : f.start+int64(e.To)]
	if uintptr(unsafe.Pointer(&b[0]))%4 != 0 {
		return nil, false
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&b[0])), len(b)/4), true
}

// Read converts a tensor's elements [at, at+len(dst)), row-major, to float32; F32, BF16 and F16 can be read. Safe for
// concurrent use.
func (f *File) Read(name string, at int, dst []float32) error {
	return f.readRows(name, at, 1, len(dst), 0, dst)
}

// readRows reads rows runs of cols elements, stride apart, the first at element at, to dst one after the other.
func (f *File) readRows(name string, at, rows, cols, stride int, dst []float32) error {
	e, ok := f.Entries[name]
	if !ok {
		return invalid("no tensor %q", name)
	}
	if !e.readable() {
		return invalid("tensor %q: cannot read dtype %s", name, e.DType)
	}
	width := int64(widths[e.DType] / 8)
	count, end := (e.To-e.From)/uint64(width), at+(rows-1)*stride+cols
	if at < 0 || rows < 1 || uint64(end) > count {
		return invalid("tensor %q has %d elements, not [%d,%d)", name, count, at, end)
	}
	from := f.start + int64(e.From)
	var err error
	if f.mapped != nil {
		err = guard(func() {
			for r := range rows {
				b := f.mapped[from+width*int64(at+r*stride):][:width*int64(cols)]
				widen(dst[r*cols:(r+1)*cols], b, e.DType)
			}
		})
		if err == nil && from+width*int64(end) > lastPage(int64(len(f.mapped))) {
			err = f.whole()
		}
	} else {
		for r := 0; r < rows && err == nil; r++ {
			err = f.readRun(from+width*int64(at+r*stride), dst[r*cols:(r+1)*cols], e.DType)
		}
	}
	if err != nil {
		return fmt.Errorf("read tensor %q: %w", name, err)
	}
	return nil
}

// readRun reads in pieces, so that a large run needs no second copy of itself.
func (f *File) readRun(off int64, dst []float32, dtype string) error {
	width := int(widths[dtype] / 8)
	piece := pieces.Get().(*[1 << 16]byte)
	defer pieces.Put(piece)
	b := piece[:]
	for len(dst) > 0 {
		n := min(len(b)/width, len(dst))
		if err := readAt(f.data, b[:n*width], off); err != nil {
			return err
		}
		widen(dst[:n], b, dtype)
		dst, off = dst[n:], off+int64(n*width)
	}
	return nil
}

var pieces = sync.Pool{New: func() any { return new([1 << 16]byte) }}

// errCut: a file is shorter than it was when it was opened.
var errCut = fmt.Errorf("%w: the file was cut while it was read", io.ErrUnexpectedEOF)

// guard turns a fault, which the end of a mapped file is if somebody has cut it, into an error.
func guard(read func()) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		r := recover()
		if _, fault := r.(interface{ Addr() uintptr }); fault { // as package debug has it
			err = errCut
		} else if r != nil {
			err = fmt.Errorf("read mapped file: %v", r) // a mistake of ours, told as one
		}
	}()
	read()
	return nil
}

// lastPage is where the last page of a file of that many bytes begins.
func lastPage(size int64) int64 {
	return (size - 1) / int64(os.Getpagesize()) * int64(os.Getpagesize())
}

// whole finds a cut that leaves no fault: in the page that a file ends in zeros stand behind its end. A cut before the last
// page is a fault there, so that whoever reads a file to its end has seen every one.
func (f *File) whole() error {
	st, err := f.file.Stat()
	if err == nil && st.Size() < int64(len(f.mapped)) {
		err = errCut
	}
	return err
}

// raw is the memory of v, which is not empty.
func raw(v []float32) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), 4*len(v)) }

var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// widen converts the little-endian elements of b to float32.
func widen(dst []float32, b []byte, dtype string) {
	switch {
	case len(dst) == 0:
	case dtype == "F32" && littleEndian:
		copy(raw(dst), b)
	case dtype == "F32":
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		}
	case dtype == "BF16" && littleEndian && uintptr(unsafe.Pointer(&b[0]))%2 == 0:
		for i, x := range unsafe.Slice((*uint16)(unsafe.Pointer(&b[0])), len(dst)) {
			dst[i] = math.Float32frombits(uint32(x) << 16)
		}
	case dtype == "BF16":
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(b[2*i:])) << 16)
		}
	case dtype == "F16":
		for i := range dst {
			dst[i] = fromHalf(binary.LittleEndian.Uint16(b[2*i:]))
		}
	}
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
func BF16Bits(x float32) uint16 { return uint16(kern.RoundBF16(x)) }
