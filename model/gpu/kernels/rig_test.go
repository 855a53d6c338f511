package kernels_test

import (
	"testing"
	"unsafe"

	"sn3/model/gpu/cuda"
)

// rig is a bench for tests that launch several kernels on the same memory and compare on the way.
type rig struct {
	*bench
	live []cuda.Ptr
}

// orders are those of blocks, and warps, that inOrders tries.
var orders = []string{"forward", "reverse", "random"}

// newRig opens the stand-in with the kernels of the named files; at the end of the test nothing may be left on it.
func newRig(t testing.TB, files ...string) *rig {
	r := &rig{bench: on(t, files...)}
	t.Cleanup(r.free)
	return r
}

// inOrders calls test with the blocks of every launch in order, from the last to the first, and shuffled with their warps.
func inOrders(t *testing.T, test func(r *rig), files ...string) {
	for _, order := range orders {
		t.Run(order, func(t *testing.T) {
			r := newRig(t, files...)
			r.card.Set(t, "order", order)
			test(r)
		})
	}
}

// do runs f on the device; an error ends the test.
func (r *rig) do(f func(c *cuda.Context) error) {
	r.Helper()
	if err := r.card.Do(f); err != nil {
		r.Fatal(err)
	}
}

// launch runs a kernel to its end.
func (r *rig) launch(name string, blocks int, args ...any) {
	r.Helper()
	launched[name] = true
	r.do(func(c *cuda.Context) error {
		f, err := r.module.Func(r.kernels[name])
		if err != nil {
			return err
		}
		if err := c.Launch(f, [3]int{blocks, 1, 1}, args...); err != nil {
			return err
		}
		return c.Sync()
	})
}

// blank allocates n values, not written yet.
func blank[T cuda.Value](r *rig, n int) (p cuda.Ptr) {
	r.Helper()
	r.do(func(c *cuda.Context) (err error) {
		var v T
		p, err = c.Alloc(int64(unsafe.Sizeof(v)) * int64(max(n, 1)))
		return err
	})
	r.live = append(r.live, p)
	return p
}

// up copies s to the device.
func up[T cuda.Value](r *rig, s []T) cuda.Ptr {
	r.Helper()
	p := blank[T](r, len(s))
	r.do(func(c *cuda.Context) error { return cuda.Put(c, p, s) })
	return p
}

// down copies from the device to s, and returns it.
func down[T cuda.Value](r *rig, s []T, p cuda.Ptr) []T {
	r.Helper()
	r.do(func(c *cuda.Context) error { return cuda.Get(c, s, p) })
	return s
}

// free frees what up and blank allocated.
func (r *rig) free() {
	r.Helper()
	for _, p := range r.live {
		r.do(func(c *cuda.Context) error { return c.Free(p) })
	}
	r.live = nil
}
