package hf

import (
	"cmp"
	"encoding/json"
	"errors"
	"reflect"
	"strconv"
	"strings"

	"sn3/model"
)

// rope is the scaling object in either spelling.
type rope struct {
	Theta    *float64 `json:"rope_theta"`
	Partial  *float64 `json:"partial_rotary_factor"`
	RopeType string   `json:"rope_type"`
	Type     string   `json:"type"`
	Factor   float64  `json:"factor"`
	Low      float64  `json:"low_freq_factor"`
	High     float64  `json:"high_freq_factor"`
	Original int      `json:"original_max_position_embeddings"`
}

// fields are the keys of config.json that matter, of transformers 4 and 5 (golden/llama/README.md, "Config keys").
type fields struct {
	ModelType string   `json:"model_type"`
	Vocab     int      `json:"vocab_size"`
	Width     int      `json:"hidden_size"`
	Layers    int      `json:"num_hidden_layers"`
	Heads     int      `json:"num_attention_heads"`
	KVHeads   *int     `json:"num_key_value_heads"`
	HeadDim   *int     `json:"head_dim"`
	FFN       int      `json:"intermediate_size"`
	Seq       *int     `json:"max_position_embeddings"`
	OldSeq    *int     `json:"max_sequence_length"` // in some of the first conversions
	Tied      bool     `json:"tie_word_embeddings"`
	Theta     *float64 `json:"rope_theta"`
	Eps       *float64 `json:"rms_norm_eps"`
	Scaling   *rope    `json:"rope_scaling"`
	Params    *rope    `json:"rope_parameters"`
	Act       string   `json:"hidden_act"`
	DType     *string  `json:"dtype"`
	TorchType *string  `json:"torch_dtype"`
	BOS       ids      `json:"bos_token_id"`
	EOS       ids      `json:"eos_token_id"`
}

// Special are the tokens that a folder gives a meaning, each list possibly empty.
type Special struct {
	BOS, EOS []int32
}

// ParseConfig reads config.json. A field that is missing, unknown, given twice or contradicted, or that asks for what our
// engines do not compute (biases, another activation, an unknown rope type) is an ErrFormat that names it. Keys that change
// nothing are let pass: they are listed in keys.go.
func ParseConfig(b []byte) (model.Config, error) {
	c, _, err := parseConfig(b)
	return c, err
}

func parseConfig(b []byte) (c model.Config, s Special, err error) {
	if err := checkKeys(b); err != nil {
		return c, s, err
	}
	var f fields
	if err := json.Unmarshal(b, &f); err != nil {
		return c, s, invalid("config.json: %v", err)
	}
	if err := f.check(); err != nil {
		return c, s, err
	}
	c = model.Config{Vocab: f.Vocab, Width: f.Width, Layers: f.Layers, Heads: f.Heads, KVHeads: f.Heads, HeadDim: f.Width / f.Heads,
		FFN: f.FFN, Seq: 2048, Tied: f.Tied, RopeTheta: 10000, NormEps: 1e-6} // where a key is missing: LlamaConfig's own defaults
	set(&c.KVHeads, f.KVHeads)
	set(&c.HeadDim, f.HeadDim)
	set(&c.NormEps, f.Eps)
	set(&c.Seq, f.OldSeq)
	set(&c.Seq, f.Seq)
	if err := f.rope(&c); err != nil {
		return model.Config{}, s, err
	}
	if err := c.Validate(); err != nil {
		return model.Config{}, s, invalid("config.json: %v", err)
	}
	if err := errors.Join(f.BOS.within(c.Vocab, "config.json: bos_token_id"), f.EOS.within(c.Vocab, "config.json: eos_token_id")); err != nil {
		return model.Config{}, s, err
	}
	return c, Special{f.BOS, f.EOS}, nil
}

func set[T any](dst, src *T) {
	if src != nil {
		*dst = *src
	}
}

// check refuses what cannot be a Llama of ours, before anything is computed from it.
func (f *fields) check() error {
	for _, x := range []struct {
		name string
		n    int
	}{{"vocab_size", f.Vocab}, {"hidden_size", f.Width}, {"num_hidden_layers", f.Layers}, {"num_attention_heads", f.Heads}, {"intermediate_size", f.FFN}} {
		if x.n < 1 {
			return invalid("config.json: %s is missing or not positive (%d)", x.name, x.n)
		}
	}
	switch {
	case f.ModelType == "": // another one: checkFamily
		return invalid("config.json: model_type is missing, only llama can be read")
	case f.Act != "" && f.Act != "silu" && f.Act != "swish":
		return invalid("config.json: hidden_act is %q, only silu can be computed", f.Act)
	case f.HeadDim == nil && f.Width%f.Heads != 0:
		return invalid("config.json: hidden_size %d is not a multiple of num_attention_heads %d, and there is no head_dim", f.Width, f.Heads)
	case f.KVHeads != nil && (*f.KVHeads < 1 || f.Heads%*f.KVHeads != 0):
		return invalid("config.json: num_attention_heads %d is not a multiple of num_key_value_heads %d", f.Heads, *f.KVHeads)
	}
	return errors.Join(agree(f.Seq, f.OldSeq, "max_position_embeddings", "max_sequence_length"), agree(f.DType, f.TorchType, "dtype", "torch_dtype"))
}

// rope reads the rotary settings of transformers 4 (rope_theta, rope_scaling) and 5 (rope_parameters). A file may carry both
// only if they say the same: versions of the library differ in which of them they follow.
func (f *fields) rope(c *model.Config) error {
	var thetas []float64
	if f.Theta != nil {
		thetas = append(thetas, *f.Theta)
	}
	var scalings []*model.RopeScaling
	for _, r := range []*rope{f.Scaling, f.Params} {
		if r == nil {
			continue
		}
		s, err := r.scaling()
		if err != nil {
			return err
		}
		scalings = append(scalings, s)
		if r.Theta != nil {
			thetas = append(thetas, *r.Theta)
		}
	}
	for _, t := range thetas {
		if t != thetas[0] {
			return invalid("config.json: rope_theta is %v and %v", thetas[0], t)
		}
		c.RopeTheta = t
	}
	for _, s := range scalings {
		if !reflect.DeepEqual(s, scalings[0]) {
			return invalid("config.json: rope_scaling and rope_parameters differ")
		}
		c.Rope = s
	}
	return nil
}

// kind is the rope type in either spelling: "default", "linear" or "llama3".
func (r *rope) kind() (string, error) {
	kind := cmp.Or(r.RopeType, r.Type, "default")
	switch {
	case r.Type != "" && r.Type != kind:
		return "", invalid("config.json: rope_type is %q, type is %q", r.RopeType, r.Type)
	case kind != "default" && kind != "linear" && kind != "llama3":
		return "", invalid("config.json: unknown rope_type %q; default, linear and llama3 can be computed", kind)
	}
	return kind, nil
}

// scaling is what a scaling object says, nil for none.
func (r *rope) scaling() (*model.RopeScaling, error) {
	kind, err := r.kind()
	switch {
	case err != nil:
		return nil, err
	case r.Partial != nil && *r.Partial != 1:
		return nil, invalid("config.json: partial_rotary_factor is %v; this engine rotates whole heads", *r.Partial)
	case kind == "default":
		if r.Factor != 0 && r.Factor != 1 || r.Low != 0 || r.High != 0 {
			return nil, invalid("config.json: rope_type is %q, but there are the factors %v, %v and %v", kind, r.Factor, r.Low, r.High)
		}
		return nil, nil
	case kind == "linear":
		if !(r.Factor > 0) || r.Low != 0 || r.High != 0 {
			return nil, invalid("config.json: rope_type is linear with factor %v, low_freq_factor %v, high_freq_factor %v", r.Factor, r.Low, r.High)
		}
		return &model.RopeScaling{Type: kind, Factor: r.Factor}, nil
	}
	if !(r.Factor > 0) || !(r.Low > 0) || !(r.High > r.Low) || r.Original < 1 {
		return nil, invalid("config.json: rope_type is llama3 with factor %v, low_freq_factor %v, high_freq_factor %v, original_max_position_embeddings %d",
			r.Factor, r.Low, r.High, r.Original)
	}
	return &model.RopeScaling{Type: kind, Factor: r.Factor, LowFreq: r.Low, HighFreq: r.High, Original: r.Original}, nil
}

// float is written with a point: transformers tells 8 from 8.0 and complains about the former.
type float float64

// MarshalJSON implements json.Marshaler.
func (f float) MarshalJSON() ([]byte, error) {
	s := strconv.FormatFloat(float64(f), 'g', -1, 64)
	if !strings.ContainsAny(s, ".eE") {
		s += ".0"
	}
	return []byte(s), nil
}

// one is a single id as a number, several as a list.
func one(ids []int32) any {
	switch len(ids) {
	case 0:
		return nil
	case 1:
		return ids[0]
	}
	return ids
}

// torchTypes are torch's names of the element types.
var torchTypes = map[DType]string{F32: "float32", BF16: "bfloat16"}

// Config writes config.json for weights of the given type so that transformers 4 and 5 both read it.
func Config(c model.Config, dtype DType) []byte { return ConfigWith(c, dtype, Special{}) }

// ConfigWith is Config for a model with these special tokens.
func ConfigWith(c model.Config, dtype DType, special Special) []byte {
	params := map[string]any{"rope_theta": float(c.RopeTheta), "rope_type": "default"}
	var scaling any
	if s := c.Rope; s != nil {
		old := map[string]any{"rope_type": s.Type, "factor": float(s.Factor)}
		if s.Type == "llama3" {
			old["low_freq_factor"], old["high_freq_factor"], old["original_max_position_embeddings"] = float(s.LowFreq), float(s.HighFreq), s.Original
		}
		scaling = old
		for k, v := range old {
			params[k] = v
		}
	}
	b, err := json.MarshalIndent(map[string]any{
		"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama", "vocab_size": c.Vocab, "hidden_size": c.Width,
		"num_hidden_layers": c.Layers, "num_attention_heads": c.Heads, "num_key_value_heads": c.KVHeads, "head_dim": c.HeadDim,
		"intermediate_size": c.FFN, "max_position_embeddings": c.Seq, "tie_word_embeddings": c.Tied, "rope_theta": float(c.RopeTheta),
		"rope_scaling": scaling, "rope_parameters": params, "rms_norm_eps": float(c.NormEps), "hidden_act": "silu", "attention_bias": false,
		"mlp_bias": false, "attention_dropout": float(0), "initializer_range": 0.02, "pretraining_tp": 1, "use_cache": true,
		"bos_token_id": one(special.BOS), "eos_token_id": one(special.EOS), "pad_token_id": nil, "torch_dtype": torchTypes[dtype], "dtype": torchTypes[dtype],
	}, "", "  ")
	if err != nil { // numbers, strings and booleans always encode
		return nil
	}
	return append(b, '\n')
}
