package mining

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sn3/chain"
)

func TestPaceIsLate(t *testing.T) {
	// blocks of 0.25 s, steps of 0.1 s: ten steps need 1 s, which at 0.7 of the time are 5.7 blocks
	for _, c := range []struct {
		name              string
		step, block       float64
		now, arrival, end chain.Block
		left              int
		want              bool
	}{
		{"nothing measured yet", 0, 0, 10, 20, 21, 10, false},
		{"six blocks are left after the arrival", 0.1, 0.25, 10, 20, 26, 10, false},
		{"five are not enough", 0.1, 0.25, 10, 20, 25, 10, true},
		{"five are enough for eight", 0.1, 0.25, 10, 20, 25, 8, false},
		{"overdue, still time", 0.1, 0.25, 22, 20, 28, 10, false},
		{"overdue, no time left", 0.1, 0.25, 23, 20, 28, 10, true},
		{"it is not expected in this window", 0.1, 0.25, 10, 30, 28, 1, true},
	} {
		p := pace{block: c.block}
		if c.step > 0 {
			p.steps = []float64{c.step / 2, c.step, c.step / 3} // the slowest window counts
		}
		if got := p.late(c.now, c.arrival, c.end, c.left); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// Waiting as long as late allows leaves time for all steps, and with each step made early late becomes no truer.
func TestPaceLeavesTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := pace{steps: []float64{rapid.Float64Range(0.01, 5).Draw(t, "step")}, block: rapid.Float64Range(0.1, 12).Draw(t, "block")}
		now := chain.Block(rapid.IntRange(0, 50).Draw(t, "now"))
		arrival := chain.Block(rapid.IntRange(0, 50).Draw(t, "arrival"))
		end := chain.Block(rapid.IntRange(1, 60).Draw(t, "end"))
		left := rapid.IntRange(1, 50).Draw(t, "left")
		if p.late(now, arrival, end, left) {
			return
		}
		if need, have := float64(left)*p.steps[0], float64(end-max(now, arrival))*p.block; need > have {
			t.Fatalf("%d steps need %.2f s, %.2f are left", left, need, have)
		}
		if p.late(now, arrival, end, left-1) {
			t.Fatal("late with fewer steps to make")
		}
	})
}

func TestPaceMeasures(t *testing.T) {
	var p pace
	if got := p.expected(7); got != 7 {
		t.Errorf("without a measurement θ is expected after %d blocks", got)
	}
	at := time.Unix(1000, 0)
	p.begin(at, 100)
	if p.block != 0 {
		t.Errorf("one window gives no block time, got %v", p.block)
	}
	p.begin(at.Add(5*time.Second), 120)
	if p.block != 0.25 {
		t.Errorf("20 blocks in 5 s: %v s a block", p.block)
	}
	p.begin(at.Add(5*time.Second), 120) // a window tried again at the same height
	if p.block != 0.25 {
		t.Errorf("no block passed, yet a block takes %v s", p.block)
	}
	for _, n := range []chain.Block{9, 20, 11, 10, 12, 11} {
		p.arrived(n)
	}
	if got := p.expected(7); got != 12 {
		t.Errorf("the latest of the newest %d arrivals is %d, want 12", paceMemory, got)
	}
	for i := range 6 { // window i takes i+1 tenths of a second a step, the newest two are faster again
		tenths := time.Duration(min(i+1, 7-i))
		p.stepped((tenths*100 - 50) * time.Millisecond)
		p.stepped((tenths*100 + 50) * time.Millisecond)
		p.begin(at.Add(time.Duration(10+5*i)*time.Second), chain.Block(140+20*i))
	}
	if len(p.steps) != paceMemory || slices.Max(p.steps) != 0.4 {
		t.Errorf("steps of the newest windows take %v s", p.steps)
	}
}
