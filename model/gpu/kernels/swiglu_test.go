package kernels_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/model/kern"
)

// gluCase are packed rows gate|up and the gradient of their product, with gates far out among them.
func gluCase(n, f int) (gu, da []kern.BF16) {
	gu, da = halves(30, n*2*f, 3), halves(31, n*f, 1)
	for i, g := range []float32{0, float32(math.Copysign(0, -1)), 30, -30, 88, -88, 100, -100, 1e30, -1e30} {
		if i < f {
			gu[i] = kern.RoundBF16(g)
		}
	}
	return gu, da
}

// gluRef is a = silu(g)·u and the gradients of g and u.
func gluRef(g, u, da float64) (a, dg, du float64) {
	s := 1 / (1 + math.Exp(-g))
	return g * s * u, da * u * s * (1 + g*(1-s)), da * g * s
}

// gluErrors are how far s = σ(g), a, and the gradients of g and u may be off. The argument of exp2 is off by |g|·2⁻²³, which counts by 1 − s;
// exp2, a sum and a quotient follow. From 17 on 1 − s is 0 in float32, and |g|·(1 − s) less than what 17 units of it are.
func gluErrors(g, u, da float64) (a, dg, du float64) {
	s, n := 1/(1+math.Exp(-g)), math.Abs(g)
	e := (1-s)*n*0x1p-23 + 2*approx + 2*eps32
	m := math.Min(n, 17)
	if g < 0 {
		m = n
	}
	if s == 0 {
		return 0, 0, 0
	}
	// 1 + g·(1−s): s is off by s·e, 1 − s by an ulp of 1 more, and two more operations
	factor := m*(s*e+2*eps32) + 2*eps32*(1+m*(1-s))
	return math.Abs(g*u*s) * (e + 2*eps32), math.Abs(da*u*s) * (factor + (1+m*(1-s))*(e+3*eps32)), math.Abs(da*g*s) * (e + 2*eps32)
}

var gluShapes = []struct{ n, c int }{{1, 1}, {3, 7}, {2, 16}, {2, 100}, {1, 2048}, {2, 2056}, {1, 4099}}

func TestSwiGLU(t *testing.T) {
	b := on(t, "swiglu.cu")
	for _, s := range gluShapes {
		checkSwiGLU(t, b, s)
	}
	rapid.Check(t, func(rt *rapid.T) { checkSwiGLU(rt, b, drawShape(rt)) })
}

func checkSwiGLU(t rapid.TB, b *bench, s struct{ n, c int }) {
	gu, _ := gluCase(s.n, s.c)
	a := make([]kern.BF16, s.n*s.c)
	b.exec("swiglu", s.n, a, gu, int32(s.c))
	what, in := fmt.Sprint("swiglu of ", s), widened(gu)
	var want, most []float64
	for i := range s.n {
		for j := range s.c {
			g, u := float64(in[2*i*s.c+j]), float64(in[(2*i+1)*s.c+j])
			v, _, _ := gluRef(g, u, 0)
			e, _, _ := gluErrors(g, u, 0)
			want, most = append(want, v), append(most, e+1e-30) // far out, what is below the least normal numbers
		}
	}
	bounded(t, what, widened(a), want, half(want, most))
	for name, k := range kernelSets(t) {
		row := make([]float32, s.c)
		for i := range s.n {
			k.SwiGLU(row, in[2*i*s.c:], in[(2*i+1)*s.c:])
			bounded(t, what+" and "+name, widened(a[i*s.c:(i+1)*s.c]), real64(row), half(real64(row), times(2, most[i*s.c:(i+1)*s.c])))
		}
	}
}

func TestSwiGLUBack(t *testing.T) {
	b := on(t, "swiglu.cu")
	for _, s := range gluShapes {
		checkSwiGLUBack(t, b, s)
	}
	rapid.Check(t, func(rt *rapid.T) { checkSwiGLUBack(rt, b, drawShape(rt)) })
}

func checkSwiGLUBack(t rapid.TB, b *bench, s struct{ n, c int }) {
	gu, da := gluCase(s.n, s.c)
	what, in, d := fmt.Sprint("gradient of swiglu ", s), widened(gu), widened(da)
	want, most := make([]float64, len(gu)), make([]float64, len(gu))
	for i := range s.n {
		for j := range s.c {
			g, u := 2*i*s.c+j, (2*i+1)*s.c+j
			_, want[g], want[u] = gluRef(float64(in[g]), float64(in[u]), float64(d[i*s.c+j]))
			_, most[g], most[u] = gluErrors(float64(in[g]), float64(in[u]), float64(d[i*s.c+j]))
			most[g], most[u] = most[g]+1e-30, most[u]+1e-30
		}
	}
	got := make([]kern.BF16, len(gu))
	b.exec("swiglu_back_half", s.n, got, gu, da, int32(s.c))
	bounded(t, what, widened(got), want, half(want, most))
	for name, k := range kernelSets(t) {
		cpu := slices.Clone(in)
		for i := range s.n {
			k.SwiGLUBackward(cpu[2*i*s.c:(2*i+1)*s.c], cpu[(2*i+1)*s.c:], d[i*s.c:])
		}
		bounded(t, what+" and "+name, widened(got), real64(cpu), half(real64(cpu), times(2, most)))
	}
	b.exec("swiglu_back", s.n, gu, gu, d, int32(s.c)) // in place
	twin(t, what+" in place, of float32", widened(gu), widened(got), ulp, 2e-6)
}

func TestSwiGLUNaN(t *testing.T) {
	b := on(t, "swiglu.cu")
	for _, at := range []int{3, 10 + 3} {
		gu, da := gluCase(1, 10)
		gu[at] = kern.RoundBF16(float32(math.NaN()))
		a, dgu := make([]kern.BF16, 10), make([]kern.BF16, 20)
		b.exec("swiglu", 1, a, gu, int32(10))
		b.exec("swiglu_back_half", 1, dgu, gu, da, int32(10))
		for i, v := range widened(a) {
			if (i == 3) != (v != v) {
				t.Errorf("NaN at %d: product %d is %v", at, i, v)
			}
		}
		if v := dgu[3].Float32(); v == v {
			t.Errorf("NaN at %d: gradient %v", at, v)
		}
	}
}
