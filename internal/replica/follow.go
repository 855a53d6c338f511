package replica

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"sn3/chain"
	"sn3/gradients"
	"sn3/internal/events"
)

// maxResyncs bounds how often a node that keeps disagreeing starts over before it gives up and says so.
const maxResyncs = 3

// Follow keeps the replica in step with the network until ctx ends. It never goes on from a state it knows to be wrong.
//
//  1. load the saved state, a checkpoint, or the initial model
//  2. wait for Select(w); the selection, ours and the chain's, must be equal
//  3. our root(θ_{w-1}) must be the majority's: else say so and resynchronise
//  4. fetch the selected payloads by hash: wait and retry, never skip
//  5. aggregate and make the outer step on a copy; hash it
//  6. save, publish, prune
func (r *Replica) Follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := r.startClock(ctx); err != nil {
		return err
	}
	if r.outbox != nil {
		done := make(chan struct{})
		go func() { defer close(done); r.outbox.run(ctx) }()
		defer func() { cancel(); <-done }()
	}
	if err := r.begin(ctx); err != nil { // 1
		return err
	}
	resyncs, sure := 0, r.current().window // sure: newest window whose root the majority has confirmed
	for {
		cur := r.current()
		w := cur.next()
		sel, file, err := r.selection(ctx, w) // 2
		if errors.Is(err, errBehind) {
			if err := r.jump(ctx, w); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		want := expected(sel, file)
		if want != (chain.Hash{}) && want != cur.root { // 3
			if resyncs++; resyncs > maxResyncs {
				return fmt.Errorf("%w: ours %s, theirs %s before window %d, after %d fresh starts; check this machine's memory and that its release is the network's",
					ErrDiverged, cur.root.Short(), want.Short(), w, maxResyncs)
			}
			if err := r.resync(ctx, cur, want, sure); err != nil {
				return err
			}
			continue
		}
		if want != (chain.Hash{}) {
			sure = cur.window
		}
		resyncs = 0
		parts, err := r.winners(ctx, w, sel) // 4
		if err != nil {
			return err
		}
		next, err := r.step(cur, sel, parts) // 5
		if err != nil {
			return err
		}
		if file != nil && file.After != next.root {
			r.emit(events.Event{Kind: events.Diverged, Window: w, Root: &next.root, Majority: &file.After})
			return fmt.Errorf("%w: replaying window %d gave %s, the signed window file says %s", ErrDiverged, w, next.root.Short(), file.After.Short())
		}
		if err := r.finish(ctx, sel, cur, next); err != nil { // 6
			return err
		}
	}
}

// expected is the root that the network had before the window: what more than half of the stake voted with, or what a
// quorum's window file says; zero if nobody knows.
func expected(sel chain.Selection, file *WindowFile) chain.Hash {
	if file != nil {
		return file.Before
	}
	return sel.Root
}

// startClock pumps heads into the clock unless someone else drives it, and waits for the first.
func (r *Replica) startClock(ctx context.Context) error {
	if r.cfg.Clock == nil {
		heads, err := r.cfg.Chain.Heads(ctx)
		if err != nil {
			return fmt.Errorf("follow chain heads: %w", err)
		}
		go func() {
			for h := range heads {
				r.clock.Advance(h)
			}
		}()
	}
	return r.clock.Wait(ctx, 1)
}

// step makes the outer step into other memory: θ stays for those who read it.
func (r *Replica) step(cur *state, sel chain.Selection, parts []*gradients.Payload) (*state, error) {
	next := &state{window: sel.Window, root: cur.root}
	next.transition = gradients.Transition(cur.transition, sel.Window, sel, r.run)
	if len(parts) == 0 {
		next.theta = r.copyOf(cur)
		return next, nil
	}
	next.theta = r.memory()
	r.cfg.Failpoint("step")
	outer := gradients.Outer{Alpha: float32(r.cfg.Run.Outer.Alpha), MinDivisor: r.cfg.Run.Outer.MinDivisor, Compute: r.cfg.Compute}
	root, err := outer.Step(next.theta, cur.theta, parts)
	if err != nil {
		return nil, fmt.Errorf("outer step of window %d: %w", sel.Window, err)
	}
	next.root = root
	return next, nil
}

// finish makes a new state durable and visible. What a validator publishes of it is queued so that a crash in between loses
// nothing: the window file before the state is saved, the checkpoint again after a start (begin).
func (r *Replica) finish(ctx context.Context, sel chain.Selection, cur, next *state) error {
	if r.cfg.Validator {
		if err := r.queueWindowFile(ctx, sel, cur, next); err != nil {
			return err
		}
		r.cfg.Failpoint("queued")
	}
	if err := r.saveState(next); err != nil {
		return fmt.Errorf("save model of window %d (is the disk full?): %w", next.window, err)
	}
	r.cfg.Failpoint("saved")
	r.publishState(next)
	winners := make([]chain.Hotkey, len(sel.Winners))
	for i, w := range sel.Winners {
		winners[i] = w.Hotkey
	}
	r.emit(events.Event{Kind: events.Applied, Window: next.window, Block: r.clock.Now().Block, Root: &next.root, Winners: winners})
	if err := r.queueCheckpoint(next); err != nil {
		return err
	}
	if keep := chain.Window(r.cfg.Run.Keep); next.window > keep {
		r.objects.forget(next.window - keep)
		if r.outbox != nil {
			r.outbox.forget(next.window - keep)
		}
	}
	return nil
}

// selection waits for Select(w) and returns the selection from the chain, or from the window files of validators when the
// chain no longer has it.
func (r *Replica) selection(ctx context.Context, w chain.Window) (chain.Selection, *WindowFile, error) {
	if err := r.clock.Wait(ctx, r.sched.At(w, chain.PhaseSelect)); err != nil {
		return chain.Selection{}, nil, err
	}
	var sel chain.Selection
	err := r.persist(ctx, "the chain", func(ctx context.Context) error {
		var err error
		if sel, err = r.selectHere(ctx, w); errors.Is(err, chain.ErrPruned) {
			sel, err = r.longAgo(ctx, w)
		}
		return err
	}, chain.ErrPruned, ErrSelection)
	if !errors.Is(err, chain.ErrPruned) {
		return sel, nil, err
	}
	file, err := r.windowFile(ctx, w)
	if err != nil {
		return chain.Selection{}, nil, err
	}
	return file.Selection, file, nil
}

// longAgo asks the chain for the selection of a window whose snapshots are pruned. It still knows the newest windows in which
// something happened and that nothing did since: without this a network could not go on after a long time without validators.
func (r *Replica) longAgo(ctx context.Context, w chain.Window) (chain.Selection, error) {
	s, ok := r.cfg.Chain.(chain.Selector)
	if !ok {
		return chain.Selection{}, chain.ErrPruned
	}
	return s.Selection(ctx, w)
}

// selectHere computes the selection and compares it with the chain's where the chain offers one.
func (r *Replica) selectHere(ctx context.Context, w chain.Window) (chain.Selection, error) {
	deadline, err := r.cfg.Chain.Snapshot(ctx, r.sched.At(w, chain.PhaseDeadline))
	if err != nil {
		return chain.Selection{}, err
	}
	scoreBy, err := r.cfg.Chain.Snapshot(ctx, r.sched.At(w, chain.PhaseScoreBy))
	if err != nil {
		return chain.Selection{}, err
	}
	view := chain.NewView(w, deadline, scoreBy)
	sel := chain.Select(view, r.cfg.Run.Rules)
	for _, b := range view.Ballots {
		if b.Vote != nil && sel.Root != (chain.Hash{}) && b.Vote.Root != sel.Root {
			r.cfg.Log.Warn("a validator's model is not the majority's", "hotkey", b.Validator.Short(), "window", w,
				"its", b.Vote.Root.Short(), "theirs", sel.Root.Short())
		}
	}
	if s, ok := r.cfg.Chain.(chain.Selector); ok {
		theirs, err := s.Selection(ctx, w)
		if err != nil {
			return chain.Selection{}, err
		}
		if !sameSelection(sel, theirs) {
			return chain.Selection{}, fmt.Errorf("%w (window %d): install the release that the network runs", ErrSelection, w)
		}
	}
	return sel, nil
}

func sameSelection(a, b chain.Selection) bool {
	if len(a.Winners) == 0 && len(b.Winners) == 0 {
		a.Winners, b.Winners = nil, nil
	}
	return reflect.DeepEqual(a, b)
}

// winners fetches every selected payload: origin or the validators' mirrors, again with each block until all are here.
func (r *Replica) winners(ctx context.Context, w chain.Window, sel chain.Selection) ([]*gradients.Payload, error) {
	parts := make([]*gradients.Payload, len(sel.Winners))
	errs := make([]error, len(sel.Winners))
	r.clock.Each(len(sel.Winners), func(i int) {
		c := sel.Winners[i]
		what := fmt.Sprintf("payload of %s in window %d", c.Hotkey.Short(), w)
		errs[i] = r.persist(ctx, what, func(ctx context.Context) error {
			mirrors, err := r.mirrors(ctx)
			if err != nil {
				return err
			}
			m, p, err := r.objects.anywhere(ctx, c.Candidate, w, mirrors)
			if err == nil && (m.Window != w || m.Hotkey != c.Hotkey) {
				err = errManifest
			}
			parts[i] = p
			return err
		})
	})
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// mirrors are the locators that permitted validators have on chain.
func (r *Replica) mirrors(ctx context.Context) ([][]byte, error) {
	now, err := r.Metagraph(ctx)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, n := range now.Neurons {
		if p, ok := now.Record(n.Hotkey); ok && n.Permit && n.Hotkey != r.cfg.Self {
			out = append(out, p.Record.Locator)
		}
	}
	return out, nil
}

// persist runs try until it succeeds, ctx ends or the error is one of final. It says once what it waits for. Between tries
// it waits for a block, or for a second of real time while the chain itself is away.
func (r *Replica) persist(ctx context.Context, what string, try func(context.Context) error, final ...error) error {
	for n := 0; ; n++ {
		err := try(ctx)
		if err == nil {
			if n > 1 {
				r.emit(events.Event{Kind: events.Resumed, Reason: what + " is here"})
			}
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, f := range final {
			if errors.Is(err, f) {
				return err
			}
		}
		if n == 1 {
			r.cfg.Log.Warn("waiting", "for", what, "reason", err)
			r.emit(events.Event{Kind: events.Waiting, Reason: what + ": " + err.Error()})
		}
		if errors.Is(err, chain.ErrUnavailable) {
			err = pause(ctx, time.Second)
		} else {
			err = r.clock.WaitNext(ctx)
		}
		if err != nil {
			return err
		}
	}
}
