package kernels_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/model/kern"
)

// normShapes are rows and columns: one value, less than a vector, tails, rows that no vector may read, several rounds of a block.
var normShapes = []struct{ n, c int }{{1, 1}, {2, 7}, {3, 8}, {5, 33}, {17, 64}, {2, 2048}, {1, 2049}, {2, 4104}, {33, 24}}

const normEps = 1e-5

// normRef is h = x·r·w and r in float64.
func normRef(x, w []float32, c int) (h, r []float64) {
	for from := 0; from < len(x); from += c {
		sum := 0.0
		for _, v := range x[from : from+c] {
			sum += float64(v) * float64(v)
		}
		by := 1 / math.Sqrt(sum/float64(c)+float64(float32(normEps)))
		r = append(r, by)
		for j, v := range x[from : from+c] {
			h = append(h, float64(v)*by*float64(w[j]))
		}
	}
	return h, r
}

// drawShape is any small shape.
func drawShape(t *rapid.T) (s struct{ n, c int }) {
	s.n, s.c = rapid.IntRange(1, 40).Draw(t, "rows"), rapid.IntRange(1, 300).Draw(t, "columns")
	return s
}

func TestRMSNorm(t *testing.T) {
	b := on(t, "norm.cu")
	for _, s := range normShapes {
		checkNorm(t, b, s)
	}
	rapid.Check(t, func(rt *rapid.T) { checkNorm(rt, b, drawShape(rt)) })
}

// normError is how far 1/rms of c values may be off: half of what the squares, their sum (eight a thread and round, five steps of a warp,
// seven of a block), its division by c and ε may, and root and quotient.
func normError(c int) float64 { return eps32 * (float64(8*((c+2047)/2048)+14)/2 + 2) }

// cpuNormError is that of model/kern: sums of 4096 squares in four parts, or more, joined in float64.
func cpuNormError(c int) float64 { return eps32 * (float64(min(c, 4096))/8 + 4) }

func checkNorm(t rapid.TB, b *bench, s struct{ n, c int }) {
	x, w := halves(1, s.n*s.c, 2), normals(2, s.c, 1)
	h, r := make([]kern.BF16, len(x)), make([]float32, s.n)
	b.exec("rmsnorm", s.n, h, r, x, w, int32(s.c), float32(normEps))
	compareNorm(t, fmt.Sprint("rmsnorm of ", s), s, h, r, x, w)
}

// compareNorm holds h and r, the norm of x, to float64 and model/kern.
func compareNorm(t rapid.TB, what string, s struct{ n, c int }, h []kern.BF16, r []float32, x []kern.BF16, w []float32) {
	want, by := normRef(widened(x), w, s.c)
	e, cpu := normError(s.c), cpuNormError(s.c) // and two products
	near(t, what, widened(h), want, halfOf(e+2*eps32), 1e-30)
	near(t, what+", 1/rms", r, by, e, 0)
	for name, k := range kernelSets(t) {
		row := make([]float32, s.c)
		for i := range s.n {
			near(t, what+", 1/rms of "+name, []float32{k.RMSNorm(row, widened(x[i*s.c:(i+1)*s.c]), w, normEps)}, real64(r[i:i+1]), 1.01*(e+cpu), 0)
			near(t, what+" and "+name, widened(h[i*s.c:(i+1)*s.c]), real64(row), halfOf(e+cpu+4*eps32), 1e-30)
		}
	}
}

func TestRMSNormAdd(t *testing.T) {
	b := on(t, "norm.cu")
	for _, s := range normShapes {
		checkNormAdd(t, b, s)
	}
	rapid.Check(t, func(rt *rapid.T) { checkNormAdd(rt, b, drawShape(rt)) })
}

func checkNormAdd(t rapid.TB, b *bench, s struct{ n, c int }) {
	x, y, w := halves(3, s.n*s.c, 2), halves(4, s.n*s.c, 0.1), normals(5, s.c, 1)
	sum := make([]kern.BF16, len(x))
	for i := range sum {
		sum[i] = kern.RoundBF16(x[i].Float32() + y[i].Float32())
	}
	h, r, got := make([]kern.BF16, len(x)), make([]float32, s.n), make([]kern.BF16, len(x))
	b.exec("rmsnorm_add", s.n, h, r, got, x, y, w, int32(s.c), float32(normEps))
	same(t, fmt.Sprint("sum of ", s), got, sum)
	compareNorm(t, fmt.Sprint("rmsnorm of the sum ", s), s, h, r, sum, w)
	h2, r2 := make([]kern.BF16, len(x)), make([]float32, s.n)
	b.exec("rmsnorm", s.n, h2, r2, sum, w, int32(s.c), float32(normEps))
	twin(t, fmt.Sprint("norm of the sum ", s), widened(h), widened(h2), ulp, 1e-30)
	twin(t, fmt.Sprint("1/rms of the sum ", s), r, r2, 1e-6, 0)
	b.exec("rmsnorm_add", s.n, h2, r2, x, x, y, w, int32(s.c), float32(normEps)) // in place
	same(t, fmt.Sprint("sum in place ", s), x, sum)
	same(t, fmt.Sprint("its norm ", s), h, h2)
}

// What is no number shows in its row, and in no other; a row of zeros is normed by ε alone.
func TestRMSNormSpecial(t *testing.T) {
	b := on(t, "norm.cu")
	const n, c = 4, 40
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		x, w := halves(6, n*c, 1), normals(7, c, 1)
		clear(x[3*c:])
		x[c+37] = kern.RoundBF16(float32(bad))
		h, r := make([]kern.BF16, n*c), make([]float32, n)
		b.exec("rmsnorm", n, h, r, x, w, int32(c), float32(normEps))
		for i, v := range widened(h) {
			if i == c+37 && v == v {
				t.Errorf("of %v: %v", bad, v)
			}
			if i/c != 1 && (v != v || math.IsInf(float64(v), 0)) {
				t.Fatalf("of %v in row 1: value %d is %v", bad, i, v)
			}
		}
		near(t, "1/rms of zeros", r[3:], []float64{1 / math.Sqrt(normEps)}, 1e-6, 0)
	}
}

// backRef are the gradients of h = x·r·w in float64: of x, to be added to dx, and of w; and the sums of the magnitudes of all that is
// added up for each, of which rounding errors are a part.
func backRef(dx, dy, x, w, r []float32, c int) (outX, outW, sizeX, sizeW []float64) {
	outX, outW, sizeX, sizeW = real64(dx), make([]float64, c), real64(dx), make([]float64, c)
	for i := range r {
		by, sum, size := float64(r[i]), 0.0, 0.0
		for j := range c {
			g := float64(dy[i*c+j]) * float64(w[j]) * float64(x[i*c+j])
			sum, size = sum+g, size+math.Abs(g)
		}
		for j := range c {
			d, v := float64(dy[i*c+j]), float64(x[i*c+j])
			outX[i*c+j] += by * (d*float64(w[j]) - v*by*by*sum/float64(c))
			outW[j] += d * v * by
			sizeX[i*c+j] = math.Abs(sizeX[i*c+j]) + by*(math.Abs(d*float64(w[j]))+math.Abs(v)*by*by*size/float64(c))
			sizeW[j] += math.Abs(d * v * by)
		}
	}
	return outX, outW, sizeX, sizeW
}

// backErrors are how far the gradients may be off by the kernels, in units of those magnitudes: of x a row's sum (eight products a lane and round, five steps
// of a warp) and ten operations; of w sixteen rows, every eighth sum of these, eight of those, and five operations. And by
// model/kern, which may add one by one.
func backErrors(n, c int) (x, w, cpuX, cpuW float64) {
	return eps32 * float64(8*((c+255)/256)+5+10), eps32 * float64(16+((n+15)/16+7)/8+8+5), eps32 * float64(c+10), eps32 * float64(n+5)
}

// normBack is one call of a kernel of rmsnorm's backward pass and of sum_rows.
type normBack struct {
	n, c      int
	dx, w     []float32 // dx is what is added to
	x, dy     []kern.BF16
	r, dw     []float32
	copy, dxh []kern.BF16
}

func newNormBack(n, c int) *normBack {
	b := &normBack{n: n, c: c, dx: normals(8, n*c, 1), w: normals(9, c, 1), x: halves(10, n*c, 2), dy: halves(11, n*c, 1), dw: normals(12, c, 1), copy: make([]kern.BF16, n*c)}
	_, r := normRef(widened(b.x), b.w, c)
	for _, v := range r {
		b.r = append(b.r, float32(v))
	}
	b.dxh = toHalves(b.dx)
	return b
}

// on launches a kernel, whose sums of sixteen rows are then joined in dw.
func (b *normBack) on(c *bench, kernel string, acc int, before ...any) {
	blocks := (b.n + 15) / 16
	part := make([]float32, blocks*b.c)
	args := append(slices.Clone(before[:len(before)-1]), part, before[len(before)-1], b.x, b.w, b.r, int32(b.n), int32(b.c))
	c.exec(kernel, blocks, args...)
	c.exec("sum_rows", (b.c+31)/32, b.dw, part, int32(blocks), int32(b.c), int32(acc))
}

func TestRMSNormBack(t *testing.T) {
	card := on(t, "norm.cu")
	for _, s := range append(normShapes, struct{ n, c int }{150, 9}, struct{ n, c int }{300, 40}) {
		checkNormBack(t, card, s)
	}
	rapid.Check(t, func(rt *rapid.T) { checkNormBack(rt, card, drawShape(rt)) })
}

func checkNormBack(t rapid.TB, card *bench, s struct{ n, c int }) {
	what := fmt.Sprint("gradient of rmsnorm ", s)
	size := 1e-6 * math.Sqrt(float64(s.n))
	b := newNormBack(s.n, s.c)
	ex, ew, cpuX, cpuW := backErrors(s.n, s.c)
	dx, dw, sizeX, sizeW := backRef(b.dx, widened(b.dy), widened(b.x), b.w, b.r, s.c)
	was, wasW := slices.Clone(b.dx), slices.Clone(b.dw)
	// of float32
	b.on(card, "rmsnorm_back", 1, b.dx, b.copy, widened(b.dy))
	bounded(t, what, b.dx, dx, times(ex, sizeX))
	same(t, what+", rounded", b.copy, toHalves(b.dx))
	for j := range dw {
		dw[j] += float64(wasW[j])
		sizeW[j] += math.Abs(float64(wasW[j]))
	}
	bounded(t, what+", weights", b.dw, dw, times(ew, sizeW))
	for name, k := range kernelSets(t) {
		cx, cw := slices.Clone(was), slices.Clone(wasW)
		for i := range s.n {
			at := i * s.c
			k.RMSBackward(cx[at:at+s.c], cw, widened(b.dy[at:at+s.c]), widened(b.x[at:at+s.c]), b.w, b.r[i])
		}
		bounded(t, what+" of "+name, b.dx, real64(cx), times(ex+cpuX, sizeX))
		bounded(t, what+", weights of "+name, b.dw, real64(cw), times(ew+cpuW, sizeW))
	}
	// of bfloat16 the same bits, and then all in bfloat16
	h := newNormBack(s.n, s.c)
	h.on(card, "rmsnorm_back_half", 1, h.dx, h.copy, h.dy)
	twin(t, what+" in half", h.dx, b.dx, 2e-5, 2e-5)
	twin(t, what+" in half, weights", h.dw, b.dw, 2e-5, 10*size)
	dx, dw, sizeX, sizeW = backRef(widened(h.dxh), widened(h.dy), widened(h.x), h.w, h.r, s.c)
	h.on(card, "rmsnorm_back_bf16", 0, h.dxh, h.dy)
	bounded(t, what+" in bf16", widened(h.dxh), dx, half(dx, times(ex, sizeX)))
	bounded(t, what+" in bf16, weights", h.dw, dw, times(ew, sizeW))
}

func TestSumRows(t *testing.T) {
	b := on(t, "norm.cu")
	for _, s := range append(normShapes, struct{ n, c int }{100, 70}) {
		for acc := range 2 {
			part, dw := normals(13, s.n*s.c, 1), normals(14, s.c, 1)
			sum, want := toHalves(dw), make([]float64, s.c)
			wantHalf, size := make([]float64, s.c), make([]float64, s.c)
			for j := range dw {
				want[j], wantHalf[j] = float64(acc)*float64(dw[j]), float64(acc)*float64(sum[j].Float32())
				size[j] = 1.01 * math.Abs(want[j]) // also of the rounded one
			}
			for i, v := range part {
				want[i%s.c] += float64(v)
				wantHalf[i%s.c] += float64(v)
				size[i%s.c] += math.Abs(float64(v))
			}
			most := times(eps32*float64((s.n+7)/8+8), size) // every eighth row, and eight sums
			what := fmt.Sprint("sum of rows ", s, ", added: ", acc)
			b.exec("sum_rows", (s.c+31)/32, dw, part, int32(s.n), int32(s.c), int32(acc))
			bounded(t, what, dw, want, most)
			b.exec("sum_rows_bf16", (s.c+31)/32, sum, part, int32(s.n), int32(s.c), int32(acc))
			bounded(t, what+", in bf16", widened(sum), wantHalf, half(wantHalf, most))
		}
	}
}
