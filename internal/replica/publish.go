package replica

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"sn3/chain"
	"sn3/gradients"
	"sn3/internal/events"
)

// Work is what a miner says about a pending pseudo-gradient beyond the payload itself; it is bound by the manifest.
type Work struct {
	Base       chain.Hash // root(θ_{w-1})
	Assignment chain.Hash
	Consumed   int // samples
	Steps      int
	RebaseStep int // inner steps made before Rebase; 0 in --gap wait
}

// Outcome says what became of a submission.
type Outcome struct {
	Digest chain.Hash // of the manifest
	Block  chain.Block
	Counts bool  // the record is final at or before Deadline(w)
	Away   error // why the chain did not take the record until then: its nodes were away, or disagreed
}

// manifestFile holds the manifest of the pending payload between upload and confirmation, for a restart in between.
const manifestFile = "pending.manifest"

// Publish uploads a pending payload and its manifest, publishes the record and settles the pending feedback: Confirm when
// the record is final in time, Discard when it is not. On an error of chain or bucket nothing is settled: call again, also
// after a restart (Resume). Sealing, which hides the payload until the deadline, will wrap the payload here.
func (r *Replica) Publish(ctx context.Context, p *gradients.Pending, work Work) (Outcome, error) {
	w := p.Window()
	m := gradients.Manifest{Run: r.run, Window: w, Hotkey: r.cfg.Self, Base: work.Base, Assignment: work.Assignment,
		Consumed: uint32(work.Consumed), Steps: uint32(work.Steps), RebaseStep: uint32(work.RebaseStep),
		Payload: p.Sum(), Sealed: p.Sum(), Length: p.Size()}
	b := m.Encode()
	if err := writeBytes(filepath.Join(r.cfg.Dir, manifestFile), b); err != nil {
		return Outcome{}, err
	}
	r.cfg.Failpoint("pending")
	return r.publish(ctx, p, b)
}

// Resume settles what a crash left pending: it publishes again if the deadline is still ahead, confirms if the record made
// it, discards otherwise. Returns nil, nil if nothing is pending.
func (r *Replica) Resume(ctx context.Context, f *gradients.Feedback) (*Outcome, error) {
	p := f.Pending()
	if p == nil {
		return nil, nil
	}
	b, err := os.ReadFile(filepath.Join(r.cfg.Dir, manifestFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, p.Discard() // nothing of it was uploaded
	}
	if err != nil {
		return nil, fmt.Errorf("read pending manifest: %w", err)
	}
	m, err := gradients.ParseManifest(b)
	if err != nil || m.Window != p.Window() || m.Payload != p.Sum() || m.Run != r.run {
		return nil, p.Discard() // the manifest is of an earlier submission
	}
	o, err := r.publish(ctx, p, b)
	if err != nil {
		return nil, err
	}
	return &o, nil
}

func (r *Replica) publish(ctx context.Context, p *gradients.Pending, manifest []byte) (Outcome, error) {
	w := p.Window()
	digest := chain.Hash(sha256.Sum256(manifest))
	record := chain.Record{Locator: r.cfg.Locator.Encode(), Digest: digest, Body: chain.SubmissionBody{Window: w}.Encode()}
	deadline := r.sched.At(w, chain.PhaseDeadline)
	if r.clock.Now().Block >= deadline {
		return r.settle(ctx, p, record, deadline)
	}
	payload, err := io.ReadAll(io.NewSectionReader(p.Bytes(), 0, p.Size()))
	if err != nil {
		return Outcome{}, fmt.Errorf("read pending payload: %w", err)
	}
	up, cancel := r.clock.Until(ctx, deadline)
	defer cancel()
	if err := errors.Join(r.outbox.put(up, w, payloadKey(p.Sum()), payload), r.outbox.put(up, w, manifestKey(digest), manifest)); err != nil {
		if ctx.Err() == nil && up.Err() != nil {
			return r.settle(ctx, p, record, deadline) // the bucket was away until the deadline
		}
		return Outcome{}, err
	}
	r.cfg.Failpoint("uploaded")
	receipt, err := r.cfg.Writer.Publish(up, record)
	if err != nil {
		if ctx.Err() == nil && (up.Err() != nil || errors.Is(err, chain.ErrTooLate)) {
			o, fail := r.settle(ctx, p, record, deadline)
			if errors.Is(err, chain.ErrUnavailable) {
				o.Away = err
			}
			return o, fail
		}
		return Outcome{}, fmt.Errorf("publish record of window %d: %w", w, err)
	}
	r.cfg.Failpoint("recorded")
	if r.cfg.Announce != nil {
		r.cfg.Announce(ctx, w, digest)
	}
	r.emit(events.Event{Kind: events.Submit, Window: w, Block: receipt.Block, Bytes: p.Size(), Digest: &digest,
		Ratio: float64(4*r.layout.Params()) / float64(p.Size())})
	if receipt.Block > deadline {
		return Outcome{Digest: digest, Block: receipt.Block}, p.Discard()
	}
	return Outcome{Digest: digest, Block: receipt.Block, Counts: true}, p.Confirm()
}

// settle asks the chain, once the deadline is final, whether the record was there in time.
func (r *Replica) settle(ctx context.Context, p *gradients.Pending, record chain.Record, deadline chain.Block) (Outcome, error) {
	at, ok, err := r.recorded(ctx, record, deadline)
	switch {
	case err != nil:
		return Outcome{}, err
	case ok:
		return Outcome{Digest: record.Digest, Block: at, Counts: true}, p.Confirm()
	}
	return Outcome{Digest: record.Digest}, p.Discard()
}

// recorded asks the chain, once block by is final, whether a record of this node was there by then, and in which block.
func (r *Replica) recorded(ctx context.Context, record chain.Record, by chain.Block) (at chain.Block, ok bool, err error) {
	if err := r.clock.Wait(ctx, by); err != nil {
		return 0, false, err
	}
	s, err := r.cfg.Chain.Snapshot(ctx, by)
	if errors.Is(err, chain.ErrPruned) { // away for many windows: only the newest record is left to ask for
		s, err = r.cfg.Chain.Snapshot(ctx, r.clock.Now().Block)
	}
	if err != nil {
		return 0, false, fmt.Errorf("read records of block %d: %w", by, err)
	}
	got, ok := s.Record(r.cfg.Self)
	return got.At, ok && got.Record.Equal(record) && got.At <= by, nil
}

// Vote queues the evidence for upload and publishes the vote of window w, which binds it by its hash: a bucket that is away
// does not keep a validator from voting. It is plain in this version: the trust issue seals it.
func (r *Replica) Vote(ctx context.Context, w chain.Window, scores []chain.Score, evidence []byte) (Outcome, error) {
	base, err := r.At(ctx, w-1)
	if err != nil {
		return Outcome{}, err
	}
	root := base.Root()
	base.Release()
	body, err := chain.Vote{Window: w, Root: root, Scores: scores}.Encode()
	if err != nil {
		return Outcome{}, err
	}
	digest := chain.Hash(sha256.Sum256(evidence))
	by := r.sched.At(w, chain.PhaseScoreBy)
	up, cancel := r.clock.Until(ctx, by)
	defer cancel()
	if err := r.outbox.add(w, evidenceKey(digest), evidence); err != nil {
		return Outcome{}, err
	}
	r.cfg.Failpoint("evidence")
	record := chain.Record{Locator: r.cfg.Locator.Encode(), Digest: digest, Body: body}
	receipt, err := r.cfg.Writer.Publish(up, record)
	if err != nil && ctx.Err() == nil && r.clock.Now().Block >= by { // the answer was late, the vote perhaps was not
		ask, done := r.clock.Until(ctx, by+r.Run().Schedule.Length) // nodes of the chain may disagree for long: judging goes on
		if at, ok, e := r.recorded(ask, record, by); e == nil && ok {
			receipt, err = chain.Receipt{Block: at}, nil
		}
		done()
	}
	if err != nil {
		return Outcome{}, fmt.Errorf("publish vote of window %d: %w", w, err)
	}
	r.cfg.Failpoint("voted")
	return Outcome{Digest: digest, Block: receipt.Block, Counts: receipt.Block <= by}, nil
}

// SetWeights sends the weight row; it is here so that scoring never talks to the chain's writer itself.
func (r *Replica) SetWeights(ctx context.Context, w []chain.Weight) (chain.Receipt, error) {
	return r.cfg.Writer.SetWeights(ctx, w)
}

// Metagraph reads the chain as of the newest final block.
func (r *Replica) Metagraph(ctx context.Context) (*chain.Snapshot, error) {
	return r.cfg.Chain.Snapshot(ctx, r.clock.Now().Block)
}

// patient is how many blocks a beacon may be late before the operator is told.
const patient = 3

// Beacon reads the randomness of a phase of window w, once it exists.
func (r *Replica) Beacon(ctx context.Context, w chain.Window, ph chain.Phase) ([]byte, error) {
	if err := r.clock.Wait(ctx, r.sched.At(w, ph)+1); err != nil {
		return nil, err
	}
	round := r.sched.Round(w, ph)
	what := fmt.Sprintf("the chain's beacon of block %d", round)
	for n := 0; ; n++ {
		b, err := r.cfg.Chain.Beacon(ctx, round)
		if err == nil && n > patient {
			r.emit(events.Event{Kind: events.Resumed, Window: w, Reason: what + " is here"})
		}
		if !errors.Is(err, chain.ErrNotYet) {
			return b, err
		}
		if n == patient {
			r.cfg.Log.Warn("waiting", "for", what, "window", w, "reason", "those who sign it are away: chaind status says who they are")
			r.emit(events.Event{Kind: events.Waiting, Window: w, Reason: what})
		}
		if err := r.clock.WaitNext(ctx); err != nil { // a late round comes in a later block
			return nil, err
		}
	}
}
