package scoring

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"sort"

	"sn3/chain"
	"sn3/gradients"
	"sn3/internal/replica"
	"sn3/model"
)

// harmful is how many standard errors below zero a held-out gain must be before the submission is rejected for it.
const harmful = 3

// trial is a submission on the bench.
type trial struct {
	replica.Submission
	clip    float32
	verdict Verdict
}

// measure fills in gains of every trial against θ_{w-1} (notes/scoring-toy.md), as far as there is time before the vote must
// leave; the rest is unscored.
//
//  1. clip factors as the aggregation will have them
//  2. losses of θ itself on held-out and unseen samples, once
//  3. per submission, in turn: held-out gain at the trial step s = α / expected winners, times its clip
//  4. per submission: gain of the whole step on samples it says it consumed, and on unseen ones
func (v *Validator) measure(ctx context.Context, w chain.Window, base model.Weights, trials []*trial) (heldOut float64, err error) {
	clip(trials) // 1
	beacon, err := v.cfg.Replica.Beacon(ctx, w, chain.PhaseDeadline)
	if err != nil {
		return 0, err
	}
	until, cancel := v.clock.Until(ctx, v.scoreUntil(w))
	defer cancel()
	turns := v.inTurn(beacon, trials)
	done := 0
	b, err := v.bench(until, w, beacon, base) // 2
	if err == nil {
		heldOut, _ = mean(b.heldOutBefore)
	}
	for ; err == nil && done < len(turns); done++ { // 3, 4
		if err = v.try(until, b, turns[done]); err != nil {
			break
		}
	}
	if until.Err() == nil || ctx.Err() != nil {
		return heldOut, err
	}
	for _, t := range turns[done:] {
		t.verdict.Status, t.verdict.Reason = "unscored", "this validator had no time left for it"
	}
	if n := len(turns) - done; n > 0 {
		v.cfg.Log.Warn("too slow to score everything; voting on what is scored", "window", w, "scored", done, "unscored", n)
	}
	return heldOut, nil
}

// scoreUntil is when scoring ends so that the vote is on chain at ScoreBy(w): a record takes about two blocks.
func (v *Validator) scoreUntil(w chain.Window) chain.Block {
	from, to := v.sched.At(w, chain.PhaseDeadline), v.sched.At(w, chain.PhaseScoreBy)
	return to - min(3, (to-from-1)/2)
}

// clip gives every trial the factor that the aggregation would give it if all payloads were selected, each once.
func clip(trials []*trial) {
	at, norms := map[chain.Hash]int{}, []float64(nil)
	for _, t := range trials {
		if _, ok := at[t.Manifest.Payload]; !ok {
			at[t.Manifest.Payload] = len(norms)
			norms = append(norms, t.Payload.Norm())
		}
	}
	clips := gradients.Clips(norms)
	for _, t := range trials {
		t.clip = clips[at[t.Manifest.Payload]]
		t.verdict.Norm, t.verdict.Clip = t.Payload.Norm(), float64(t.clip)
	}
}

// inTurn is the order for a validator that may not have the time for all: by turns the best rated and one drawn by the
// beacon, the same for all validators. Neither can a crowd of newcomers take all the time, nor can those who are known.
func (v *Validator) inTurn(beacon []byte, trials []*trial) []*trial {
	rated, drawn := slices.Clone(trials), slices.Clone(trials)
	rating := func(t *trial) float64 { return v.cfg.Book.Entries[t.Hotkey].Rating }
	sort.SliceStable(rated, func(i, j int) bool { return rating(rated[i]) > rating(rated[j]) })
	lot := map[*trial][32]byte{}
	for _, t := range trials {
		lot[t] = sha256.Sum256(append(append([]byte("sn3/turn/1"), beacon...), t.Hotkey[:]...))
	}
	sort.SliceStable(drawn, func(i, j int) bool {
		a, b := lot[drawn[i]], lot[drawn[j]]
		return bytes.Compare(a[:], b[:]) < 0
	})
	var out []*trial
	for i := range trials {
		for _, t := range []*trial{rated[i], drawn[i]} {
			if !slices.Contains(out, t) {
				out = append(out, t)
			}
		}
	}
	return out
}

// bench is what all trials of a window are measured with.
type bench struct {
	w                           chain.Window
	heldOut, unseen             []model.Batch
	heldOutBefore, unseenBefore []float64
}

func (v *Validator) bench(ctx context.Context, w chain.Window, beacon []byte, base model.Weights) (b bench, err error) {
	b.w = w
	if b.heldOut, err = v.cfg.Data.HeldOut(ctx, beacon, v.run.Score.HeldOut); err != nil {
		return b, fmt.Errorf("load held-out samples: %w", err)
	}
	if b.unseen, err = v.unseen(ctx, w, beacon); err != nil {
		return b, err
	}
	if err := v.cfg.Judge.Reset(ctx, base); err != nil {
		return b, fmt.Errorf("load θ into the judge: %w", err)
	}
	before, err := v.losses(ctx, nil, 0, b.heldOut, b.unseen)
	if err != nil {
		return b, err
	}
	b.heldOutBefore, b.unseenBefore = before[0], before[1]
	return b, nil
}

// try measures one trial.
func (v *Validator) try(ctx context.Context, b bench, t *trial) error {
	after, err := v.losses(ctx, t.Payload, v.run.TrialScale()*t.clip, b.heldOut)
	if err != nil {
		return err
	}
	gain, stderr := paired(b.heldOutBefore, after[0])
	own, unseen, z, err := v.proof(ctx, t, b)
	if err != nil {
		return err
	}
	for _, x := range []float64{gain, stderr, own, unseen, z} {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			t.verdict.Status, t.verdict.Reason = "rejected", "harmful: with it the model's losses are not finite"
			return nil
		}
	}
	t.verdict.Gain, t.verdict.GainErr, t.verdict.Own, t.verdict.Unseen, t.verdict.Z = gain, stderr, own, unseen, z
	return nil
}

// unseen loads training samples that nobody was assigned in w.
func (v *Validator) unseen(ctx context.Context, w chain.Window, beacon []byte) ([]model.Batch, error) {
	seed, ranks, err := v.cfg.Replica.Assigned(ctx, w)
	if err != nil {
		return nil, err
	}
	samples := v.cfg.Data.Unassigned(append(append([]byte(nil), seed...), beacon...), seed, w, ranks, v.cfg.Replica.Samples(), v.run.Score.Own)
	b, err := v.cfg.Data.Load(ctx, samples)
	if err != nil {
		return nil, fmt.Errorf("load unseen samples: %w", err)
	}
	return b, nil
}

// proof is the proof of work: does the payload gain more on the samples that the miner says it consumed than elsewhere?
func (v *Validator) proof(ctx context.Context, t *trial, b bench) (ownGain, unseenGain, z float64, err error) {
	consumed := t.Assignment.Samples[:min(int(t.Manifest.Consumed), len(t.Assignment.Samples))]
	own, err := v.cfg.Data.Load(ctx, spread(consumed, v.run.Score.Own))
	if err != nil {
		return 0, 0, 0, fmt.Errorf("load consumed samples: %w", err)
	}
	before, err := v.losses(ctx, nil, 0, own)
	if err != nil {
		return 0, 0, 0, err
	}
	after, err := v.losses(ctx, t.Payload, t.clip, own, b.unseen)
	if err != nil {
		return 0, 0, 0, err
	}
	ownGain, ownErr := paired(before[0], after[0])
	unseenGain, unseenErr := paired(b.unseenBefore, after[1])
	if se := math.Hypot(ownErr, unseenErr); se != 0 { // also when it is NaN
		z = (ownGain - unseenGain) / se
	}
	return ownGain, unseenGain, z, nil
}

// losses measures whole sets under the machine's compute limit.
func (v *Validator) losses(ctx context.Context, d model.Delta, scale float32, sets ...[]model.Batch) ([][]float64, error) {
	var out [][]float64
	err := v.cfg.Compute(ctx, func() error {
		var err error
		out, err = v.cfg.Judge.Losses(ctx, d, scale, sets)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("measure losses: %w", err)
	}
	return out, nil
}

// decide turns measurements into a score: rejected only if significantly harmful. Missing proof of work costs the weights,
// not the selection: what helps the model may enter it.
func decide(d *Verdict, cheats bool) {
	d.Status, d.Score = "scored", chain.ScoreOfGain(d.Gain)
	switch {
	case d.Gain < -harmful*d.GainErr:
		d.Status, d.Score, d.Reason = "rejected", 0, fmt.Sprintf("harmful: held-out gain %.5f ± %.5f", d.Gain, d.GainErr)
	case cheats:
		d.Reason = "no proof of work: gains no more on its own samples than elsewhere, so it gets no weight"
	}
}

// best keeps the scores that fit into one vote: the highest, ties to the lower uid.
func best(s []chain.Score) []chain.Score {
	sort.Slice(s, func(i, j int) bool {
		if s[i].Value != s[j].Value {
			return s[i].Value > s[j].Value
		}
		return s[i].UID < s[j].UID
	})
	return s[:min(len(s), chain.MaxScores)]
}

// paired is the mean of before − after and its standard error.
func paired(before, after []float64) (m, se float64) {
	d := make([]float64, len(before))
	for i := range d {
		d[i] = before[i] - after[i]
	}
	return mean(d)
}

func mean(d []float64) (m, se float64) {
	n := float64(len(d))
	for _, x := range d {
		m += x / n
	}
	var v float64
	for _, x := range d {
		v += (x - m) * (x - m)
	}
	return m, math.Sqrt(v / math.Max(1, n-1) / n)
}

// spread picks up to n of s, evenly.
func spread(s []uint64, n int) []uint64 {
	if len(s) <= n {
		return s
	}
	out := make([]uint64, n)
	for i := range out {
		out[i] = s[i*len(s)/n]
	}
	return out
}
