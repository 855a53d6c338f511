package kern

import (
	"math/rand/v2"
	"testing"
	"unsafe"
)

// The kernels of compression too read and write nothing beyond their rows, and GapLanes nothing beyond the bytes that it asks for.
func TestCodecAtTheEdge(t *testing.T) {
	var pages [][]byte
	for range 8 {
		pages = append(pages, between(t))
	}
	r := rand.New(rand.NewPCG(10, 9))
	floats := func(i, n int, end bool) []float32 {
		all := unsafe.Slice((*float32)(unsafe.Pointer(&pages[i][0])), len(pages[i])/4)
		v := all[:n:n]
		if end {
			v = all[len(all)-n:]
		}
		kinds["normal"](r, v)
		return v
	}
	for _, k := range codecSets(t) {
		for _, end := range []bool{false, true} {
			for _, n := range []int{1, 15, 16, 17, 255, 256, 257, 511, 512, 1000, 1008} {
				var top [Groups]float32
				k.Feedback(floats(0, n, end), floats(1, n, end), floats(2, n, end), floats(3, n, end), 0.95, &top)
				most := k.Tops(floats(0, n, end), &top)
				k.Outer(floats(0, n, end), floats(1, n, end), floats(2, n, end), 1.5, 3)
				k.Stream(floats(0, n, end), floats(1, n, end))
				Prefetch(k, floats(0, n, end))
				if n%lanes == 0 {
					k.Rank(floats(0, n, end), n/2, n/2, 1, most+1)
					idx := unsafe.Slice((*uint32)(unsafe.Pointer(&pages[4][0])), 1024)
					k.Above(idx[1024-n-lanes:], floats(0, n, end), 1)
				}
			}
		}
		edgeOfGaps(t, k, r, pages)
	}
}

// edgeOfGaps reads strings of codes that end with their page, to where they end, into rows that end with theirs.
func edgeOfGaps(t *testing.T, k *Kernels, r *rand.Rand, pages [][]byte) {
	t.Helper()
	for size := 1; size <= GapBits; size++ {
		var codes GapCodes
		for i := range codes {
			codes[i] = uint16(1+i%7)<<6 | uint16(size)
		}
		for range 40 {
			count := 2 + 2*r.IntN(2)
			g := make([]Gaps, count)
			for i := range g {
				in, out := pages[i], unsafe.Slice((*uint16)(unsafe.Pointer(&pages[4+i][0])), len(pages[4+i])/2)
				b := in[len(in)-8-r.IntN(100):]
				g[i] = Gaps{Bytes: b, End: uint64(8 * (len(b) - 8)), Last: ^uint64(63), Out: out[len(out)-r.IntN(300):]}
				g[i].Pos = r.Uint64N(g[i].End + 1)
			}
			if stopped := k.GapLanes(&codes, g); stopped != 0 {
				t.Fatalf("%s: lane %d stopped at a code of %d bits", k.Name, stopped, size)
			}
		}
	}
}
