package chain

import (
	"bytes"
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

// Locate agrees with looking at every boundary of every window: the last one; at a tie a start wins, then the later window.
func TestLocateAgainstBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSchedule(t)
		b := Block(rapid.IntRange(0, 400).Draw(t, "block"))
		type boundary struct {
			at Block
			w  Window
			ph Phase
		}
		best := boundary{s.At(0, PhaseSeed), 0, PhaseSeed}
		for w := range Window(70) {
			for ph := PhaseSeed; ph < phases; ph++ {
				x := boundary{s.At(w, ph), w, ph}
				if b < s.Params().First || x.at > b || x.at < best.at {
					continue
				}
				if x.at > best.at || best.ph != PhaseStart && (x.ph == PhaseStart || x.w > best.w) {
					best = x
				}
			}
		}
		if w, ph := s.Locate(b); w != best.w || ph != best.ph {
			t.Fatalf("block %d of %+v: %s of window %d, want %s of %d at %d", b, s.Params(), ph, w, best.ph, best.w, best.at)
		}
		train, ok := s.Training(b)
		if ok != (b >= s.Params().First) || ok && (s.At(train, PhaseStart) > b || s.End(train) <= b) {
			t.Fatalf("block %d is in training of window %d (%v)", b, train, ok)
		}
		last, ok := s.Selected(b)
		if ok != (s.At(0, PhaseSelect) <= b) || ok && (s.At(last, PhaseSelect) > b || s.At(last+1, PhaseSelect) <= b) {
			t.Fatalf("block %d: the newest selection is of window %d (%v)", b, last, ok)
		}
	})
}

func TestScheduleOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSchedule(t)
		w := Window(rapid.IntRange(0, 1000).Draw(t, "w"))
		for ph := PhaseSeed; ph < phases; ph++ {
			at := s.At(w, ph)
			if next := ph + 1; next < phases && at >= s.At(w, next) {
				t.Fatalf("window %d of %+v: %s is not before %s", w, s.Params(), ph, next)
			}
			if s.At(w+1, ph) != at+s.Params().Length || s.Round(w, ph) != Round(at) {
				t.Fatalf("window %d of %+v: %s at %d, round %d, a window later %d", w, s.Params(), ph, at, s.Round(w, ph), s.At(w+1, ph))
			}
		}
		if s.At(w, PhaseApply) >= s.End(w+1) || s.End(w) != s.At(w+1, PhaseStart) || s.At(w+1, PhaseSeed) <= s.At(w, PhaseStart) {
			t.Fatalf("window %d of %+v overlaps more than the next", w, s.Params())
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
		"deadline at the end": func(p *ScheduleParams) { p.Deadline = 0 }, "select before scores": func(p *ScheduleParams) { p.Select = 4 },
		"apply at select": func(p *ScheduleParams) { p.Apply = 5 }, "beyond any use": func(p *ScheduleParams) { p.First = 1 << 41 },
		"a wrapping length": func(p *ScheduleParams) { p.Length = 1 << 63 },
	} {
		p := good
		f(&p)
		if p.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParseVote(f *testing.F) {
	b, err := Vote{Window: 9, Root: Hash{1}, Scores: []Score{{1, 2}, {7, 65535}}}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(append(b, 0))                              // trailing
	f.Add(append(b[:43:43], 0, 7, 0, 1, 0, 1, 0, 1)) // descending
	f.Add(append(b[:43:43], 0, 1, 0, 1, 0, 1, 0, 1)) // twice
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

func TestScoreOfGain(t *testing.T) {
	for gain, want := range map[float64]uint16{0: 8192, 0.01: 8356, -1: 1, 100: 65535, -0.1: 6554} {
		if got := ScoreOfGain(gain); got != want {
			t.Errorf("gain %v scores %d, want %d", gain, got, want)
		}
	}
}

func TestVoteRefuses(t *testing.T) {
	if _, err := (Vote{Scores: []Score{{7, 1}, {3, 1}, {7, 2}}}).Encode(); err == nil {
		t.Error("a vote scores a uid twice")
	}
	if _, err := (Vote{Scores: make([]Score, MaxScores+1)}).Encode(); err == nil {
		t.Error("a vote is too long")
	}
	full := Vote{Window: 3}
	for i := range MaxScores {
		full.Scores = append(full.Scores, Score{UID(MaxScores - i), 9}) // sorted by Encode
	}
	b, err := full.Encode()
	if err != nil || len(b) > MaxBody {
		t.Fatalf("a full vote has %d bytes (%v)", len(b), err)
	}
	good := bytes.Clone(b)
	if v, err := ParseVote(good); err != nil || len(v.Scores) != MaxScores || v.Scores[0].UID != 1 {
		t.Fatalf("a full vote parses as %+v (%v)", v, err)
	}
	for name, f := range map[string]func(b []byte) []byte{
		"trailing byte": func(b []byte) []byte { return append(b, 0) }, "truncated": func(b []byte) []byte { return b[:len(b)-1] },
		"one score more than bytes": func(b []byte) []byte { b[42]++; return b }, "unsorted": func(b []byte) []byte { b[44] = 200; return b },
		"twice": func(b []byte) []byte { b[48] = b[44]; return b }, "a submission": func([]byte) []byte { return SubmissionBody{}.Encode() },
		"another version": func(b []byte) []byte { b[1] = 2; return b }, "nothing": func([]byte) []byte { return nil },
	} {
		if _, err := ParseVote(f(bytes.Clone(good))); err != ErrBody {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseSubmissionBody(good); err != ErrBody {
		t.Errorf("a vote read as a submission: %v", err)
	}
}

func TestRecordLimits(t *testing.T) {
	for _, c := range []struct {
		locator, body int
		ok            bool
	}{{0, 0, true}, {MaxLocator, MaxBody, true}, {MaxLocator + 1, 0, false}, {0, MaxBody + 1, false}} {
		r := Record{Locator: make([]byte, c.locator), Body: make([]byte, c.body)}
		if err := r.Validate(); (err == nil) != c.ok {
			t.Errorf("locator of %d, body of %d bytes: %v", c.locator, c.body, err)
		}
	}
}
