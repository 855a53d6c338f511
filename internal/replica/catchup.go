package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"sn3/chain"
	"sn3/gradients"
	"sn3/internal/events"
	"sn3/model/hf"
	"sn3/storage"
)

var (
	// errBehind: the windows in between can no longer be replayed; only a checkpoint helps.
	errBehind = errors.New("replica: too far behind to replay")
	// errNoCheckpoint: no checkpoint in the wanted range is signed by more than half of the stake.
	errNoCheckpoint = errors.New("replica: no checkpoint signed by more than half of the stake")
)

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
		if err := r.persist(ctx, "own bucket", func(ctx context.Context) error { return r.outbox.adopt(ctx, s.next()) }); err != nil {
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

// resync replaces a diverged state: it says so, replays from the newest earlier checkpoint (or from the start) to the same
// window, and puts the result in its place. Readers of the wrong state keep their snapshot until they release it.
func (r *Replica) resync(ctx context.Context, cur *state, want chain.Hash) error {
	r.cfg.Log.Error("THIS NODE'S MODEL DIFFERS FROM THE NETWORK'S; starting over from a checkpoint",
		"window", cur.window, "ours", cur.root.Short(), "theirs", want.Short())
	r.emit(events.Event{Kind: events.Diverged, Window: cur.window, Root: &cur.root, Majority: &want})
	var s *state
	err := r.persist(ctx, "a checkpoint to start over from", func(ctx context.Context) error {
		var err error
		if s, err = r.checkpoint(ctx, 0, cur.window); errors.Is(err, errNoCheckpoint) {
			s, err = r.initial()
		}
		return err
	})
	if err != nil {
		return err
	}
	for s.next() < cur.next() {
		sel, _, err := r.selection(ctx, s.next())
		if err != nil {
			return err
		}
		parts, err := r.winners(ctx, s.next(), sel)
		if err != nil {
			return err
		}
		if s, err = r.step(s, sel, parts); err != nil {
			return err
		}
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

// source is a permitted validator whose bucket is known.
type source struct {
	hotkey chain.Hotkey
	stake  chain.Amount
	bucket *storage.Bucket
}

// sources lists the permitted validators with a readable locator, and the stake of all permitted ones.
func (r *Replica) sources(ctx context.Context) ([]source, chain.Amount, error) {
	now, err := r.Metagraph(ctx)
	if err != nil {
		return nil, 0, err
	}
	var out []source
	var total chain.Amount
	for _, n := range now.Neurons {
		if !n.Permit {
			continue
		}
		total += n.Stake
		p, ok := now.Record(n.Hotkey)
		if !ok {
			continue
		}
		b, err := r.objects.bucket(p.Record.Locator)
		if err != nil {
			r.cfg.Log.Warn("cannot open a validator's bucket", "hotkey", n.Hotkey.Short(), "reason", err)
			continue
		}
		out = append(out, source{n.Hotkey, n.Stake, b})
	}
	return out, total, nil
}

// quorum groups signed files of equal content and returns the sources of the one that more than half of the stake signed.
func quorum[T any](found map[chain.Hash]*signed[T], total chain.Amount) (*signed[T], bool) {
	for _, s := range found {
		if s.stake > total/2 {
			return s, true
		}
	}
	return nil, false
}

type signed[T any] struct {
	body  T
	stake chain.Amount
	from  []source
}

func collect[T any](found map[chain.Hash]*signed[T], digest chain.Hash, body T, from source) {
	s := found[digest]
	if s == nil {
		s = &signed[T]{body: body}
		found[digest] = s
	}
	s.stake += from.stake
	s.from = append(s.from, from)
}

// windowFile finds window/<w> as more than half of the stake signed it. errBehind if the validators no longer keep it.
func (r *Replica) windowFile(ctx context.Context, w chain.Window) (*WindowFile, error) {
	var out *WindowFile
	err := r.persist(ctx, fmt.Sprintf("the signed file of window %d", w), func(ctx context.Context) error {
		from, total, err := r.sources(ctx)
		if err != nil {
			return err
		}
		found := map[chain.Hash]*signed[WindowFile]{}
		missing := chain.Amount(0)
		for _, s := range from {
			b, err := s.bucket.Get(ctx, windowKey(w), maxWindowFile)
			if errors.Is(err, storage.ErrNotFound) {
				missing += s.stake
			}
			if err != nil {
				continue
			}
			f, digest, err := OpenWindowFile(r.cfg.Verifier, s.hotkey, b)
			if err == nil && (f.Network != r.cfg.Run.Network || f.Run != r.run || f.Window != w || f.Selection.Window != w) {
				err = fmt.Errorf("%w: of another run or window", ErrForged)
			}
			if err != nil {
				r.cfg.Log.Error("refused a validator's window file", "hotkey", s.hotkey.Short(), "window", w, "reason", err)
				continue
			}
			collect(found, digest, f, s)
		}
		if q, ok := quorum(found, total); ok {
			out = &q.body
			return nil
		}
		if missing >= total-total/2 {
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
	windows := map[chain.Window]bool{}
	for _, s := range sources {
		for _, w := range listCheckpoints(ctx, s.bucket) {
			if w >= from && w <= to {
				windows[w] = true
			}
		}
	}
	var order []chain.Window
	for w := range windows {
		order = append(order, w)
	}
	sort.Slice(order, func(i, j int) bool { return order[i] > order[j] })
	for _, w := range order {
		found := map[chain.Hash]*signed[CheckpointManifest]{}
		for _, s := range sources {
			b, err := s.bucket.Get(ctx, checkpointKey(w, "manifest.json"), maxWindowFile)
			if err != nil {
				continue
			}
			m, digest, err := OpenCheckpointManifest(r.cfg.Verifier, s.hotkey, b)
			if err == nil && (m.Network != r.cfg.Run.Network || m.Run != r.run || m.Window != w) {
				err = fmt.Errorf("%w: of another run or window", ErrForged)
			}
			if err != nil {
				r.cfg.Log.Error("refused a validator's checkpoint", "hotkey", s.hotkey.Short(), "window", w, "reason", err)
				continue
			}
			collect(found, digest, m, s)
		}
		q, ok := quorum(found, total)
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
	return nil, errNoCheckpoint
}

// listCheckpoints finds which checkpoint folders a bucket has; a listing is a hint, never evidence.
func listCheckpoints(ctx context.Context, b *storage.Bucket) []chain.Window {
	page, err := b.List(ctx, "checkpoint/", "", 1000)
	if err != nil {
		return nil
	}
	var out []chain.Window
	for _, o := range page {
		parts := strings.Split(o.Key, "/")
		if len(parts) != 3 || parts[2] != "manifest.json" {
			continue
		}
		if w, err := strconv.ParseUint(parts[1], 10, 62); err == nil {
			out = append(out, chain.Window(w))
		}
	}
	return out
}

func (r *Replica) loadCheckpoint(ctx context.Context, b *storage.Bucket, m CheckpointManifest) (*state, error) {
	for _, f := range m.Files {
		if f.Name != modelFile {
			continue
		}
		if limit := int64(4*r.layout.Params()) + 1<<20; f.Size <= 0 || f.Size > limit {
			return nil, fmt.Errorf("%w: model of %d bytes, at most %d", ErrForged, f.Size, limit)
		}
		buf := make(memory, f.Size)
		if err := b.Fetch(ctx, checkpointKey(m.Window, modelFile), f.Size, f.SHA256, buf); err != nil {
			return nil, fmt.Errorf("fetch checkpoint: %w", err)
		}
		theta, err := hf.ReadModel(bytes.NewReader(buf), f.Size, r.layout.Config())
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrForged, err)
		}
		root, err := gradients.Root(theta)
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
