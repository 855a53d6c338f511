package kernels_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/model"
)

// lossCase is a chunk of rows of logits, ld apart, with their targets.
type lossCase struct {
	rows, V, ld int
	x           []float32 // values of bfloat16, so that both kinds have the same logits
	y           []int32
	scale       float32
}

func newLossCase(rows, V, ld int, size float64) *lossCase {
	c := &lossCase{rows, V, ld, widened(halves(50, rows*ld, size)), make([]int32, rows), 1 / float32(max(1, rows-1))}
	for i := range c.y {
		if c.y[i] = int32((i*7919 + V - 1) % V); i%3 == 1 {
			c.y[i] = model.Ignored
		}
	}
	return c
}

// ref are the losses and gradients in float64; what lies between rows stays.
func (c *lossCase) ref() (loss, d []float64) {
	d = real64(c.x)
	for i, y := range c.y {
		row := d[i*c.ld : i*c.ld+c.V]
		if y == model.Ignored {
			clear(row)
			loss = append(loss, 0)
			continue
		}
		top, sum := slices.Max(row), 0.0
		for _, v := range row {
			sum += math.Exp(v - top)
		}
		loss = append(loss, top+math.Log(sum)-row[y])
		for j, v := range row {
			row[j] = math.Exp(v-top) / sum * float64(c.scale)
		}
		row[y] -= float64(c.scale)
	}
	return loss, d
}

// errors are how far losses and gradients may be off by the kernel and by model/kern, given what they are. exp(x − top) is off by |x − top|·2⁻²² and
// approx, relative to it: of the sum that is ln V·2⁻²² at most, since the mean of |x − top| over probabilities is, three times where
// a sum so far is rescaled. A thread adds eight a round, a warp five times, a block seven; the CPU may add one by one.
func (c *lossCase) errors(loss, grad []float64) (l, d, cpuL, cpuD []float64) {
	rounds := float64((c.V + 2047) / 2048)
	logs := math.Log(float64(c.V)+1) * 0x1p-22
	sum := 3*logs + (rounds+2)*approx + (8*rounds+5+7+4)*eps32
	cpuSum := logs + 2*approx + float64(c.V+4)*eps32
	for i, y := range c.y {
		row, top := c.x[i*c.ld:i*c.ld+c.V], 0.0
		for j, v := range row {
			top = math.Max(top, math.Abs(float64(v)))
			g := grad[i*c.ld+j]
			if j == int(y) {
				g += float64(c.scale) // the probability
			}
			own := float64(c.scale) * (0x1p-22 + 2*eps32) // |x|·e^−|x| is below 1; and what 1[y] takes away
			d, cpuD = append(d, math.Abs(g)*(sum+approx+3*eps32)+own), append(cpuD, math.Abs(g)*(cpuSum+approx+3*eps32)+own)
		}
		for range c.ld - c.V {
			d, cpuD = append(d, 0), append(cpuD, 0)
		}
		own := eps32*(2*top+math.Abs(loss[i])+3*math.Log(float64(c.V)+1)) + approx*(1+math.Log(float64(c.V)+1)) // log, its factor, two sums
		l, cpuL = append(l, sum+own), append(cpuL, cpuSum+own)
	}
	return l, d, cpuL, cpuD
}

// lossShape is the shape of a chunk and the deviation of its logits.
type lossShape struct {
	rows, V, ld int
	size        float64
}

var lossShapes = []lossShape{{1, 1, 1, 1}, {4, 2, 2, 1}, {5, 7, 9, 3}, {3, 8, 8, 1}, {4, 257, 264, 10}, {3, 2048, 2048, 2}, {2, 5000, 5001, 5}, {2, 4104, 4104, 30}, {2, 16, 24, 1000}, {2, 3000, 3000, 0x1p-16}}

func TestCrossEntropy(t *testing.T) {
	b := on(t, "loss.cu")
	for _, s := range lossShapes {
		checkLoss(t, b, s)
	}
	rapid.Check(t, func(rt *rapid.T) {
		d, V := drawShape(rt), rapid.IntRange(1, 3000).Draw(rt, "vocabulary")
		checkLoss(rt, b, lossShape{1 + d.n%4, V, V + rapid.IntRange(0, 9).Draw(rt, "pad"), rapid.Float64Range(0, 40).Draw(rt, "size")})
	})
}

func checkLoss(t rapid.TB, b *bench, s lossShape) {
	c := newLossCase(s.rows, s.V, s.ld, s.size)
	what := fmt.Sprint("cross-entropy of ", s)
	want, grad := c.ref()
	abs := 2e-6 * float64(c.scale)
	errL, errD, cpuL, cpuD := c.errors(want, grad)
	// float32 in place
	loss, x := make([]float32, c.rows), slices.Clone(c.x)
	b.exec("cross_entropy", c.rows, x, loss, c.y, []float32{c.scale}, int32(c.V), int32(c.ld))
	bounded(t, what, loss, want, errL)
	bounded(t, what+", gradient", x, grad, errD)
	for name, k := range kernelSets(t) {
		for i, y := range c.y {
			if y != model.Ignored {
				row := slices.Clone(c.x[i*c.ld : i*c.ld+c.V])
				l := k.CrossEntropy(row, int(y), c.scale)
				bounded(t, what+" of "+name, loss[i:i+1], []float64{l}, []float64{errL[i] + cpuL[i]})
				both := make([]float64, c.V)
				for j := range both {
					both[j] = errD[i*c.ld+j] + cpuD[i*c.ld+j]
				}
				bounded(t, what+", gradient of "+name, x[i*c.ld:i*c.ld+c.V], real64(row), both)
			}
		}
	}
	// float32 to bfloat16, and bfloat16 in place
	to, half, lossTo, lossHalf := toHalves(c.x), toHalves(c.x), slices.Clone(loss), slices.Clone(loss)
	clear(lossTo)
	clear(lossHalf)
	b.exec("cross_entropy_to", c.rows, to, lossTo, c.x, c.y, []float32{c.scale}, int32(c.V), int32(c.ld))
	twin(t, what+" to bf16", widened(to), widened(toHalves(x)), ulp, 2*abs)
	b.exec("cross_entropy_bf16", c.rows, half, lossHalf, c.y, []float32{c.scale}, int32(c.V), int32(c.ld))
	twin(t, what+" in bf16", widened(half), widened(to), ulp, 2*abs)
	// the loss alone
	only, onlyHalf := make([]float32, c.rows), make([]float32, c.rows)
	b.exec("loss_only", c.rows, only, c.x, c.y, int32(c.V), int32(c.ld))
	b.exec("loss_only_bf16", c.rows, onlyHalf, toHalves(c.x), c.y, int32(c.V), int32(c.ld))
	for i, l := range [][]float32{lossTo, lossHalf, only, onlyHalf} {
		twin(t, fmt.Sprint(what, ", loss ", i), l, loss, 2e-6, 2e-5+2e-6*s.size)
	}
}

// Only differences of logits count: far below 0 and far above it they do not underflow or overflow, at the end of a row too.
func TestCrossEntropyFarOut(t *testing.T) {
	b := on(t, "loss.cu")
	for _, far := range []float32{-1e4, -500, 500, 1e4} {
		c := newLossCase(3, 13, 16, 1)
		for i := range c.x {
			c.x[i] += far
		}
		want, grad := c.ref()
		loss, x := make([]float32, c.rows), slices.Clone(c.x)
		b.exec("cross_entropy", c.rows, x, loss, c.y, []float32{c.scale}, int32(c.V), int32(c.ld))
		near(t, fmt.Sprint("around ", far), loss, want, 1e-6, 2e-3)
		near(t, fmt.Sprint("gradient around ", far), x, grad, 2e-5, 2e-6)
	}
}

// −Inf is a logit like others; NaN and +Inf show in the loss of their row, and in no other.
func TestCrossEntropySpecial(t *testing.T) {
	b := on(t, "loss.cu")
	for _, special := range []float64{math.Inf(-1), math.Inf(1), math.NaN()} {
		c := newLossCase(3, 300, 304, 1)
		c.y = []int32{1, 2, 3}
		c.x[c.ld+299] = float32(special)
		x, loss := slices.Clone(c.x), make([]float32, 3)
		b.exec("cross_entropy", 3, x, loss, c.y, []float32{1}, int32(c.V), int32(c.ld))
		c.scale = 1
		want, grad := c.ref()
		near(t, "row 0", loss[:1], want[:1], 1e-6, 1e-5)
		near(t, "row 2", loss[2:], want[2:], 1e-6, 1e-5)
		near(t, "gradient of row 2", x[2*c.ld:2*c.ld+c.V], grad[2*c.ld:2*c.ld+c.V], 2e-5, 2e-6)
		if l := float64(loss[1]); math.IsInf(special, -1) {
			near(t, "row with -Inf", loss[1:2], want[1:2], 1e-6, 1e-5)
			near(t, "its gradient", x[c.ld:c.ld+c.V], grad[c.ld:c.ld+c.V], 2e-5, 2e-6)
		} else if !math.IsNaN(l) && !math.IsInf(l, 0) {
			t.Errorf("%v in a row: loss %v", special, l)
		}
	}
}

// Where the target itself is −Inf, or all are, the loss is not finite.
func TestCrossEntropyImpossible(t *testing.T) {
	b := on(t, "loss.cu")
	x, low := normals(51, 16, 1), float32(math.Inf(-1))
	x[3] = low
	for i := range 8 {
		x[8+i] = low
	}
	loss := make([]float32, 2)
	b.exec("loss_only", 2, loss, x, []int32{3, 3}, int32(8), int32(8))
	for i, l := range loss {
		if l == l && !math.IsInf(float64(l), 1) {
			t.Errorf("row %d: loss %v", i, l)
		}
	}
}

func TestLossSum(t *testing.T) {
	b := on(t, "loss.cu")
	for _, n := range []int{0, 1, 31, 256, 257, 5000} {
		loss, total := normals(52, max(1, n), 3), []float32{2.5}
		want := 0.0
		for _, l := range loss[:n] {
			want += float64(l)
		}
		b.exec("loss_sum", 1, total, loss, []float32{0.25}, int32(n))
		near(t, fmt.Sprint("sum of ", n, " losses"), total, []float64{2.5 + want/4}, 1e-6, 1e-4)
	}
}
