package enginetest

import (
	"math"

	"sn3/model"
)

func wide(v []float32) vec {
	out := make(vec, len(v))
	for i, x := range v {
		out[i] = float64(x)
	}
	return out
}

// wideRows are the weights row-major in tensor order.
func wideRows(w *model.Flat) vec {
	rows := make([]float32, w.Layout().Params())
	w.Rows(rows)
	return wide(rows)
}

func norm(x vec) float64 { return math.Sqrt(dot(x, x)) }

// distance is |a−b|, L2; NaN if a value is.
func distance(a, b vec) float64 {
	s := 0.0
	for i := range a {
		s += (a[i] - b[i]) * (a[i] - b[i])
	}
	return math.Sqrt(s)
}

// apart is |a−b|/|b|, L2.
func apart(a, b vec) float64 { return distance(a, b) / math.Max(norm(b), 1e-30) }

// precise says how exact an engine must be in a precision. A figure is a vector (a tensor's gradient, a row of logits, a loss).
// Its error, the L2 norm of the difference from the reference in float64, may be
//
//	relative · the figure's norm
//	+ slack · what the figure changes by when values are rounded to unit (newRounded), root mean square of draws
//	+ slack · part · the norm of what the figure is a part of (the whole gradient), or of what it is the difference of
//
// In float32 the first term is the rule; the others matter where sums cancel: no engine of this precision can know better.
//
// In bfloat16 the second is: every value that one operation hands to the next is rounded, and how much of that comes through
// depends on the shape. The engine on the CPU is at 0.56 of such a change in the median (the unit is the largest error of a
// rounding, not the usual one), at 1.9 in 999 of 1000 figures, and at 3.3 in the worst of 48 000; that on a card, which also rounds
// the residual stream, at 0.71, 2.3 and, of 8 000, 3.7. A usual change is one and a half per cent of a gradient; a gradient off by a
// quarter of its norm is found nearly everywhere. TestTolerances holds both to be so.
type precise struct {
	relative, slack, unit, part float64
	deep                        bool // round activations and their gradients too, not only parameters, logits and probabilities
	draws                       int  // of newRounded: few are enough where rounding is not the rule
	// near is the relative distance of a decoder's logits from the judge's, and of losses around small() from the reference; in
	// bfloat16 25 times the largest seen.
	near float64
}

var precisions = map[model.Precision]precise{
	model.F32:  {relative: 1e-5, slack: 32, unit: 1.0 / (1 << 24), part: 1.0 / (1 << 24), draws: 1, near: 1e-5},
	model.BF16: {slack: 6, unit: 1.0 / (1 << 9), part: 1.0 / (1 << 14), deep: true, draws: 8, near: 0.01},
}

// change is how far the draws are from want, root mean square.
func change(want vec, moved []vec) float64 {
	s := 0.0
	for _, m := range moved {
		d := distance(m, want)
		s += d * d / float64(len(moved))
	}
	return math.Sqrt(s)
}

// bound is the largest error of a figure: want, moved by other roundings, and whole, the norm of what it is a part of.
func (p precise) bound(want vec, moved []vec, whole float64) float64 {
	return p.relative*norm(want) + p.slack*(change(want, moved)+p.part*whole)
}
