package kernels_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"sn3/model/kern"
)

// hard are float32 numbers of every upper half, with lower halves around the middle between two of bfloat16 and at random: every
// exponent, subnormals, infinities, NaNs.
func hard() []float32 {
	r := rand.New(rand.NewPCG(60, 1))
	var out []float32
	for h := range uint32(1 << 16) {
		low := []uint32{0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF, r.Uint32N(1 << 16)}[r.IntN(7)]
		out = append(out, math.Float32frombits(h<<16|low))
	}
	for _, h := range []uint32{0, 1, 0x7F, 0x80, 0x7F7F, 0x7F80, 0x7FFF, 0x8000, 0x807F, 0xFF7F, 0xFF80} {
		for _, low := range []uint32{0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF} {
			out = append(out, math.Float32frombits(h<<16|low))
		}
	}
	return out
}

// Rounding gives the bits of model/kern, of all values.
func TestToBF16(t *testing.T) {
	b := on(t, "convert.cu")
	s := hard()
	d := make([]kern.BF16, len(s))
	b.exec("to_bf16", 7, d, s, int64(len(s)))
	same(t, "rounded", d, toHalves(s))
	for name, k := range kernelSets(t) {
		cpu := make([]kern.BF16, len(s))
		k.ToBF16(cpu, s)
		same(t, "rounded by "+name, d, cpu)
	}
	back := make([]float32, len(d))
	b.exec("to_float", 3, back, d, int64(len(d)))
	same(t, "widened", bitsOf(back), bitsOf(widened(d)))
}

// Every length, with any number of blocks; what lies beyond is not touched.
func TestConvertLengths(t *testing.T) {
	b := on(t, "convert.cu")
	for _, n := range []int{0, 1, 7, 8, 9, 15, 16, 100, 2047, 2048, 2049, 5000} {
		for _, blocks := range []int{1, 3} {
			what := fmt.Sprint(n, " values in blocks ", blocks)
			s, f := normals(61, n+3, 1), normals(62, n+3, 1)
			h, g := toHalves(f), halves(63, n+3, 1)
			// conversions
			d := slices.Clone(h)
			b.exec("to_bf16", blocks, d, s, int64(n))
			same(t, what+" rounded", d, append(toHalves(s[:n]), h[n:]...))
			w := slices.Clone(f)
			b.exec("to_float", blocks, w, g, int64(n))
			same(t, what+" widened", w, append(widened(g[:n]), f[n:]...))
			// sums
			sum, sumHalf, half := slices.Clone(f), slices.Clone(f), slices.Clone(h)
			want, wantHalf, wantH := slices.Clone(f), slices.Clone(f), slices.Clone(h)
			for i := range n {
				want[i] += s[i]
				wantHalf[i] += g[i].Float32()
				wantH[i] = kern.RoundBF16(h[i].Float32() + g[i].Float32())
			}
			b.exec("add_float", blocks, sum, s, int64(n))
			same(t, what+" added", sum, want)
			for name, k := range kernelSets(t) {
				cpu := slices.Clone(f)
				k.Add(cpu[:n], s[:n])
				same(t, what+" added by "+name, sum, cpu)
			}
			b.exec("add_half", blocks, sumHalf, g, int64(n))
			same(t, what+" added to float32", sumHalf, wantHalf)
			b.exec("add_bf16", blocks, half, g, int64(n))
			same(t, what+" added in bf16", half, wantH)
			// zeros
			clear(want[:n])
			clear(wantH[:n])
			copy(want[n:], sum[n:])
			copy(wantH[n:], half[n:])
			b.exec("zero", blocks, sum, int64(n))
			same(t, what+" cleared", sum, want)
			b.exec("zero_bf16", blocks, half, int64(n))
			same(t, what+" of bf16 cleared", half, wantH)
		}
	}
}
