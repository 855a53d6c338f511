package mining

import (
	"context"
	"fmt"

	"sn3/chain"
)

// tail is how long a submission took, from its last inner step to its record.
type tail struct {
	known, counts bool
	blocks        chain.Block
}

// latest is the block by which the last inner step of w must have ended for its submission to count.
func (m *Miner) latest(w chain.Window) chain.Block {
	deadline, tail := m.sched.At(w, chain.PhaseDeadline), m.pace.tail(m.sched.Params())
	return deadline - min(deadline, tail)
}

// stop is the block from which on no inner step of w is begun.
func (m *Miner) stop(w chain.Window) chain.Block { return min(m.sched.End(w), m.latest(w)) }

// arrival is the block at which θ_{w-1} is expected.
func (m *Miner) arrival(w chain.Window) chain.Block {
	start := m.sched.At(w, chain.PhaseStart)
	return start + m.pace.expected(m.sched.At(w-1, chain.PhaseApply)-start)
}

// mustStep says whether a step on the proxy is due in window w with left steps to go.
func (m *Miner) mustStep(w chain.Window, left int) bool {
	if m.cfg.Gap != Auto {
		return true
	}
	return m.pace.late(m.clock.Now().Block, m.arrival(w), m.stop(w), left)
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

// learn takes up how long the newest submission took. It is called when that is settled, at a place of the window that does not
// depend on when that was.
func (m *Miner) learn() {
	switch {
	case !m.took.known:
	case m.took.counts:
		m.pace.sent(m.took.blocks, m.sched.Params())
	default:
		m.pace.missed(m.sched.Params())
	}
	m.took = tail{}
}

// slowAdvice is what an operator can do about a machine on which a window is too short for one inner step.
const slowAdvice = "use a faster engine or more --threads, --gap auto if it is wait, and stop what else runs here; a run with longer windows suits this machine better"

// noRoom ends a window whose first step was not begun because it would have ended too late.
func (m *Miner) noRoom(w chain.Window) error {
	step, latest := m.pace.shortest(), m.latest(w)
	advice := m.tooSlow(w)
	m.pace.retry()
	return fmt.Errorf("%w: an inner step takes %d blocks on this machine, and too few were left until block %d, by which it must end%s", errSkip, step, latest, advice)
}

// lateTheta ends a window in which θ was not there in time for a step. Where only a submission as slow as the last ones needs that
// much time, the next window is tried with the usual: nothing else would show that they have become faster.
func (m *Miner) lateTheta(w chain.Window) error {
	if latest := m.latest(w); latest < m.sched.End(w) {
		m.pace.retry()
		return fmt.Errorf("%w: θ came after block %d, by which steps must end for a submission that takes as long as the last ones; the next window does not wait for that", errSkip, latest)
	}
	return fmt.Errorf("%w: the window ended before the first inner step", errSkip)
}

// crossed is the reason why a window that was trained is not submitted: its last step took longer than those before.
func (m *Miner) crossed(w chain.Window, steps int) string {
	return fmt.Sprintf("training ended after the deadline; inner step %d, the last, took %d blocks%s", steps, m.pace.lasted[len(m.pace.lasted)-1], m.tooSlow(w))
}

// tooSlow is the advice to an operator on whose machine a window has no room for a step, however early it begins; empty where it
// has. The log warns once until a window is submitted.
func (m *Miner) tooSlow(w chain.Window) string {
	from, step := m.sched.At(w, chain.PhaseStart), m.pace.shortest()
	if m.cfg.Gap == Wait {
		from = m.arrival(w)
	}
	if from+step <= m.latest(w) {
		return ""
	}
	if !m.slow {
		m.cfg.Log.Warn("this machine is too slow for one inner step a window", "window", w, "blocks_of_a_step", step,
			"blocks_of_a_window", m.sched.Params().Length, "advice", slowAdvice)
		m.slow = true
	}
	return "; this machine is too slow for these windows: " + slowAdvice
}
