package kernels_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/model/gpu/kernels"
)

func TestSegments(t *testing.T) {
	for _, c := range []struct{ ids, order, start []int32 }{
		{nil, nil, []int32{0}},
		{[]int32{5}, []int32{0}, []int32{0, 1}},
		{[]int32{2, 2, 2}, []int32{0, 1, 2}, []int32{0, 3, 3, 3}},
		{[]int32{1 << 22, 5000, 3, 5000, 1 << 22}, []int32{2, 1, 3, 0, 4}, []int32{0, 1, 3, 5, 5, 5}},
		{[]int32{7, 1, 7, 0, 1}, []int32{3, 1, 4, 0, 2}, []int32{0, 1, 3, 5, 5, 5}},
	} {
		order, start := make([]int32, len(c.ids)), make([]int32, len(c.ids)+1)
		kernels.Segments(c.ids, order, start)
		if !slices.Equal(order, c.order) || !slices.Equal(start, c.start) {
			t.Errorf("segments of %v: %v %v, want %v %v", c.ids, order, start, c.order, c.start)
		}
	}
}

// Every position is in one run, every run has one id, no two runs have the same, and positions ascend.
func TestSegmentsDrawn(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		id := rapid.OneOf(rapid.Int32Range(0, 9), rapid.Int32Range(2040, 2060), rapid.Int32Range(1<<22-2, 1<<22+2), rapid.Int32Range(0, math.MaxInt32))
		ids := rapid.SliceOfN(id, 0, 60).Draw(rt, "ids")
		order, start := make([]int32, len(ids)), slices.Repeat([]int32{-1}, len(ids)+1)
		kernels.Segments(ids, order, start)
		seen, pos := map[int32]bool{}, int32(0)
		for u := range ids {
			run := order[start[u]:start[u+1]]
			if start[u] != pos || len(run) > 0 && seen[ids[run[0]]] {
				rt.Fatalf("run %d of %v: %v %v", u, ids, order, start)
			}
			pos = start[u+1]
			for i, p := range run {
				seen[ids[run[0]]] = true
				if ids[p] != ids[run[0]] || u > 0 && ids[order[start[u]-1]] >= ids[p] || i > 0 && p <= run[i-1] {
					rt.Fatalf("run %d of %v: %v %v", u, ids, order, start)
				}
			}
		}
		if int(pos) != len(ids) {
			rt.Fatalf("runs of %v end at %d", ids, pos)
		}
	})
}

func BenchmarkSegments(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	ids := make([]int32, 1<<14)
	for i := range ids {
		ids[i] = int32(r.ExpFloat64() * 5000)
	}
	order, start := make([]int32, len(ids)), make([]int32, len(ids)+1)
	b.ReportAllocs()
	for b.Loop() {
		kernels.Segments(ids, order, start)
	}
}
