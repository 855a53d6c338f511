package chain

import (
	"bytes"
	"math/bits"
	"sort"
)

// Rules are the run's constants of selection.
type Rules struct {
	Gather int    `json:"gather"` // most winners per shard (15)
	Shards uint16 `json:"shards"` // S; 1 by default
}

// Candidate is a submission as of Deadline(w).
type Candidate struct {
	UID     UID    `json:"uid"`
	Hotkey  Hotkey `json:"hotkey"`
	Shard   Shard  `json:"shard"`
	Locator []byte `json:"locator"`
	Digest  Hash   `json:"digest"` // SHA-256(manifest)
}

// Ballot is the vote of one permitted validator; Vote is nil if it published none in time.
type Ballot struct {
	Validator Hotkey
	Stake     Amount
	Vote      *Vote
}

// View is everything Select may look at.
type View struct {
	Window     Window
	Candidates []Candidate
	Ballots    []Ballot // every permitted validator, also the silent ones: their stake is in the denominator
}

// Winner is a selected submission.
type Winner struct {
	Candidate
	Score uint16 `json:"score"` // stake-weighted lower median
}

// Selection is the outcome of a window. Root is root(θ_{w-1}) as held by more than half of the permitted stake, or zero.
type Selection struct {
	Window  Window   `json:"window"`
	Root    Hash     `json:"root"`
	Winners []Winner `json:"winners"` // ascending hotkey within a shard, shards ascending: the order of aggregation
}

// NewView joins what was final at Deadline(w) (uids, stake, submissions) with the votes final at ScoreBy(w).
func NewView(w Window, deadline, scoreBy *Snapshot) View {
	v := View{Window: w}
	for _, n := range deadline.Neurons {
		if n.Permit {
			v.Ballots = append(v.Ballots, ballot(w, n, scoreBy))
			continue
		}
		p, ok := deadline.Record(n.Hotkey)
		if !ok {
			continue
		}
		if b, err := ParseSubmissionBody(p.Record.Body); err == nil && b.Window == w {
			v.Candidates = append(v.Candidates, Candidate{n.UID, n.Hotkey, b.Shard, p.Record.Locator, p.Record.Digest})
		}
	}
	return v
}

func ballot(w Window, n Neuron, scoreBy *Snapshot) Ballot {
	b := Ballot{Validator: n.Hotkey, Stake: n.Stake}
	if p, ok := scoreBy.Record(n.Hotkey); ok {
		if vote, err := ParseVote(p.Record.Body); err == nil && vote.Window == w {
			b.Vote = &vote
		}
	}
	return b
}

// Select chooses the winners of a window: pure, integers only, the same on every node (DESIGN §4, §11).
//
//  1. score of a candidate = lower stake-weighted median of the scores given to it
//  2. eligible: scored by more than half of all permitted stake, and median > 0
//  3. order: score descending, hotkey ascending; at most Gather per shard
//  4. winners listed by shard, then hotkey: the order of aggregation
func Select(v View, r Rules) Selection {
	sel := Selection{Window: v.Window, Root: majorityRoot(v.Ballots)}
	var eligible []Winner
	seen := map[UID]bool{}
	for _, c := range v.Candidates {
		if uint16(c.Shard) >= max(r.Shards, 1) || seen[c.UID] {
			continue
		}
		seen[c.UID] = true
		if s, ok := weightedMedian(v.Ballots, c.UID); ok && s > 0 {
			eligible = append(eligible, Winner{c, s})
		}
	}
	sort.SliceStable(eligible, func(i, j int) bool {
		a, b := eligible[i], eligible[j]
		if a.Score != b.Score {
			return a.Score > b.Score
		}
		return bytes.Compare(a.Hotkey[:], b.Hotkey[:]) < 0
	})
	taken := map[Shard]int{}
	for _, e := range eligible {
		if taken[e.Shard] < r.Gather {
			taken[e.Shard]++
			sel.Winners = append(sel.Winners, e)
		}
	}
	sort.SliceStable(sel.Winners, func(i, j int) bool {
		a, b := sel.Winners[i], sel.Winners[j]
		if a.Shard != b.Shard {
			return a.Shard < b.Shard
		}
		return bytes.Compare(a.Hotkey[:], b.Hotkey[:]) < 0
	})
	return sel
}

// Score is the lower stake-weighted median of the scores that a submission got; ok is false unless more than half of all
// permitted stake scored it.
func (v View) Score(uid UID) (score uint16, ok bool) { return weightedMedian(v.Ballots, uid) }

// weightedMedian is the smallest score s such that the stake behind scores <= s is at least half of the stake that scored
// uid; ok is false unless more than half of all permitted stake scored it. Sums are 128 bits wide.
func weightedMedian(ballots []Ballot, uid UID) (uint16, bool) {
	type entry struct {
		score uint16
		stake Amount
	}
	var given []entry
	var all, scored stakeSum
	for _, b := range ballots {
		all.add(b.Stake)
		if b.Vote == nil || b.Stake == 0 {
			continue
		}
		for _, s := range b.Vote.Scores {
			if s.UID == uid {
				given = append(given, entry{s.Value, b.Stake})
				scored.add(b.Stake)
			}
		}
	}
	if !scored.double().more(all) {
		return 0, false
	}
	sort.Slice(given, func(i, j int) bool { return given[i].score < given[j].score })
	var below stakeSum
	for _, e := range given {
		below.add(e.stake)
		if !scored.more(below.double()) {
			return e.score, true
		}
	}
	return 0, false
}

// majorityRoot is the root that more than half of the permitted stake voted with, or zero.
func majorityRoot(ballots []Ballot) Hash {
	var all stakeSum
	for _, b := range ballots {
		all.add(b.Stake)
	}
	for _, b := range ballots {
		if b.Vote == nil {
			continue
		}
		var behind stakeSum
		for _, o := range ballots {
			if o.Vote != nil && o.Vote.Root == b.Vote.Root {
				behind.add(o.Stake)
			}
		}
		if behind.double().more(all) {
			return b.Vote.Root
		}
	}
	return Hash{}
}

// stakeSum is a 128-bit sum: stakes come from outside and must not overflow a decision.
type stakeSum struct{ hi, lo uint64 }

func (s *stakeSum) add(a Amount) {
	var c uint64
	s.lo, c = bits.Add64(s.lo, uint64(a), 0)
	s.hi += c
}

func (s stakeSum) double() stakeSum {
	return stakeSum{s.hi<<1 | s.lo>>63, s.lo << 1}
}

func (s stakeSum) more(o stakeSum) bool {
	return s.hi > o.hi || s.hi == o.hi && s.lo > o.lo
}
