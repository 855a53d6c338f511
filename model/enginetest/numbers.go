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
// Its error, the L2 norm of the difference, may be
//
//	relative · the figure's norm
//	+ slack · what the figure changes by when parameters, logits and probabilities are rounded to unit
//	+ slack · unit · the norm of what the figure is a part of (the whole gradient), or of what it is the difference of
//
// The first term is the rule. The second and third matter where sums cancel: no engine of this precision can know better.
type precise struct{ relative, slack, unit float64 }

var precisions = map[model.Precision]precise{
	model.F32:  {1e-5, 32, 1.0 / (1 << 24)},
	model.BF16: {0.04, 6, 1.0 / (1 << 8)},
}

// bound is the largest error of a figure: want, moved by other roundings, and whole, the norm of what it is a part of.
func (p precise) bound(want, moved vec, whole float64) float64 {
	return p.relative*norm(want) + p.slack*(distance(moved, want)+p.unit*whole)
}
