package lt

import (
	"fmt"
	"math"
)

// Form says which factor of a product lies transposed.
type Form int

// The forms of products; all matrices are row-major.
const (
	NT Form = iota // C = A·Bᵀ: A is (M,K), B (N,K)
	NN             // C = A·B:  A is (M,K), B (K,N)
	TN             // C = Aᵀ·B: A is (K,M), B (K,N)
)

// String is the form's letters.
func (f Form) String() string {
	if f < NT || f > TN {
		return fmt.Sprintf("form %d", int(f))
	}
	return [...]string{"nt", "nn", "tn"}[f]
}

// Product is a product of bfloat16 matrices with sums in float32 over K: C is (M,N). Two that are equal have the same algorithm.
type Product struct {
	Form          Form
	M, N, K       int
	LdA, LdB, LdC int  // from row to row, in elements
	Half          bool // C is bfloat16, else float32
	Acc           bool // it is added to C
}

// String names the product.
func (p Product) String() string {
	c, acc := "float32", ""
	if p.Half {
		c = "bf16"
	}
	if p.Acc {
		acc = ", added to it"
	}
	return fmt.Sprintf("product %v to %s of %d×%d over %d, rows of %d, %d and %d%s", p.Form, c, p.M, p.N, p.K, p.LdA, p.LdB, p.LdC, acc)
}

// matrix is one as the library sees it, column-major: columns of rows values, ld from one to the next.
type matrix struct{ kind, rows, cols, ld int }

// asked is a product as the library is asked for it: D = op(first)·op(second).
type asked struct {
	first, second, out      matrix
	transFirst, transSecond int32
}

// translate turns a product of row-major matrices into one of column-major ones. A row-major matrix of r rows of c values is, byte for
// byte, the column-major one of c rows and r columns with the same ld: its transpose. And C = X·Y is Cᵀ = Yᵀ·Xᵀ. So the library's
// first factor is our B, its second our A, its result (N,M). A factor that we take as it lies is taken as it lies there too, and one
// that we transpose (B in NT, A in TN) is transposed there.
func (p Product) translate() asked {
	c := typeFloat32
	if p.Half {
		c = typeBF16
	}
	r := asked{
		first: matrix{typeBF16, p.N, p.K, p.LdB}, second: matrix{typeBF16, p.K, p.M, p.LdA}, out: matrix{c, p.N, p.M, p.LdC},
		transFirst: opN, transSecond: opN,
	}
	switch p.Form {
	case NT:
		r.first.rows, r.first.cols, r.transFirst = p.K, p.N, opT
	case TN:
		r.second.rows, r.second.cols, r.transSecond = p.M, p.K, opT
	}
	return r
}

// check refuses what is no product.
func (p Product) check() error {
	if p.Form < NT || p.Form > TN {
		return fmt.Errorf("%v: there is no such form", p)
	}
	for _, n := range []int{p.M, p.N, p.K, p.LdA, p.LdB, p.LdC} {
		if n < 1 || n > math.MaxInt32 {
			return fmt.Errorf("%v: sizes are from 1 to %d", p, math.MaxInt32)
		}
	}
	r := p.translate()
	for _, m := range []matrix{r.first, r.second, r.out} {
		if m.ld < m.rows {
			return fmt.Errorf("%v: rows of %d values lie %d apart", p, m.rows, m.ld)
		}
	}
	return nil
}
