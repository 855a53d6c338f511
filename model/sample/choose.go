package sample

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
)

// errNaN: there is nothing to choose by.
var errNaN = errors.New("sample: the model gives no finite logits: its weights are damaged or training diverged")

// chooser draws tokens by logits.
type chooser struct {
	o   Options
	ids []int32   // candidates
	p   []float64 // their probabilities, not normalised, by id
}

// pick draws a token from softmax(l/temperature), cut to the top k and then to the top p. Of equals the lower id is the
// likelier one.
func (c *chooser) pick(l []float32, r *rand.Rand) (int32, error) {
	if c.o.Vocab > 0 {
		l = l[:min(c.o.Vocab, len(l))]
	}
	best := 0
	for i, x := range l {
		if x != x {
			return 0, errNaN
		}
		if x > l[best] {
			best = i
		}
	}
	if math.IsInf(float64(l[best]), 0) {
		return 0, errNaN
	}
	if c.o.Temperature == 0 {
		return int32(best), nil
	}
	c.ids, c.p = c.ids[:0], slices.Grow(c.p[:0], len(l))[:len(l)]
	sum := 0.0
	for i, x := range l {
		c.p[i] = math.Exp(float64(x-l[best]) / c.o.Temperature)
		if c.p[i] > 0 {
			c.ids = append(c.ids, int32(i))
			sum += c.p[i]
		}
	}
	if c.o.TopK > 0 || c.o.TopP > 0 && c.o.TopP < 1 {
		sum = c.cut(sum)
	}
	x := r.Float64() * sum
	for _, id := range c.ids {
		if x -= c.p[id]; x < 0 {
			return id, nil
		}
	}
	return c.ids[len(c.ids)-1], nil // rounding
}

// cut leaves the likeliest candidates and returns the sum of their probabilities; sum is that of all.
func (c *chooser) cut(sum float64) float64 {
	p := c.o.TopP
	if c.o.TopK == 0 { // what has less than its share of the tail is in the tail: no need to sort it
		least := (1 - p) * sum / float64(len(c.ids))
		c.ids = slices.DeleteFunc(c.ids, func(id int32) bool { return c.p[id] < least*0.999 })
	}
	slices.SortFunc(c.ids, func(a, b int32) int {
		switch {
		case c.p[a] > c.p[b]:
			return -1
		case c.p[a] < c.p[b]:
			return 1
		}
		return int(a - b)
	})
	if k := c.o.TopK; k > 0 && k < len(c.ids) {
		c.ids = c.ids[:k]
		sum = 0
		for _, id := range c.ids {
			sum += c.p[id]
		}
	}
	if p == 0 {
		return sum
	}
	kept := 0.0
	for i, id := range c.ids {
		if kept += c.p[id]; kept >= p*sum {
			c.ids = c.ids[:i+1]
			break
		}
	}
	return kept
}
