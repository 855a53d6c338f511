package scoring

import (
	"context"
	"fmt"
	"math"
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

// measure fills in gains of every trial against θ_{w-1} (notes/scoring-toy.md).
//
//  1. clip factors as the aggregation will have them
//  2. losses of θ itself on held-out and unseen samples, once
//  3. per submission: held-out gain at the trial step s = α / expected winners, times its clip
//  4. per submission: gain of the whole step on samples it says it consumed, and on unseen ones
func (v *Validator) measure(ctx context.Context, w chain.Window, base model.Weights, trials []*trial) (heldOut float64, err error) {
	norms := make([]float64, len(trials))
	for i, t := range trials {
		norms[i] = t.Payload.Norm()
	}
	for i, c := range gradients.Clips(norms) { // 1
		trials[i].clip = c
	}
	beacon, err := v.cfg.Replica.Beacon(ctx, w, chain.PhaseDeadline)
	if err != nil {
		return 0, err
	}
	held, err := v.cfg.Data.HeldOut(ctx, beacon, v.run.Score.HeldOut)
	if err != nil {
		return 0, fmt.Errorf("load held-out samples: %w", err)
	}
	unseen, err := v.unseen(ctx, w, beacon)
	if err != nil {
		return 0, err
	}
	if err := v.cfg.Judge.Reset(ctx, base); err != nil {
		return 0, fmt.Errorf("load θ into the judge: %w", err)
	}
	before, err := v.losses(ctx, nil, 0, held, unseen) // 2
	if err != nil {
		return 0, err
	}
	for _, t := range trials {
		after, err := v.losses(ctx, t.Payload, v.run.TrialScale()*t.clip, held) // 3
		if err != nil {
			return 0, err
		}
		t.verdict.Gain, t.verdict.GainErr = paired(before[0], after[0])
		if err := v.proof(ctx, w, t, unseen, before[1]); err != nil { // 4
			return 0, err
		}
		t.verdict.Norm, t.verdict.Clip = t.Payload.Norm(), float64(t.clip)
	}
	heldOut, _ = mean(before[0])
	return heldOut, nil
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
func (v *Validator) proof(ctx context.Context, w chain.Window, t *trial, unseen []model.Batch, unseenBefore []float64) error {
	consumed := t.Assignment.Samples[:min(int(t.Manifest.Consumed), len(t.Assignment.Samples))]
	own, err := v.cfg.Data.Load(ctx, spread(consumed, v.run.Score.Own))
	if err != nil {
		return fmt.Errorf("load consumed samples: %w", err)
	}
	before, err := v.losses(ctx, nil, 0, own)
	if err != nil {
		return err
	}
	after, err := v.losses(ctx, t.Payload, t.clip, own, unseen)
	if err != nil {
		return err
	}
	ownGain, ownErr := paired(before[0], after[0])
	unseenGain, unseenErr := paired(unseenBefore, after[1])
	t.verdict.Own, t.verdict.Unseen = ownGain, unseenGain
	if se := math.Hypot(ownErr, unseenErr); se > 0 {
		t.verdict.Z = (ownGain - unseenGain) / se
	}
	return nil
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
func decide(t *trial, cheats bool) {
	d := &t.verdict
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
