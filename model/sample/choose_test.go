package sample

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// nucleus is the definition: ids by falling probability, lower id first; at most k; then the fewest that have p of what is
// left.
func nucleus(l []float32, o Options) (ids []int32, probs []float64) {
	sum := 0.0
	for i, x := range l {
		ids, probs = append(ids, int32(i)), append(probs, math.Exp(float64(x-slices.Max(l))/o.Temperature))
		sum += probs[i]
	}
	slices.SortStableFunc(ids, func(a, b int32) int {
		if probs[a] > probs[b] {
			return -1
		} else if probs[a] < probs[b] {
			return 1
		}
		return 0
	})
	if o.TopK > 0 {
		ids = ids[:min(o.TopK, len(ids))]
		sum = 0
		for _, id := range ids {
			sum += probs[id]
		}
	}
	if o.TopP > 0 {
		kept := 0.0
		for i, id := range ids {
			if kept += probs[id]; kept >= o.TopP*sum {
				ids = ids[:i+1]
				break
			}
		}
	}
	total := 0.0
	for _, id := range ids {
		total += probs[id]
	}
	out := make([]float64, len(l))
	for _, id := range ids {
		out[id] = probs[id] / total
	}
	return ids, out
}

// Tokens are drawn with the probabilities of softmax(l/temperature), cut and renormalised: frequencies of 40,000 draws within
// five standard deviations.
func TestPickFollowsSoftmax(t *testing.T) {
	l := []float32{1, -2, 0.5, 3, 3, -50}
	const draws = 40_000
	for _, o := range []Options{{Temperature: 0.5}, {Temperature: 1}, {Temperature: 2.5}, {Temperature: 1, TopK: 3}, {Temperature: 1, TopP: 0.9},
		{Temperature: 2, TopK: 4, TopP: 0.7}, {Temperature: 1, TopP: 1e-9}, {Temperature: 1, TopK: 100, TopP: 1}} {
		_, want := nucleus(l, o)
		c, r, count := chooser{o: o}, rand.New(rand.NewPCG(3, 3)), make([]int, len(l))
		for range draws {
			id, err := c.pick(l, r)
			if err != nil {
				t.Fatal(err)
			}
			count[id]++
		}
		for i, n := range count {
			p := want[i]
			if dev := math.Abs(float64(n) - draws*p); dev > 5*math.Sqrt(draws*p*(1-p))+1 || p == 0 && n > 0 {
				t.Errorf("%+v: token %d came %d times, expected %.0f", o, i, n, draws*p)
			}
		}
	}
}

// The candidates are those of the definition, whatever the logits: the shortcuts leave nothing out.
func TestCandidates(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) float32 { return float32(rapid.IntRange(-40, 40).Draw(rt, "x")) / 4 }), 1, 60).Draw(rt, "logits")
		o := Options{Temperature: rapid.Float64Range(0.1, 3).Draw(rt, "temperature"), TopK: rapid.IntRange(0, 70).Draw(rt, "k"),
			TopP: rapid.Float64Range(0.01, 0.99).Draw(rt, "p")}
		c := chooser{o: o}
		if _, err := c.pick(l, rand.New(rand.NewPCG(1, 1))); err != nil {
			rt.Fatal(err)
		}
		want, probs := nucleus(l, o)
		if len(want) == len(c.ids) && slices.Equal(want, c.ids) {
			return
		}
		// at the edge of p a sum in another order may fall on the other side: one more or one fewer is right then
		short, long := want, c.ids
		if len(short) > len(long) {
			short, long = long, short
		}
		if len(long)-len(short) != 1 || !slices.Equal(short, long[:len(short)]) {
			rt.Fatalf("candidates %v, want %v (%v)", c.ids, want, probs)
		}
	})
}

// Ids that only pad the vocabulary are never chosen; of equals the lower id is.
func TestPickWithin(t *testing.T) {
	l := []float32{1, 2, 2, 9}
	r := rand.New(rand.NewPCG(1, 1))
	for _, o := range []Options{{Vocab: 3}, {Vocab: 3, Temperature: 1, TopK: 1}, {Vocab: 3, Temperature: 1, TopP: 1e-6}} {
		c := chooser{o: o}
		if id, err := c.pick(l, r); err != nil || id != 1 {
			t.Errorf("%+v: %d, %v", o, id, err)
		}
	}
	c := chooser{o: Options{Vocab: 3, Temperature: 5}}
	for range 1000 {
		if id, err := c.pick(l, r); err != nil || id > 2 {
			t.Fatalf("%d, %v", id, err)
		}
	}
}

// Without a finite logit there is nothing to choose.
func TestPickRefuses(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, l := range [][]float32{{nan}, {1, nan, 2}, {inf, 1}, {-inf, -inf}} {
		for _, temperature := range []float64{0, 1} {
			c := chooser{o: Options{Temperature: temperature}}
			if id, err := c.pick(l, rand.New(rand.NewPCG(1, 1))); !errors.Is(err, errNaN) {
				t.Errorf("%v: %d, %v", l, id, err)
			}
		}
	}
	c := chooser{o: Options{Temperature: 1}}
	if id, err := c.pick([]float32{-inf, 3}, rand.New(rand.NewPCG(1, 1))); err != nil || id != 1 {
		t.Errorf("one finite logit: %d, %v", id, err)
	}
}
