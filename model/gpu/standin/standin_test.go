package standin

import (
	_ "embed"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"sn3/model/gpu/cuda"
	"sn3/model/gpu/kernels/source"
)

//go:embed testdata/right.cu
var right string

//go:embed testdata/wrong.cu
var wrong string

// room is an argument: so many bytes that nobody has written.
type room int

// run runs a kernel of text. Slices among the arguments are copied to the device and back.
func run(c *Card, text, name string, blocks int, args ...any) error {
	list, err := source.Parse(text)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(k cuda.Kernel) bool { return k.Name == name })
	if i < 0 {
		return fmt.Errorf("there is no kernel %s", name)
	}
	return c.Do(func(x *cuda.Context) (err error) {
		m, err := x.Load(Image(x))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, m.Unload()) }()
		f, err := m.Func(list[i])
		if err != nil {
			return err
		}
		given, back := slices.Clone(args), []func() error{}
		for i, a := range args {
			p, get, err := lend(x, a)
			if err != nil {
				return err
			}
			if p != 0 {
				given[i] = p
				defer func() { err = errors.Join(err, x.Free(p)) }()
				back = append(back, get)
			}
		}
		if err := x.Launch(f, [3]int{blocks, 1, 1}, given...); err != nil {
			return err
		}
		for _, get := range back {
			if err := get(); err != nil {
				return err
			}
		}
		return nil
	})
}

// lend copies a slice to the device; p is 0 for other arguments.
func lend(x *cuda.Context, a any) (p cuda.Ptr, back func() error, err error) {
	switch s := a.(type) {
	case room:
		p, err = x.Alloc(int64(s))
		return p, func() error { return nil }, err
	case []float32:
		return put(x, s, 4)
	case []int32:
		return put(x, s, 4)
	case []uint32:
		return put(x, s, 4)
	case []uint16:
		return put(x, s, 2)
	case []uint64:
		return put(x, s, 8)
	case []byte:
		return put(x, s, 1)
	}
	return 0, nil, nil
}

func put[T cuda.Value](x *cuda.Context, s []T, size int) (cuda.Ptr, func() error, error) {
	p, err := x.Alloc(int64(size * len(s)))
	if err != nil {
		return 0, nil, err
	}
	return p, func() error { return cuda.Get(x, s, p) }, cuda.Put(x, p, s)
}

// eachOrder runs f in every order of blocks and warps.
func eachOrder(t *testing.T, c *Card, f func(t *testing.T)) {
	t.Helper()
	for _, o := range []string{"forward 1", "reverse 1", "random 1", "random 2", "random 3"} {
		c.Set(t, "order", strings.Fields(o)[0])
		c.Set(t, "seed", strings.Fields(o)[1])
		t.Run(o, f)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func count[T int32 | float32](n int) []T {
	s := make([]T, n)
	for i := range s {
		s[i] = T(i)
	}
	return s
}

// Right kernels give the same in every order.
func TestOrders(t *testing.T) {
	c := OpenText(t, right)
	eachOrder(t, c, func(t *testing.T) {
		y, x := make([]int32, 64*5), count[int32](64*5)
		must(t, run(c, right, "reverse", 5, y, x))
		for i := range y {
			if want := int32(i/64*64 + 63 - i%64); y[i] != want {
				t.Fatalf("reverse: [%d] is %d, not %d", i, y[i], want)
			}
		}
		sums := make([]float32, 4)
		must(t, run(c, right, "total", 4, sums, count[float32](96*4)))
		for i, v := range sums {
			if want := float32(96*96*i + 95*48); v != want {
				t.Fatalf("total: [%d] is %g, not %g", i, v, want)
			}
		}
		seven := make([]int32, 1)
		must(t, run(c, right, "agree", 9, seven))
		if seven[0] != 7 {
			t.Fatalf("agree: %d", seven[0])
		}
	})
}

// The orders are what they say.
func TestOrdersDiffer(t *testing.T) {
	c := OpenText(t, right)
	seen := map[string]string{}
	eachOrder(t, c, func(t *testing.T) {
		y, z := make([]byte, 1), make([]byte, 1)
		must(t, run(c, right, "last", 200, y))
		must(t, run(c, right, "last_warp", 1, z))
		seen[t.Name()] = fmt.Sprint(y, z)
	})
	if got := seen["TestOrdersDiffer/forward_1"]; got != "[199] [31]" {
		t.Errorf("forward ends with %s", got)
	}
	if got := seen["TestOrdersDiffer/reverse_1"]; got != "[0] [0]" {
		t.Errorf("reverse ends with %s", got)
	}
	if a, b := seen["TestOrdersDiffer/random_1"], seen["TestOrdersDiffer/random_2"]; a == b || a == "[199] [31]" || a == "[0] [0]" {
		t.Errorf("random ends with %s and %s", a, b)
	}
}

func TestCollectives(t *testing.T) {
	c := OpenText(t, right)
	eachOrder(t, c, func(t *testing.T) {
		y := make([]uint32, 32*5)
		must(t, run(c, right, "collectives", 1, y))
		for i := range uint32(32) {
			want := []uint32{i ^ 3, 7, i ^ 16, (i + 1) & 31, 0xAAAAAAAA}
			if got := y[i*5 : i*5+5]; !slices.Equal(got, want) {
				t.Fatalf("lane %d has %v, not %v", i, got, want)
			}
		}
	})
}

// The product of a warp is that of the matrices, its sums along k in float32.
func TestProduct(t *testing.T) {
	c := OpenText(t, right)
	r := rand.New(rand.NewPCG(1, 1))
	eachOrder(t, c, func(t *testing.T) {
		halves := func(n int) ([]uint16, []float32) {
			h, f := make([]uint16, n), make([]float32, n)
			for i := range h {
				h[i] = uint16(math.Float32bits(float32(r.NormFloat64())) >> 16)
				f[i] = math.Float32frombits(uint32(h[i]) << 16)
			}
			return h, f
		}
		a, fa := halves(16 * 16)
		b, fb := halves(16 * 8)
		got := count[float32](16 * 8)
		want := slices.Clone(got)
		for i := range 16 {
			for j := range 8 {
				for k := range 16 {
					want[i*8+j] += float32(fa[i*16+k] * fb[k*8+j])
				}
			}
		}
		must(t, run(c, right, "product", 1, got, a, b))
		if !slices.Equal(got, want) {
			t.Fatalf("%v, not %v", got, want)
		}
	})
}

func TestParameters(t *testing.T) {
	c := OpenText(t, right)
	y := make([]uint64, 5)
	must(t, run(c, right, "parameters", 1, y, int32(-2), uint32(math.MaxUint32), float32(1.5), int64(math.MinInt64), uint64(math.MaxUint64)))
	low := int64(-2)
	if want := []uint64{uint64(low), math.MaxUint32, uint64(math.Float32bits(1.5)), 1 << 63, math.MaxUint64}; !slices.Equal(y, want) {
		t.Fatalf("%x, not %x", y, want)
	}
}

// Every error of a kernel is one of the driver that says where and what, and costs the context, not the process.
func TestFaults(t *testing.T) {
	for _, f := range []struct {
		kernel, says string
		blocks       int
		y, x         any
	}{
		{"read_beyond", "thread 63, text.cu:4: reads 4 bytes at offset 256 of an allocation of 256 bytes", 1, room(256), make([]float32, 64)},
		{"read_before", "thread 0, text.cu:5: reads 4 bytes at offset -4 of an allocation", 1, room(256), make([]float32, 64)},
		{"far_away", "reads 4 bytes", 1, room(256), make([]float32, 64)},
		{"write_beyond", "thread 32, text.cu:7: writes 4 bytes at offset 256", 1, room(256), make([]float32, 64)},
		{"vector_beyond", "thread 16, text.cu:8: reads 16 bytes at offset 256", 1, room(256), make([]float32, 64)},
		{"unaligned", "16 bytes at offset 8 of an allocation, which is not aligned to 16", 1, room(256), make([]float32, 64)},
		{"unaligned_pair", "4 bytes at offset 6 of an allocation, which is not aligned to 4", 1, room(256), nil},
		{"never_written", "reads at offset 0 of an allocation, which was never written", 1, room(256), nil},
		{"null_pointer", "writes 4 bytes through a null pointer", 1, cuda.Ptr(0), nil},
		{"shared_never_written", "reads at offset 0 of shared s, which was never written", 1, room(256), nil},
		{"shared_of_last_block", "block (1, 0, 0), thread 0, text.cu:18: reads at offset 0 of shared s, which was never written", 2, room(256), nil},
		{"shared_beyond", "thread 63, text.cu:20: writes 4 bytes at offset 252 of shared s of 252 bytes", 1, room(256), nil},
		{"shared_unaligned", "16 bytes at offset 8 of shared s, which is not aligned to 16", 1, room(256), nil},
		{"no_sync", "reads at offset 252 of shared s, which was never written", 1, room(256), nil},
		{"no_second_sync", "writes at offset 252 of shared s what thread 0 read without a SYNC between", 1, room(256), nil},
		{"two_writers", "writes at offset 0 of shared s what thread 0 wrote without a SYNC between", 1, room(256), nil},
		{"global_no_sync", "reads at offset 124 of an allocation what thread 31 wrote without a SYNC between", 1, make([]float32, 64), nil},
		{"blocks_meet", "block (1, 0, 0), thread 0, text.cu:46: writes at offset 0 of an allocation what another block wrote", 2, room(256), nil},
		{"returned", "waits in SYNC, but thread 40 has returned", 1, room(256), nil},
		{"lane_returned", "waits in shfl_xor, but thread 5 has returned", 1, room(256), nil},
		{"two_syncs", "text.cu:58: waits in SYNC, but thread 32 in SYNC in line 60", 1, room(256), nil},
		{"two_shuffles", "waits in shfl_xor, but thread 1 in shfl in line", 1, room(256), nil},
		{"sync_and_shuffle", "waits in shfl, but thread 3 in SYNC in line", 1, room(256), nil},
		{"too_much_shared", "49168 bytes of shared memory with t; a block has 49152", 1, room(256), nil},
	} {
		t.Run(f.kernel, func(t *testing.T) {
			c := OpenText(t, wrong)
			args := []any{f.y}
			if f.x != nil {
				args = append(args, f.x)
			}
			err := run(c, wrong, f.kernel, f.blocks, args...)
			if cuda.ErrorCode(err) != cuda.IllegalAddress || !strings.Contains(err.Error(), "kernel "+f.kernel+", ") || !strings.Contains(err.Error(), f.says) {
				t.Fatalf("%v, not: %s", err, f.says)
			}
			if err := run(c, wrong, "null_pointer", 1, make([]float32, 64)); cuda.ErrorCode(err) != cuda.IllegalAddress {
				t.Errorf("after a fault the context goes on: %v", err)
			}
			if r := c.Report(t); r.Faults != 1 {
				t.Errorf("%d faults counted", r.Faults)
			}
		})
	}
}

// A missing SYNC is found in every order, whichever thread comes first.
func TestRacesInEveryOrder(t *testing.T) {
	for _, kernel := range []string{"no_sync", "no_second_sync", "two_writers", "global_no_sync", "blocks_meet"} {
		for _, order := range []string{"forward", "reverse", "random"} {
			c := OpenText(t, wrong)
			c.Set(t, "order", order)
			if err := run(c, wrong, kernel, 2, make([]float32, 64)); cuda.ErrorCode(err) != cuda.IllegalAddress {
				t.Errorf("%s, %s: %v", kernel, order, err)
			}
		}
	}
}

// After a fault a new device works: the threads that were left in the middle do not matter.
func TestAfterAFault(t *testing.T) {
	c := OpenText(t, wrong)
	for range 3 {
		if err := run(c, wrong, "returned", 1, make([]float32, 64)); cuda.ErrorCode(err) != cuda.IllegalAddress {
			t.Fatal(err)
		}
		if err := c.Close(); cuda.ErrorCode(err) != cuda.IllegalAddress {
			t.Fatalf("close after a fault: %v", err)
		}
		var err error
		c.Device, err = c.Driver.Start(0)
		must(t, err)
		must(t, run(c, wrong, "null_pointer", 1, make([]float32, 64)))
	}
}
