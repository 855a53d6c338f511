package kern

import (
	"fmt"
	"math"
	"slices"
	"unsafe"
)

// probe is a kernel on some rows of probeLen values, which it may change; it returns all that it computed.
type probe struct {
	name  string
	exact bool // the bits are the same in every set
	run   func(k *Kernels, v [][]float32) []float32
}

// probeLen has whole turns of every loop, single vectors and a rest.
const probeLen = 2*Groups + 64 + 16 + 13

// probes has every kernel that works on rows.
var probes = []probe{
	{"Dot", false, func(k *Kernels, v [][]float32) []float32 { return []float32{k.Dot(v[0], v[1])} }},
	{"DotBF16", false, func(k *Kernels, v [][]float32) []float32 { return []float32{k.DotBF16(v[0], rounded16(v[1]))} }},
	{"SumSquares", false, func(k *Kernels, v [][]float32) []float32 { return []float32{float32(k.SumSquares(v[0]))} }},
	{"ScaleMul", false, func(k *Kernels, v [][]float32) []float32 { k.ScaleMul(v[0], v[1], v[2], 1.5); return v[0] }},
	{"Scale", false, func(k *Kernels, v [][]float32) []float32 { k.Scale(v[0], 1.5); return v[0] }},
	{"Add", false, func(k *Kernels, v [][]float32) []float32 { k.Add(v[0], v[1]); return v[0] }},
	{"MulAdd", false, func(k *Kernels, v [][]float32) []float32 { k.MulAdd(v[0], v[1], 1.5); return v[0] }},
	{"Max", false, func(k *Kernels, v [][]float32) []float32 { return []float32{k.Max(v[0])} }},
	{"ExpSum", false, func(k *Kernels, v [][]float32) []float32 { return append(v[0], k.ExpSum(v[0], 3, -1)) }},
	{"ExpSumBF16", false, func(k *Kernels, v [][]float32) []float32 {
		h, x := make([]BF16, probeLen), slices.Clone(v[0])
		k.ExpSum(x, 3, -1)
		sum := k.ExpSumBF16(h, v[0], 3, -1)
		return append(unlike(h, x), sum)
	}},
	{"ScoreGradients", false, func(k *Kernels, v [][]float32) []float32 {
		k.ScoreGradients(v[0], v[1], v[2], v[3], 1.5)
		return slices.Concat(v[0], v[1])
	}},
	{"ScoreGradientsBF16", false, func(k *Kernels, v [][]float32) []float32 {
		p, g, s, d := make([]BF16, probeLen), make([]BF16, probeLen), slices.Clone(v[0]), slices.Clone(v[1])
		k.ScoreGradients(s, d, v[2], v[3], 1.5)
		k.ScoreGradientsBF16(p, g, v[0], v[1], v[2], v[3], 1.5)
		return append(unlike(p, s), unlike(g, d)...)
	}},
	{"RMSBackward", false, func(k *Kernels, v [][]float32) []float32 {
		k.RMSBackward(v[0], v[1], v[2], v[3], v[4], 1.5)
		return slices.Concat(v[0], v[1])
	}},
	{"RopeHeads", false, func(k *Kernels, v [][]float32) []float32 {
		k.RopeHeads(v[0], v[1], v[2], probeLen/4, 2, -1)
		return v[0]
	}},
	{"RopeBack", false, func(k *Kernels, v [][]float32) []float32 {
		k.RopeBack(Matrix{F: v[0], LD: 81}, v[1], 79, v[2], v[3], 41, 37, 5)
		return v[0]
	}},
	{"RopeBack to bfloat16", false, func(k *Kernels, v [][]float32) []float32 {
		h := rounded16(v[0])
		k.RopeBack(Matrix{F: v[0], LD: 81}, v[1], 79, v[2], v[3], 41, 37, 5)
		k.RopeBack(Matrix{H: h, LD: 81}, v[1], 79, v[2], v[3], 41, 37, 5)
		return unlike(h, v[0])
	}},
	{"ScaleRows", false, func(k *Kernels, v [][]float32) []float32 {
		k.ScaleRows(Matrix{F: v[0], LD: 95}, v[1], 99, v[2], 93, 5)
		return v[0]
	}},
	{"ScaleRows to bfloat16", true, func(k *Kernels, v [][]float32) []float32 {
		h := rounded16(v[0])
		k.ScaleRows(Matrix{H: h, LD: 95}, v[1], 99, v[2], 93, 5)
		return widened(h)
	}},
	{"DotRows", false, func(k *Kernels, v [][]float32) []float32 {
		k.DotRows(v[0], v[1], 95, v[2], 99, 93, 5)
		return v[0]
	}},
	{"DotRowsBF16", false, func(k *Kernels, v [][]float32) []float32 {
		h := rounded16(v[1])
		k.DotRowsBF16(v[0], h, 97, v[1], 95, rounded16(v[2]), 99, 93, 5)
		return append(widened(h), v[0]...)
	}},
	{"SwiGLU", false, func(k *Kernels, v [][]float32) []float32 { k.SwiGLU(v[0], v[1], v[2]); return v[0] }},
	{"SwiGLUBackward", false, func(k *Kernels, v [][]float32) []float32 {
		k.SwiGLUBackward(v[0], v[1], v[2])
		return slices.Concat(v[0], v[1])
	}},
	{"SwiGLUBF16", false, func(k *Kernels, v [][]float32) []float32 {
		a, g, u := make([]BF16, probeLen), make([]BF16, probeLen), make([]BF16, probeLen)
		gate, up := slices.Clone(v[1]), slices.Clone(v[2])
		k.SwiGLU(v[0], v[1], v[2])
		k.SwiGLUBF16(a, g, u, v[1], v[2])
		return slices.Concat(unlike(a, v[0]), unlike(g, gate), unlike(u, up))
	}},
	{"SwiGLUBackwardBF16", false, func(k *Kernels, v [][]float32) []float32 {
		g, u, dg, du := rounded16(v[0]), rounded16(v[1]), make([]BF16, probeLen), make([]BF16, probeLen)
		gate, up := widened(g), widened(u)
		k.SwiGLUBackward(gate, up, v[2])
		k.SwiGLUBackwardBF16(dg, du, g, u, v[2])
		return append(unlike(dg, gate), unlike(du, up)...)
	}},
	{"Step", false, func(k *Kernels, v [][]float32) []float32 { return probeStep(k, v, nil) }},
	{"Step with a copy", false, func(k *Kernels, v [][]float32) []float32 {
		h := make([]BF16, probeLen)
		out := probeStep(k, v, h)
		return append(out, unlike(h, v[0])...)
	}},
	{"ToBF16", true, func(k *Kernels, v [][]float32) []float32 {
		h := make([]BF16, probeLen)
		k.ToBF16(h, v[0])
		return widened(h)
	}},
	{"FromBF16", true, func(k *Kernels, v [][]float32) []float32 { k.FromBF16(v[0], rounded16(v[1])); return v[0] }},
	{"Feedback", true, func(k *Kernels, v [][]float32) []float32 {
		var top [Groups]float32
		most := k.Feedback(v[0], v[1], v[2], v[3], 0.95, &top)
		return append(slices.Concat(v[0], top[:]), math.Float32frombits(most))
	}},
	{"Tops", true, func(k *Kernels, v [][]float32) []float32 {
		var top [Groups]float32
		most := k.Tops(v[0], &top)
		return append(top[:], math.Float32frombits(most))
	}},
	{"Rank", true, func(k *Kernels, v [][]float32) []float32 {
		limit, count := k.Rank(v[0][:2*Groups], 60, 66, 1, math.Float32bits(2))
		return []float32{math.Float32frombits(limit), float32(count)}
	}},
	{"Above", true, func(k *Kernels, v [][]float32) (out []float32) {
		idx := make([]uint32, 2*Groups+lanes)
		for _, i := range idx[:k.Above(idx, v[0][:2*Groups], math.Float32bits(0.75))] {
			out = append(out, float32(i))
		}
		return out
	}},
	{"Outer", true, func(k *Kernels, v [][]float32) []float32 {
		k.Outer(v[0], v[1], v[2], 1.7, 3)
		return slices.Concat(v[0], v[2])
	}},
	{"Stream", true, func(k *Kernels, v [][]float32) []float32 {
		to := Alloc[float32](probeLen)
		k.Stream(to, v[0])
		return to
	}},
	{"GapLanes of two", true, func(k *Kernels, v [][]float32) []float32 { return probeGaps(k, v[:2]) }},
	{"GapLanes of four", true, func(k *Kernels, v [][]float32) []float32 { return probeGaps(k, v[:4]) }},
}

func probeStep(k *Kernels, v [][]float32, h []BF16) []float32 {
	for i, x := range v[3] {
		v[3][i] = x * x // a second moment
	}
	k.Step(AdamW{LR: 0.5, Beta1: 0.9, Beta2: 0.95, Eps: 1e-2, Decay: 0.1, C1: 0.5, C2: 0.25, Scale: 0.75}, v[0], v[1], v[2], v[3], h)
	return slices.Concat(v[0], v[1], v[2], v[3])
}

// probeGaps reads each row as a string of codes of 5 to 12 bits, some of them unknown.
func probeGaps(k *Kernels, v [][]float32) (out []float32) {
	var codes GapCodes
	for i := range codes {
		if i%61 > 0 {
			codes[i] = uint16(1+i>>7)<<6 | uint16(5+i&7)
		}
	}
	g, idx := make([]Gaps, len(v)), make([][]uint16, len(v))
	for i := range g {
		idx[i] = make([]uint16, 256)
		b := unsafe.Slice((*byte)(unsafe.Pointer(&v[i][0])), 4*probeLen)
		g[i] = Gaps{Bytes: b, Pos: uint64(i), End: uint64(8 * (len(b) - 8)), Last: ^uint64(63), Out: idx[i]}
	}
	out = append(out, float32(k.GapLanes(&codes, g)))
	for i := range g {
		out = append(out, float32(g[i].Pos), float32(g[i].Last>>6))
		for _, x := range idx[i][:len(idx[i])-len(g[i].Out)] {
			out = append(out, float32(x))
		}
	}
	return out
}

func rounded16(v []float32) (h []BF16) {
	for _, x := range v {
		h = append(h, RoundBF16(x))
	}
	return h
}

func widened(h []BF16) (v []float32) {
	for _, x := range h {
		v = append(v, x.Float32())
	}
	return v
}

// unlike is how far h is from v rounded, which is the same set's work: two sets may round to neighbours.
func unlike(h []BF16, v []float32) (off []float32) {
	for i, x := range v {
		off = append(off, h[i].Float32()-RoundBF16(x).Float32())
	}
	return off
}

// probeRows are values between −1 and 1, the same each time.
func probeRows() (v [][]float32) {
	seed := uint32(3)
	for range 5 {
		row := make([]float32, probeLen)
		for i := range row {
			seed = seed*1664525 + 1013904223
			row[i] = float32(int32(seed)) / (1 << 31)
		}
		v = append(v, row)
	}
	return v
}

// trialRows runs every probe by k and by plain Go.
func trialRows(k *Kernels) error {
	for _, p := range probes {
		if err := p.compare(p.run(k, probeRows()), p.run(&Kernels{}, probeRows())); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// compare checks what a set computed against what plain Go did.
func (p *probe) compare(got, want []float32) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d values instead of %d", len(got), len(want))
	}
	for i, x := range got {
		y := want[i]
		same := math.Float32bits(x) == math.Float32bits(y)
		if !same && (p.exact || !(math.Abs(float64(x)-float64(y)) <= 1e-4*(1+math.Abs(float64(y))))) {
			return fmt.Errorf("value %d is %v instead of %v", i, x, y)
		}
	}
	return nil
}
