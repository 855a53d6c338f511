package kernels_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"sn3/model"
	"sn3/model/kern"
)

// rowMajor and inOrder are where a layout's chunks lie, as the judge's kernels take it; lens is how long they are.
func rowMajor(l *model.Layout) (out []int64) {
	for i := range l.Chunks() {
		c := l.Chunk(i)
		out = append(out, int64(c.Off), int64(c.Cols), int64(c.Stride))
	}
	return out
}

func inOrder(l *model.Layout) (out []int64) {
	for i := range l.Chunks() {
		out = append(out, int64(l.Chunk(i).Start), model.ChunkSize, 0)
	}
	return out
}

func lens(l *model.Layout) (out []int32) {
	for i := range l.Chunks() {
		out = append(out, int32(l.Chunk(i).Len))
	}
	return out
}

// copiesOf are all of theta, row-major and rounded.
func copiesOf(l *model.Layout, theta []float32) []uint16 {
	rows := make([]float32, len(theta))
	flat(l, theta).Rows(rows)
	out := make([]uint16, len(rows))
	for i, x := range rows {
		out[i] = uint16(kern.RoundBF16(x))
	}
	return out
}

func sameCopies(t testing.TB, what string, got, want []uint16) {
	t.Helper()
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%s: copy %d is %04x, want %04x", what, i, got[i], want[i])
		}
	}
}

// layouts are those that the judge's kernels are tested on.
func layouts(t testing.TB) []*model.Layout {
	out := []*model.Layout{edges(t)}
	for _, n := range lengths {
		out = append(out, long(t, n))
	}
	return out
}

func TestMoveAndRound(t *testing.T) {
	inOrders(t, func(r *rig) {
		rnd := rand.New(rand.NewPCG(7, 9))
		for _, l := range layouts(t) {
			theta := vectorOf(rnd, "extreme", l.Params())
			theta[0] = float32(math.NaN())
			n := l.Params()
			copies, dst, back, rows := blank[uint16](r, n), blank[float32](r, n), blank[float32](r, n), make([]float32, n)
			flat(l, theta).Rows(rows)
			first, second, size := up(r, inOrder(l)), up(r, rowMajor(l)), up(r, lens(l))
			r.launch("move_chunks", l.Chunks(), dst, up(r, rows), first, second, size)
			sameBits(r, "gather", down(r, make([]float32, n), dst), theta)
			r.launch("move_chunks", l.Chunks(), back, dst, second, first, size)
			sameBits(r, "scatter", down(r, make([]float32, n), back), rows)
			r.launch("round_chunks", l.Chunks(), copies, dst, first, second, size)
			sameCopies(r, "round", down(r, make([]uint16, n), copies), copiesOf(l, theta))
			r.free()
		}
	}, "judge.cu")
}

// A delta goes on as model/cpu's judge puts it on, copies included, and comes off without a trace, whatever the values: some that are
// not finite, zeros with a sign, subnormals, and a scale that makes θ infinite.
func TestDeltaOnAndOff(t *testing.T) {
	inOrders(t, func(r *rig) {
		rnd := rand.New(rand.NewPCG(8, 9))
		for _, l := range layouts(t) {
			for _, scale := range []float32{0.7, -1e38, 0} {
				theta := vectorOf(rnd, []string{"heavy", "extreme"}[rnd.IntN(2)], l.Params())
				for _, x := range []float64{math.NaN(), math.Inf(1), math.Copysign(0, -1)} {
					theta[rnd.IntN(len(theta))] = float32(x)
				}
				var idx []uint16
				var val []float32
				at, moved := []int64{0}, slices.Clone(theta)
				for i := range l.Chunks() {
					c := l.Chunk(i)
					for x := range c.Len {
						if rnd.IntN(9) > 0 {
							continue
						}
						v := vectorOf(rnd, "extreme", 1)[0]
						if rnd.IntN(2) == 0 {
							v = float32(0.1 * rnd.NormFloat64())
						}
						idx, val = append(idx, uint16(x)), append(val, v)
						moved[c.Start+x] -= float32(scale * v)
					}
					at = append(at, int64(len(idx)))
				}
				checkDelta(r, l, theta, moved, at, idx, val, scale)
			}
		}
	}, "judge.cu")
}

// checkDelta puts a delta on θ and takes it off: masters in chunk order, or row-major as their copies are.
func checkDelta(r *rig, l *model.Layout, theta, moved []float32, at []int64, idx []uint16, val []float32, scale float32) {
	n := l.Params()
	rows, movedRows := make([]float32, n), make([]float32, n)
	flat(l, theta).Rows(rows)
	flat(l, moved).Rows(movedRows)
	for _, x := range []struct {
		what        string
		theta, want []float32
		place       []int64
	}{{"chunk order", theta, moved, inOrder(l)}, {"row-major", rows, movedRows, rowMajor(l)}} {
		th, copies, old := up(r, x.theta), up(r, copiesOf(l, theta)), blank[float32](r, len(val))
		place, copyPlace, from, i := up(r, x.place), up(r, rowMajor(l)), up(r, at), up(r, idx)
		r.launch("delta_apply", l.Chunks(), th, copies, old, place, copyPlace, from, i, up(r, val), scale)
		sameBits(r, "θ − scale·delta, "+x.what, down(r, make([]float32, n), th), x.want)
		sameCopies(r, "its copies", down(r, make([]uint16, n), copies), copiesOf(l, moved))
		r.launch("delta_undo", l.Chunks(), th, copies, old, place, copyPlace, from, i)
		for i, y := range down(r, make([]float32, n), th) {
			if math.Float32bits(y) != math.Float32bits(x.theta[i]) {
				r.Fatalf("%s: parameter %d is %08x, was %08x", x.what, i, math.Float32bits(y), math.Float32bits(x.theta[i]))
			}
		}
		sameCopies(r, "copies put back", down(r, make([]uint16, n), copies), copiesOf(l, theta))
		r.free()
	}
}
