package kern

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"gonum.org/v1/gonum/floats"
)

// levels are one set of kernels for every instruction set that this CPU has.
func levels(t testing.TB) []*Kernels {
	t.Helper()
	return sets(t, "portable", "avx2", "avx512", "avx512bf16")
}

// elemCase is a kernel and what it means in float64. Rows are changed in place; the results are what it returns.
type elemCase struct {
	name string
	rows int
	run  func(k *Kernels, v [][]float32) float64
	want func(v [][]float64) float64
	tol  float64 // of a value relative to 1 + its magnitude, or to size
	sum  float64 // of the result, relative to 1 + its magnitude + those of all values

	size  func(v [][]float64) // where values may cancel: makes of the rows the magnitudes of what is added up for each
	chain bool                // values depend on a sum over the row
}

// Values are at most largestDraw, so that the tolerances are bounds: an argument of exp below 8 is off by 2·2⁻²² at most, a product of two
// values by half of what both together are. Sums may add one by one, each addition being off by 2⁻²⁴.
const (
	largestDraw = 5
	eps32       = 0x1p-24
)

// draw is a random value.
func draw(r *rand.Rand) float64 {
	for {
		if x := r.NormFloat64(); math.Abs(x) <= largestDraw {
			return x
		}
	}
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// none is the result of a kernel that returns nothing.
const none = 0

// halfRows are rows for cases with bfloat16, which must not allocate.
var halfRows = sync.Pool{New: func() any { return new([]BF16) }}

var elemCases = []elemCase{
	{name: "Dot", rows: 2, sum: 1e-6,
		run:  func(k *Kernels, v [][]float32) float64 { return float64(k.Dot(v[0], v[1])) },
		want: func(v [][]float64) float64 { return floats.Dot(v[0], v[1]) }},
	{name: "DotBF16", rows: 2, sum: 1e-6,
		run: func(k *Kernels, v [][]float32) float64 {
			h := halfRows.Get().(*[]BF16)
			defer halfRows.Put(h)
			*h = slices.Grow((*h)[:0], len(v[1]))[:len(v[1])]
			k.ToBF16(*h, v[1])
			return float64(k.DotBF16(v[0], *h))
		},
		want: func(v [][]float64) (sum float64) {
			for i, x := range v[1] {
				sum += v[0][i] * float64(RoundBF16(float32(x)).Float32())
			}
			return sum
		}},
	{name: "SumSquares", rows: 1, sum: 1e-6,
		run:  func(k *Kernels, v [][]float32) float64 { return k.SumSquares(v[0]) },
		want: func(v [][]float64) float64 { return floats.Dot(v[0], v[0]) }},
	{name: "ScaleMul", rows: 3, tol: 2e-7,
		run: func(k *Kernels, v [][]float32) float64 { k.ScaleMul(v[0], v[1], v[2], 1.75); return none },
		want: func(v [][]float64) float64 {
			floats.ScaleTo(v[0], 1.75, v[1])
			floats.Mul(v[0], v[2])
			return none
		}},
	{name: "Scale", rows: 1, tol: 1e-7,
		run:  func(k *Kernels, v [][]float32) float64 { k.Scale(v[0], -0.375); return none },
		want: func(v [][]float64) float64 { floats.Scale(-0.375, v[0]); return none }},
	{name: "Add", rows: 2, tol: 1e-7,
		run:  func(k *Kernels, v [][]float32) float64 { k.Add(v[0], v[1]); return none },
		want: func(v [][]float64) float64 { floats.Add(v[0], v[1]); return none }},
	{name: "MulAdd", rows: 2, tol: 4e-7,
		run:  func(k *Kernels, v [][]float32) float64 { k.MulAdd(v[0], v[1], -2.5); return none },
		want: func(v [][]float64) float64 { floats.AddScaled(v[0], -2.5, v[1]); return none }},
	{name: "Max", rows: 1,
		run:  func(k *Kernels, v [][]float32) float64 { return float64(k.Max(v[0])) },
		want: func(v [][]float64) float64 { return floats.Max(v[0]) }},
	{name: "ExpSum", rows: 1, tol: 1e-6, sum: 1e-6,
		run:  func(k *Kernels, v [][]float32) float64 { return float64(k.ExpSum(v[0], 1.5, -0.25)) },
		want: func(v [][]float64) float64 { return expSum64(v[0], 1.5, -0.25) }},
	{name: "Softmax", rows: 1, tol: 1e-6, sum: 1e-6, chain: true,
		run:  func(k *Kernels, v [][]float32) float64 { return float64(k.Softmax(v[0], len(v[0]), 0.5)) },
		want: func(v [][]float64) float64 { return softmax64(v[0], len(v[0])) }},
	{name: "Softmax of a part", rows: 1, tol: 1e-6, sum: 1e-6, chain: true,
		run:  func(k *Kernels, v [][]float32) float64 { return float64(k.Softmax(v[0], (len(v[0])+1)/2, 0.5)) },
		want: func(v [][]float64) float64 { return softmax64(v[0], (len(v[0])+1)/2) }},
	{name: "CrossEntropy", rows: 1, tol: 1e-6, sum: 1e-6, chain: true,
		run: func(k *Kernels, v [][]float32) float64 { return k.CrossEntropy(v[0], len(v[0])/2, 0.25) },
		want: func(v [][]float64) float64 {
			right, lse := v[0][len(v[0])/2], floats.LogSumExp(v[0])
			expSum64(v[0], 1, -lse)
			floats.Scale(0.25, v[0])
			v[0][len(v[0])/2] -= 0.25
			return lse - right
		}},
	{name: "RMSNorm", rows: 3, tol: 1e-6, sum: 1e-6, chain: true,
		run: func(k *Kernels, v [][]float32) float64 { return float64(k.RMSNorm(v[0], v[1], v[2], 1e-5)) },
		want: func(v [][]float64) float64 {
			r := 1 / math.Sqrt(floats.Dot(v[1], v[1])/float64(len(v[1]))+1e-5)
			floats.ScaleTo(v[0], r, v[1])
			floats.Mul(v[0], v[2])
			return r
		}},
	{name: "RMSBackward", rows: 5, tol: 12 * eps32, chain: true,
		size: func(v [][]float64) {
			var s float64
			for i := range v[0] {
				s += math.Abs(v[2][i] * v[4][i] * v[3][i])
			}
			for i := range v[0] {
				v[0][i] = math.Abs(v[0][i]) + 0.75*(math.Abs(v[2][i]*v[4][i])+math.Abs(v[3][i])*s/float64(len(v[0]))*0.75*0.75)
				v[1][i] = math.Abs(v[1][i]) + math.Abs(v[2][i]*v[3][i]*0.75)
			}
		},
		run: func(k *Kernels, v [][]float32) float64 {
			k.RMSBackward(v[0], v[1], v[2], v[3], v[4], 0.75)
			return none
		},
		want: func(v [][]float64) float64 { rmsBackward64(v[0], v[1], v[2], v[3], v[4], 0.75); return none }},
	{name: "Rope", rows: 4, tol: 3 * eps32,
		size: func(v [][]float64) {
			for i, x := range v[0] {
				c, s, y := math.Abs(v[2][i]), math.Abs(v[3][i]), math.Abs(v[1][i])
				v[0][i], v[1][i] = math.Abs(x)*c+y*s, math.Abs(x)*s+y*c
			}
		},
		run:  func(k *Kernels, v [][]float32) float64 { k.Rope(v[0], v[1], v[2], v[3], -1); return none },
		want: func(v [][]float64) float64 { rope64(v[0], v[1], v[2], v[3], -1); return none }},
	{name: "SwiGLU", rows: 3, tol: 1e-6,
		run: func(k *Kernels, v [][]float32) float64 { k.SwiGLU(v[0], v[1], v[2]); return none },
		want: func(v [][]float64) float64 {
			for i, x := range v[1] {
				v[0][i] = x * sigmoid(x) * v[2][i]
			}
			return none
		}},
	{name: "SwiGLUBackward", rows: 3, tol: 2e-6, // exp is off by 4·2⁻²⁴, σ and 1 − σ by three more, eight operations
		size: func(v [][]float64) {
			for i, x := range v[0] {
				s, u, d := sigmoid(x), v[1][i], v[2][i]
				v[1][i], v[0][i] = math.Abs(d*x*s), math.Abs(d*u*s)*(1+math.Abs(x))
			}
		},
		run: func(k *Kernels, v [][]float32) float64 { k.SwiGLUBackward(v[0], v[1], v[2]); return none },
		want: func(v [][]float64) float64 {
			for i, x := range v[0] {
				s, u, d := sigmoid(x), v[1][i], v[2][i]
				v[1][i], v[0][i] = d*x*s, d*u*s*(1+x*(1-s))
			}
			return none
		}},
	{name: "Step", rows: 4, tol: 20 * eps32,
		size: func(v [][]float64) {
			for i, p := range v[0] {
				g := v[1][i] * 0.5
				v[2][i] = 0.9*math.Abs(v[2][i]) + 0.1*math.Abs(g)
				v[3][i] = 0.95*v[3][i] + 0.05*g*g
				v[0][i] = math.Abs(p) + 0.01*v[2][i]/0.19/(math.Sqrt(v[3][i]/0.0975)+1e-8)
			}
		},
		run: func(k *Kernels, v [][]float32) float64 { stepCase(k, v, nil); return none },
		want: func(v [][]float64) float64 {
			for i, p := range v[0] {
				g := v[1][i] * 0.5
				v[2][i] = 0.9*v[2][i] + 0.1*g
				v[3][i] = 0.95*v[3][i] + 0.05*g*g
				v[0][i] = p - 0.01*(v[2][i]/0.19/(math.Sqrt(math.Abs(v[3][i])/0.0975)+1e-8)+0.1*p)
			}
			return none
		}},
}

// stepCase is one AdamW step whose second moments are the magnitudes of what is in the row.
func stepCase(k *Kernels, v [][]float32, h []BF16) {
	k.Step(AdamW{LR: 0.01, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: 0.1, C1: 0.19, C2: 0.0975, Scale: 0.5}, v[0], v[1], v[2], v[3], h)
}

func expSum64(v []float64, scale, bias float64) (sum float64) {
	for i, x := range v {
		v[i] = math.Exp(x*scale + bias)
		sum += v[i]
	}
	return sum
}

func softmax64(v []float64, n int) float64 {
	clear(v[n:])
	floats.Scale(0.5, v[:n])
	lse := floats.LogSumExp(v[:n])
	expSum64(v[:n], 1, -lse)
	return lse
}

func rmsBackward64(dx, dw, dy, x, w []float64, r float64) {
	var s float64
	for i := range dx {
		s += dy[i] * w[i] * x[i]
	}
	for i := range dx {
		dx[i] += r * (dy[i]*w[i] - x[i]*s/float64(len(dx))*r*r)
		dw[i] += dy[i] * x[i] * r
	}
}

func rope64(a, b, cos, sin []float64, sign float64) {
	for i, x := range a {
		a[i], b[i] = x*cos[i]-b[i]*sin[i]*sign, x*sin[i]*sign+b[i]*cos[i]
	}
}

// guard stands before and after every row; a kernel that touches one is found.
const (
	guardLen  = 40
	guardBits = 0x7F812345 // a signalling NaN: reading it shows too
)

// row is n values at an odd place between guards.
type row struct {
	all  []float32
	off  int
	vals []float32
}

func newRow(n, off int) row {
	all := make([]float32, guardLen+off+n+guardLen)
	for i := range all {
		all[i] = math.Float32frombits(guardBits)
	}
	return row{all: all, off: guardLen + off, vals: all[guardLen+off : guardLen+off+n : guardLen+off+n]}
}

// touched says which guard is not what it was.
func (r row) touched() (at int, yes bool) {
	for i, x := range r.all {
		if (i < r.off || i >= r.off+len(r.vals)) && math.Float32bits(x) != guardBits {
			return i - r.off, true
		}
	}
	return 0, false
}

// fill makes the rows of a case: float32 and the same in float64. The last row of Step, its second moments, is not negative.
func (c *elemCase) fill(r *rand.Rand, n int, off func() int) (rows []row, narrow [][]float32, wide [][]float64) {
	for i := range c.rows {
		x, y := newRow(n, off()), make([]float64, n)
		for j := range n {
			x.vals[j] = float32(draw(r))
			if c.name == "Step" && i == 3 {
				x.vals[j] = float32(math.Abs(float64(x.vals[j])))
			}
			y[j] = float64(x.vals[j])
		}
		rows, narrow, wide = append(rows, x), append(narrow, x.vals), append(wide, y)
	}
	return rows, narrow, wide
}
