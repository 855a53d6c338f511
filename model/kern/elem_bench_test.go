package kern

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// elemTraffic is how many bytes a kernel reads and writes per value, for BenchmarkElem; others are left out.
var elemTraffic = map[string]int64{
	"Dot": 8, "SumSquares": 4, "ScaleMul": 12, "Scale": 8, "Add": 12, "MulAdd": 12, "Max": 4, "ExpSum": 8, "Softmax": 8, "CrossEntropy": 8,
	"RMSNorm": 12, "RMSBackward": 28, "Rope": 24, "SwiGLU": 12, "SwiGLUBackward": 20, "Step": 32,
}

// BenchmarkElem runs every kernel on rows in the first-level cache, the levels side by side: a row of attention's shape and one of a
// model's width.
func BenchmarkElem(b *testing.B) {
	for i := range elemCases {
		c := &elemCases[i]
		if elemTraffic[c.name] == 0 {
			continue
		}
		for _, n := range []int{100, 1024} {
			for _, k := range levels(b) {
				_, first, _ := c.fill(rand.New(rand.NewPCG(1, 1)), n, func() int { return 0 })
				var v [][]float32
				for range first {
					v = append(v, make([]float32, 1024)[:n]) // where a cache line begins, as in the engine
				}
				b.Run(fmt.Sprintf("%s/%d/%s", c.name, n, k.Name), func(b *testing.B) {
					b.SetBytes(elemTraffic[c.name] * int64(n))
					b.ReportAllocs()
					for i := 0; b.Loop(); i++ {
						if i%16 == 0 { // values stay in the range of a model
							for j := range v {
								copy(v[j], first[j])
							}
						}
						c.run(k, v)
					}
				})
			}
		}
	}
}

// BenchmarkHalf is the conversions, and a step that makes a copy.
func BenchmarkHalf(b *testing.B) {
	const n = 1024
	v, h := make([]float32, n), make([]BF16, n)
	for i := range v {
		v[i] = float32(i)
	}
	rows := [][]float32{v, make([]float32, n), make([]float32, n), make([]float32, n)}
	for _, k := range levels(b) {
		for _, c := range []struct {
			name  string
			bytes int64
			run   func()
		}{
			{"ToBF16", 6, func() { k.ToBF16(h, v) }},
			{"FromBF16", 6, func() { k.FromBF16(v, h) }},
			{"StepCopy", 34, func() { stepCase(k, rows, h) }},
		} {
			b.Run(c.name+"/"+k.Name, func(b *testing.B) {
				b.SetBytes(c.bytes * n)
				for b.Loop() {
					c.run()
				}
			})
		}
	}
}
