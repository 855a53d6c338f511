package replica

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sort"
	"strconv"

	"sn3/chain"
	"sn3/internal/events"
	"sn3/model/hf"
)

// queueCheckpoint queues a validator's checkpoint if one is due after the state's window.
func (r *Replica) queueCheckpoint(s *state) error {
	if !r.cfg.Validator || s.window == chain.NoWindow || s.window != 0 && s.next()%chain.Window(r.cfg.Run.Checkpoint) != 0 {
		return nil
	}
	return r.eachCheckpointFile(s, func(name string, b []byte) error {
		return r.outbox.add(s.window, checkpointKey(s.window, name), b)
	})
}

// queueWindowFile queues a validator's file of the window that led from cur to next. A window that the chain no longer
// knows was replayed long after: others have signed it.
func (r *Replica) queueWindowFile(ctx context.Context, sel chain.Selection, cur, next *state) error {
	w := next.window
	var view chain.View
	err := r.persist(ctx, "the chain", func(ctx context.Context) error {
		deadline, err := r.cfg.Chain.Snapshot(ctx, r.sched.At(w, chain.PhaseDeadline))
		if err != nil {
			return err
		}
		scoreBy, err := r.cfg.Chain.Snapshot(ctx, r.sched.At(w, chain.PhaseScoreBy))
		if err != nil {
			return err
		}
		view = chain.NewView(w, deadline, scoreBy)
		return nil
	}, chain.ErrPruned)
	if errors.Is(err, chain.ErrPruned) {
		return nil
	}
	if err != nil {
		return err
	}
	f := WindowFile{Network: r.cfg.Run.Network, Run: r.run, Window: w, Before: cur.root, After: next.root,
		Transition: next.transition, Votes: casts(view), Selection: sel}
	b, err := seal(r.cfg.Signer, domainWindow, f)
	if err != nil {
		return err
	}
	return r.outbox.add(w, windowKey(w), b)
}

func casts(v chain.View) []Cast {
	var out []Cast
	for _, b := range v.Ballots {
		c := Cast{Validator: b.Validator, Stake: b.Stake}
		if b.Vote != nil {
			if raw, err := b.Vote.Encode(); err == nil {
				c.Vote = raw
			}
		}
		out = append(out, c)
	}
	return out
}

// eachCheckpointFile yields the files of a checkpoint in the order they must be uploaded: the signed manifest last.
func (r *Replica) eachCheckpointFile(s *state, put func(name string, b []byte) error) error {
	var weights bytes.Buffer
	meta := map[string]string{"format": "pt", "sn3.network": r.cfg.Run.Network, "sn3.window": strconv.FormatUint(uint64(s.window), 10), "sn3.root": s.root.String()}
	if err := hf.WriteModel(&weights, s.theta, hf.F32, meta); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	files := map[string][]byte{modelFile: weights.Bytes(), "config.json": hf.ConfigWith(r.layout.Config(), hf.F32, r.cfg.Special)}
	for name, b := range r.cfg.Files {
		files[name] = b
	}
	var names []string
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	m := CheckpointManifest{Network: r.cfg.Run.Network, Run: r.run, Window: s.window, Root: s.root, Transition: s.transition}
	for _, name := range names {
		m.Files = append(m.Files, File{name, int64(len(files[name])), sha256.Sum256(files[name])})
		if err := put(name, files[name]); err != nil {
			return err
		}
	}
	b, err := seal(r.cfg.Signer, domainCheckpoint, m)
	if err != nil {
		return err
	}
	r.emit(events.Event{Kind: events.Checkpoint, Window: s.window, Root: &s.root})
	return put("manifest.json", b)
}

// PublishCheckpoint uploads the newest state at once: what a validator does before it stops.
func (r *Replica) PublishCheckpoint(ctx context.Context) error {
	if _, ok := r.Applied(); !ok || !r.cfg.Validator {
		return nil
	}
	s := r.current()
	if s.window == chain.NoWindow {
		return nil
	}
	return r.eachCheckpointFile(s, func(name string, b []byte) error {
		return r.outbox.put(ctx, s.window, checkpointKey(s.window, name), b)
	})
}
