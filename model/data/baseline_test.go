package data

import (
	"math"
	"testing"

	"sn3/model"
)

// Worked by hand: "abab" then "ac", seen as one text.
func TestBaselinesByHand(t *testing.T) {
	c := NewCounts()
	c.Add([]byte("aba"))
	c.Add([]byte("bac"))
	// a 3, b 2, c 1 of 6. After a: b 2, c 1. After b: a 2. After ab: a 2. After ba: b 1, c 1.
	x := []int32{'b', 'a', 'b', 'z', 0, 'a'} // sequences of two: ba, bz, \0a
	got, err := c.Baselines([]model.Batch{{B: 3, T: 2, X: x, Y: []int32{'a', 'b', 'a', 'b', -100, 'b'}}})
	if err != nil {
		t.Fatal(err)
	}
	a0, b0 := 4./262, 3./262
	a1 := (2 + 1*a0) / 3 // after b
	b1 := (2 + 2*b0) / 5 // after a
	b2 := (1 + 2*b1) / 4 // after ba; nothing ever followed bz or \0a
	want := Baselines{-(2*math.Log(a0) + 3*math.Log(b0)) / 5, -(2*math.Log(a1) + 2*math.Log(b1) + math.Log(b0)) / 5,
		-(2*math.Log(a1) + math.Log(b2) + math.Log(b0) + math.Log(b1)) / 5, 5, 6, Smoothing}
	for name, x := range map[string][2]float64{"order 0": {got.Order0, want.Order0}, "bigram": {got.Bigram, want.Bigram}, "order 2": {got.Order2, want.Order2}} {
		if math.Abs(x[0]-x[1]) > 1e-12 {
			t.Errorf("%s: %v, want %v", name, x[0], x[1])
		}
	}
	if got.Positions != want.Positions || got.Trained != want.Trained || got.Smoothing != want.Smoothing {
		t.Errorf("%+v, want %+v", got, want)
	}
	for name, b := range map[string]model.Batch{"nothing": {}, "no byte": {B: 1, T: 1, X: []int32{1}, Y: []int32{256}}} {
		if _, err := c.Baselines([]model.Batch{b}); err == nil {
			t.Errorf("measured %s", name)
		}
	}
}

// Whatever the context, the probabilities of all bytes add up to 1.
func TestCountModelsAreDistributions(t *testing.T) {
	c := NewCounts()
	c.Add(toy("train", 20_000))
	for _, x := range [][2]int32{{'f', 'u'}, {'(', ')'}, {0, 255}} {
		var sums [3]float64
		for y := range int32(256) {
			b, err := c.Baselines([]model.Batch{{B: 1, T: 2, X: []int32{x[0], x[1]}, Y: []int32{-100, y}}})
			if err != nil {
				t.Fatal(err)
			}
			for i, l := range []float64{b.Order0, b.Bigram, b.Order2} {
				sums[i] += math.Exp(-l)
			}
		}
		for order, s := range sums {
			if math.Abs(s-1) > 1e-9 {
				t.Errorf("order %d after %v: probabilities add up to %v", order, x, s)
			}
		}
	}
}

// The dataset's own baselines are those of its text, on the very samples that HeldOut gives.
func TestDatasetBaselines(t *testing.T) {
	d := toySet(t, 16)
	got, err := d.Baselines(t.Context(), []byte("seed"), 100)
	if err != nil {
		t.Fatal(err)
	}
	c := NewCounts()
	c.Add(toyCorpus(36_000, 4_000).Train)
	held, err := d.HeldOut(t.Context(), []byte("seed"), 100)
	if err != nil {
		t.Fatal(err)
	}
	want, err := c.Baselines(held)
	if err != nil || got != want || got.Positions != 1600 {
		t.Errorf("%+v, want %+v; %v", got, want, err)
	}
	if !(got.Order2 < got.Bigram && got.Bigram < got.Order0) {
		t.Errorf("longer contexts predict no better: %+v", got)
	}
	if _, err := d.Baselines(t.Context(), nil, 1<<20); err == nil {
		t.Error("measured more than is held out")
	}
}

func BenchmarkBaselines(b *testing.B) {
	text := toy("train", 8<<20)
	p := packed(b, &Corpus{Train: text, HeldOut: toy("held", 300<<10)})
	d := open(b, p, p.Spec, "", 128)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := d.Baselines(b.Context(), nil, 2048); err != nil {
			b.Fatal(err)
		}
	}
}
