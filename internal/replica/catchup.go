package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"sn3/chain"
	"sn3/internal/events"
	"sn3/model/hf"
	"sn3/storage"
)

var (
	// errBehind: the windows in between can no longer be replayed; only a checkpoint helps.
	errBehind = errors.New("replica: too far behind to replay")
	// errNoCheckpoint: no checkpoint in the wanted range is signed by more than half of the stake.
	errNoCheckpoint = errors.New("replica: no checkpoint signed by more than half of the stake")
	// errRefused: the own bucket says no, again and again.
	errRefused = errors.New("replica: the own bucket refuses this node")
)

// patience is how many blocks in a row a bucket may refuse before that counts as the operator's mistake.
const patience = 40

// modelFile is the weights' name in a checkpoint folder.
const modelFile = "model.safetensors"

// begin loads the state to go on from: the saved one, a checkpoint when that spares more than a checkpoint's distance of
// replaying, or the initial model.
func (r *Replica) begin(ctx context.Context) error {
	s, err := r.loadState()
	if err != nil {
		return err
	}
	if s == nil {
		if s, err = r.initial(); err != nil {
			return err
		}
	}
	if r.outbox != nil {
		if err := r.ownBucket(ctx, s.next()); err != nil {
			return err
		}
		if err := r.queueCheckpoint(s); err != nil { // a crash may have come before it was queued
			return err
		}
	}
	last, any := r.sched.Selected(r.clock.Now().Block)
	if any && last+1 > s.next()+chain.Window(r.cfg.Run.Checkpoint) {
		cp, err := r.checkpoint(ctx, s.next(), last)
		switch {
		case err == nil:
			s = cp
			r.emit(events.Event{Kind: events.Resync, Window: s.window, Root: &s.root, Reason: "started from a checkpoint"})
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			r.cfg.Log.Info("no checkpoint to start from; replaying", "reason", err)
		}
	}
	if err := r.saveState(s); err != nil {
		return err
	}
	r.publishState(s)
	return nil
}

// ownBucket waits until the own bucket answers and takes over what lies in it. A refusal may be a server that has just
// started; one that lasts needs the operator.
func (r *Replica) ownBucket(ctx context.Context, w chain.Window) error {
	refusals := 0
	return r.persist(ctx, "own bucket", func(ctx context.Context) error {
		err := r.outbox.adopt(ctx, w)
		if !errors.Is(err, storage.ErrDenied) && !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		if refusals++; refusals < patience {
			return err
		}
		return fmt.Errorf("%w; check that the bucket exists and that the access key and secret are its own: %w", errRefused, err)
	}, errRefused)
}

// jump waits for a checkpoint at or after window w and goes on from it.
func (r *Replica) jump(ctx context.Context, w chain.Window) error {
	var s *state
	err := r.persist(ctx, "a checkpoint signed by more than half of the stake", func(ctx context.Context) error {
		var err error
		s, err = r.checkpoint(ctx, w, chain.NoWindow-1)
		return err
	})
	if err != nil {
		return err
	}
	if err := r.saveState(s); err != nil {
		return err
	}
	r.emit(events.Event{Kind: events.Resync, Window: s.window, Root: &s.root, Reason: "jumped to a checkpoint"})
	r.publishState(s)
	return nil
}

// resync replaces a diverged state: it says so, replays from an earlier checkpoint (or from the start) to the same window,
// and puts the result in its place. Readers of the wrong state keep their snapshot until they release it.
func (r *Replica) resync(ctx context.Context, cur *state, want chain.Hash, sure chain.Window) error {
	r.cfg.Log.Error("THIS NODE'S MODEL DIFFERS FROM THE NETWORK'S; starting over from a checkpoint",
		"window", cur.window, "ours", cur.root.Short(), "theirs", want.Short())
	r.emit(events.Event{Kind: events.Diverged, Window: cur.window, Root: &cur.root, Majority: &want})
	var s *state
	err := r.persist(ctx, "a checkpoint to start over from", func(ctx context.Context) error {
		var err error
		s, err = r.before(ctx, cur.window, sure)
		return err
	})
	if err != nil {
		return err
	}
	for {
		if err := r.queueCheckpoint(s); err != nil {
			return err
		}
		if s.next() >= cur.next() {
			break
		}
		next, err := r.replay(ctx, s)
		if errors.Is(err, errBehind) {
			return r.jump(ctx, cur.next())
		}
		if err != nil {
			return err
		}
		s = next
	}
	if err := r.saveState(s); err != nil {
		return err
	}
	r.mu.Lock()
	r.states = []*state{s}
	r.mu.Unlock()
	r.emit(events.Event{Kind: events.Resync, Window: s.window, Root: &s.root, Reason: "replayed after divergence"})
	return nil
}

// before finds a state to start over from: for a miner the newest checkpoint, for a validator the newest that is no later than
// the window it was sure of, because what it signed since must be made again; else the initial model.
func (r *Replica) before(ctx context.Context, w, sure chain.Window) (*state, error) {
	if w == chain.NoWindow {
		return r.initial()
	}
	if r.cfg.Validator && sure != chain.NoWindow && sure < w {
		if s, err := r.checkpoint(ctx, 0, sure); !errors.Is(err, errNoCheckpoint) {
			return s, err
		}
	}
	s, err := r.checkpoint(ctx, 0, w)
	if errors.Is(err, errNoCheckpoint) {
		return r.initial()
	}
	return s, err
}

// replay makes the step of the window after s. A validator queues the window file again: what it signed while its state was
// wrong is replaced.
func (r *Replica) replay(ctx context.Context, s *state) (*state, error) {
	sel, file, err := r.selection(ctx, s.next())
	if err != nil {
		return nil, err
	}
	parts, err := r.winners(ctx, s.next(), sel)
	if err != nil {
		return nil, err
	}
	next, err := r.step(s, sel, parts)
	if err != nil || !r.cfg.Validator || file != nil {
		return next, err
	}
	return next, r.queueWindowFile(ctx, sel, s, next)
}

// windowFile finds window/<w> as more than half of the stake signed it. errBehind if the validators no longer keep it.
func (r *Replica) windowFile(ctx context.Context, w chain.Window) (*WindowFile, error) {
	var out *WindowFile
	err := r.persist(ctx, fmt.Sprintf("the signed file of window %d", w), func(ctx context.Context) error {
		from, total, err := r.sources(ctx)
		if err != nil {
			return err
		}
		groups, absent := gather(ctx, r, from, windowKey(w), func(h chain.Hotkey, b []byte) (WindowFile, chain.Hash, error) {
			f, digest, err := OpenWindowFile(r.cfg.Verifier, h, b)
			if err == nil && (f.Network != r.cfg.Run.Network || f.Run != r.run || f.Window != w || f.Selection.Window != w) {
				err = fmt.Errorf("%w: of another run or window", ErrForged)
			}
			return f, digest, err
		})
		if q, ok := quorum(groups, total); ok {
			out = &q.body
			return nil
		}
		if absent >= total-total/2 {
			return errBehind
		}
		return errors.New("not yet signed by more than half of the stake")
	}, errBehind)
	return out, err
}

// checkpoint loads the newest checkpoint in [from, to] whose manifest more than half of the stake signed, and checks its
// hashes and root.
func (r *Replica) checkpoint(ctx context.Context, from, to chain.Window) (*state, error) {
	sources, total, err := r.sources(ctx)
	if err != nil {
		return nil, err
	}
	for _, w := range r.offered(ctx, sources, total) {
		if w < from || w > to {
			continue
		}
		groups, _ := gather(ctx, r, sources, checkpointKey(w, "manifest.json"), func(h chain.Hotkey, b []byte) (CheckpointManifest, chain.Hash, error) {
			m, digest, err := OpenCheckpointManifest(r.cfg.Verifier, h, b)
			if err == nil && (m.Network != r.cfg.Run.Network || m.Run != r.run || m.Window != w) {
				err = fmt.Errorf("%w: of another run or window", ErrForged)
			}
			return m, digest, err
		})
		q, ok := quorum(groups, total)
		if !ok {
			continue
		}
		for _, s := range q.from {
			st, err := r.loadCheckpoint(ctx, s.bucket, q.body)
			if err == nil {
				return st, nil
			}
			r.cfg.Log.Error("refused a validator's checkpoint", "hotkey", s.hotkey.Short(), "window", w, "reason", err)
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, errNoCheckpoint
}

func (r *Replica) loadCheckpoint(ctx context.Context, b *storage.Bucket, m CheckpointManifest) (*state, error) {
	for _, f := range m.Files {
		if f.Name != modelFile {
			continue
		}
		if limit := int64(4*r.layout.Params()) + 1<<20; f.Size <= 0 || f.Size > limit {
			return nil, fmt.Errorf("%w: model of %d bytes, at most %d", ErrForged, f.Size, limit)
		}
		var buf memory
		if err := b.Fetch(ctx, checkpointKey(m.Window, modelFile), f.Size, f.SHA256, &buf); err != nil {
			return nil, fmt.Errorf("fetch checkpoint: %w", err)
		}
		theta, err := hf.ReadModel(bytes.NewReader(buf), f.Size, r.layout.Config())
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrForged, err)
		}
		root, err := r.cfg.Compute.Root(theta)
		if err != nil {
			return nil, err
		}
		if root != m.Root {
			return nil, fmt.Errorf("%w: root of the weights is %s, the manifest says %s", ErrForged, root.Short(), m.Root.Short())
		}
		return &state{window: m.Window, theta: theta, root: root, transition: m.Transition}, nil
	}
	return nil, fmt.Errorf("%w: no %s in the manifest", ErrForged, modelFile)
}
