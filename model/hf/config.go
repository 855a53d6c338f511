package hf

import (
	"encoding/json"
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
	Seq       int      `json:"max_position_embeddings"`
	Tied      bool     `json:"tie_word_embeddings"`
	Theta     *float64 `json:"rope_theta"`
	Eps       *float64 `json:"rms_norm_eps"`
	Scaling   *rope    `json:"rope_scaling"`
	Params    *rope    `json:"rope_parameters"`
	Partial   *float64 `json:"partial_rotary_factor"`
	Act       string   `json:"hidden_act"`
	AttnBias  bool     `json:"attention_bias"`
	MLPBias   bool     `json:"mlp_bias"`
}

// ParseConfig reads config.json. What our engines cannot run (biases, another activation, an unknown rope type) is refused.
func ParseConfig(b []byte) (model.Config, error) {
	var f fields
	if err := json.Unmarshal(b, &f); err != nil {
		return model.Config{}, invalid("config.json: %v", err)
	}
	switch {
	case f.ModelType != "llama":
		return model.Config{}, invalid("config.json: model type %q, only llama can be read", f.ModelType)
	case f.Act != "" && f.Act != "silu" && f.Act != "swish":
		return model.Config{}, invalid("config.json: activation %q", f.Act)
	case f.AttnBias || f.MLPBias:
		return model.Config{}, invalid("config.json: biases are not supported")
	case f.Heads < 1:
		return model.Config{}, invalid("config.json: %d heads", f.Heads)
	case f.HeadDim == nil && f.Width%f.Heads != 0:
		return model.Config{}, invalid("config.json: a width of %d is not a multiple of %d heads, and there is no head_dim", f.Width, f.Heads)
	case f.Partial != nil && *f.Partial != 1:
		return model.Config{}, invalid("config.json: rotary embeddings over a part of a head are not supported")
	}
	c := model.Config{Vocab: f.Vocab, Width: f.Width, Layers: f.Layers, Heads: f.Heads, KVHeads: f.Heads, HeadDim: f.Width / f.Heads,
		FFN: f.FFN, Seq: f.Seq, Tied: f.Tied, RopeTheta: 10000, NormEps: 1e-6}
	if f.KVHeads != nil {
		c.KVHeads = *f.KVHeads
	}
	if f.HeadDim != nil {
		c.HeadDim = *f.HeadDim
	}
	if f.Eps != nil {
		c.NormEps = *f.Eps
	}
	if f.Theta != nil {
		c.RopeTheta = *f.Theta
	}
	if err := f.rope(&c); err != nil {
		return model.Config{}, err
	}
	if c.Seq == 0 {
		c.Seq = 2048 // the library's default
	}
	if err := c.Validate(); err != nil {
		return model.Config{}, invalid("config.json: %v", err)
	}
	return c, nil
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

// scaling is what a scaling object says, nil for none.
func (r *rope) scaling() (*model.RopeScaling, error) {
	if r == nil {
		return nil, nil
	}
	kind := r.RopeType
	if kind == "" {
		kind = r.Type
	}
	if r.Partial != nil && *r.Partial != 1 {
		return nil, invalid("config.json: rotary embeddings over a part of a head are not supported")
	}
	switch kind {
	case "", "default":
		return nil, nil
	case "linear":
		if !(r.Factor > 0) {
			return nil, invalid("config.json: rope factor %v", r.Factor)
		}
		return &model.RopeScaling{Type: kind, Factor: r.Factor}, nil
	case "llama3":
		if !(r.Factor > 0) || !(r.Low > 0) || !(r.High > r.Low) || r.Original < 1 {
			return nil, invalid("config.json: rope scaling %+v", *r)
		}
		return &model.RopeScaling{Type: kind, Factor: r.Factor, LowFreq: r.Low, HighFreq: r.High, Original: r.Original}, nil
	}
	return nil, invalid("config.json: unknown rope type %q", kind)
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

// torchTypes are torch's names of the element types.
var torchTypes = map[DType]string{F32: "float32", BF16: "bfloat16"}

// Config writes config.json for weights of the given type so that transformers 4 and 5 both read it.
func Config(c model.Config, dtype DType) []byte {
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
		"bos_token_id": nil, "eos_token_id": nil, "pad_token_id": nil, "torch_dtype": torchTypes[dtype], "dtype": torchTypes[dtype],
	}, "", "  ")
	if err != nil { // numbers, strings and booleans always encode
		return nil
	}
	return append(b, '\n')
}
