package chain

import (
	"bytes"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

func drawSchedule(t *rapid.T) Schedule {
	p := ScheduleParams{Length: Block(rapid.IntRange(7, 60).Draw(t, "length"))}
	at := Block(0)
	for _, x := range []*Block{&p.Deadline, &p.ScoreBy, &p.Select, &p.Apply} {
		at += Block(rapid.IntRange(1, 2).Draw(t, "gap"))
		*x = at
	}
	p.Lead = Block(rapid.IntRange(1, int(p.Length)-1).Draw(t, "lead"))
	p.First = p.Lead + Block(rapid.IntRange(0, 20).Draw(t, "first"))
	if p.Apply >= p.Length {
		p.Length = p.Apply + 1
	}
	s, err := NewSchedule(p)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Locate agrees with looking at every boundary of every window.
func TestLocateAgainstBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSchedule(t)
		b := Block(rapid.IntRange(0, 400).Draw(t, "block"))
		w, ph := s.Locate(b)
		if b < s.Params().First {
			if w != 0 || ph != PhaseSeed {
				t.Fatalf("before the first window: %d %s", w, ph)
			}
			return
		}
		best := Block(0)
		for x := range Window(70) {
			for p := PhaseSeed; p < phases; p++ {
				if at := s.At(x, p); at <= b {
					best = max(best, at)
				}
			}
		}
		if s.At(w, ph) != best {
			t.Fatalf("block %d: %s of window %d is at %d, the last boundary at %d", b, ph, w, s.At(w, ph), best)
		}
		if train, ok := s.Training(b); ok && s.At(train, PhaseStart) == b && (ph != PhaseStart || w != train) {
			t.Fatalf("at a tie %s of window %d won over a start", ph, w)
		}
	})
}

func TestScheduleOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSchedule(t)
		w := Window(rapid.IntRange(0, 1000).Draw(t, "w"))
		if !(s.At(w, PhaseSeed) < s.At(w, PhaseStart) && s.At(w, PhaseStart) < s.End(w) && s.End(w) < s.At(w, PhaseDeadline) &&
			s.At(w, PhaseApply) < s.End(w+1) && s.End(w) == s.At(w+1, PhaseStart)) {
			t.Fatalf("window %d of %+v is out of order", w, s.Params())
		}
		if got, ok := s.Selected(s.At(w, PhaseSelect)); !ok || got != w {
			t.Fatalf("Selected at Select(%d): %d %v", w, got, ok)
		}
	})
}

func TestScheduleRefuses(t *testing.T) {
	good := ScheduleParams{First: 10, Length: 8, Lead: 2, Deadline: 2, ScoreBy: 4, Select: 5, Apply: 6}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func(*ScheduleParams){
		"no length": func(p *ScheduleParams) { p.Length = 0 }, "apply too late": func(p *ScheduleParams) { p.Apply = 8 },
		"score before deadline": func(p *ScheduleParams) { p.ScoreBy = 2 }, "no lead": func(p *ScheduleParams) { p.Lead = 0 },
		"lead before genesis": func(p *ScheduleParams) { p.First = 1 }, "lead too long": func(p *ScheduleParams) { p.Lead = 8 },
	} {
		p := good
		f(&p)
		if p.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func hotkey(i int) (h Hotkey) { h[0], h[31] = byte(i), 1; return h }

// The lower weighted median and the eligibility, against exact arithmetic on a sorted list.
func TestSelectAgainstNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := View{Window: 5}
		n := rapid.IntRange(1, 24).Draw(t, "candidates")
		for i := range n {
			v.Candidates = append(v.Candidates, Candidate{UID: UID(i), Hotkey: hotkey((i*37 + 11) % 251)})
		}
		for i := range rapid.IntRange(1, 5).Draw(t, "validators") {
			b := Ballot{Validator: hotkey(200 + i), Stake: Amount(rapid.Uint64Range(0, 1<<63).Draw(t, "stake"))}
			if rapid.IntRange(0, 4).Draw(t, "votes") > 0 {
				b.Vote = &Vote{Window: 5}
				for u := range n {
					if rapid.IntRange(0, 3).Draw(t, "scores") > 0 {
						b.Vote.Scores = append(b.Vote.Scores, Score{UID(u), uint16(rapid.IntRange(0, 4).Draw(t, "score"))})
					}
				}
			}
			v.Ballots = append(v.Ballots, b)
		}
		got := Select(v, Rules{Gather: 15, Shards: 1})
		eligible := 0
		chosen := map[UID]uint16{}
		for _, w := range got.Winners {
			chosen[w.UID] = w.Score
		}
		for _, c := range v.Candidates {
			s, ok := naiveMedian(v.Ballots, c.UID)
			if ok && s > 0 {
				eligible++
			}
			if have, in := chosen[c.UID]; in && (!ok || s != have) {
				t.Fatalf("uid %d won with %d; naive median %d, eligible %v", c.UID, have, s, ok)
			}
		}
		if len(got.Winners) != min(eligible, 15) {
			t.Fatalf("%d winners of %d eligible", len(got.Winners), eligible)
		}
		for i := 1; i < len(got.Winners); i++ {
			if bytes.Compare(got.Winners[i-1].Hotkey[:], got.Winners[i].Hotkey[:]) >= 0 {
				t.Fatal("winners are not in the order of their hotkeys")
			}
		}
	})
}

func naiveMedian(ballots []Ballot, uid UID) (uint16, bool) {
	all, scored := new(big.Int), new(big.Int)
	at := [65536 / 8192]*big.Int{} // scores 0..4 are enough here
	for i := range at {
		at[i] = new(big.Int)
	}
	for _, b := range ballots {
		stake := new(big.Int).SetUint64(uint64(b.Stake))
		all.Add(all, stake)
		if b.Vote == nil {
			continue
		}
		for _, s := range b.Vote.Scores {
			if s.UID == uid {
				scored.Add(scored, stake)
				at[s.Value].Add(at[s.Value], stake)
			}
		}
	}
	if new(big.Int).Lsh(scored, 1).Cmp(all) <= 0 {
		return 0, false
	}
	sum := new(big.Int)
	for s := range at {
		sum.Add(sum, at[s])
		if at[s].Sign() > 0 && new(big.Int).Lsh(sum, 1).Cmp(scored) >= 0 {
			return uint16(s), true
		}
	}
	return 0, false
}

func TestSelectRules(t *testing.T) {
	vote := func(s ...Score) *Vote { return &Vote{Window: 1, Root: Hash{7}, Scores: s} }
	c := []Candidate{{UID: 1, Hotkey: hotkey(9)}, {UID: 2, Hotkey: hotkey(3)}, {UID: 3, Hotkey: hotkey(5)}}
	for _, x := range []struct {
		name    string
		ballots []Ballot
		want    []UID
	}{
		{"larger validator alone decides", []Ballot{{Stake: 3, Vote: vote(Score{1, 5}, Score{2, 9})}, {Stake: 2}}, []UID{2, 1}},
		{"smaller validator alone decides nothing", []Ballot{{Stake: 3}, {Stake: 2, Vote: vote(Score{1, 5})}}, nil},
		{"median 0 is rejected", []Ballot{{Stake: 3, Vote: vote(Score{1, 0}, Score{3, 1})}, {Stake: 2, Vote: vote(Score{1, 9})}}, []UID{3}},
		{"exactly half is not enough", []Ballot{{Stake: 2, Vote: vote(Score{1, 5})}, {Stake: 2}}, nil},
		{"gather limits, ties by hotkey", []Ballot{{Stake: 1, Vote: vote(Score{1, 5}, Score{2, 5}, Score{3, 5})}}, []UID{2, 3}},
	} {
		got := Select(View{Window: 1, Candidates: c, Ballots: x.ballots}, Rules{Gather: 2, Shards: 1})
		var uids []UID
		for _, w := range got.Winners {
			uids = append(uids, w.UID)
		}
		if len(uids) != len(x.want) {
			t.Errorf("%s: %v, want %v", x.name, uids, x.want)
			continue
		}
		for i := range uids {
			if uids[i] != x.want[i] {
				t.Errorf("%s: %v, want %v", x.name, uids, x.want)
			}
		}
	}
}

func FuzzParseVote(f *testing.F) {
	b, err := Vote{Window: 9, Root: Hash{1}, Scores: []Score{{1, 2}, {7, 65535}}}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := ParseVote(b)
		if err != nil {
			return
		}
		if again, err := v.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("parses, but encodes to other bytes (%v)", err)
		}
	})
}

func FuzzParseSubmissionBody(f *testing.F) {
	f.Add(SubmissionBody{Window: 3, Shard: 1}.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseSubmissionBody(b); err == nil && !bytes.Equal(s.Encode(), b) {
			t.Fatal("parses, but encodes to other bytes")
		}
	})
}

func FuzzParseRun(f *testing.F) {
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ParseRun(b); err == nil && !bytes.Equal(r.Encode(), b) {
			t.Fatal("parses, but encodes to other bytes")
		}
	})
}

func TestScoreOfGain(t *testing.T) {
	for gain, want := range map[float64]uint16{0: 8192, 0.01: 8356, -1: 1, 100: 65535, -0.1: 6554} {
		if got := ScoreOfGain(gain); got != want {
			t.Errorf("gain %v scores %d, want %d", gain, got, want)
		}
	}
}
