package sample

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/internal/golden"
	"sn3/model"
	"sn3/model/cpu"
	"sn3/model/hf"
)

func config() model.Config {
	return model.Config{Vocab: 31, Width: 24, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 6, FFN: 40, Seq: 8, Tied: true, RopeTheta: 1e4, NormEps: 1e-5}
}

func weights(t *testing.T, c model.Config) *model.Flat {
	t.Helper()
	w := model.NewFlat(mustLayout(t, c))
	w.Init(4)
	r := rand.New(rand.NewPCG(1, 5))
	for i := range w.Data {
		w.Data[i] += float32(0.3 * r.NormFloat64())
	}
	return w
}

func sampler(t *testing.T, c model.Config) *Sampler {
	t.Helper()
	s, err := New(c, weights(t, c))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// plain hides what an engine has beyond the least.
type plain struct{ model.Engine }

func generate(t *testing.T, s *Sampler, prompt []int32, o Options) []int32 {
	t.Helper()
	out, err := s.Generate(context.Background(), prompt, o)
	if err != nil || len(out) != o.Tokens {
		t.Fatalf("%d tokens, want %d: %v", len(out), o.Tokens, err)
	}
	return out
}

// The reference's own greedy continuations, by the engine's decoder and by its forward pass.
func TestGreedyGolden(t *testing.T) {
	for _, name := range []string{"mha", "gqa-tied", "bf16-weights"} {
		t.Run(name, func(t *testing.T) { checkGreedy(t, golden.Case(t, "llama", name, "case.json")) })
	}
}

func checkGreedy(t *testing.T, dir string) {
	raw, err := os.ReadFile(filepath.Join(dir, "case.json"))
	if err != nil {
		t.Fatal(err)
	}
	var g struct {
		Greedy struct{ Prompt, Tokens []int32 }
	}
	if err := json.Unmarshal(raw, &g); err != nil || len(g.Greedy.Tokens) == 0 {
		t.Fatalf("no continuation: %v", err)
	}
	f, err := hf.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, e := range []model.Engine{cpu.New(""), plain{cpu.New("")}} {
		s, err := Open(t.Context(), e, f.Config, f, len(g.Greedy.Prompt)+len(g.Greedy.Tokens), model.Options{Threads: 2})
		if err != nil {
			t.Fatal(err)
		}
		if got := generate(t, s, g.Greedy.Prompt, Options{Tokens: len(g.Greedy.Tokens)}); !slices.Equal(got, g.Greedy.Tokens) {
			t.Errorf("%T: %v, want %v", e, got, g.Greedy.Tokens)
		}
	}
}

// At temperature 0 every token is the likeliest after what the model sees: all that came before, and beyond its sequence
// length the newer half and what was added to it since.
func TestGreedyIsTheLikeliest(t *testing.T) {
	c := config()
	w := weights(t, c)
	s, err := New(c, w)
	if err != nil {
		t.Fatal(err)
	}
	j, err := cpu.New("").NewJudge(c, model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Reset(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	for _, prompt := range [][]int32{{3}, {1, 2, 3, 4, 5, 6, 7}, {9, 8, 7, 6, 5, 4, 3, 2}} {
		x := slices.Clone(prompt)
		for _, next := range generate(t, s, prompt, Options{Tokens: 30, Seed: 7}) {
			if len(x) > c.Seq {
				x = x[len(x)-(c.Seq+1)/2:]
			}
			logits := make([]float32, len(x)*c.Vocab)
			if err := j.(model.Forwarder).Logits(logits, x, 1, len(x)); err != nil {
				t.Fatal(err)
			}
			last := logits[len(logits)-c.Vocab:]
			if best := slices.Max(last); best-last[next] > 1e-5 {
				t.Fatalf("after %v came %d with %v, the best has %v", x, next, last[next], best)
			}
			x = append(x, next)
		}
	}
}

// The decoder of an engine and the one made of its forward pass answer the same calls alike: any cuts of a text, rewinding,
// and what they refuse.
func TestDecodersAgree(t *testing.T) {
	c := config()
	w := weights(t, c)
	pair := [2]model.Decoder{}
	for i, e := range []model.Engine{cpu.New(""), plain{cpu.New("")}} {
		d, err := decoder(e, c, c.Seq, model.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Reset(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		pair[i] = d
	}
	rapid.Check(t, func(rt *rapid.T) {
		have := 0
		rewind := func(n int) {
			have = n
			pair[0].Rewind(n)
			pair[1].Rewind(n)
		}
		rewind(0)
		for range rapid.IntRange(1, 8).Draw(rt, "calls") {
			if have > 0 && rapid.IntRange(0, 3).Draw(rt, "what") == 0 {
				rewind(rapid.IntRange(0, have).Draw(rt, "to"))
				continue
			}
			x := rapid.SliceOfN(rapid.Int32Range(0, int32(c.Vocab-1)), 0, 5).Draw(rt, "x")
			a, b := make([]float32, c.Vocab), make([]float32, c.Vocab)
			err, err2 := pair[0].Next(a, x), pair[1].Next(b, x)
			if bad := len(x) == 0 || have+len(x) > c.Seq; bad != (err != nil) || bad != (err2 != nil) {
				rt.Fatalf("%d tokens after %d: %v and %v", len(x), have, err, err2)
			}
			if err != nil {
				continue
			}
			have += len(x)
			for i := range a {
				if math.Abs(float64(a[i]-b[i])) > 1e-4 {
					rt.Fatalf("logit %d is %v and %v", i, a[i], b[i])
				}
			}
		}
	})
}

// The same seed gives the same text, another one another; the prompt is not touched; a tiny temperature is greedy.
func TestSeeds(t *testing.T) {
	s, prompt := sampler(t, config()), []int32{1, 2, 3}
	a := generate(t, s, prompt, Options{Tokens: 30, Temperature: 1, Seed: 1})
	if b := generate(t, s, prompt, Options{Tokens: 30, Temperature: 1, Seed: 1}); !slices.Equal(a, b) {
		t.Error("the same seed gives another text")
	}
	if b := generate(t, s, prompt, Options{Tokens: 30, Temperature: 1, Seed: 2}); slices.Equal(a, b) {
		t.Error("another seed gives the same text")
	}
	cold, greedy := generate(t, s, prompt, Options{Tokens: 30, Temperature: 1e-9}), generate(t, s, prompt, Options{Tokens: 30})
	if !slices.Equal(cold, greedy) {
		t.Errorf("almost at 0: %v, at 0: %v", cold, greedy)
	}
	if !slices.Equal(prompt, []int32{1, 2, 3}) {
		t.Errorf("the prompt became %v", prompt)
	}
	if none := generate(t, s, prompt, Options{}); len(none) != 0 {
		t.Errorf("asked for nothing, got %v", none)
	}
}

// Tokens come one by one; one that stops the text ends it and is not among them; an error of who reads ends it too.
func TestStream(t *testing.T) {
	s, prompt := sampler(t, config()), []int32{1, 2, 3}
	o := Options{Tokens: 30, Temperature: 1, Seed: 3}
	want := generate(t, s, prompt, o)
	at := slices.IndexFunc(want[1:], func(id int32) bool { return id != want[0] }) + 1
	at = slices.Index(want, want[at])
	o.Stop = []int32{want[at]}
	got, err := s.Generate(t.Context(), prompt, o)
	if err != nil || !slices.Equal(got, want[:at]) {
		t.Errorf("%v, %v, want %v", got, err, want[:at])
	}
	full, calls := errors.New("full"), 0
	o.Stop = nil
	err = s.Stream(t.Context(), prompt, o, func(id int32) error {
		if id != want[calls] {
			t.Errorf("token %d is %d, want %d", calls, id, want[calls])
		}
		if calls++; calls == 5 {
			return full
		}
		return nil
	})
	if !errors.Is(err, full) || calls != 5 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

// Damaged weights are named, not turned into a text.
func TestNoLogits(t *testing.T) {
	c := config()
	w := weights(t, c)
	for i := range w.Data {
		w.Data[i] = float32(math.NaN())
	}
	s, err := New(c, w)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Generate(t.Context(), []int32{1}, Options{Tokens: 1}); !errors.Is(err, errNaN) {
		t.Error(err)
	}
}

func TestGenerateRefuses(t *testing.T) {
	c := config()
	s, ctx := sampler(t, c), context.Background()
	for name, err := range map[string]error{
		"no prompt":                second(s.Generate(ctx, nil, Options{Tokens: 1})),
		"token above":              second(s.Generate(ctx, []int32{int32(c.Vocab)}, Options{Tokens: 1})),
		"token below":              second(s.Generate(ctx, []int32{-1}, Options{Tokens: 1})),
		"fewer than no tokens":     second(s.Generate(ctx, []int32{1}, Options{Tokens: -1})),
		"below zero":               second(s.Generate(ctx, []int32{1}, Options{Tokens: 1, Temperature: -0.5})),
		"temperature is no number": second(s.Generate(ctx, []int32{1}, Options{Tokens: 1, Temperature: math.NaN()})),
		"prompt too long":          second(s.Generate(ctx, make([]int32, c.Seq+1), Options{Tokens: 1})),
		"top-k below zero":         second(s.Generate(ctx, []int32{1}, Options{Tokens: 1, TopK: -1})),
		"top-p above one":          second(s.Generate(ctx, []int32{1}, Options{Tokens: 1, TopP: 1.5})),
		"top-p is no number":       second(s.Generate(ctx, []int32{1}, Options{Tokens: 1, TopP: math.NaN()})),
		"infinite temperature":     second(s.Generate(ctx, []int32{1}, Options{Tokens: 1, Temperature: math.Inf(1)})),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := s.Generate(ctx, make([]int32, c.Seq+1), Options{}); !errors.Is(err, ErrTooLong) {
		t.Errorf("prompt too long: %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.Generate(ended, []int32{1}, Options{Tokens: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
	bad := c
	bad.HeadDim = 3
	if _, err := New(bad, model.NewFlat(mustLayout(t, c))); err == nil {
		t.Error("a shape that no engine runs was accepted")
	}
	other := c
	other.FFN++
	if _, err := New(other, model.NewFlat(mustLayout(t, c))); err == nil {
		t.Error("weights of another shape were accepted")
	}
}

func second(_ []int32, err error) error { return err }

func mustLayout(t *testing.T, c model.Config) *model.Layout {
	t.Helper()
	l, err := model.NewLayout(c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
