// Package model names what is trained: the shape of a Llama-style model, its layout in chunks, and the small interfaces
// between the protocol and the engines that train (model/cpu, model/graph, later model/gpu). It imports nothing of ours.
//
// Shape letters, everywhere: B batch, T sequence, C width, V vocabulary, L layers, H inner steps, R submissions.
package model

import (
	"fmt"
	"math"
	"strconv"
)

// Config is the shape of a Llama: RMSNorm, half-split RoPE, grouped-query attention, SwiGLU, no biases.
type Config struct {
	Vocab     int     // V
	Width     int     // C
	Layers    int     // L
	Heads     int     // query heads
	KVHeads   int     // key/value heads; Heads % KVHeads == 0
	HeadDim   int     // may differ from Width/Heads; even
	FFN       int     // F
	Seq       int     // T, longest sequence trained on
	Tied      bool    // the embedding is also the output matrix
	RopeTheta float64 // base of the rotary angles
	NormEps   float64 // added to the mean square in RMSNorm
	Rope      *RopeScaling
}

// RopeScaling changes the rotary frequencies; nil is none (golden/llama/README.md, "Config keys").
type RopeScaling struct {
	Type              string // "linear" or "llama3"
	Factor            float64
	LowFreq, HighFreq float64 // llama3 only
	Original          int     // llama3 only: original context
}

// Validate rejects shapes that no engine can run.
func (c Config) Validate() error {
	switch {
	case c.Vocab < 2 || c.Width < 1 || c.Layers < 1 || c.FFN < 1 || c.Seq < 1:
		return fmt.Errorf("model: vocab %d, width %d, layers %d, ffn %d, seq %d must be positive", c.Vocab, c.Width, c.Layers, c.FFN, c.Seq)
	case c.Vocab > 1<<20 || c.Width > 1<<17 || c.Layers > 1<<12 || c.FFN > 1<<20 || c.Seq > 1<<20:
		return fmt.Errorf("model: vocab %d, width %d, layers %d, ffn %d, seq %d beyond any use", c.Vocab, c.Width, c.Layers, c.FFN, c.Seq)
	case c.Heads < 1 || c.Heads > 1<<12 || c.KVHeads < 1 || c.Heads%c.KVHeads != 0:
		return fmt.Errorf("model: %d heads are not a multiple of %d key/value heads", c.Heads, c.KVHeads)
	case c.HeadDim < 2 || c.HeadDim%2 != 0 || c.HeadDim > 1<<12:
		return fmt.Errorf("model: head dimension %d must be even and positive", c.HeadDim)
	case !(c.RopeTheta > 0) || math.IsInf(c.RopeTheta, 0) || !(c.NormEps > 0) || math.IsInf(c.NormEps, 0):
		return fmt.Errorf("model: rope theta %v and norm eps %v must be positive", c.RopeTheta, c.NormEps)
	}
	if err := c.Rope.validate(); err != nil {
		return err
	}
	if n := c.count(); n > math.MaxInt {
		return fmt.Errorf("model: %d parameters, beyond any use for a program of %d bits", n, strconv.IntSize)
	}
	return nil
}

func (s *RopeScaling) validate() error {
	finite := func(x float64) bool { return x > 0 && !math.IsInf(x, 0) }
	switch {
	case s == nil:
		return nil
	case s.Type != "linear" && s.Type != "llama3":
		return fmt.Errorf("model: unknown rope scaling %q", s.Type)
	case !finite(s.Factor), s.Type == "llama3" && (!finite(s.LowFreq) || !finite(s.HighFreq) || s.HighFreq <= s.LowFreq || s.Original < 1):
		return fmt.Errorf("model: rope scaling %+v", *s)
	}
	return nil
}

// Tensor is one parameter tensor. Names are those of Hugging Face's LlamaForCausalLM; matrices are [out, in] row-major.
type Tensor struct {
	Name  string
	Shape []int // one or two dimensions
	Off   int   // first element in the flat row-major vector of all parameters
}

// Len is the number of elements.
func (t Tensor) Len() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Tensors lists the parameters of c in layout order: embedding, the layers in order, final norm, output matrix if untied.
func (c Config) Tensors() []Tensor {
	var ts []Tensor
	off := 0
	add := func(name string, shape ...int) {
		t := Tensor{name, shape, off}
		off += t.Len()
		ts = append(ts, t)
	}
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	add("model.embed_tokens.weight", c.Vocab, c.Width)
	for i := 0; i < c.Layers; i++ {
		p := fmt.Sprintf("model.layers.%d.", i)
		add(p+"input_layernorm.weight", c.Width)
		add(p+"self_attn.q_proj.weight", q, c.Width)
		add(p+"self_attn.k_proj.weight", kv, c.Width)
		add(p+"self_attn.v_proj.weight", kv, c.Width)
		add(p+"self_attn.o_proj.weight", c.Width, q)
		add(p+"post_attention_layernorm.weight", c.Width)
		add(p+"mlp.gate_proj.weight", c.FFN, c.Width)
		add(p+"mlp.up_proj.weight", c.FFN, c.Width)
		add(p+"mlp.down_proj.weight", c.Width, c.FFN)
	}
	add("model.norm.weight", c.Width)
	if !c.Tied {
		add("lm_head.weight", c.Vocab, c.Width)
	}
	return ts
}

// Params is the number of parameters.
func (c Config) Params() int { return int(c.count()) }

// count is Params where an int is too small for it.
func (c Config) count() (n int64) {
	for _, t := range c.Tensors() {
		size := int64(1)
		for _, d := range t.Shape {
			size *= int64(d)
		}
		n += size
	}
	return n
}
