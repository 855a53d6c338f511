package mining

import (
	"context"
	"errors"
	"fmt"
	"io"

	"sn3/chain"
	"sn3/internal/events"
	"sn3/internal/replica"
	"sn3/model"
)

// report is what train did.
type report struct {
	model.Report
	early int  // steps made before θ_{w-1} was there
	bad   int  // batches left out
	row   int  // of them, since the last good one
	tight bool // a step was not begun because it would not have ended in time
}

// train makes the inner steps of w until the window ends, or the next step would end too late, and returns θ_{w-1}, from which the
// pseudo-gradient counts.
//
//  1. gap wait: wait for θ_{w-1}, start from it
//  2. gap train, auto: start from the proxy s = θ_{w-2} − α·decode(own payload of w-1) (proxy)
//  3. when θ_{w-1} arrives: local <- local + (θ_{w-1} − s), moments untouched
//  4. the rest of the steps
func (m *Miner) train(ctx context.Context, w chain.Window, assigned model.Batches, steps int) (replica.Snapshot, report, error) {
	var rep report
	none := replica.Snapshot{}
	batches := &watched{Batches: assigned}
	until, cancel := m.clock.Until(ctx, m.stop(w))
	defer cancel()
	proxy, err := m.proxy(ctx, w)
	if err != nil {
		return none, rep, err
	}
	if proxy != nil {
		if err := m.early(until, w, proxy, batches, steps, &rep); err != nil && ctx.Err() == nil && until.Err() == nil {
			return none, rep, err
		}
	}
	rep.early = rep.Steps
	base, err := m.base(ctx, w)
	if err != nil {
		return none, rep, err
	}
	m.pace.arrived(m.clock.Now().Block - min(m.clock.Now().Block, m.sched.At(w, chain.PhaseStart)))
	switch {
	case rep.early == 0:
		err = m.cfg.Trainer.Reset(ctx, base.Weights()) // 1
	case !m.cfg.NoRebase:
		err = m.cfg.Trainer.Rebase(ctx, proxy, base.Weights()) // 3
	}
	if err == nil {
		err = m.steps(until, w, batches, steps-rep.Steps, &rep) // 4
	}
	if err != nil {
		base.Release()
		return none, rep, err
	}
	return base, rep, nil
}

// early makes steps on the proxy until θ_{w-1} is there: as many as it can, or in Gap Auto as many as it must.
func (m *Miner) early(ctx context.Context, w chain.Window, proxy *model.Flat, batches *watched, steps int, rep *report) error {
	limit := steps
	if m.cfg.MaxEarly > 0 {
		limit = min(steps, m.cfg.MaxEarly)
	}
	for rep.Steps < limit && ctx.Err() == nil && !m.has(w-1) {
		if !m.mustStep(w, steps-rep.Steps) {
			if err := m.await(ctx, w-1); err != nil {
				return err
			}
			continue
		}
		if rep.Steps == 0 {
			if err := m.cfg.Trainer.Reset(ctx, proxy); err != nil {
				return fmt.Errorf("load proxy: %w", err)
			}
		}
		before := rep.Steps
		if err := m.steps(ctx, w, batches, 1, rep); err != nil {
			return err
		}
		if rep.Steps == before {
			return nil
		}
	}
	return nil
}

// watched remembers the error of reading data, to tell a cut bucket from a training that failed.
type watched struct {
	model.Batches
	err error
}

func (b *watched) Next(ctx context.Context) (model.Batch, error) {
	x, err := b.Batches.Next(ctx)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return x, err
}

// base waits for θ_{w-1}, at the longest until the deadline, after which nothing of w can be sent any more.
func (m *Miner) base(ctx context.Context, w chain.Window) (replica.Snapshot, error) {
	if m.has(w - 1) {
		return m.cfg.Replica.At(ctx, w-1)
	}
	until, cancel := m.clock.Until(ctx, m.sched.At(w, chain.PhaseDeadline))
	defer cancel()
	s, err := m.cfg.Replica.At(until, w-1)
	if err != nil && ctx.Err() == nil && until.Err() != nil {
		return s, fmt.Errorf("%w: θ of the window before was not there by the deadline", errSkip)
	}
	return s, err
}

// steps makes up to n inner steps, one at a time so that the machine's cores can be shared between them, and none that would end
// too late: whether it does is asked when there is a core for it. A batch whose loss or gradient is not finite is left out; where
// a batch cannot be read the steps before it count.
func (m *Miner) steps(ctx context.Context, w chain.Window, batches *watched, n int, rep *report) error {
	first, stop, latest := uint64(w)*uint64(m.run.Train.InnerSteps), m.stop(w), m.latest(w)
	for made := 0; made < n && ctx.Err() == nil; {
		var one model.Report
		waited := m.clock.Now().Block
		began := waited
		err := m.cfg.Compute(ctx, func() error {
			began = m.clock.Now().Block
			if began >= stop { // ctx ends a moment later
				return nil
			}
			if rep.tight = !m.pace.fits(began, latest, rep.Steps); rep.tight {
				return nil
			}
			var err error
			one, err = m.cfg.Trainer.Train(ctx, batches, model.Budget{First: first + uint64(rep.Steps), Steps: 1, Cold: m.cold})
			return err
		})
		switch {
		case ctx.Err() != nil: // a step that was made counts
		case err != nil && batches.err != nil:
			return m.noData(w, batches, rep)
		case errors.Is(err, model.ErrDiverged):
			if err := m.leaveOut(w, err, rep); err != nil {
				return err
			}
			continue
		case err != nil:
			return fmt.Errorf("inner step %d: %w", rep.Steps, err)
		}
		if one.Steps == 0 {
			return nil
		}
		now := m.clock.Now().Block
		m.pace.stepped(now-waited, now-began)
		rep.Loss = (rep.Loss*float64(rep.Steps) + one.Loss) / float64(rep.Steps+1)
		rep.Steps++
		m.cold = max(0, m.cold-1)
		rep.Tokens += one.Tokens
		rep.row = 0
		made++
	}
	return nil
}

// noData ends the steps because the next batch cannot be read, although every mirror was asked. The same batch is asked for again
// if there is another occasion in this window.
func (m *Miner) noData(w chain.Window, batches *watched, rep *report) error {
	why := batches.err
	batches.err = nil
	if rep.Steps == 0 {
		return fmt.Errorf("%w: the data bucket does not answer: %v", errSkip, why)
	}
	m.cfg.Log.Warn("the data bucket does not answer; going on with the steps made", "window", w, "steps", rep.Steps, "reason", why)
	m.cfg.Events(events.Event{Kind: events.Waiting, Window: w, Steps: rep.Steps, Reason: "data: " + why.Error()})
	return nil
}

func (m *Miner) has(w chain.Window) bool {
	n, ok := m.cfg.Replica.Applied()
	return ok && n > w || ok && w == chain.NoWindow
}

// proxy is s for window w, or nil where there is none: gap wait, the first window, θ_{w-1} already here. Without an own payload of
// w-1 there is one only for a machine on which no step would fit after θ_{w-1}'s arrival: s is θ_{w-2} then, which is worth less, and
// more than to be shut out.
func (m *Miner) proxy(ctx context.Context, w chain.Window) (*model.Flat, error) {
	own := m.last != nil && m.lastOf == w-1
	if m.cfg.Gap == Wait || w == 0 || m.has(w-1) || !own && (!m.has(w-2) || m.arrival(w)+m.pace.longest() <= m.latest(w)) {
		return nil, nil
	}
	before, err := m.cfg.Replica.At(ctx, w-2)
	if errors.Is(err, replica.ErrGone) { // after a restart only the newest state is there, and that is θ_{w-1} by now
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer before.Release()
	if m.scratchS == nil {
		m.scratchS = model.NewFlat(m.cfg.Replica.Layout())
	}
	s := m.scratchS
	copy(s.Data, before.Weights().Data)
	if own {
		m.addOwn(s)
	}
	return s, nil
}

// addOwn makes the outer step on s as if the payload sent last had been the only one selected.
func (m *Miner) addOwn(s *model.Flat) {
	alpha := float32(m.run.Outer.Alpha)
	layout := s.Layout()
	for i := range layout.Chunks() {
		n := m.last.Chunk(i, m.idx, m.val)
		at := s.Data[layout.Chunk(i).Start:]
		for j := range n {
			at[m.idx[j]] -= float32(alpha * m.val[j])
		}
	}
}
