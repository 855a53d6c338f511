package kern

import (
	"math"
	"unsafe"
)

const negInf = -3.4e38

func exp(x float32) float32  { return float32(math.Exp(float64(x))) }
func log(x float32) float32  { return float32(math.Log(float64(x))) }
func sqrt(x float32) float32 { return float32(math.Sqrt(float64(x))) }

func dot(a, b []float32) float32 {
	var s float32
	for i, x := range a {
		s += x * b[i]
	}
	return s
}

// adjacent says whether b starts where a ends, as the two halves of a head do.
func adjacent(a, b []float32) bool {
	return unsafe.Pointer(&b[0]) == unsafe.Add(unsafe.Pointer(&a[0]), 4*len(a))
}
