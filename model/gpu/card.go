package gpu

import (
	"errors"
	"fmt"

	"sn3/model"
	"sn3/model/gpu/cuda"
	"sn3/model/gpu/kernels"
)

// card is a started device with all kernels. Others of this process may share its context, so what it holds is given back one by one.
type card struct {
	dev    *cuda.Device
	fns    map[string]*cuda.Func
	module *cuda.Module
	held   map[cuda.Ptr]bool // allocations
	trace  *trace            // what launches take, where somebody asked; a graph is neither captured nor replayed then
}

// close frees what the card holds and gives it back.
func (k *card) close() error {
	err := k.dev.Do(func(c *cuda.Context) (err error) {
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
		if f(q); q.err != nil {
			return q.err
		}
		return c.Sync()
	})
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

// arena hands out parts of one allocation, each from a multiple of 256 bytes on; without one it only counts. On the stand-in every
// part has its own bounds.
type arena struct {
	q    *queue
	base cuda.Ptr
	used int64
	n    int // parts so far
}

func (a *arena) take(bytes int64) cuda.Ptr {
	p := a.base.Add(a.used)
	a.used += (bytes + 255) &^ 255
	a.n++
	if a.q != nil && a.q.err == nil && bytes > 0 {
		a.q.err = a.q.c.Part(p, bytes, fmt.Sprintf("part %d of the arena", a.n))
	}
	return p
}

func (a *arena) f32(n int) cuda.Ptr  { return a.take(4 * int64(n)) }
func (a *arena) half(n int) cuda.Ptr { return a.take(2 * int64(n)) }

// allocate makes the one allocation that carve wants, and carves it. before is freed first.
func (q *queue) allocate(before cuda.Ptr, carve func(*arena)) (base cuda.Ptr) {
	if q.err == nil && before != 0 {
		delete(q.held, before)
		q.err = q.c.Free(before)
	}
	var a arena
	carve(&a)
	if q.err == nil {
		base, q.err = q.c.Alloc(a.used)
	}
	if q.err == nil {
		q.held[base] = true
		carve(&arena{q: q, base: base})
	}
	return base
}

// form is a form of matrix products: which factor is transposed.
type form string

const (
	nt form = "nt" // C = A·Bᵀ
	nn form = "nn" // C = A·B
	tn form = "tn" // C = Aᵀ·B
)

// product is C (m,n) = op(A)·op(B) over k, or is added to it; C is float32.
func (q *queue) product(f form, m, n, k int, a cuda.Ptr, lda int, b cuda.Ptr, ldb int, c cuda.Ptr, ldc int, acc bool) {
	q.gemm("gemm_"+string(f), m, n, k, a, lda, b, ldb, c, ldc, acc)
}

// half is product with C in bfloat16, never added to.
func (q *queue) half(f form, m, n, k int, a cuda.Ptr, lda int, b cuda.Ptr, ldb int, c cuda.Ptr, ldc int) {
	q.gemm("gemm_"+string(f)+"_bf16", m, n, k, a, lda, b, ldb, c, ldc, false)
}

// gemm takes small tiles where large ones would leave multiprocessors without work.
func (q *queue) gemm(name string, m, n, k int, a cuda.Ptr, lda int, b cuda.Ptr, ldb int, c cuda.Ptr, ldc int, acc bool) {
	side := 128
	if blocks(m, side)*blocks(n, side) < 2*q.dev.Info().SMs {
		side, name = 64, name+"_64"
	}
	add := 0
	if acc {
		add = 1
	}
	q.run(name, blocks(n, side), blocks(m, side), 1, c, a, b, m, n, k, lda, ldb, ldc, add)
}

func blocks(n, size int) int { return (n + size - 1) / size }
