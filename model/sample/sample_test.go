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

	"sn3/internal/golden"
	"sn3/model"
	"sn3/model/hf"
)

func config() model.Config {
	return model.Config{Vocab: 31, Width: 24, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 6, FFN: 40, Seq: 8, Tied: true, RopeTheta: 1e4, NormEps: 1e-5}
}

func sampler(t *testing.T, c model.Config) *Sampler {
	t.Helper()
	l, err := model.NewLayout(c)
	if err != nil {
		t.Fatal(err)
	}
	w := model.NewFlat(l)
	w.Init(4)
	r := rand.New(rand.NewPCG(1, 5))
	for i := range w.Data {
		w.Data[i] += float32(0.3 * r.NormFloat64())
	}
	s, err := New(c, w)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func generate(t *testing.T, s *Sampler, prompt []int32, o Options) []int32 {
	t.Helper()
	out, err := s.Generate(context.Background(), prompt, o)
	if err != nil || len(out) != o.Tokens {
		t.Fatalf("%d tokens, want %d: %v", len(out), o.Tokens, err)
	}
	return out
}

// The reference's own greedy continuations.
func TestGreedyGolden(t *testing.T) {
	for _, name := range []string{"mha", "gqa-tied", "bf16-weights"} {
		dir := filepath.Join(golden.Dir(t, "llama"), name)
		raw, err := os.ReadFile(filepath.Join(dir, "case.json"))
		if err != nil {
			t.Fatal(err)
		}
		var g struct {
			Greedy struct{ Prompt, Tokens []int32 }
		}
		if err := json.Unmarshal(raw, &g); err != nil || len(g.Greedy.Tokens) == 0 {
			t.Fatalf("%s has no continuation: %v", name, err)
		}
		c, w, err := hf.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		c.Seq = max(c.Seq, len(g.Greedy.Prompt)+len(g.Greedy.Tokens))
		s, err := New(c, w)
		if err != nil {
			t.Fatal(err)
		}
		if got := generate(t, s, g.Greedy.Prompt, Options{Tokens: len(g.Greedy.Tokens)}); !slices.Equal(got, g.Greedy.Tokens) {
			t.Errorf("%s: %v, want %v", name, got, g.Greedy.Tokens)
		}
	}
}

// At temperature 0 every token is the likeliest after the last T before it, also when the text is longer than T.
func TestGreedyIsTheLikeliest(t *testing.T) {
	c := config()
	s := sampler(t, c)
	for _, prompt := range [][]int32{{3}, {1, 2, 3, 4, 5, 6, 7}, {9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 30, 29}} {
		all := slices.Clone(prompt)
		for _, next := range generate(t, s, prompt, Options{Tokens: 12, Seed: 7}) {
			x := all[max(0, len(all)-c.Seq):]
			logits := make([]float32, len(x)*c.Vocab)
			if err := s.f.Logits(logits, x, 1, len(x)); err != nil {
				t.Fatal(err)
			}
			last := logits[len(logits)-c.Vocab:]
			if best := slices.Max(last); last[next] != best {
				t.Fatalf("after %v came %d with %v, the best has %v", x, next, last[next], best)
			}
			all = append(all, next)
		}
	}
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

// Tokens are drawn with the probabilities of softmax(l/temperature): frequencies of 40,000 draws within five standard deviations.
func TestPickFollowsSoftmax(t *testing.T) {
	l := []float32{1, -2, 0.5, 3, 3, -50}
	const draws = 40_000
	for _, temperature := range []float64{0.5, 1, 2.5} {
		sum := 0.0
		for _, x := range l {
			sum += math.Exp(float64(x) / temperature)
		}
		r, count := rand.New(rand.NewPCG(3, 3)), make([]int, len(l))
		for range draws {
			count[pick(l, temperature, r)]++
		}
		for i, n := range count {
			p := math.Exp(float64(l[i])/temperature) / sum
			if dev := math.Abs(float64(n) - draws*p); dev > 5*math.Sqrt(draws*p*(1-p))+1 {
				t.Errorf("temperature %v: token %d came %d times, expected %.0f", temperature, i, n, draws*p)
			}
		}
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
		"infinite temperature":     second(s.Generate(ctx, []int32{1}, Options{Tokens: 1, Temperature: math.Inf(1)})),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
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
