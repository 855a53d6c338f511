package kernels_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"sn3/model/gpu/cuda"
	"sn3/model/gpu/standin"
)

// The pattern of all tests of kernels: the same in every order of blocks and warps, compared with Go.
func TestScale(t *testing.T) {
	b := on(t, "scale.cu")
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 31, 256, 257, 1000} {
		x := make([]float32, n)
		for i := range x {
			x[i] = rnd.Float32() - 0.5
		}
		b.orders(func(order string) {
			b.must(func(r *runner) error {
				y := r.room(4 * n)
				if err := r.launch("scale", [3]int{(n + 255) / 256, 1, 1}, y, put(r, x), n, float32(3)); err != nil {
					return fmt.Errorf("n %d, %s: %w", n, order, err)
				}
				for i, v := range get[float32](r, y, n) {
					if v != 3*x[i] {
						return fmt.Errorf("n %d, %s: y[%d] is %g, not %g", n, order, i, v, 3*x[i])
					}
				}
				return nil
			})
		})
	}
}

// What is wrong with an access is named, and the process lives on.
func TestScaleBeyondTheEnd(t *testing.T) {
	standin.Only(t, "bounds of every access")
	b := on(t, "scale.cu")
	err := b.run(func(r *runner) error {
		return r.launch("scale", [3]int{1, 1, 1}, r.room(4*9), put(r, make([]float32, 10)), 10, float32(3))
	})
	if cuda.ErrorCode(err) != cuda.IllegalAddress || !strings.Contains(err.Error(), "kernel scale, block (0, 0, 0), thread 9, scale.cu:6: writes 4 bytes at offset 36 of an allocation of 36 bytes") {
		t.Fatal(err)
	}
}
