package cuda_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"sn3/model/gpu/cuda"
	"sn3/model/gpu/standin"
)

// on runs f with the kernel scale on a stand-in's device.
func on(t testing.TB, f func(c *cuda.Context, k *cuda.Func) error) *standin.Card {
	t.Helper()
	card := standin.Open(t, "scale.cu")
	err := card.Do(func(c *cuda.Context) error {
		m, err := c.Load(standin.Image(c))
		if err != nil {
			return err
		}
		k, err := scale(m)
		if err != nil {
			return err
		}
		return errors.Join(f(c, k), m.Unload())
	})
	if err != nil {
		t.Error(err)
	}
	return card
}

// A launch is checked against the kernel's signature: scale(float* y, const float* x, long64 n, float a).
func TestLaunchArguments(t *testing.T) {
	on(t, func(c *cuda.Context, k *cuda.Func) error {
		p, err := c.Alloc(1024)
		if err != nil {
			return err
		}
		if err := c.Memset(p, 0, 1024); err != nil {
			return err
		}
		one := [3]int{1, 1, 1}
		for _, l := range []struct {
			grid [3]int
			args []any
			says string // "": it is right
		}{
			{one, []any{p, p, 8, float32(1)}, ""},
			{one, []any{p, p, int64(8), float32(1)}, ""},
			{one, []any{p, p, int64(8)}, "launch scale: 3 arguments for 4 parameters"},
			{one, []any{p, p, int64(8), float32(1), 1}, "launch scale: 5 arguments for 4 parameters"},
			{one, nil, "0 arguments"},
			{one, []any{p, p, int32(8), float32(1)}, "parameter 2 (n) is long64, the argument is an integer of another type"},
			{one, []any{p, p, uint64(8), float32(1)}, "parameter 2 (n) is long64"},
			{one, []any{p, p, 8, 1}, "parameter 3 (a) is float, the argument is the int 1"},
			{one, []any{p, p, 8, 1.0}, "parameter 3 (a) is float, the argument is a value of another type"},
			{one, []any{p, uint64(p), 8, float32(1)}, "parameter 1 (x) is pointer"},
			{one, []any{p, p, p, float32(1)}, "parameter 2 (n) is long64, the argument is a cuda.Ptr"},
			{one, []any{p, p, float32(8), float32(1)}, "parameter 2 (n) is long64, the argument is a float32"},
			{one, []any{nil, p, 8, float32(1)}, "parameter 0 (y) is pointer"},
			{[3]int{0, 1, 1}, []any{p, p, 8, float32(1)}, "a grid of 0×1×1 blocks"},
			{[3]int{1, 65536, 1}, []any{p, p, 8, float32(1)}, "a grid of 1×65536×1 blocks"},
			{[3]int{1, 1, -1}, []any{p, p, 8, float32(1)}, "a grid of 1×1×-1 blocks"},
		} {
			err := c.Launch(k, l.grid, l.args...)
			if l.says == "" && err != nil || l.says != "" && (err == nil || !strings.Contains(err.Error(), l.says)) {
				t.Errorf("%v: %v, not: %s", l.args, err, l.says)
			}
		}
		return c.Free(p)
	})
}

// An int is taken where it fits.
func TestIntArguments(t *testing.T) {
	card := standin.OpenText(t, "#include \"device.h\"\nKERNEL(32) void take(GLOBAL(ulong64) y, int a, unsigned b, long64 c, ulong64 d) {\n"+
		"if (TID) return;\ny[0] = (ulong64)(long64)a; y[1] = b; y[2] = (ulong64)c; y[3] = d;\n}\n")
	k := cuda.Kernel{Name: "take", Threads: 32, Params: []cuda.Param{{Name: "y", Type: cuda.Pointer}, {Name: "a", Type: cuda.Int32}, {Name: "b", Type: cuda.Uint32},
		{Name: "c", Type: cuda.Int64}, {Name: "d", Type: cuda.Uint64}}}
	err := card.Do(func(c *cuda.Context) error {
		m, err := c.Load(standin.Image(c))
		if err != nil {
			return err
		}
		f, err := m.Func(k)
		if err != nil {
			return err
		}
		p, err := c.Alloc(32)
		if err != nil {
			return err
		}
		for _, a := range []struct {
			args [4]int
			ok   bool
		}{
			{[4]int{-1, 1, -5, 5}, true},
			{[4]int{math.MinInt32, math.MaxUint32, math.MinInt64, math.MaxInt64}, true},
			{[4]int{math.MaxInt32 + 1, 0, 0, 0}, false},
			{[4]int{math.MinInt32 - 1, 0, 0, 0}, false},
			{[4]int{0, -1, 0, 0}, false},
			{[4]int{0, math.MaxUint32 + 1, 0, 0}, false},
			{[4]int{0, 0, 0, -1}, false},
		} {
			err := c.Launch(f, [3]int{1, 1, 1}, p, a.args[0], a.args[1], a.args[2], a.args[3])
			if (err == nil) != a.ok {
				return fmt.Errorf("%v: %w", a.args, err)
			}
			if !a.ok {
				continue
			}
			var y [4]int64
			if err := cuda.Get(c, y[:], p); err != nil {
				return err
			}
			for i := range y {
				if y[i] != int64(a.args[i]) {
					t.Errorf("%v arrives as %v", a.args, y)
				}
			}
		}
		return errors.Join(c.Free(p), m.Unload())
	})
	if err != nil {
		t.Error(err)
	}
}

// The table and the image must agree, as far as the driver can tell.
func TestFuncChecksTheTable(t *testing.T) {
	card := standin.Open(t, "scale.cu")
	ptr, n, f := cuda.Param{Name: "p", Type: cuda.Pointer}, cuda.Param{Name: "n", Type: cuda.Int64}, cuda.Param{Name: "a", Type: cuda.Float32}
	try := func(k cuda.Kernel) error {
		return card.Do(func(c *cuda.Context) error {
			m, err := c.Load(standin.Image(c))
			if err != nil {
				return err
			}
			_, err = m.Func(k)
			return errors.Join(err, m.Unload())
		})
	}
	for _, c := range []struct {
		k    cuda.Kernel
		says string
	}{
		{cuda.Kernel{Name: "scale", Threads: 256, Params: []cuda.Param{ptr, ptr, n, f}}, ""},
		{cuda.Kernel{Name: "scale", Threads: 256, Params: []cuda.Param{ptr, ptr, f, f}}, "takes 8 bytes for parameter 2 (a), the table says 4"},
		{cuda.Kernel{Name: "scale", Threads: 256, Params: []cuda.Param{ptr, ptr, n, f, f}}, "has no parameter 4 (a): the image and the table differ"},
		{cuda.Kernel{Name: "scale", Threads: 256, Params: []cuda.Param{ptr, ptr, n}}, "has more parameters than the table's 3"},
		{cuda.Kernel{Name: "no_such", Threads: 256}, "kernel no_such"},
		{cuda.Kernel{Name: "scale", Params: make([]cuda.Param, 17)}, "at most 16"},
	} {
		if err := try(c.k); c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%+v: %v, not: %s", c.k, err, c.says)
		}
	}
	cuda.Forget(card.Driver)
	if err := try(cuda.Kernel{Name: "scale", Threads: 256, Params: []cuda.Param{ptr}}); err != nil {
		t.Errorf("a driver that cannot tell: %v", err)
	}
}

// A launch makes no garbage.
func TestLaunchAllocatesNothing(t *testing.T) {
	on(t, func(c *cuda.Context, k *cuda.Func) error {
		p, err := c.Alloc(4096)
		if err != nil {
			return err
		}
		if err := c.Memset(p, 0, 4096); err != nil {
			return err
		}
		n := 1000
		if got := testing.AllocsPerRun(100, func() {
			n = 1001 - n // no constant, and too large for the runtime's small integers
			if e := c.Launch(k, [3]int{1, 1, 1}, p, p.Add(4), n, float32(n)); e != nil {
				err = e
			}
		}); got != 0 || err != nil {
			t.Errorf("%g allocations a launch, %v", got, err)
		}
		return c.Free(p)
	})
}

// Do runs one closure after another, whoever calls, and none after Close.
func TestDo(t *testing.T) {
	card := standin.Open(t, "scale.cu")
	inside, n := 0, 0
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				if err := card.Do(func(*cuda.Context) error {
					if inside++; inside != 1 {
						t.Error("two at once")
					}
					n++
					inside--
					return nil
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	mine := errors.New("mine")
	if err := card.Do(func(*cuda.Context) error { return mine }); err != mine || n != 800 {
		t.Error(err, n)
	}
	for range 4 {
		wg.Go(func() {
			if err := card.Close(); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if err := card.Do(func(*cuda.Context) error { return nil }); err != nil && err != cuda.ErrClosed {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := card.Do(func(*cuda.Context) error { return nil }); err != cuda.ErrClosed {
		t.Error(err)
	}
}
