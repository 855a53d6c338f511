// Package mining is a miner's work loop: train on what was assigned, compress what was learned, publish it in time.
package mining

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"sn3/chain"
	"sn3/gradients"
	"sn3/internal/events"
	"sn3/internal/replica"
	"sn3/model"
	"sn3/model/data"
)

// Gap is what a miner does between Start(w+1) and Apply(w).
type Gap string

// The ways (DESIGN §4).
const (
	Wait  Gap = "wait"  // idle until θ arrives
	Auto  Gap = "auto"  // like Train, but only the steps that would not fit after θ's arrival are made before it
	Train Gap = "train" // start from the proxy θ_{w-2} − α·decode(own payload of w-1), shift when θ_{w-1} arrives
)

// Gaps lists the ways in the order of the help text.
func Gaps() []Gap { return []Gap{Auto, Train, Wait} }

// Valid says whether g is one of Gaps.
func (g Gap) Valid() bool { return slices.Contains(Gaps(), g) }

// Config is what a miner works with.
type Config struct {
	Dir      string
	Hotkey   chain.Hotkey
	Replica  *replica.Replica
	Trainer  model.Trainer // a model.Persister if moments are to survive a restart
	Feedback *gradients.Feedback
	Data     *data.Dataset
	Gap      Gap
	Events   events.Sink
	Log      *slog.Logger
	// Compute runs f when this machine has a core to spare; nil runs it at once.
	Compute func(ctx context.Context, f func() error) error
	// Batches yields the assigned batches; nil is Data.Batches.
	Batches func(data.Assignment) model.Batches
	// SaveEvery is after how many windows the inner optimizer is saved; 0 is by its size (SaveEvery).
	SaveEvery int
	// MaxSteps lowers the number of inner steps a window; 0 is the run's H.
	MaxSteps int
	// MaxEarly bounds the steps before θ arrives; 0 is no bound.
	MaxEarly int
	// Rebase false leaves out the shift to the new θ: only a test wants that.
	NoRebase bool
}

// Miner trains one window after another. Create with New, call Run once.
type Miner struct {
	cfg   Config
	run   *chain.Run
	sched chain.Schedule
	clock *replica.Clock
	// moments is the window that the trainer's moments are of; chain.NoWindow if it has none.
	moments chain.Window
	saved   chain.Window // the window of the moments on disk; chain.NoWindow if there are none
	cold    int          // warm-up steps left (model.Budget)
	bad     int          // windows lost to numbers that are not finite since the last submission
	// proxy is what was sent last: the payload and its window.
	last     *gradients.Payload
	lastOf   chain.Window
	pace     pace
	slow     bool          // the operator was told that this machine is too slow
	sent     uint64        // submissions begun
	settle   *replica.Gate // level: submissions settled
	took     tail          // of the newest of them, once it is settled
	scratchS *model.Flat   // the proxy
	idx      []uint16
	val      []float32
}

// New checks the configuration and loads saved moments.
func New(cfg Config) (*Miner, error) {
	if !cfg.Gap.Valid() {
		return nil, fmt.Errorf("unknown gap mode %q; use one of %v", cfg.Gap, Gaps())
	}
	if cfg.Compute == nil {
		cfg.Compute = func(_ context.Context, f func() error) error { return f() }
	}
	if cfg.Batches == nil {
		batch := cfg.Replica.Run().Train.Batch
		cfg.Batches = func(a data.Assignment) model.Batches { return cfg.Data.Batches(a, batch) }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Events == nil {
		cfg.Events = func(events.Event) {}
	}
	m := &Miner{cfg: cfg, run: cfg.Replica.Run(), sched: cfg.Replica.Schedule(), clock: cfg.Replica.Clock(), moments: chain.NoWindow, saved: chain.NoWindow,
		settle: replica.NewGate(cfg.Replica.Clock().Load()),
		idx:    make([]uint16, model.ChunkSize), val: make([]float32, model.ChunkSize)}
	if cfg.MaxSteps <= 0 || cfg.MaxSteps > m.run.Train.InnerSteps {
		m.cfg.MaxSteps = m.run.Train.InnerSteps
	}
	if cfg.SaveEvery <= 0 {
		m.cfg.SaveEvery = SaveEvery(cfg.Replica.Layout().Params())
	}
	return m, m.loadMoments()
}

// Run follows the network and works until ctx ends or something needs the operator.
func (m *Miner) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	m.clock.Load().Add(1) // two loops, and the caller only waits
	defer m.clock.Load().Add(1)
	g.Go(func() error { defer m.clock.Load().Add(-1); return m.cfg.Replica.Follow(ctx) })
	g.Go(func() error { defer m.clock.Load().Add(-1); return m.finish(ctx, m.loop(ctx)) })
	return g.Wait()
}

// loop works window by window. Three things can come out of one: it was worked, it is skipped with a reason, or the miner
// stops.
func (m *Miner) loop(ctx context.Context) error {
	if err := m.clock.Wait(ctx, 1); err != nil {
		return err
	}
	if err := m.resume(ctx); err != nil {
		return err
	}
	if err := m.recall(); err != nil {
		return err
	}
	w, ok := m.sched.Training(m.clock.Now().Block)
	if !ok {
		w = 0
	}
	for ; ; w++ {
		if now, ok := m.sched.Training(m.clock.Now().Block); ok && now > w {
			m.skip(w, "the chain is already in window %d", now)
			w = now
		}
		err := m.work(ctx, w)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errSkip), errors.Is(err, replica.ErrGone), errors.Is(err, chain.ErrUnavailable), errors.Is(err, chain.ErrPruned):
			m.skip(w, "%v", err)
			if err := m.clock.Wait(ctx, m.sched.End(w)); err != nil {
				return err
			}
		case errors.Is(err, model.ErrDiverged), errors.Is(err, gradients.ErrNotFinite):
			if err := m.lost(w, err); err != nil {
				return err
			}
			if err := m.clock.Wait(ctx, m.sched.End(w)); err != nil {
				return err
			}
		case err != nil:
			return fmt.Errorf("work on window %d: %w", w, err)
		}
	}
}

var errSkip = errors.New("nothing to submit")

func (m *Miner) skip(w chain.Window, format string, args ...any) {
	why := fmt.Sprintf(format, args...)
	m.cfg.Log.Info("no submission", "window", w, "reason", why)
	m.cfg.Events(events.Event{Kind: events.Skipped, Window: w, Reason: why})
}

// work is one window. A kill between the submission and the saving of moments costs nothing: the window is trained again and
// not submitted again.
func (m *Miner) work(ctx context.Context, w chain.Window) error {
	if m.moments == w {
		return fmt.Errorf("%w: this window was trained before the restart", errSkip)
	}
	a, ok, err := m.cfg.Replica.Assignment(ctx, w, m.cfg.Hotkey) // 1. what to train on, fixed at Seed(w)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: this hotkey had no seat among the miners at the seed of the window", errSkip)
	}
	if err := m.clock.Wait(ctx, m.sched.At(w, chain.PhaseStart)); err != nil {
		return err
	}
	again := m.last != nil && m.lastOf == w // submitted before a restart: never twice
	stale := m.moments != w-1               // or none: train a window without submitting, and warm up
	if stale {
		m.cold = model.ColdSteps
	}
	began := time.Now()
	m.pace.begin()
	base, rep, err := m.train(ctx, w, m.cfg.Batches(a), m.cfg.MaxSteps) // 2. inner steps, also through the gap
	if err != nil {
		return err
	}
	defer base.Release()
	m.cfg.Events(events.Event{Kind: events.Train, Window: w, Steps: rep.Steps, EarlySteps: rep.early, BadBatches: rep.bad, Tokens: rep.Tokens,
		Loss: rep.Loss, Seconds: time.Since(began).Seconds()})
	if rep.Steps == 0 && rep.bad > 0 {
		return fmt.Errorf("%w: none of its %d batches gave a finite loss and gradient", model.ErrDiverged, rep.bad)
	}
	if rep.Steps == 0 && rep.tight {
		return m.noRoom(w)
	}
	if rep.Steps == 0 {
		return m.lateTheta(w)
	}
	why := ""
	switch {
	case again:
		why = "this window was submitted before the restart"
	case stale:
		why = "warming up the inner optimizer for a window"
	case m.clock.Now().Block >= m.sched.At(w, chain.PhaseDeadline):
		why = m.crossed(w, rep.Steps)
	default:
		if err := m.submit(ctx, w, a, base, rep); err != nil { // 3. compress, send
			return err
		}
	}
	if err := m.saveMoments(w); err != nil { // 4. for a restart
		return err
	}
	if why != "" {
		return fmt.Errorf("%w: %s", errSkip, why)
	}
	return nil
}

// submit compresses what was learned in w and sends it beside the next window.
func (m *Miner) submit(ctx context.Context, w chain.Window, a data.Assignment, base replica.Snapshot, rep report) error {
	began := m.clock.Now().Block
	if err := m.settle.Wait(ctx, m.sent); err != nil { // the submission before this one
		return err
	}
	m.learn()
	p, err := m.cfg.Feedback.Begin(base.Weights(), m.cfg.Trainer.Trained(), w, m.run.Payload.At(w)) // e <- βe + Δ, on disk
	if err != nil {
		return err
	}
	m.last, m.lastOf, m.bad, m.slow = p.Payload(), w, 0, false
	m.send(ctx, began, p, replica.Work{Base: base.Root(), Assignment: a.Digest, Consumed: rep.Steps * m.run.Train.Batch,
		Steps: rep.Steps, RebaseStep: rep.early})
	return nil
}

// send publishes in the background what was begun to be compressed at block began; the settle gate tells when the error feedback is
// free again.
func (m *Miner) send(ctx context.Context, began chain.Block, p *gradients.Pending, work replica.Work) {
	m.sent++
	n := m.sent
	m.clock.Go(func() {
		defer m.settle.Raise(n)
		o, err := m.cfg.Replica.Publish(ctx, p, work)
		away := o.Away
		for told := false; err != nil && ctx.Err() == nil; {
			if errors.Is(err, chain.ErrUnavailable) {
				away = err
			}
			if !told {
				m.cfg.Log.Warn("cannot publish yet; trying on", "window", p.Window(), "reason", err)
				m.cfg.Events(events.Event{Kind: events.Waiting, Window: p.Window(), Reason: "publish: " + err.Error()})
				told = true
			}
			if m.clock.WaitNext(ctx) != nil {
				return
			}
			var again *replica.Outcome
			if again, err = m.cfg.Replica.Resume(ctx, m.cfg.Feedback); err == nil && again != nil {
				o = *again
			}
		}
		m.took = tail{known: ctx.Err() == nil && (o.Counts || away == nil), counts: o.Counts, blocks: o.Block - min(o.Block, began)}
		switch {
		case ctx.Err() != nil || o.Counts:
		case away != nil:
			m.skip(p.Window(), "the record was not final before the deadline, because of the chain's nodes (%v); the error feedback is as it was before", away)
		default:
			m.skip(p.Window(), "the record was not final before the deadline; the error feedback is as it was before")
		}
	})
}

// resume settles what a crash left pending.
func (m *Miner) resume(ctx context.Context) error {
	for told := false; ; told = true {
		o, err := m.cfg.Replica.Resume(ctx, m.cfg.Feedback)
		if err == nil {
			if o != nil {
				m.cfg.Log.Info("settled what a restart left pending", "counts", o.Counts, "block", o.Block)
			}
			return nil
		}
		if !told {
			m.cfg.Log.Warn("cannot settle the pending submission yet; trying on", "reason", err)
			m.cfg.Events(events.Event{Kind: events.Waiting, Reason: "settle: " + err.Error()})
		}
		if err := m.clock.WaitNext(ctx); err != nil {
			return err
		}
	}
}
