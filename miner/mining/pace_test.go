package mining

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
)

func TestPaceIsLate(t *testing.T) {
	// steps of 0.4 blocks: ten need 4, which at 0.7 of the time are 5.7 blocks
	for _, c := range []struct {
		name              string
		step              float64
		now, arrival, end chain.Block
		left              int
		want              bool
	}{
		{"nothing measured yet", -1, 10, 20, 21, 10, false},
		{"six blocks are left after the arrival", 0.4, 10, 20, 26, 10, false},
		{"five are not enough", 0.4, 10, 20, 25, 10, true},
		{"five are enough for eight", 0.4, 10, 20, 25, 8, false},
		{"overdue, still time", 0.4, 22, 20, 28, 10, false},
		{"overdue, no time left", 0.4, 23, 20, 28, 10, true},
		{"it is not expected in this window", 0.4, 10, 30, 28, 1, true},
		{"steps shorter than what a height shows", 0, 10, 20, 21, 10, false},
	} {
		var p pace
		if c.step >= 0 {
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
		p := pace{steps: []float64{rapid.Float64Range(0.01, 20).Draw(t, "step")}}
		now := chain.Block(rapid.IntRange(0, 50).Draw(t, "now"))
		arrival := chain.Block(rapid.IntRange(0, 50).Draw(t, "arrival"))
		end := chain.Block(rapid.IntRange(1, 60).Draw(t, "end"))
		left := rapid.IntRange(1, 50).Draw(t, "left")
		if p.late(now, arrival, end, left) {
			return
		}
		if need, have := float64(left)*p.steps[0], float64(end-max(now, arrival)); need > have {
			t.Fatalf("%d steps need %.2f blocks, %.2f are left", left, need, have)
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
	for _, n := range []chain.Block{9, 20, 11, 10, 12, 11} {
		p.arrived(n)
	}
	if got := p.expected(7); got != 12 {
		t.Errorf("the latest of the newest %d arrivals is %d, want 12", paceMemory, got)
	}
	p.begin()
	if len(p.steps) != 0 {
		t.Errorf("a window without a step gives steps of %v blocks", p.steps)
	}
	for i := range 6 { // window i takes i+1 blocks for two steps, the newest two are faster again
		n := chain.Block(min(i+1, 7-i))
		p.stepped(0, 0)
		p.stepped(n, 0)
		p.begin()
	}
	if len(p.steps) != paceMemory || slices.Max(p.steps) != 2 {
		t.Errorf("steps of the newest windows take %v blocks", p.steps)
	}
}

// A window's first step is begun if one as short as the shortest of the newest four would end by the last block; a further one if
// the longest would with a block to spare. The wait for a core does not count, nor does what is older than the window before.
func TestPaceFits(t *testing.T) {
	var p pace
	if !p.fits(20, 20, 0) || p.fits(21, 20, 0) || p.fits(20, 20, 1) {
		t.Error("a step of unknown length is begun as long as the window lasts")
	}
	for _, n := range []chain.Block{9, 2, 5, 3, 4} {
		p.stepped(n+30, n)
	}
	for _, c := range []struct {
		now  chain.Block
		made int
		want bool
	}{{18, 0, true}, {19, 0, false}, {14, 1, true}, {15, 1, false}} {
		if got := p.fits(c.now, 20, c.made); got != c.want {
			t.Errorf("block %d, %d steps made: %v", c.now, c.made, got)
		}
	}
	p.retry()
	if !p.fits(19, 20, 0) || p.fits(19, 20, 1) || p.longest() != 5 {
		t.Error("one step is tried, what is known stays known")
	}
	p.stepped(2, 2)
	if p.longest() != 2 || p.fits(19, 20, 0) {
		t.Errorf("after the trial a step is expected to take %d blocks", p.longest())
	}
	p.begin()
	p.begin() // a window without a step
	p.stepped(1, 1)
	if p.longest() != 2 {
		t.Error("the window before does not count")
	}
	p.begin()
	if p.longest() != 1 || p.shortest() != 1 {
		t.Error("older windows count")
	}
}

// The time a submission needs is the longest of those that counted, twice as long after each that missed, until one counts.
func TestPaceTail(t *testing.T) {
	s := chain.ScheduleParams{Length: 40, Deadline: 6}
	var p pace
	want := func(n chain.Block, when string) {
		t.Helper()
		if got := p.tail(s); got != n {
			t.Errorf("%s: %d blocks, want %d", when, got, n)
		}
	}
	want(3, "nothing known")
	if (&pace{}).tail(chain.ScheduleParams{Length: 8, Deadline: 1}) != 1 {
		t.Error("a record needs a block")
	}
	p.sent(0, s)
	want(1, "in the same block")
	p.sent(2, s)
	p.sent(1, s)
	want(2, "the longest")
	p.sent(19, s)
	want(6, "done early, the bucket away for long")
	for range 4 {
		p.sent(2, s)
	}
	want(2, "the longest of the newest four")
	for _, n := range []chain.Block{4, 8, 16, 26, 26} {
		p.missed(s)
		want(n, "missed")
	}
	p.sent(11, s)
	want(11, "a slow upload that made it")
	for range 9 {
		p.sent(10, s)
	}
	want(10, "slow uploads stay believed")
	p.missed(s)
	p.retry()
	want(3, "a window without room")
}
