package replica

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"

	"sn3/chain"
	"sn3/gradients"
	"sn3/model/data"
	"sn3/storage"
)

var (
	errManifest = errors.New("manifest does not fit")
	errOversize = errors.New("payload too long")
)

// Reason says why a submission was not accepted; stable words that `sn3 why` prints.
type Reason string

// The reasons. Unavailable is nobody's proven fault: such a submission stays unscored, the others are scored 0.
const (
	Unavailable Reason = "unavailable" // bucket not reachable, object missing or cut
	BadHash     Reason = "hash"        // object is not what the record or manifest says
	BadManifest Reason = "manifest"    // manifest malformed or bound to something else
	BadPayload  Reason = "payload"     // payload does not decode
	TooLong     Reason = "size"        // payload longer than the layout allows
	WrongBase   Reason = "base"        // trained from another state than root(θ_{w-1})
	Duplicate   Reason = "duplicate"   // same payload as another or an earlier submission
)

// Rejection is a submission that was not accepted.
type Rejection struct {
	Candidate chain.Candidate
	Reason    Reason
	Detail    string
}

// Error makes a Rejection usable as an error.
func (r *Rejection) Error() string {
	return fmt.Sprintf("submission of %s: %s: %s", r.Candidate.Hotkey.Short(), r.Reason, r.Detail)
}

// Submission is a checked submission: manifest bound to this run, window, hotkey, base and assignment; payload decoded.
type Submission struct {
	chain.Candidate
	At         chain.Block // that included the record
	Manifest   gradients.Manifest
	Payload    *gradients.Payload
	Assignment data.Assignment
}

// Assignment computes what hotkey h was assigned in window w (DESIGN §11: rank as of Seed(w)). ok is false for a hotkey
// that was not registered at Seed(w) or holds a permit.
func (r *Replica) Assignment(ctx context.Context, w chain.Window, h chain.Hotkey) (a data.Assignment, ok bool, err error) {
	seats, beacon, err := r.seed(ctx, w)
	if err != nil {
		return a, false, err
	}
	return r.assign(seats, beacon, w, h)
}

func (r *Replica) assign(seats *chain.Snapshot, beacon []byte, w chain.Window, h chain.Hotkey) (a data.Assignment, ok bool, err error) {
	rank, ranks, ok := data.Rank(seats, h)
	if !ok {
		return a, false, nil
	}
	a, err = r.cfg.Data.Assign(beacon, w, ranks, rank, r.samples())
	return a, err == nil, err
}

// Assigned is what Unassigned needs to stay clear of every assigned slice of w.
func (r *Replica) Assigned(ctx context.Context, w chain.Window) (beacon []byte, ranks int, err error) {
	seats, beacon, err := r.seed(ctx, w)
	if err != nil {
		return nil, 0, err
	}
	for _, n := range seats.Neurons {
		if !n.Permit {
			ranks++
		}
	}
	return beacon, ranks, nil
}

func (r *Replica) seed(ctx context.Context, w chain.Window) (*chain.Snapshot, []byte, error) {
	if err := r.clock.Wait(ctx, r.sched.At(w, chain.PhaseSeed)+1); err != nil {
		return nil, nil, err
	}
	seats, err := r.cfg.Chain.Snapshot(ctx, r.sched.At(w, chain.PhaseSeed))
	if err != nil {
		return nil, nil, fmt.Errorf("read metagraph at seed of window %d: %w", w, err)
	}
	beacon, err := r.Beacon(ctx, w, chain.PhaseSeed)
	if err != nil {
		return nil, nil, fmt.Errorf("read beacon of window %d: %w", w, err)
	}
	return seats, beacon, nil
}

// samples is the length of one assignment: H inner steps of B sequences.
func (r *Replica) samples() int { return r.cfg.Run.Train.InnerSteps * r.cfg.Run.Train.Batch }

// Samples is the length of one assignment.
func (r *Replica) Samples() int { return r.samples() }

// fetchBy is when a validator stops waiting for submissions: early enough that one which hangs leaves most of the time
// until ScoreBy for scoring the others.
func (r *Replica) fetchBy(w chain.Window) chain.Block {
	from, to := r.sched.At(w, chain.PhaseDeadline), r.sched.At(w, chain.PhaseScoreBy)
	return from + max(1, (to-from)/3)
}

// Submissions streams what was submitted for w as of Deadline(w): each either checked or rejected, in no particular order.
// It waits for the deadline; what has not arrived at fetchBy(w) is Unavailable. A validator mirrors what it accepts. The
// error of the returned function is set when the chain could not be read or ctx ended.
func (r *Replica) Submissions(ctx context.Context, w chain.Window) (iter.Seq2[Submission, *Rejection], func() error) {
	var failed error
	seq := func(yield func(Submission, *Rejection) bool) {
		failed = r.eachSubmission(ctx, w, yield)
	}
	return seq, func() error { return failed }
}

// round is what all submissions of a window are checked against.
type round struct {
	w      chain.Window
	root   chain.Hash      // root(θ_{w-1})
	seats  *chain.Snapshot // as of Seed(w)
	beacon []byte
	at     *chain.Snapshot // as of Deadline(w)
}

func (r *Replica) round(ctx context.Context, w chain.Window) (c round, err error) {
	c.w = w
	if err := r.clock.Wait(ctx, r.sched.At(w, chain.PhaseDeadline)); err != nil {
		return c, err
	}
	if c.at, err = r.cfg.Chain.Snapshot(ctx, r.sched.At(w, chain.PhaseDeadline)); err != nil {
		return c, fmt.Errorf("read records at deadline of window %d: %w", w, err)
	}
	if c.seats, c.beacon, err = r.seed(ctx, w); err != nil {
		return c, err
	}
	base, err := r.At(ctx, w-1)
	if err != nil {
		return c, err
	}
	c.root = base.Root()
	base.Release()
	return c, nil
}

// eachSubmission fetches all at once, so that no bucket waits for another: there are at most as many as seats, and what
// hangs holds a connection and no memory.
func (r *Replica) eachSubmission(ctx context.Context, w chain.Window, yield func(Submission, *Rejection) bool) error {
	in, err := r.round(ctx, w)
	if err != nil {
		return err
	}
	candidates := chain.NewView(w, in.at, in.at).Candidates
	until, cancel := r.clock.Until(ctx, r.fetchBy(w))
	defer cancel()
	type checked struct {
		sub Submission
		rej *Rejection
		err error
	}
	out := make([]checked, len(candidates))
	r.clock.Each(len(candidates), func(i int) {
		c := &out[i]
		c.sub, c.rej, c.err = r.check(until, in, candidates[i])
		if c.rej != nil && c.rej.Reason == Unavailable && until.Err() != nil {
			c.rej.Detail = "had not arrived in time to be scored: " + c.rej.Detail
		}
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, c := range out {
		if c.err != nil {
			return c.err
		}
	}
	for _, c := range out {
		if !yield(c.sub, c.rej) {
			break
		}
	}
	return nil
}

// check turns a candidate into a Submission or a reason. The error is the chain's or the disk's: not the sender's.
func (r *Replica) check(ctx context.Context, in round, c chain.Candidate) (Submission, *Rejection, error) {
	reject := func(why Reason, format string, args ...any) (Submission, *Rejection, error) {
		return Submission{}, &Rejection{c, why, fmt.Sprintf(format, args...)}, nil
	}
	a, ok, err := r.assign(in.seats, in.beacon, in.w, c.Hotkey)
	if err != nil {
		return Submission{}, nil, err
	}
	if !ok {
		return reject(BadManifest, "hotkey had no assignment in window %d", in.w)
	}
	bucket, err := r.objects.bucket(c.Locator)
	if err != nil {
		return reject(Unavailable, "%v", err)
	}
	m, err := r.objects.manifest(ctx, in.w, c.Digest, bucket)
	if err != nil {
		return r.blame(c, err)
	}
	if why := r.binds(m, in.w, c, a, in.root); why != nil {
		return Submission{}, why, nil
	}
	p, err := r.objects.payload(ctx, m, bucket)
	if err != nil {
		return r.blame(c, err)
	}
	if err := r.mirror(ctx, c, m); err != nil {
		r.cfg.Log.Warn("cannot mirror a submission", "hotkey", c.Hotkey.Short(), "reason", err)
	}
	published, _ := in.at.Record(c.Hotkey)
	return Submission{c, published.At, m, p, a}, nil, nil
}

// binds checks every field of a manifest against what this node knows.
func (r *Replica) binds(m gradients.Manifest, w chain.Window, c chain.Candidate, a data.Assignment, root chain.Hash) *Rejection {
	no := func(why Reason, format string, args ...any) *Rejection {
		return &Rejection{c, why, fmt.Sprintf(format, args...)}
	}
	t := r.cfg.Run.Train
	switch {
	case m.Run != r.run:
		return no(BadManifest, "for run %s, this is %s", m.Run.Short(), r.run.Short())
	case m.Window != w || m.Shard != c.Shard:
		return no(BadManifest, "for window %d shard %d, the record says %d, %d", m.Window, m.Shard, w, c.Shard)
	case m.Hotkey != c.Hotkey:
		return no(BadManifest, "made by %s", m.Hotkey.Short())
	case m.Base != root:
		return no(WrongBase, "trained from %s, the state is %s", m.Base.Short(), root.Short())
	case m.Sealed != m.Payload:
		return no(BadManifest, "sealed; this version's payloads are plain")
	case m.Assignment != a.Digest:
		return no(BadManifest, "another data assignment")
	case m.Steps < 1 || int(m.Steps) > t.InnerSteps || m.RebaseStep > m.Steps || int(m.Consumed) != int(m.Steps)*t.Batch:
		return no(BadManifest, "%d steps, rebase at %d, %d samples consumed", m.Steps, m.RebaseStep, m.Consumed)
	}
	return nil
}

// blame sorts an error into the sender's fault or nobody's.
func (r *Replica) blame(c chain.Candidate, err error) (Submission, *Rejection, error) {
	var decode *gradients.DecodeError
	var disk *os.PathError
	why := Unavailable
	switch {
	case errors.As(err, &disk):
		return Submission{}, nil, err
	case errors.As(err, &decode):
		why = BadPayload
	case errors.Is(err, errManifest):
		why = BadManifest
	case errors.Is(err, errOversize), errors.Is(err, storage.ErrTooLarge):
		why = TooLong
	case errors.Is(err, storage.ErrMismatch):
		why = BadHash
	}
	return Submission{}, &Rejection{c, why, err.Error()}, nil
}

// mirror copies an accepted submission into a validator's own bucket, so that one cut bucket stops nobody.
func (r *Replica) mirror(ctx context.Context, c chain.Candidate, m gradients.Manifest) error {
	if !r.cfg.Validator {
		return nil
	}
	for _, o := range []struct {
		key string
		sum chain.Hash
	}{{payloadKey(m.Payload), m.Payload}, {manifestKey(c.Digest), c.Digest}} {
		b, ok := r.objects.cached(m.Window, o.sum)
		if !ok {
			return fmt.Errorf("mirror %s: not on disk", o.key)
		}
		if err := r.outbox.add(m.Window, o.key, b); err != nil {
			return err
		}
	}
	return nil
}

// Expected says whether window w is one whose submissions come now.
func (r *Replica) Expected(w chain.Window) bool {
	now, ok := r.sched.Training(r.clock.Now().Block)
	return ok && w <= now && now-w <= 1
}

// Prefetch brings a submission that a peer announced to this disk, if its window is one whose submissions come now. Its
// failure means nothing.
func (r *Replica) Prefetch(ctx context.Context, w chain.Window, digest chain.Hash, locator []byte) error {
	if !r.Expected(w) {
		return fmt.Errorf("prefetch: window %d is not submitted to now: %w", w, errManifest)
	}
	b, err := r.objects.bucket(locator)
	if err != nil {
		return err
	}
	m, err := r.objects.manifest(ctx, w, digest, b)
	if err != nil {
		return err
	}
	if m.Window != w || m.Run != r.run {
		return fmt.Errorf("prefetch: %w", errManifest)
	}
	_, err = r.objects.payload(ctx, m, b)
	return err
}
