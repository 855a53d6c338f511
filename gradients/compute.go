package gradients

import (
	"encoding/binary"
	"math"
	"sync"
	"unsafe"

	"sn3/model"
	"sn3/model/kern"
)

// Compute says how much of the machine a call may use; results never depend on it. The zero value is one thread and portable Go.
type Compute struct {
	Threads int           // goroutines; below 1 is 1
	Kernels *kern.Kernels // nil: portable
}

func (c Compute) kernels() *kern.Kernels {
	if c.Kernels == nil {
		return &portable
	}
	return c.Kernels
}

var portable kern.Kernels

// free keeps the scratch memory of workers between calls.
type free[T any] struct {
	mu   sync.Mutex
	list []*T
}

func (f *free[T]) get() *T {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.list)
	if n == 0 {
		return new(T)
	}
	x := f.list[n-1]
	f.list = f.list[:n-1]
	return x
}

func (f *free[T]) put(x *T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, x)
}

// each runs do for 0 to n-1, each call with scratch memory of its own, and returns the error of the lowest number: what one goroutine
// would have met first: only numbers above one that failed are left out.
func each[T any](c Compute, n int, scratch *free[T], do func(w *T, i int) error) error {
	var mu sync.Mutex
	var first error
	failed := n
	kern.Par(c.Threads, n, func(i int) {
		mu.Lock()
		skip := i > failed
		mu.Unlock()
		if skip {
			return
		}
		w := scratch.get()
		defer scratch.put(w)
		if err := do(w, i); err != nil {
			mu.Lock()
			defer mu.Unlock()
			if i < failed {
				failed, first = i, err
			}
		}
	})
	return first
}

// groups is in how many pieces of per the chunks of a layout come.
func groups(l *model.Layout, per int) int { return (l.Chunks() + per - 1) / per }

// group is piece i of them.
func group(l *model.Layout, per, i int) model.ChunkRange {
	return model.ChunkRange{From: i * per, To: min((i+1)*per, l.Chunks())}
}

// reader gives the values of chunks in order, without a copy where the weights can show them.
type reader struct {
	w    model.Weights
	view model.Viewer // nil: they cannot
	l    *model.Layout
}

func newReader(w model.Weights) reader {
	v, _ := w.(model.Viewer)
	return reader{w, v, w.Layout()}
}

// chunk returns the values of chunk i, in buf if they had to be copied; they are to be read only.
func (r reader) chunk(i int, buf *[model.ChunkSize]float32) ([]float32, error) {
	one := model.ChunkRange{From: i, To: i + 1}
	if r.view != nil {
		return r.view.View(one)
	}
	v := buf[:r.l.Chunk(i).Len]
	return v, r.w.Read(v, one)
}

// littleEndian is v as bytes: v itself where the machine stores floats that way, else at most len(buf)/4 of its values in buf.
func littleEndian(buf []byte, v []float32) []byte {
	if len(v) == 0 {
		return nil
	}
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), 4*len(v))
	}
	v = v[:min(len(v), len(buf)/4)]
	for i, x := range v {
		binary.LittleEndian.PutUint32(buf[4*i:], math.Float32bits(x))
	}
	return buf[:4*len(v)]
}
