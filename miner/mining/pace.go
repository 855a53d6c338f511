package mining

import (
	"context"
	"slices"
	"time"

	"sn3/chain"
)

// Constants of the pace: this miner's business, not protocol.
const (
	paceMemory = 4   // windows that are remembered
	paceSpare  = 0.7 // share of the rest of a window that steps are planned into
	paceNew    = 0.3 // weight of a new measurement
)

// pace decides in Gap Auto whether an inner step is made before θ_{w-1} is there. A step on the proxy is worth a little less
// than one on θ (LOG.md, 2026-11-26: 4 % with half of the steps), so only those are made early for which the time between
// θ's arrival and the end of the window would not suffice.
type pace struct {
	steps    []float64     // of the newest windows: seconds of an inner step with its wait for a core, mean of a window
	arrivals []chain.Block // of the newest windows: blocks from Start(w) until θ_{w-1} was there
	block    float64       // seconds of a block, moving average; 0 = not known
	began    time.Time     // when the newest window began
	height   chain.Block   // at began
	spent    time.Duration // on steps of the newest window
	made     int           // steps of the newest window
}

// begin notes the start of a window.
func (p *pace) begin(now time.Time, height chain.Block) {
	if !p.began.IsZero() && height > p.height {
		p.block = average(p.block, now.Sub(p.began).Seconds()/float64(height-p.height))
	}
	if p.made > 0 {
		p.steps = remember(p.steps, p.spent.Seconds()/float64(p.made))
	}
	p.began, p.height, p.spent, p.made = now, height, 0, 0
}

// stepped notes how long an inner step took.
func (p *pace) stepped(d time.Duration) { p.spent, p.made = p.spent+d, p.made+1 }

// arrived notes how many blocks after the start of its window θ came.
func (p *pace) arrived(blocks chain.Block) { p.arrivals = remember(p.arrivals, blocks) }

func remember[T any](all []T, x T) []T {
	all = append(all, x)
	return all[max(0, len(all)-paceMemory):]
}

// expected is how many blocks after the start of a window θ is expected: the latest of the newest windows, or what the
// schedule allows while nothing is known.
func (p *pace) expected(schedule chain.Block) chain.Block {
	if len(p.arrivals) == 0 {
		return schedule
	}
	return slices.Max(p.arrivals)
}

// late says, for steps as slow as in the slowest of the newest windows, whether at block now, with θ expected at arrival, so little will be left of the window that ends at end that a
// step must be made at once for all of left to fit. A θ that is overdue is expected any moment.
func (p *pace) late(now, arrival, end chain.Block, left int) bool {
	if len(p.steps) == 0 || p.block == 0 {
		return false
	}
	from := max(now, arrival)
	if from >= end {
		return true
	}
	return float64(left)*slices.Max(p.steps) > paceSpare*float64(end-from)*p.block
}

func average(old, x float64) float64 {
	if old == 0 {
		return x
	}
	return old + paceNew*(x-old)
}

// mustStep says whether a step on the proxy is due in window w with left steps to go.
func (m *Miner) mustStep(w chain.Window, left int) bool {
	if m.cfg.Gap != Auto {
		return true
	}
	start := m.sched.At(w, chain.PhaseStart)
	arrival := start + m.pace.expected(m.sched.At(w-1, chain.PhaseApply)-start)
	return m.pace.late(m.clock.Now().Block, arrival, m.sched.End(w), left)
}

// await returns when θ of w is there or the next block is, whichever comes first.
func (m *Miner) await(ctx context.Context, w chain.Window) error {
	next, cancel := m.clock.Until(ctx, m.clock.Now().Block+1)
	defer cancel()
	s, err := m.cfg.Replica.At(next, w)
	switch {
	case err == nil:
		s.Release()
		return nil
	case next.Err() != nil:
		return ctx.Err()
	}
	return err
}
