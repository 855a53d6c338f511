package scoring

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
	"sn3/gradients"
	"sn3/internal/events"
	"sn3/internal/replica"
)

// judgeOnly is a validator with a book and nothing else.
func judgeOnly(t testing.TB) *Validator {
	t.Helper()
	run := &chain.Run{Keep: 16}
	run.Schedule = chain.ScheduleParams{First: 4, Length: 40, Lead: 2, Deadline: 3, ScoreBy: 18, Select: 19, Apply: 21}
	sched, err := chain.NewSchedule(run.Schedule)
	if err != nil {
		t.Fatal(err)
	}
	return &Validator{cfg: Config{Book: book(t), Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Events: func(events.Event) {}}, run: run, sched: sched}
}

func sub(uid chain.UID, payload byte, at chain.Block) *trial {
	h := hot(byte(uid))
	return &trial{Submission: replica.Submission{Candidate: chain.Candidate{UID: uid, Hotkey: h}, At: at,
		Manifest: gradients.Manifest{Payload: chain.Hash{payload}}}, verdict: Verdict{UID: uid, Hotkey: h}}
}

func uids(trials []*trial) (out []chain.UID) {
	for _, t := range trials {
		out = append(out, t.UID)
	}
	return out
}

// Copying somebody's public payload removes the copy: the record that the chain has from the earlier block stays. What was
// sent in an earlier window, by whoever, is no submission at all.
func TestOriginals(t *testing.T) {
	for name, c := range map[string]struct {
		trials []*trial
		kept   []chain.UID
		why    map[chain.UID]string
	}{
		"all different":         {[]*trial{sub(1, 1, 9), sub(2, 2, 9)}, []chain.UID{1, 2}, nil},
		"copied later":          {[]*trial{sub(1, 1, 9), sub(2, 1, 10)}, []chain.UID{1}, map[chain.UID]string{2: "sent the same payload first"}},
		"by a lower uid":        {[]*trial{sub(1, 1, 10), sub(2, 1, 9), sub(3, 3, 10)}, []chain.UID{2, 3}, map[chain.UID]string{1: "block 9, this one of 10"}},
		"by many":               {[]*trial{sub(1, 1, 12), sub(2, 1, 11), sub(3, 1, 10), sub(4, 1, 9), sub(5, 1, 12)}, []chain.UID{4}, map[chain.UID]string{1: "", 2: "", 3: "", 5: ""}},
		"in the same block":     {[]*trial{sub(1, 1, 9), sub(2, 1, 9), sub(3, 1, 10)}, []chain.UID{1, 2}, map[chain.UID]string{3: "first"}},
		"of an earlier window":  {[]*trial{sub(1, 100, 9), sub(2, 2, 9)}, []chain.UID{2}, map[chain.UID]string{1: "sent in window 3"}},
		"replayed and copied":   {[]*trial{sub(1, 100, 9), sub(2, 100, 8)}, nil, map[chain.UID]string{1: "window 3", 2: "window 3"}},
		"of this window, again": {[]*trial{sub(1, 101, 9)}, []chain.UID{1}, nil}, // judged again after a restart
	} {
		t.Run(name, func(t *testing.T) {
			v := judgeOnly(t)
			v.cfg.Book.Remember(chain.Hash{100}, 3, 16)
			v.cfg.Book.Remember(chain.Hash{101}, 7, 16)
			kept, copies := v.originals(7, c.trials)
			if got := uids(kept); !slices.Equal(got, c.kept) {
				t.Errorf("kept %v, want %v", got, c.kept)
			}
			if len(copies) != len(c.why) {
				t.Errorf("copies: %+v", copies)
			}
			for _, d := range copies {
				if why, ok := c.why[d.UID]; !ok || d.Status != "rejected" || !strings.HasPrefix(d.Reason, "duplicate: ") || !strings.Contains(d.Reason, why) {
					t.Errorf("uid %d: %s %s", d.UID, d.Status, d.Reason)
				}
			}
			for _, x := range c.trials {
				if _, again := v.cfg.Book.Sent(x.Manifest.Payload, 8); !again {
					t.Errorf("payload of uid %d could be sent again", x.UID)
				}
			}
		})
	}
}

// Of equal payloads in one block the one whose assigned data it fits stays, or where that is not clear the better rated.
func TestAuthors(t *testing.T) {
	with := func(x *trial, z float64, status string) *trial { x.verdict.Z, x.verdict.Status = z, status; return x }
	for name, c := range map[string]struct {
		trials []*trial
		rated  chain.UID // has a rating; 0: nobody
		kept   []chain.UID
	}{
		"nothing to tell apart":   {[]*trial{with(sub(1, 1, 9), 0, ""), with(sub(2, 2, 9), 5, "")}, 0, []chain.UID{1, 2}},
		"the clearly higher z":    {[]*trial{with(sub(1, 1, 9), 0.3, ""), with(sub(2, 1, 9), 4, ""), with(sub(3, 1, 9), -1, "")}, 1, []chain.UID{2}},
		"also when negative":      {[]*trial{with(sub(1, 1, 9), -4, ""), with(sub(2, 1, 9), -1, "")}, 1, []chain.UID{2}},
		"not clear: the rated":    {[]*trial{with(sub(1, 1, 9), 1.5, ""), with(sub(2, 1, 9), 0, "")}, 2, []chain.UID{2}},
		"not clear, nobody rated": {[]*trial{with(sub(1, 1, 9), 0, ""), with(sub(2, 1, 9), 1.5, "")}, 0, []chain.UID{1}},
		"rated, but another's":    {[]*trial{with(sub(1, 1, 9), 0, ""), with(sub(2, 1, 9), 1.5, ""), with(sub(3, 1, 9), 3, "")}, 1, []chain.UID{2}},
		"not measured":            {[]*trial{with(sub(1, 1, 9), 0, "unscored"), with(sub(2, 1, 9), -1, "")}, 1, []chain.UID{2}},
		"none measured":           {[]*trial{with(sub(1, 1, 9), 0, "unscored"), with(sub(2, 1, 9), 0, "unscored")}, 2, []chain.UID{2}},
	} {
		v := judgeOnly(t)
		if c.rated > 0 {
			v.cfg.Book.Entries[hot(byte(c.rated))] = Entry{Rating: 1}
		}
		kept, copies := v.authors(7, c.trials)
		if !slices.Equal(uids(kept), c.kept) || len(copies) != len(c.trials)-len(c.kept) {
			t.Errorf("%s: kept %v, want %v; copies %+v", name, uids(kept), c.kept, copies)
		}
	}
}

// Whatever is sent, exactly one trial per payload is left in the end, and it has the earliest block of those.
func TestOneOfEachProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		v := judgeOnly(t)
		var trials []*trial
		first := map[byte]chain.Block{}
		for i := range rapid.IntRange(0, 12).Draw(rt, "submissions") {
			p, at := rapid.ByteRange(1, 4).Draw(rt, "payload"), chain.Block(rapid.IntRange(1, 3).Draw(rt, "block"))
			x := sub(chain.UID(i), p, at)
			x.verdict.Z = rapid.Float64Range(-3, 3).Draw(rt, "z")
			trials = append(trials, x)
			if f, ok := first[p]; !ok || at < f {
				first[p] = at
			}
		}
		kept, copies := v.originals(7, trials)
		kept, same := v.authors(7, kept)
		if len(kept) != len(first) || len(kept)+len(copies)+len(same) != len(trials) {
			rt.Fatalf("%d kept, %d and %d copies of %d submissions of %d payloads", len(kept), len(copies), len(same), len(trials), len(first))
		}
		for _, x := range kept {
			if x.At != first[x.Manifest.Payload[0]] {
				rt.Fatalf("payload %d: kept the one of block %d, the first is of %d", x.Manifest.Payload[0], x.At, first[x.Manifest.Payload[0]])
			}
		}
	})
}

func TestDecide(t *testing.T) {
	for name, c := range map[string]struct {
		gain, err float64
		cheats    bool
		status    string
		score     uint16
		reason    string
	}{
		"useful":              {0.01, 0.001, false, "scored", 8192 + 164, ""},
		"useless":             {0, 0.001, false, "scored", 8192, ""},
		"perhaps harmful":     {-0.0029, 0.001, false, "scored", 8192 - 48, ""},
		"harmful":             {-0.0031, 0.001, false, "rejected", 0, "harmful: held-out gain -0.00310 ± 0.00100"},
		"harmful for sure":    {-0.1, 0, false, "rejected", 0, "harmful"},
		"no proof of work":    {0.01, 0.001, true, "scored", 8192 + 164, "no proof of work"},
		"harmful, no proof":   {-1, 0.001, true, "rejected", 0, "harmful"},
		"beyond every bound":  {1e9, 1, false, "scored", 65535, ""},
		"a loss within error": {-10, 100, false, "scored", 1, ""},
	} {
		d := Verdict{Gain: c.gain, GainErr: c.err}
		decide(&d, c.cheats)
		if d.Status != c.status || d.Score != c.score || !strings.HasPrefix(d.Reason, c.reason) || (c.reason == "") != (d.Reason == "") {
			t.Errorf("%s: got %+v", name, d)
		}
	}
}

// A vote holds 40 scores: the best, so that rejections are left out before anybody who gains.
func TestBest(t *testing.T) {
	var all []chain.Score
	for i := range 200 {
		all = append(all, chain.Score{UID: chain.UID(i), Value: uint16(i % 50)})
	}
	got := best(slices.Clone(all))
	if len(got) != chain.MaxScores {
		t.Fatalf("%d scores", len(got))
	}
	for i, s := range got {
		if s.Value < 40 || i > 0 && (got[i-1].Value < s.Value || got[i-1].Value == s.Value && got[i-1].UID >= s.UID) {
			t.Errorf("place %d: %+v after %+v", i, s, got[max(0, i-1)])
		}
	}
	if _, err := (chain.Vote{Scores: got}).Encode(); err != nil {
		t.Error(err)
	}
	if got := best(slices.Clone(all[:3])); len(got) != 3 {
		t.Errorf("of three: %v", got)
	}
}

func TestPaired(t *testing.T) {
	m, se := paired([]float64{3, 5, 4}, []float64{2, 2, 2}) // differences 1, 3, 2
	if math.Abs(m-2) > 1e-15 || math.Abs(se-1/math.Sqrt(3)) > 1e-15 {
		t.Errorf("got %v ± %v, want 2 ± 1/√3", m, se)
	}
	if m, se := paired([]float64{3}, []float64{1}); m != 2 || se != 0 {
		t.Errorf("of one pair: %v ± %v", m, se)
	}
	if m, se := mean(nil); m != 0 || math.IsNaN(se) == false && se != 0 {
		t.Errorf("of nothing: %v ± %v", m, se)
	}
}

func TestSpread(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n, want := rapid.IntRange(0, 60).Draw(rt, "have"), rapid.IntRange(1, 20).Draw(rt, "want")
		s := make([]uint64, n)
		for i := range s {
			s[i] = uint64(i)
		}
		got := spread(s, want)
		if len(got) != min(n, want) {
			rt.Fatalf("%d of %d, want %d", len(got), n, want)
		}
		for i := 1; i < len(got); i++ {
			if d := got[i] - got[i-1]; d < uint64(n/want) || d > uint64(n/want)+1 && n > want {
				rt.Fatalf("not even: %v", got)
			}
		}
	})
}

// By turns the best rated and one by lot: of the first 2n at least n are the n best, however large the crowd, and everybody
// comes up once.
func TestInTurn(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		v := judgeOnly(t)
		n := rapid.IntRange(1, 200).Draw(rt, "crowd")
		known := rapid.IntRange(0, min(20, n)).Draw(rt, "known")
		var trials []*trial
		for i := range n {
			trials = append(trials, sub(chain.UID(i), 1, 1))
		}
		for i := range known { // the last are the best, by falling uid
			v.cfg.Book.Entries[hot(byte(n-1-i))] = Entry{Rating: float64(known - i)}
		}
		beacon := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(rt, "beacon")
		out := v.inTurn(beacon, trials)
		if len(out) != n {
			rt.Fatalf("%d turns of %d", len(out), n)
		}
		seen := map[chain.UID]bool{}
		for _, x := range out {
			seen[x.UID] = true
		}
		if len(seen) != n {
			rt.Fatalf("%d different of %d", len(seen), n)
		}
		for i := range known {
			if at := slices.IndexFunc(out, func(x *trial) bool { return x.UID == chain.UID(n-1-i) }); at > 2*i {
				rt.Fatalf("number %d by rating comes at place %d", i, at)
			}
		}
		if again := v.inTurn(beacon, trials); !slices.Equal(uids(again), uids(out)) {
			rt.Fatal("another order for the same beacon")
		}
	})
	a, b := judgeOnly(t), []*trial{}
	for i := range 50 {
		b = append(b, sub(chain.UID(i), 1, 1))
	}
	if slices.Equal(uids(a.inTurn([]byte("one"), b)), uids(a.inTurn([]byte("two"), b))) {
		t.Error("the beacon changes nothing")
	}
}

// The vote leaves with enough blocks to be final, and there is time to score at all.
func TestScoreUntil(t *testing.T) {
	for interval, left := range map[chain.Block]chain.Block{1: 0, 2: 0, 3: 1, 5: 2, 7: 3, 8: 3, 15: 3, 1000: 3} {
		p := chain.ScheduleParams{First: 4, Length: 2000, Lead: 2, Deadline: 3, ScoreBy: 3 + interval, Select: 1500, Apply: 1600}
		s, err := chain.NewSchedule(p)
		if err != nil {
			t.Fatal(err)
		}
		v := &Validator{sched: s}
		if got := s.At(0, chain.PhaseScoreBy) - v.scoreUntil(0); got != left {
			t.Errorf("of %d blocks %d are left for the vote, want %d", interval, got, left)
		}
	}
}

// Absent is who sent nothing, or nothing that could be had while others' could: rating costs nothing to keep by records
// without objects. Where nothing at all arrived the fault may be ours.
func TestAbsent(t *testing.T) {
	v := judgeOnly(t)
	for i := byte(1); i <= 5; i++ {
		v.cfg.Book.Entries[hot(i)] = Entry{Rating: 1}
	}
	marks := map[chain.Hotkey]Mark{hot(1): {}}
	seen := []Verdict{{Hotkey: hot(2), Status: "unavailable"}, {Hotkey: hot(3), Status: "unscored"}, {Hotkey: hot(4), Status: "rejected"}, {Hotkey: hot(9), Status: "unavailable"}}
	for reached, want := range map[bool][]byte{true: {2, 5}, false: {5}} {
		var got []byte
		for _, h := range v.absent(marks, seen, reached) {
			got = append(got, h[0])
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("others arrived: %v: absent are %v, want %v", reached, got, want)
		}
	}
}

func TestFatal(t *testing.T) {
	_, disk := OpenBook("/dev/null/nothing")
	for err, want := range map[error]bool{chain.ErrNotRegistered: true, chain.ErrUnavailable: false, errLate: false, context.DeadlineExceeded: false,
		errors.New("fetch held-out samples"): false, disk: true} {
		if fatal(err) != want {
			t.Errorf("%v: fatal %v", err, !want)
		}
	}
}
