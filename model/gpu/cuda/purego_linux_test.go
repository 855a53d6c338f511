//go:build !nogpu

package cuda_test

import (
	"testing"

	"github.com/ebitengine/purego"

	"sn3/model/gpu/standin"
)

// special is two calls that cuBLASLt and NCCL need and purego has not always made right.
const special = `#include <stdint.h>
struct id { char b[128]; };
extern "C" int64_t sixteen(int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f, int64_t g, int64_t h,
    int64_t i, int64_t j, int64_t k, int64_t l, int64_t m, int64_t n, int64_t o, int64_t p) {
  return a + 2*b + 3*c + 4*d + 5*e + 6*f + 7*g + 8*h + 9*i + 10*j + 11*k + 12*l + 13*m + 14*n + 15*o + 16*p;
}
extern "C" int by_value(int64_t* out, int n, id u, int rank) {
  int64_t s = 0;
  for (int i = 0; i < 128; i++) s += u.b[i] * (i + 1);
  *out = s;
  return n * 100 + rank;
}
`

func library(t *testing.T) uintptr {
	t.Helper()
	lib, err := purego.Dlopen(standin.Shared(t, "libspecial.so", special), purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		t.Fatal(err)
	}
	return lib
}

// cublasLtMatmul has 16 arguments.
func TestSixteenArguments(t *testing.T) {
	lib := library(t)
	const want = 1496
	sym, err := purego.Dlsym(lib, "sixteen")
	if err != nil {
		t.Fatal(err)
	}
	if r, _, _ := purego.SyscallN(sym, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16); r != want {
		t.Errorf("SyscallN: %d", r)
	}
	var f func(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p int64) int64
	purego.RegisterLibFunc(&f, lib, "sixteen")
	if r := f(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16); r != want {
		t.Errorf("RegisterLibFunc: %d", r)
	}
	if r := f(-1, -2, -3, -4, -5, -6, -7, -8, -9, -10, -11, -12, -13, -14, -15, -16); r != -want {
		t.Errorf("RegisterLibFunc: %d", r)
	}
}

// ncclCommInitRank takes a struct of 128 bytes by value.
func TestStructByValue(t *testing.T) {
	type id struct{ b [128]int8 }
	var f func(out *int64, n int32, u id, rank int32) int32
	purego.RegisterLibFunc(&f, library(t), "by_value")
	for seed := range 3 {
		var (
			u         id
			got, want int64
		)
		for i := range u.b {
			u.b[i] = int8((i*7 + seed) % 256)
			want += int64(u.b[i]) * int64(i+1)
		}
		if r := f(&got, 8, u, 3); r != 803 || got != want {
			t.Errorf("%d and %d, not 803 and %d", r, got, want)
		}
	}
}
