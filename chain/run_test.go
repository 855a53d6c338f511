package chain

import (
	"bytes"
	"math"
	"strings"
	"testing"
)

func goodRun() *Run {
	return &Run{Version: RunVersion, Network: "test", Seed: 1, Model: ModelSpec{Vocab: 256, Width: 8, RopeTheta: 1e4, NormEps: 1e-5}, Tokenizer: "bytes",
		Schedule: ScheduleParams{First: 4, Length: 8, Lead: 2, Deadline: 2, ScoreBy: 4, Select: 5, Apply: 6}, Rules: Rules{Gather: 15, Shards: 1},
		Train:   TrainSpec{Schedule: "wsd", InnerSteps: 10, Batch: 4, LR: 2e-3, Total: 10, Beta1: 0.9},
		Payload: PayloadSpec{K: []KStep{{0, 1024}, {10, 512}}, Beta: 0.95}, Outer: OuterSpec{Alpha: 1, MinDivisor: 2, RootEvery: 1},
		Score: ScoreSpec{Winners: 4, HeldOut: 32, Own: 16, EMA: 0.25}, Checkpoint: 4, Keep: 16, Tempo: 16}
}

func TestRunRefuses(t *testing.T) {
	if err := goodRun().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func(*Run){
		"another version": func(r *Run) { r.Version++ }, "no name": func(r *Run) { r.Network = "" }, "long name": func(r *Run) { r.Network = strings.Repeat("x", 65) },
		"tokenizer": func(r *Run) { r.Tokenizer = "bpe" }, "NaN": func(r *Run) { r.Train.LR = math.NaN() }, "infinity": func(r *Run) { r.Model.NormEps = math.Inf(1) },
		"negative decay": func(r *Run) { r.Payload.Beta = -0.1 }, "schedule": func(r *Run) { r.Schedule.Apply = 8 }, "locator": func(r *Run) { r.Dataset.Locator = make([]byte, MaxLocator+1) },
		"no steps": func(r *Run) { r.Train.InnerSteps = 0 }, "no winners": func(r *Run) { r.Rules.Gather = 0 }, "two shards": func(r *Run) { r.Rules.Shards = 2 },
		"divisor": func(r *Run) { r.Outer.MinDivisor = 0 }, "alpha": func(r *Run) { r.Outer.Alpha = 0 }, "roots now and then": func(r *Run) { r.Outer.RootEvery = 2 }, "ema": func(r *Run) { r.Score.EMA = 1.5 }, "no held-out": func(r *Run) { r.Score.HeldOut = 0 },
		"no checkpoints": func(r *Run) { r.Checkpoint = 0 }, "keeps less than two checkpoints": func(r *Run) { r.Keep = 8 }, "no tempo": func(r *Run) { r.Tempo = 0 },
		"no k": func(r *Run) { r.Payload.K = nil }, "k starts late": func(r *Run) { r.Payload.K[0].From = 1 }, "k goes back": func(r *Run) { r.Payload.K[1].From = 0 },
		"k of 0": func(r *Run) { r.Payload.K[0].K = 0 }, "k of more than a chunk": func(r *Run) { r.Payload.K[1].K = 4097 },
	} {
		r := goodRun()
		f(r)
		if r.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestParseRunIsCanonical(t *testing.T) {
	good := goodRun().Encode()
	r, err := ParseRun(good)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.Encode(), good) || r.Hash() != goodRun().Hash() {
		t.Fatal("a descriptor changes by being read")
	}
	replace := func(old, by string) []byte {
		if !bytes.Contains(good, []byte(old)) {
			t.Fatalf("no %q in %s", old, good)
		}
		return bytes.Replace(good, []byte(old), []byte(by), 1)
	}
	for name, b := range map[string][]byte{
		"unknown field": replace(`{"version"`, `{"extra":1,"version"`), "field twice": replace(`"seed":1`, `"seed":1,"seed":1`), "trailing bytes": append(bytes.Clone(good), '{', '}'),
		"white space": replace(`"seed":1`, `"seed": 1`), "another spelling of a number": replace(`"seed":1`, `"seed":1e0`), "another spelling of a float": replace(`"rope_theta":10000`, `"rope_theta":1e4`),
		"another case": replace(`"seed":1`, `"Seed":1`), "missing field": replace(`"seed":1,`, ``), "truncated": good[:len(good)-1], "nothing": nil, "null": []byte("null"),
	} {
		if _, err := ParseRun(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestPayloadSchedule(t *testing.T) {
	p := goodRun().Payload
	for w, want := range map[Window]int{0: 1024, 9: 1024, 10: 512, 1000: 512} {
		if got := p.At(w); got != want {
			t.Errorf("window %d sends %d of 4096, want %d", w, got, want)
		}
	}
	if s := goodRun().TrialScale(); s != 0.25 {
		t.Errorf("trial scale %v", s)
	}
}

func FuzzParseRun(f *testing.F) {
	good := goodRun().Encode()
	f.Add(good)
	f.Add(append(good, ' '))
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ParseRun(b); err == nil && !bytes.Equal(r.Encode(), b) {
			t.Fatal("parses, but encodes to other bytes")
		}
	})
}
