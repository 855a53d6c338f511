// Package sample lets a model continue a text.
package sample

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"sn3/model"
	"sn3/model/cpu"
)

// ErrTooLong: the prompt has more tokens than the model can see at once.
var ErrTooLong = errors.New("sample: the prompt is too long for the model")

// Options say how to sample. The same options, weights and build give the same tokens.
type Options struct {
	Tokens      int     // tokens to add at most
	Temperature float64 // 0: always the likeliest
	TopK        int     // choose among the k likeliest; 0: all
	TopP        float64 // choose among the likeliest that have this probability together, at least one; 0 and 1: all
	Seed        uint64
	Stop        []int32 // ids that end the text; they are not returned
	Vocab       int     // ids from here on are never chosen: rows that pad an embedding; 0: all are
}

// validate rejects what has no meaning.
func (o Options) validate() error {
	switch {
	case o.Tokens < 0 || !(o.Temperature >= 0) || math.IsInf(o.Temperature, 0):
		return fmt.Errorf("sample: %d tokens at temperature %v; neither may be negative", o.Tokens, o.Temperature)
	case o.TopK < 0 || !(o.TopP >= 0 && o.TopP <= 1) || o.Vocab < 0:
		return fmt.Errorf("sample: top-k %d, top-p %v, vocabulary %d; want 0 or more, 0 to 1, 0 or more", o.TopK, o.TopP, o.Vocab)
	}
	return nil
}

// Sampler continues token sequences. Not safe for concurrent use.
type Sampler struct {
	d     model.Decoder
	seq   int // most tokens that the model sees
	vocab int
}

// New loads weights into the CPU engine on one thread; the model sees up to its sequence length.
func New(c model.Config, w model.Weights) (*Sampler, error) {
	return Open(context.Background(), cpu.New(""), c, w, c.Seq, model.Options{})
}

// Open loads weights into an engine. The model sees at most seq tokens of what came before, and no more than it was trained
// on: an engine that decodes keeps keys and values of so many, one that only has a forward pass repeats it for each token.
func Open(ctx context.Context, e model.Engine, c model.Config, w model.Weights, seq int, opt model.Options) (*Sampler, error) {
	seq = min(seq, c.Seq)
	if seq < 1 {
		return nil, fmt.Errorf("sample: a sequence of %d tokens", seq)
	}
	d, err := decoder(e, c, seq, opt)
	if err != nil {
		return nil, fmt.Errorf("sample: %w", err)
	}
	if err := d.Reset(ctx, w); err != nil {
		return nil, fmt.Errorf("sample: %w", err)
	}
	return &Sampler{d, seq, c.Vocab}, nil
}

// Generate returns the tokens that follow prompt.
func (s *Sampler) Generate(ctx context.Context, prompt []int32, o Options) ([]int32, error) {
	var out []int32
	return out, s.Stream(ctx, prompt, o, func(id int32) error {
		out = append(out, id)
		return nil
	})
}

// Stream calls emit with each token that follows prompt, as soon as it is chosen; an error of emit ends it. A prompt longer
// than the model sees is ErrTooLong. When text outgrows that, the model goes on from its newer half.
func (s *Sampler) Stream(ctx context.Context, prompt []int32, o Options, emit func(id int32) error) error {
	if err := o.validate(); err != nil {
		return err
	}
	if len(prompt) == 0 {
		return errors.New("sample: the prompt is empty")
	}
	if len(prompt) > s.seq {
		return fmt.Errorf("%w: %d tokens, it sees %d", ErrTooLong, len(prompt), s.seq)
	}
	s.d.Rewind(0)
	r, ch := rand.New(rand.NewPCG(o.Seed, 1)), chooser{o: o}
	logits := make([]float32, s.vocab)
	all, next := slices.Clone(prompt), prompt // what there is, and what the model has not seen of it
	for used := len(prompt); ; used++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(all) == len(prompt)+o.Tokens {
			return nil
		}
		if used > s.seq {
			next = all[len(all)-(s.seq+1)/2:]
			used = len(next)
			s.d.Rewind(0)
		}
		if err := s.d.Next(logits, next); err != nil {
			return fmt.Errorf("sample: %w", err)
		}
		id, err := ch.pick(logits, r)
		if err != nil {
			return err
		}
		if slices.Contains(o.Stop, id) {
			return nil
		}
		if err := emit(id); err != nil {
			return err
		}
		all = append(all, id)
		next = all[len(all)-1:]
	}
}
