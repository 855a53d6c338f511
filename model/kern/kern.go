// Package kern holds the compute kernels of the CPU engine: matrix product and element-wise code, in AVX-512 assembly
// written by gen and in portable Go. Which set is used is a value chosen at start, not global state.
package kern

import (
	"fmt"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"
)

//go:generate go run ./gen

// Kernels is one complete set. All slices of a call have the length that the first one has. Safe for concurrent use.
type Kernels struct {
	// Name says what it is: portable or avx512.
	Name string
	// Why says why it was chosen.
	Why string

	level level
}

// level is the instruction set of the float32 code.
type level uint8

const (
	portable level = iota
	avx2           // AVX2 and FMA
	avx512         // AVX-512 F, DQ, VL, BW
)

// Names lists the sets in order of preference.
func Names() []string { return []string{"avx512", "portable"} }

// Select returns the set with the given name, or with "" the best one that this CPU can run.
func Select(name string) (*Kernels, error) {
	ok, missing := haveAVX512()
	switch {
	case name == "portable":
		return &Kernels{Name: name, Why: "forced"}, nil
	case name == "avx512" && ok:
		return &Kernels{Name: name, Why: "forced", level: avx512}, nil
	case name == "avx512":
		return nil, fmt.Errorf("kernels avx512 cannot run here: %s", missing)
	case name != "":
		return nil, fmt.Errorf("unknown kernels %q; use one of %v", name, Names())
	case ok:
		return &Kernels{Name: "avx512", Why: "this CPU has AVX-512 F, DQ and VL", level: avx512}, nil
	}
	return &Kernels{Name: "portable", Why: missing}, nil
}

// BLAS is gonum's blas.Float32 with our Sgemm: the engine's products go through it, and blas32.Use and gorgonia.Use take it.
type BLAS struct {
	gonum.Implementation
	K       *Kernels
	Threads int // goroutines that one product may use; below 1 is 1
}

var _ blas.Float32 = BLAS{}

// Sgemm computes C = alpha·op(A)·op(B) + beta·C, row-major, as gonum's contract says: what gonum refuses by a panic is refused
// by the same one. Other alpha and beta than (1, 0) and (1, 1) go to gonum.
func (b BLAS) Sgemm(tA, tB blas.Transpose, m, n, k int, alpha float32, a []float32, lda int, bm []float32, ldb int, beta float32, c []float32, ldc int) {
	if b.K == nil || alpha != 1 || beta != 0 && beta != 1 {
		b.Implementation.Sgemm(tA, tB, m, n, k, alpha, a, lda, bm, ldb, beta, c, ldc)
		return
	}
	b.Implementation.Sgemm(tA, tB, m, n, k, 0, a, lda, bm, ldb, 1, c, ldc) // checks the arguments, changes nothing
	b.K.Gemm(b.Threads, tA != blas.NoTrans, tB != blas.NoTrans, m, n, k, a, lda, bm, ldb, c, ldc, beta == 1)
}

// Gemm computes C = op(A)·op(B), or adds to C with acc, on up to threads goroutines; row-major with leading dimensions.
// op(A) is m×k, op(B) k×n. The result does not depend on threads. Slices that are too short are an index out of range.
func (k *Kernels) Gemm(threads int, tA, tB bool, m, n, kk int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, acc bool) {
	if m == 0 || n == 0 {
		return
	}
	_ = c[(m-1)*ldc+n-1] // the assembly does not look
	if kk == 0 {
		for i := 0; i < m && !acc; i++ {
			clear(c[i*ldc : i*ldc+n])
		}
		return
	}
	if k.level == avx512 {
		gemm512(threads, tA, tB, m, n, kk, a, lda, b, ldb, c, ldc, acc)
		return
	}
	gemmPortable(threads, tA, tB, m, n, kk, a, lda, b, ldb, c, ldc, acc)
}
