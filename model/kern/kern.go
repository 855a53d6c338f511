// Package kern holds the compute kernels of the CPU engine: matrix product and element-wise code, in assembly for AVX2,
// AVX-512 and AMX written by gen, and in portable Go. Which set is used is a value chosen at start, not global state.
package kern

import (
	"sync"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"
)

//go:generate go run ./gen

// Kernels is one complete set. All slices of a call have the length that the first one has. Safe for concurrent use.
type Kernels struct {
	// Name says what it is: one of Names.
	Name string
	// Why says why it was chosen.
	Why string

	level level
	half  half
}

// Half says whether the set multiplies bfloat16 operands faster than float32: then use Mul.BF16, else Mul.F32 on rounded values.
func (k *Kernels) Half() bool { return k.half != rounded }

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

// Gemm is Mul.F32 on up to threads goroutines, for those who make few products.
func (k *Kernels) Gemm(threads int, tA, tB bool, m, n, kk int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, acc bool) {
	x := pool.Get().(*Mul)
	defer pool.Put(x)
	x.K, x.Threads = k, threads
	x.F32(tA, tB, m, n, kk, a, lda, b, ldb, c, ldc, acc)
}

var pool = sync.Pool{New: func() any { return new(Mul) }}
