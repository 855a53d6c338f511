package mining

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"sn3/chain"
	"sn3/model"
)

// ticking is a trainer whose steps take two blocks.
type ticking struct {
	model.Trainer
	steps int
	tick  func(chain.Block)
}

func (x *ticking) Train(context.Context, model.Batches, model.Budget) (model.Report, error) {
	x.steps++
	x.tick(2)
	return model.Report{Steps: 1}, nil
}

// stepping is a miner at the start of window 0 whose core is free after wait blocks.
func stepping(t *testing.T, wait chain.Block) (*Miner, *ticking) {
	t.Helper()
	m, err := New(config(t, t.TempDir(), func(r *chain.Run) {
		r.Schedule.Deadline, r.Schedule.ScoreBy, r.Schedule.Select, r.Schedule.Apply = 4, 5, 6, 7
	}))
	if err != nil {
		t.Fatal(err)
	}
	tick := func(n chain.Block) { m.clock.Advance(chain.Head{Block: m.clock.Now().Block + n}) }
	tick(m.sched.At(0, chain.PhaseStart))
	x := &ticking{tick: tick}
	m.cfg.Trainer = x
	m.cfg.Compute = func(_ context.Context, f func() error) error { tick(wait); return f() }
	return m, x
}

// Steps may end after the window, and none begins in the block of its end, also where nobody has told ctx yet.
func TestStepsEndWithTheWindow(t *testing.T) {
	m, x := stepping(t, 0)
	var rep report
	if err := m.steps(t.Context(), 0, &watched{}, 10, &rep); err != nil || x.steps != 4 || rep.Steps != 4 || rep.tight {
		t.Errorf("%d steps of 2 blocks in a window of 8 and 4 until the deadline, %+v, %v", x.steps, rep, err)
	}
	m, x = stepping(t, 1)
	rep = report{}
	if err := m.steps(t.Context(), 0, &watched{}, 10, &rep); err != nil || x.steps != 3 || m.clock.Now().Block != m.sched.End(0)+2 {
		t.Errorf("%d steps of 2 blocks after a block's wait for a core, until block %d, %v", x.steps, m.clock.Now().Block, err)
	}
	if m.pace.longest() != 2 || m.pace.spent != 9 {
		t.Errorf("steps take %d blocks, all in all %d, want 2 and 9", m.pace.longest(), m.pace.spent)
	}
}

// The operator is told once in the log until a window is submitted, in every reason, and not where one slow step was an exception
// or another gap would do.
func TestTooSlowIsTold(t *testing.T) {
	m, _ := stepping(t, 0)
	var log bytes.Buffer
	m.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	m.pace.arrived(5)
	m.pace.stepped(6, 6) // 5 + 6 is after 8 + 4 − 2
	for range 2 {
		if err := m.noRoom(3); !errors.Is(err, errSkip) || !strings.Contains(err.Error(), slowAdvice) || !strings.Contains(err.Error(), "takes 6 blocks") {
			t.Error(err)
		}
	}
	if n := strings.Count(log.String(), "too slow"); n != 1 {
		t.Errorf("told %d times: %s", n, log.String())
	}
	m.cfg.Gap = Auto
	if got := m.tooSlow(3); got != "" {
		t.Errorf("with time from the start of the window: %s", got)
	}
	m.cfg.Gap = Wait
	m.pace.stepped(2, 2)
	m.pace.stepped(40, 40)
	if got := m.crossed(3, 7); strings.Contains(got, slowAdvice) || !strings.Contains(got, "step 7, the last, took 40 blocks") {
		t.Error(got)
	}
}
