// Package sample lets a model continue a text.
package sample

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"sn3/model"
	"sn3/model/cpu"
)

// Options say how to sample.
type Options struct {
	Tokens      int     // tokens to add
	Temperature float64 // 0: always the likeliest
	Seed        uint64
}

// Sampler continues token sequences. Not safe for concurrent use.
type Sampler struct {
	cfg model.Config
	f   model.Forwarder
}

// New loads weights into the CPU engine.
func New(c model.Config, w model.Weights) (*Sampler, error) {
	j, err := cpu.New("").NewJudge(c, model.Options{})
	if err != nil {
		return nil, err
	}
	if err := j.Reset(context.Background(), w); err != nil {
		return nil, err
	}
	f, ok := j.(model.Forwarder)
	if !ok {
		return nil, fmt.Errorf("sample: the engine gives no logits")
	}
	return &Sampler{c, f}, nil
}

// Generate returns the tokens that follow prompt. The model sees at most its sequence length of what came before.
func (s *Sampler) Generate(ctx context.Context, prompt []int32, o Options) ([]int32, error) {
	switch {
	case len(prompt) == 0:
		return nil, fmt.Errorf("sample: the prompt is empty")
	case o.Tokens < 0 || !(o.Temperature >= 0) || math.IsInf(o.Temperature, 0):
		return nil, fmt.Errorf("sample: %d tokens at temperature %v; neither may be negative", o.Tokens, o.Temperature)
	}
	r := rand.New(rand.NewPCG(o.Seed, 1))
	all := append([]int32(nil), prompt...)
	V := s.cfg.Vocab
	logits := make([]float32, s.cfg.Seq*V)
	for range o.Tokens {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		x := all[max(0, len(all)-s.cfg.Seq):]
		if err := s.f.Logits(logits[:len(x)*V], x, 1, len(x)); err != nil {
			return nil, fmt.Errorf("sample: %w", err)
		}
		all = append(all, pick(logits[(len(x)-1)*V:len(x)*V], o.Temperature, r))
	}
	return all[len(prompt):], nil
}

// pick draws a token from softmax(l/temperature).
func pick(l []float32, temperature float64, r *rand.Rand) int32 {
	best := 0
	for i := range l {
		if l[i] > l[best] {
			best = i
		}
	}
	if temperature == 0 {
		return int32(best)
	}
	p := make([]float64, len(l))
	sum := 0.0
	for i := range l {
		p[i] = math.Exp(float64(l[i]-l[best]) / temperature)
		sum += p[i]
	}
	x := r.Float64() * sum
	for i := range p {
		if x -= p[i]; x < 0 {
			return int32(i)
		}
	}
	return int32(best)
}
