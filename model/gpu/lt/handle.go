package lt

import (
	"errors"
	"fmt"
	"unsafe"

	"sn3/model/gpu/cuda"
)

// Handle makes products on one device. Like the context it is for closures of the device's Do only.
//
// All products of a handle use its workspace, so they must come one after another: on one stream, or with events between. Run
// neither allocates nor waits, and can be captured. The first Run of a product may load the library's kernel for it: let that happen
// before a capture.
type Handle struct {
	l         *Library
	c         *cuda.Context
	ptr       uintptr
	workspace cuda.Ptr
	bytes     int64
	plans     map[Product]*plan // nil for a product without an algorithm
	one, zero float32
	args      [16]uintptr // of cublasLtMatmul, here so that a product makes no garbage
}

// plan is how a product is made.
type plan struct {
	desc               uintptr
	first, second, out uintptr // layouts
	algorithm          algorithm
}

// Aligned is what matrices begin at a multiple of, in bytes: algorithms may count on it.
const Aligned = 16

// workspaceAligned is the same for the workspace, as the manual of cuBLAS demands.
const workspaceAligned = 256

// New makes a handle whose products may use bytes bytes at workspace, a multiple of 256, whose content is lost; without them fewer
// algorithms are possible. NVIDIA advises 32 MiB for compute capability 9.0, 4 MiB for others. If this library does not start on the
// card, an older one that is there too is tried (Handle.Version). An error is *Unavailable where no library starts. Close it.
func (l *Library) New(c *cuda.Context, workspace cuda.Ptr, bytes int64) (*Handle, error) {
	if workspace%workspaceAligned != 0 || bytes < 0 || bytes > 0 && workspace == 0 {
		return nil, fmt.Errorf("start cuBLASLt: a workspace of %d bytes at %#x; it begins at a multiple of %d", bytes, uint64(workspace), workspaceAligned)
	}
	h, err := l.start(c, workspace, bytes)
	for _, name := range l.others {
		if err == nil {
			break
		}
		other, e := OpenAt(name)
		if e != nil {
			continue
		}
		if x, e := other.start(c, workspace, bytes); e == nil {
			h, err = x, nil
		}
	}
	return h, err
}

func (l *Library) start(c *cuda.Context, workspace cuda.Ptr, bytes int64) (*Handle, error) {
	if l.standin != c.Standin() { // NVIDIA's library would go to NVIDIA's driver, whatever ours is
		return nil, &Unavailable{Reason: "cuBLASLt at " + l.path + " does not belong to this driver", Advice: "name both, or neither, by SN3_CUDA and SN3_CUBLASLT"}
	}
	h := &Handle{l: l, c: c, workspace: workspace, bytes: bytes, plans: map[Product]*plan{}, one: 1}
	if err := l.create.call(l, uintptr(unsafe.Pointer(&h.ptr))); err != nil {
		return nil, &Unavailable{Reason: "cuBLASLt " + l.Version() + " does not start on this card", Advice: "products are made by our own kernels", Err: err}
	}
	return h, nil
}

// Version is that of the library that the handle uses.
func (h *Handle) Version() string { return h.l.Version() }

// Close frees all. The products that were enqueued must have been made, and captured ones cannot be replayed afterwards. Closing again
// does nothing.
func (h *Handle) Close() error {
	var err error
	for _, x := range h.plans {
		if x != nil {
			err = errors.Join(err, h.l.free(x))
		}
	}
	h.plans = nil
	if h.ptr != 0 {
		err = errors.Join(err, h.l.destroy.call(h.l, h.ptr))
	}
	h.ptr = 0
	return err
}

// Prepare chooses the algorithm for a product, once. It is ErrNone where the library has none; other products are not affected.
func (h *Handle) Prepare(p Product) error {
	_, err := h.plan(p)
	return err
}

func (h *Handle) plan(p Product) (*plan, error) {
	x, ok := h.plans[p]
	if !ok {
		if h.ptr == 0 {
			return nil, fmt.Errorf("%v: cuBLASLt is closed", p)
		}
		if err := p.check(); err != nil {
			return nil, err
		}
		var err error
		if x, err = h.choose(p); err != nil {
			return nil, err
		}
		h.plans[p] = x
	}
	if x == nil {
		return nil, fmt.Errorf("%w for %v", ErrNone, p)
	}
	return x, nil
}

// choose asks the library; without an algorithm the plan is nil.
func (h *Handle) choose(p Product) (*plan, error) {
	l, x, some := h.l, new(plan), false
	err := l.describe(x, p.translate())
	if err == nil {
		some, err = h.ask(x)
	}
	if err == nil && some {
		return x, nil
	}
	return nil, about(p, errors.Join(err, l.free(x)))
}

// describe makes the product's descriptor and its layouts.
func (l *Library) describe(x *plan, r asked) error {
	if err := l.descCreate.call(l, uintptr(unsafe.Pointer(&x.desc)), compute32, typeFloat32); err != nil {
		return err
	}
	for _, a := range []struct {
		attr  uintptr
		value int32
	}{{descTransA, r.transFirst}, {descTransB, r.transSecond}} {
		if err := l.descSet.call(l, x.desc, a.attr, uintptr(unsafe.Pointer(&a.value)), 4); err != nil {
			return err
		}
	}
	for _, y := range []struct {
		to *uintptr
		m  matrix
	}{{&x.first, r.first}, {&x.second, r.second}, {&x.out, r.out}} {
		if err := l.layoutCreate.call(l, uintptr(unsafe.Pointer(y.to)), uintptr(y.m.kind), uintptr(y.m.rows), uintptr(y.m.cols), uintptr(y.m.ld)); err != nil {
			return err
		}
	}
	return nil
}

// prefer makes the preferences: what an algorithm may use and count on, and which sums it may make.
func (l *Library) prefer(pref *uintptr, workspace uint64) error {
	if err := l.prefCreate.call(l, uintptr(unsafe.Pointer(pref))); err != nil {
		return err
	}
	if err := l.prefSet.call(l, *pref, prefWorkspace, uintptr(unsafe.Pointer(&workspace)), 8); err != nil {
		return err
	}
	for _, a := range []struct {
		attr  uintptr
		value uint32
	}{{prefReduction, reductionCompute}, {prefAlignA, Aligned}, {prefAlignB, Aligned}, {prefAlignC, Aligned}, {prefAlignD, Aligned}} {
		if err := l.prefSet.call(l, *pref, a.attr, uintptr(unsafe.Pointer(&a.value)), 4); err != nil {
			return err
		}
	}
	return nil
}

// ask takes the first algorithm that the library has, if it has any.
func (h *Handle) ask(x *plan) (some bool, err error) {
	l, pref := h.l, uintptr(0)
	defer func() {
		if pref != 0 {
			err = errors.Join(err, l.prefDestroy.call(l, pref))
		}
	}()
	if err := l.prefer(&pref, uint64(h.bytes)); err != nil {
		return false, err
	}
	var (
		list [4]found
		n    int32
	)
	err = l.heuristic.call(l, h.ptr, x.desc, x.first, x.second, x.out, x.out, pref, uintptr(len(list)), uintptr(unsafe.Pointer(&list[0])), uintptr(unsafe.Pointer(&n)))
	if s := StatusOf(err); s == NotSupported || s == ArchMismatch { // it does not know the product, or the card
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, f := range list[:max(0, min(int(n), len(list)))] {
		if f.state == 0 && f.workspace <= uint64(h.bytes) {
			x.algorithm = f.algorithm
			return true, nil
		}
	}
	return false, nil
}

// free destroys what a plan has.
func (l *Library) free(x *plan) error {
	var err error
	for _, y := range []struct {
		by *fn
		x  uintptr
	}{{&l.layoutDestroy, x.first}, {&l.layoutDestroy, x.second}, {&l.layoutDestroy, x.out}, {&l.descDestroy, x.desc}} {
		if y.x != 0 {
			err = errors.Join(err, y.by.call(l, y.x))
		}
	}
	return err
}

// Run enqueues a product on the context's current stream, prepared or not. It is ErrNone, and enqueues nothing, where the library has no
// algorithm or a matrix does not begin at a multiple of Aligned.
func (h *Handle) Run(p Product, a, b, out cuda.Ptr) error {
	x, err := h.plan(p)
	if err != nil {
		return err
	}
	if (a|b|out)%Aligned != 0 {
		return fmt.Errorf("%w for %v: matrices at %#x, %#x and %#x, not all at a multiple of %d", ErrNone, p, uint64(a), uint64(b), uint64(out), Aligned)
	}
	beta := &h.zero
	if p.Acc {
		beta = &h.one
	}
	h.args = [16]uintptr{h.ptr, x.desc, uintptr(unsafe.Pointer(&h.one)), uintptr(b), x.first, uintptr(a), x.second, uintptr(unsafe.Pointer(beta)),
		uintptr(out), x.out, uintptr(out), x.out, uintptr(unsafe.Pointer(&x.algorithm)), uintptr(h.workspace), uintptr(h.bytes), h.c.Current()}
	return about(p, h.l.matmul.call(h.l, h.args[:]...))
}
