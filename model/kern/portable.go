package kern

import (
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"
)

// Tiles of C that gonum computes on the goroutine that calls it: it starts as many as there are cores from four blocks of
// 64×64 on, whatever the caller was allowed.
const tileRows, tileCols, tileSteps = 64, 192, 64

// gemmPortable is Gemm by gonum, tile by tile.
func gemmPortable(threads int, tA, tB bool, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, acc bool) {
	wide := (n + tileCols - 1) / tileCols
	Par(threads, wide*((m+tileRows-1)/tileRows), func(t int) {
		i, j := t/wide*tileRows, t%wide*tileCols
		rows, cols := min(tileRows, m-i), min(tileCols, n-j)
		beta := float32(0)
		if acc {
			beta = 1
		}
		for l := 0; l < k; l += tileSteps {
			steps := min(tileSteps, k-l)
			gonum.Implementation{}.Sgemm(trans(tA), trans(tB), rows, cols, steps, 1, at(tA, a, lda, i, l), lda, at(tB, b, ldb, l, j), ldb, beta, c[i*ldc+j:], ldc)
			beta = 1
		}
	})
}

// at is op(X) from row r and column c on.
func at[T any](transposed bool, x []T, ld, r, c int) []T {
	if transposed {
		r, c = c, r
	}
	return x[r*ld+c:]
}

func trans(t bool) blas.Transpose {
	if t {
		return blas.Trans
	}
	return blas.NoTrans
}
