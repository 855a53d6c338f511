package mining

import (
	"errors"
	"fmt"

	"sn3/chain"
	"sn3/internal/events"
)

// What is borne of losses and gradients that are not finite: this miner's business, not protocol.
const (
	badBatches = 10 // in a row end the window: its parameters are beyond help
	badWindows = 3  // lost without a submission between them end the miner
)

// ErrUnstable: training gave no finite numbers in badWindows windows without a submission between them. It will not get better
// by itself: the operator has to change something.
var ErrUnstable = errors.New("mining: training does not stay finite")

// advice is what an operator can do about ErrUnstable, the likeliest first.
const advice = "start with --precision f32 --kernels portable: if that helps, report it as a bug with the output of miner --version --verbose; " +
	"if this happens to other miners too, the run's learning rate is too high; if not, this machine's memory or CPU computes wrongly"

// leaveOut reports a batch whose loss or gradient was not finite: no step was made with it. One such batch costs a step, not the
// window; so many in a row are an error, the window's.
func (m *Miner) leaveOut(w chain.Window, why error, rep *report) error {
	rep.bad++
	rep.row++
	m.cfg.Log.Warn("batch left out", "window", w, "after_steps", rep.Steps, "in_a_row", rep.row, "reason", why)
	m.cfg.Events(events.Event{Kind: events.Unstable, Window: w, Steps: rep.Steps, BadBatches: rep.row, Reason: why.Error()})
	if rep.row < badBatches {
		return nil
	}
	return fmt.Errorf("%d batches in a row: %w", rep.row, why)
}

// lost ends a window that gave no finite numbers. The next begins from θ with the moments of a beginner, unless it was one too
// many.
func (m *Miner) lost(w chain.Window, why error) error {
	m.bad++
	if err := m.startOver(); err != nil {
		return err
	}
	if m.bad < badWindows {
		m.skip(w, "%v; starting over from θ with fresh moments", why)
		return nil
	}
	m.skip(w, "%v; that was window %d without a submission between them", why, m.bad)
	err := fmt.Errorf("%w: %d windows without a submission between them, the last with: %w; %s", ErrUnstable, m.bad, why, advice)
	m.cfg.Events(events.Event{Kind: events.Stop, Window: w, Reason: err.Error()})
	return err
}
