// Package scoring is a validator's judge loop: open what was submitted, measure what it is worth, vote, rate, set weights.
package scoring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sort"
	"time"

	"golang.org/x/sync/errgroup"

	"sn3/chain"
	"sn3/internal/events"
	"sn3/internal/replica"
	"sn3/model"
	"sn3/model/data"
)

// evalSamples is the size of the fixed held-out set behind the `eval` events: one curve over all windows.
const evalSamples = 128

// evalSeed draws that set; every validator has the same.
const evalSeed = "sn3/eval/1"

// Config is what a validator works with.
type Config struct {
	Hotkey  chain.Hotkey
	Replica *replica.Replica
	Judge   model.Judge
	Data    *data.Dataset
	Book    *Book
	Events  events.Sink
	Log     *slog.Logger
	// Compute runs f when this machine has a core to spare; nil runs it at once.
	Compute func(ctx context.Context, f func() error) error
	// Dropped says why the chain dropped weights that were committed since a block, "" if it did not; nil: nobody knows.
	Dropped func(ctx context.Context, since chain.Block) (reason string, err error)
	// Failpoint is called at named points, for crash tests; nil in production.
	Failpoint func(name string)
}

// Validator judges one window after another. Create with New, call Run once.
type Validator struct {
	cfg   Config
	run   *chain.Run
	sched chain.Schedule
	clock *replica.Clock
	fixed []model.Batch // held-out set of the eval curve
}

// New fills in what is optional.
func New(cfg Config) *Validator {
	if cfg.Compute == nil {
		cfg.Compute = func(_ context.Context, f func() error) error { return f() }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Events == nil {
		cfg.Events = func(events.Event) {}
	}
	if cfg.Failpoint == nil {
		cfg.Failpoint = func(string) {}
	}
	return &Validator{cfg: cfg, run: cfg.Replica.Run(), sched: cfg.Replica.Schedule(), clock: cfg.Replica.Clock()}
}

// Run follows the network and judges until ctx ends or something needs the operator.
func (v *Validator) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	v.clock.Load().Add(1) // two loops, and the caller only waits
	defer v.clock.Load().Add(1)
	g.Go(func() error { defer v.clock.Load().Add(-1); return v.cfg.Replica.Follow(ctx) })
	g.Go(func() error { defer v.clock.Load().Add(-1); return v.loop(ctx) })
	return g.Wait()
}

// loop judges window by window: voted, skipped with a reason, or stopped.
func (v *Validator) loop(ctx context.Context) error {
	if err := v.clock.Wait(ctx, 1); err != nil {
		return err
	}
	for w := v.open(); ; w++ {
		if o := v.open(); o > w {
			v.skip(w, fmt.Errorf("its votes are already closed"))
			w = o
		}
		err := v.judge(ctx, w)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && fatal(err):
			return fmt.Errorf("judge window %d: %w", w, err)
		case err != nil: // chain, bucket or data away, or too late: the next window may go better
			v.skip(w, err)
			if err := v.clock.Wait(ctx, v.sched.At(w, chain.PhaseScoreBy)); err != nil {
				return err
			}
		}
		if err := v.eval(ctx, w); err != nil && ctx.Err() == nil {
			v.cfg.Log.Warn("no evaluation", "window", w, "reason", err)
		}
	}
}

// fatal errors need the operator: no seat, or this machine's disk.
func fatal(err error) bool {
	var disk *os.PathError
	return errors.Is(err, chain.ErrNotRegistered) || errors.As(err, &disk)
}

var errLate = errors.New("scoring was not done by the end of the vote")

// open is the oldest window whose vote can still be cast.
func (v *Validator) open() chain.Window {
	now := v.clock.Now().Block
	w, ok := v.sched.Training(now)
	if !ok {
		return 0
	}
	if w > 0 && now < v.sched.At(w-1, chain.PhaseScoreBy) {
		return w - 1
	}
	return w
}

func (v *Validator) skip(w chain.Window, why error) {
	v.cfg.Log.Warn("no vote", "window", w, "reason", why)
	v.cfg.Events(events.Event{Kind: events.Skipped, Window: w, Reason: why.Error()})
}

// judge is one window.
func (v *Validator) judge(ctx context.Context, w chain.Window) error {
	base, err := v.cfg.Replica.At(ctx, w-1)
	if err != nil {
		return err
	}
	defer base.Release()
	if v.clock.Now().Block >= v.sched.At(w, chain.PhaseScoreBy) {
		return fmt.Errorf("%w: θ of the window before came too late", errLate)
	}
	trials, out, err := v.collect(ctx, w) // 1. opened, decoded, mirrored, or a reason
	if err != nil {
		return err
	}
	began := time.Now()
	reached := len(trials) > 0
	trials, copies := v.originals(w, trials)                  // 2. who sent what first
	heldOut, err := v.measure(ctx, w, base.Weights(), trials) // 3. losses, as far as there is time
	if err != nil {
		return err
	}
	trials, same := v.authors(w, trials)
	out = append(append(out, copies...), same...)
	marks := map[chain.Hotkey]Mark{}
	for _, t := range trials {
		if t.verdict.Status == "" {
			marks[t.Hotkey] = Mark{Gain: t.verdict.Gain, Z: t.verdict.Z}
			continue
		}
		out = append(out, t.verdict) // unscored, or its losses are not finite
	}
	for _, d := range out {
		if d.Status == "rejected" {
			marks[d.Hotkey] = Mark{Rejected: true}
		}
	}
	v.cfg.Book.Record(w, marks, v.absent(marks, out, reached), v.run.Score.EMA) // 4. ratings, on disk before the vote leaves
	if err := v.cfg.Book.Save(); err != nil {
		return err
	}
	v.cfg.Failpoint("book")
	cheats := v.cfg.Book.Cheats()
	for _, t := range trials {
		if t.verdict.Status == "" {
			decide(&t.verdict, cheats[t.Hotkey])
			out = append(out, t.verdict)
		}
	}
	if err := v.vote(ctx, w, base.Root(), heldOut, out, time.Since(began)); err != nil { // 5. before ScoreBy
		return err
	}
	return v.weigh(ctx, w) // 6. every tempo
}

// collect waits for the submissions of w: those that can be tried, by uid, and verdicts on the others.
func (v *Validator) collect(ctx context.Context, w chain.Window) (trials []*trial, out []Verdict, err error) {
	subs, failed := v.cfg.Replica.Submissions(ctx, w)
	for sub, rej := range subs {
		if rej != nil {
			out = append(out, v.rejected(w, rej))
			continue
		}
		trials = append(trials, &trial{Submission: sub, verdict: Verdict{UID: sub.UID, Hotkey: sub.Hotkey, Digest: sub.Digest,
			Steps: sub.Manifest.Steps, Bytes: sub.Manifest.Length}})
	}
	sort.Slice(trials, func(i, j int) bool { return trials[i].UID < trials[j].UID })
	return trials, out, failed()
}

func (v *Validator) rejected(w chain.Window, rej *replica.Rejection) Verdict {
	c := rej.Candidate
	d := Verdict{UID: c.UID, Hotkey: c.Hotkey, Digest: c.Digest, Status: "rejected", Reason: string(rej.Reason) + ": " + rej.Detail}
	if rej.Reason == replica.Unavailable {
		d.Status = "unavailable"
	}
	v.cfg.Log.Warn("submission not accepted", "window", w, "hotkey", c.Hotkey.Short(), "reason", rej.Reason, "detail", rej.Detail)
	v.cfg.Events(events.Event{Kind: events.Rejected, Window: w, Peer: &c.Hotkey, Reason: d.Reason})
	return d
}

// absent are remembered hotkeys of which nothing came: not submitted, or not to be had while others were (reached). Where
// nothing at all could be had the fault may be here, and nobody is absent who submitted.
func (v *Validator) absent(marks map[chain.Hotkey]Mark, seen []Verdict, reached bool) []chain.Hotkey {
	known := map[chain.Hotkey]bool{}
	for h := range marks {
		known[h] = true
	}
	for _, d := range seen {
		known[d.Hotkey] = known[d.Hotkey] || d.Status != "unavailable" || !reached
	}
	var out []chain.Hotkey
	for h := range v.cfg.Book.Entries {
		if !known[h] {
			out = append(out, h)
		}
	}
	return out
}

func (v *Validator) vote(ctx context.Context, w chain.Window, root chain.Hash, heldOut float64, verdicts []Verdict, took time.Duration) error {
	sort.Slice(verdicts, func(i, j int) bool { return verdicts[i].UID < verdicts[j].UID })
	var scores []chain.Score
	shown := map[string]float64{}
	for i, d := range verdicts {
		e := v.cfg.Book.Entries[d.Hotkey]
		verdicts[i].Rating, verdicts[i].Proof = e.Rating, e.Proof()
		if d.Status == "unavailable" || d.Status == "unscored" {
			continue // unscored is not zero
		}
		scores = append(scores, chain.Score{UID: d.UID, Value: d.Score})
		shown[d.Hotkey.String()] = float64(d.Score)
	}
	ev := Evidence{Network: v.run.Network, Run: v.run.Hash(), Window: w, Validator: v.cfg.Hotkey, Base: root, HeldOut: heldOut,
		Trial: float64(v.run.TrialScale()), Verdicts: verdicts}
	raw, err := ev.Encode()
	if err != nil {
		return fmt.Errorf("encode evidence: %w", err)
	}
	o, err := v.cfg.Replica.Vote(ctx, w, best(scores), raw)
	if err != nil {
		if ctx.Err() == nil && v.clock.Now().Block >= v.sched.At(w, chain.PhaseScoreBy) {
			return fmt.Errorf("%w (%v)", errLate, err)
		}
		return err
	}
	v.cfg.Events(events.Event{Kind: events.Scored, Window: w, Block: o.Block, Scores: shown, Seconds: took.Seconds(), Digest: &o.Digest})
	return nil
}

// weigh sets weights from ratings once per tempo. A refused weight row is no reason to stop judging.
func (v *Validator) weigh(ctx context.Context, w chain.Window) error {
	now := v.clock.Now().Block
	if v.cfg.Book.Weighed != 0 && now < v.cfg.Book.Weighed+v.run.Tempo {
		return nil
	}
	v.lost(ctx)
	meta, err := v.cfg.Replica.Metagraph(ctx)
	if err != nil {
		return v.unweighed(ctx, err)
	}
	v.cfg.Book.Forget(meta, w-min(w, chain.Window(v.run.Keep)))
	row := v.cfg.Book.Weights(meta)
	if len(row) == 0 {
		return nil
	}
	up, cancel := v.clock.Until(ctx, now+v.run.Schedule.Length) // nodes of the chain may disagree for long: judging goes on
	defer cancel()
	r, err := v.cfg.Replica.SetWeights(up, row)
	if err != nil {
		return v.unweighed(ctx, err)
	}
	v.cfg.Book.Weighed = now
	shown := map[string]float64{}
	for _, e := range row {
		for _, n := range meta.Neurons {
			if n.UID == e.UID {
				shown[n.Hotkey.String()] = float64(e.Value)
			}
		}
	}
	v.cfg.Events(events.Event{Kind: events.Weights, Window: w, Block: r.Block, Scores: shown})
	return v.cfg.Book.Save()
}

// lost tells if the row of last time never counted: the chain reveals it by itself, and nobody else would say so.
func (v *Validator) lost(ctx context.Context) {
	if v.cfg.Dropped == nil || v.cfg.Book.Weighed == 0 {
		return
	}
	if reason, err := v.cfg.Dropped(ctx, v.cfg.Book.Weighed); err == nil && reason != "" { // who cannot be asked is asked again with the next row
		v.cfg.Log.Warn("the chain dropped the weights of last time", "reason", reason)
	}
}

func (v *Validator) unweighed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	v.cfg.Log.Warn("weights not set; trying again next window", "reason", err)
	return nil
}

// eval measures θ_w on the fixed held-out set, for the curve that people look at. It must not cost the next vote.
func (v *Validator) eval(ctx context.Context, w chain.Window) error {
	ctx, cancel := v.clock.Until(ctx, v.sched.At(w+1, chain.PhaseDeadline))
	defer cancel()
	s, err := v.cfg.Replica.At(ctx, w)
	if err != nil {
		return err
	}
	defer s.Release()
	if v.fixed == nil {
		if v.fixed, err = v.cfg.Data.HeldOut(ctx, []byte(evalSeed), evalSamples); err != nil {
			return fmt.Errorf("load held-out samples: %w", err)
		}
	}
	if err := v.cfg.Judge.Reset(ctx, s.Weights()); err != nil {
		return fmt.Errorf("load θ into the judge: %w", err)
	}
	l, err := v.losses(ctx, nil, 0, v.fixed)
	if err != nil {
		return err
	}
	loss, _ := mean(l[0])
	root := s.Root()
	v.cfg.Events(events.Event{Kind: events.Eval, Window: w, Loss: loss, Root: &root})
	return nil
}
