package gpu

import (
	"errors"
	"fmt"

	"sn3/model"
	"sn3/model/gpu/cuda"
	"sn3/model/gpu/kernels"
	"sn3/model/gpu/lt"
	"sn3/model/gpu/memory"
)

// card is a started device with all kernels. Others of this process may share its context, so what it holds is given back one by one.
type card struct {
	dev    *cuda.Device
	fns    map[string]*cuda.Func
	module *cuda.Module
	held   map[cuda.Ptr]int64 // allocations and their sizes
	slots  [memory.Slots]slot
	turn   int // slots taken so far
	graphs map[graphKey]*cuda.Graph
	lib    *lt.Handle // cuBLASLt, or nil
	trace  *trace     // what launches take, where somebody asked; a graph is neither captured nor replayed then
}

// close frees what the card holds and gives it back.
func (k *card) close() error {
	err := k.dev.Do(func(c *cuda.Context) (err error) {
		err = errors.Join(k.dropGraphs(c), k.closeProducts())
		for i := range k.slots {
			err = errors.Join(err, k.slots[i].free(c))
		}
		for p := range k.held {
			err = errors.Join(err, c.Free(p))
		}
		if k.module != nil {
			err = errors.Join(err, k.module.Unload())
		}
		k.held, k.module = nil, nil
		return err
	})
	if err == cuda.ErrClosed { // closed before
		err = nil
	}
	return errors.Join(err, k.dev.Close())
}

func (k *card) load(c *cuda.Context) error {
	info := k.dev.Info()
	image := kernels.Image(info.Major, info.Minor)
	if image == nil {
		return fmt.Errorf("%w: %s has compute capability %d.%d; 8.0 is the least", model.ErrUnsupported, info.Name, info.Major, info.Minor)
	}
	var err error
	if k.module, err = c.Load(image); err != nil {
		return fmt.Errorf("load kernels: %w", err)
	}
	for _, x := range kernels.Table {
		if k.fns[x.Name], err = k.module.Func(x); err != nil {
			return fmt.Errorf("load kernels: %w", err)
		}
	}
	return nil
}

// queue enqueues work for the card; after an error it does nothing more.
type queue struct {
	*card
	c   *cuda.Context
	err error
}

// do runs f on the card's thread and waits until the card has done what f enqueued.
func (k *card) do(f func(q *queue)) error {
	return k.dev.Do(func(c *cuda.Context) error {
		q := &queue{card: k, c: c}
		f(q)
		err := q.err
		if e := c.Sync(); err == nil { // what was enqueued before an error may still read the pinned buffers
			err = e
		}
		for i := range k.slots {
			k.slots[i].busy = false
		}
		return err
	})
}

// try does f unless there was an error.
func (q *queue) try(f func() error) {
	if q.err == nil {
		q.err = f()
	}
}

// run launches a kernel on a grid.
func (q *queue) run(name string, x, y, z int, args ...any) {
	if q.err != nil || x == 0 || y == 0 || z == 0 {
		return
	}
	f, ok := q.fns[name]
	if !ok {
		q.err = fmt.Errorf("there is no kernel %s", name)
		return
	}
	q.begin(name, x, y, z, args...)
	if q.err == nil {
		q.err = q.c.Launch(f, [3]int{x, y, z}, args...)
	}
	q.end()
}

// clear sets n bytes from p on to zero.
func (q *queue) clear(p cuda.Ptr, n int64) {
	if q.err == nil && n > 0 {
		q.begin("memset", 1, 1, 1, n)
		q.err = q.c.Memset(p, 0, n)
		q.end()
	}
}

// copy copies n bytes on the card.
func (q *queue) copy(dst, src cuda.Ptr, n int64) {
	if q.err == nil && n > 0 {
		q.err = q.c.Copy(dst, src, n)
	}
}

// put and get copy at once, from and to any memory; send and receive when the card comes there, from and to a slot.
func put[T cuda.Value](q *queue, dst cuda.Ptr, v []T) {
	if q.err == nil {
		q.err = cuda.Put(q.c, dst, v)
	}
}

func get[T cuda.Value](q *queue, v []T, src cuda.Ptr) {
	if q.err == nil {
		q.err = cuda.Get(q.c, v, src)
	}
}

func send[T cuda.Value](q *queue, dst cuda.Ptr, v []T) {
	if q.err == nil {
		q.err = cuda.PutAsync(q.c, dst, v)
	}
}

func receive[T cuda.Value](q *queue, v []T, src cuda.Ptr) {
	if q.err == nil {
		q.err = cuda.GetAsync(q.c, v, src)
	}
}

// allocate allocates bytes; 0 after an error.
func (q *queue) allocate(bytes int64) (p cuda.Ptr) {
	if q.err == nil {
		p, q.err = q.c.Alloc(bytes)
	}
	if q.err == nil {
		q.held[p] = bytes
	}
	return p
}

// free frees what allocate gave; 0 is nothing.
func (q *queue) free(p cuda.Ptr) {
	if q.err == nil && p != 0 {
		delete(q.held, p)
		q.err = q.c.Free(p)
	}
}

// allocated is what is held of the card.
func (k *card) allocated() (n int64) {
	for _, bytes := range k.held {
		n += bytes
	}
	return n
}

// form is a form of matrix products: which factor is transposed.
type form string

const (
	nt form = "nt" // C = A·Bᵀ
	nn form = "nn" // C = A·B
	tn form = "tn" // C = Aᵀ·B
)

// product is C (m,n) = op(A)·op(B) over k, or with acc is added to it; C is float32, or bfloat16 with half, whose sums are rounded once.
// Where cuBLASLt is there and can, it makes it.
func (q *queue) product(f form, m, n, k int, a cuda.Ptr, lda int, b cuda.Ptr, ldb int, c cuda.Ptr, ldc int, half, acc bool) {
	if q.library(f, m, n, k, a, lda, b, ldb, c, ldc, half, acc) {
		return
	}
	name, side, add := "gemm_"+string(f), 128, 0
	if half {
		name += "_bf16"
	}
	if blocks(m, side)*blocks(n, side) < 2*q.dev.Info().SMs { // small tiles where large ones would leave multiprocessors without work
		side, name = 64, name+"_64"
	}
	if acc {
		add = 1
	}
	q.run(name, blocks(n, side), blocks(m, side), 1, c, a, b, m, n, k, lda, ldb, ldc, add)
}

func blocks(n, size int) int { return (n + size - 1) / size }
