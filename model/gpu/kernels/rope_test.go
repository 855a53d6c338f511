package kernels_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/model/kern"
)

// angles are tables of cosines and sines (rows,half).
func angles(rows, half int) (cos, sin []float32) {
	for p := range rows {
		for i := range half {
			a := float64(p) * math.Pow(10000, -float64(i)/float64(half))
			cos, sin = append(cos, float32(math.Cos(a))), append(sin, float32(math.Sin(a)))
		}
	}
	return cos, sin
}

// ropeShape: B sequences of T tokens from a position on; rows of heads of 2·half values and a rest.
type ropeShape struct{ B, T, first, heads, half, rest int }

func TestRope(t *testing.T) {
	b := on(t, "rope.cu")
	for _, s := range []ropeShape{
		{1, 1, 0, 1, 1, 0}, {2, 3, 0, 2, 8, 16}, {1, 5, 7, 3, 32, 64}, {2, 4, 1, 2, 5, 3}, {1, 2, 0, 20, 64, 256}, {1, 3, 2, 1, 12, 1}, {2, 2, 0, 40, 64, 8},
	} {
		checkRope(t, b, s)
	}
	rapid.Check(t, func(rt *rapid.T) {
		n := func(least, most int, what string) int { return rapid.IntRange(least, most).Draw(rt, what) }
		checkRope(rt, b, ropeShape{n(1, 3, "B"), n(1, 6, "T"), n(0, 9, "first"), n(1, 9, "heads"), n(1, 40, "half"), n(0, 20, "rest")})
	})
}

func checkRope(t rapid.TB, b *bench, s ropeShape) {
	N, ld, hd := s.B*s.T, 2*s.half*s.heads+s.rest, 2*s.half
	cos, sin := angles(s.first+s.T, s.half)
	for _, sign := range []float32{1, -1} {
		v := halves(20, N*ld, 1)
		was, want, size := slices.Clone(v), real64(widened(v)), make([]float64, N*ld) // size: of what is added up
		cpu := map[string][]float32{}
		for i := range N {
			at := (s.first + i%s.T) * s.half
			for h := range s.heads {
				for j := range s.half {
					a, b := i*ld+h*hd+j, i*ld+h*hd+s.half+j
					x, y, c, z := want[a], want[b], float64(cos[at+j]), float64(sin[at+j]*sign)
					want[a], want[b] = x*c-y*z, x*z+y*c
					size[a], size[b] = math.Abs(x*c)+math.Abs(y*z), math.Abs(x*z)+math.Abs(y*c)
				}
			}
			for name, k := range kernelSets(t) {
				row := widened(was[i*ld : (i+1)*ld])
				k.RopeHeads(row, cos[at:], sin[at:], s.half, s.heads, sign)
				cpu[name] = append(cpu[name], row...)
			}
		}
		b.exec("rope", N, v, cos, sin, int32(s.T), int32(s.first), int32(s.heads), int32(s.half), int32(ld), sign)
		what := fmt.Sprint("rope of ", s, " by ", sign)
		most := times(2*eps32, size) // two products, a sum
		bounded(t, what, widened(v), want, half(want, most))
		for name, row := range cpu {
			bounded(t, what+" and "+name, widened(v), real64(row), half(real64(row), times(2, most)))
		}
		for i := range N { // what is no query and no key
			same(t, what+": the rest", v[i*ld+s.heads*hd:(i+1)*ld], was[i*ld+s.heads*hd:(i+1)*ld])
		}
	}
}

// Back and forth is where it was, but for rounding; position 0 changes no bit.
func TestRopeBack(t *testing.T) {
	b := on(t, "rope.cu")
	const T, heads, half = 6, 3, 16
	cos, sin := angles(T, half)
	v := halves(21, T*heads*2*half, 1)
	was := slices.Clone(v)
	for _, sign := range []float32{1, -1} {
		b.exec("rope", T, v, cos, sin, int32(T), int32(0), int32(heads), int32(half), int32(heads*2*half), sign)
		same(t, "position 0", v[:heads*2*half], was[:heads*2*half])
	}
	near(t, "there and back", widened(v), real64(widened(was)), 0.01, 0.02) // rounded twice; values of this seed are below 4
	if v[heads*2*half] = kern.RoundBF16(float32(math.NaN())); true {
		b.exec("rope", T, v, cos, sin, int32(T), int32(0), int32(heads), int32(half), int32(heads*2*half), float32(1))
	}
	if a, b := v[heads*2*half].Float32(), v[heads*2*half+half].Float32(); a == a || b == b {
		t.Errorf("a NaN does not show: %v, %v", a, b)
	}
}
