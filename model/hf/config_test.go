package hf

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sn3/internal/golden"
	"sn3/model"
)

// change returns our config.json of small() with some keys set; a nil value removes the key.
func change(t *testing.T, keys map[string]any) []byte {
	t.Helper()
	m := map[string]any{}
	if err := json.Unmarshal(Config(small(), F32), &m); err != nil {
		t.Fatal(err)
	}
	for k, v := range keys {
		if m[k] = v; v == nil {
			delete(m, k)
		}
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// keys are fields of a config.json.
type keys = map[string]any

func TestParseConfig(t *testing.T) {
	llama3 := keys{"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 64}
	want3 := &model.RopeScaling{Type: "llama3", Factor: 8, LowFreq: 1, HighFreq: 4, Original: 64}
	for _, c := range []struct {
		name string
		set  keys
		want func(*model.Config)
	}{
		{"as written", nil, func(*model.Config) {}},
		{"first Llama", keys{"num_key_value_heads": nil, "head_dim": nil, "rope_theta": nil, "rope_scaling": nil, "rope_parameters": nil, "tie_word_embeddings": nil,
			"rms_norm_eps": nil, "max_position_embeddings": nil},
			func(c *model.Config) {
				c.KVHeads, c.HeadDim, c.RopeTheta, c.Tied, c.NormEps, c.Seq = 3, 22, 10000, false, 1e-6, 2048
			}},
		{"transformers 4, older type", keys{"rope_parameters": nil, "rope_scaling": keys{"type": "linear", "factor": 2.5}},
			func(c *model.Config) { c.Rope = &model.RopeScaling{Type: "linear", Factor: 2.5} }},
		{"transformers 4, llama3", keys{"rope_parameters": nil, "rope_scaling": llama3}, func(c *model.Config) { c.Rope = want3 }},
		{"transformers 5, llama3", keys{"rope_theta": nil, "rope_scaling": nil, "rope_parameters": llama3},
			func(c *model.Config) { c.Rope, c.RopeTheta = want3, 10000 }},
		{"both spellings agree", keys{"rope_scaling": llama3, "rope_parameters": llama3}, func(c *model.Config) { c.Rope = want3 }},
		{"keys that change nothing", keys{"_name_or_path": "x", "torch_dtype": "bfloat16", "dtype": nil, "is_llama_config": true, "rope_interleaved": false,
			"id2label": keys{"0": "LABEL_0"}, "sliding_window": nil, "pruned_heads": keys{}, "eos_token_id": []int{3, 4}, "bos_token_id": 69},
			func(*model.Config) {}},
		{"the first conversions", keys{"architectures": []string{"LLaMAForCausalLM"}, "max_position_embeddings": nil, "max_sequence_length": 16},
			func(c *model.Config) { c.Seq = 16 }},
	} {
		want := small()
		c.want(&want)
		got, err := ParseConfig(change(t, c.set))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v; want %+v", c.name, got, err, want)
		}
	}
}

// What our engines cannot run, or two versions of the library read differently, is refused rather than guessed, and the field
// named.
func TestParseConfigRefuses(t *testing.T) {
	llama3 := func(more keys) keys {
		k := keys{"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 64}
		maps.Copy(k, more)
		return keys{"rope_parameters": nil, "rope_scaling": k}
	}
	for _, c := range []struct {
		name, field string
		set         keys
	}{
		{"another model", "model_type", keys{"model_type": "mistral"}},
		{"no model", "model_type", keys{"model_type": nil}},
		{"another head", "architectures", keys{"architectures": []string{"LlamaForSequenceClassification"}}},
		{"activation", "hidden_act", keys{"hidden_act": "gelu"}},
		{"attention bias", "attention_bias", keys{"attention_bias": true}},
		{"mlp bias", "mlp_bias", keys{"mlp_bias": true}},
		{"dropout", "attention_dropout", keys{"attention_dropout": 0.1}},
		{"quantised", "quantization_config", keys{"quantization_config": keys{"bits": 4}}},
		{"code of its own", "auto_map", keys{"auto_map": keys{"AutoModel": "x.Y"}}},
		{"window", "sliding_window", keys{"sliding_window": 4096}},
		{"unknown", "quantum", keys{"quantum": true}},
		{"in capitals", "Vocab_size", keys{"Vocab_size": 70}},
		{"no heads", "num_attention_heads", keys{"num_attention_heads": nil}},
		{"no width", "hidden_size", keys{"hidden_size": nil}},
		{"no vocabulary", "vocab_size", keys{"vocab_size": 0}},
		{"odd head", "head dimension", keys{"head_dim": 21}},
		{"heads do not divide", "num_attention_heads", keys{"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": nil}},
		{"groups do not divide", "num_key_value_heads", keys{"num_key_value_heads": 2}},
		{"no groups", "num_key_value_heads", keys{"num_key_value_heads": 0}},
		{"unknown rope", "rope_type", keys{"rope_parameters": nil, "rope_scaling": keys{"rope_type": "yarn", "factor": 4}}},
		{"unknown rope field", "rope_scaling: unknown or repeated field mscale", llama3(keys{"mscale": 1})},
		{"unknown new rope", "rope_type", keys{"rope_scaling": nil, "rope_parameters": keys{"rope_type": "longrope"}}},
		{"rope without factor", "factor", keys{"rope_parameters": nil, "rope_scaling": keys{"type": "linear"}}},
		{"factor without rope", "factor", keys{"rope_parameters": keys{"rope_type": "default", "rope_theta": 5e5, "factor": 8}}},
		{"empty llama3", "low_freq_factor", keys{"rope_parameters": nil, "rope_scaling": keys{"rope_type": "llama3", "factor": 8}}},
		{"two types", "rope_type is \"llama3\", type", llama3(keys{"type": "linear"})},
		{"bases differ", "rope_theta", keys{"rope_theta": 1e4}},
		{"scalings differ", "rope_scaling", keys{"rope_scaling": keys{"rope_type": "linear", "factor": 2}}},
		{"partial rotation", "partial_rotary_factor", keys{"partial_rotary_factor": 0.5}},
		{"partial rotation within", "partial_rotary_factor", llama3(keys{"partial_rotary_factor": 0.5})},
		{"types differ", "torch_dtype", keys{"torch_dtype": "bfloat16"}},
		{"lengths differ", "max_sequence_length", keys{"max_sequence_length": 9}},
		{"end of text outside", "eos_token_id", keys{"eos_token_id": 70}},
		{"beginning outside", "bos_token_id", keys{"bos_token_id": []int{1, -1}}},
		{"negative width", "hidden_size", keys{"hidden_size": -66}},
		{"beyond any use", "vocab", keys{"vocab_size": int64(1) << 40}},
		{"text for a number", "vocab_size", keys{"vocab_size": "256"}},
		{"fraction of a layer", "num_hidden_layers", keys{"num_hidden_layers": 1.5}},
	} {
		if got, err := ParseConfig(change(t, c.set)); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.field) {
			t.Errorf("%s: %+v, %v; want an error that names %s", c.name, got, err, c.field)
		}
	}
	for text, field := range map[string]string{`{"vocab_size":1,"vocab_size":2}`: "vocab_size twice", `[]`: "object", `{`: "JSON", ``: "JSON",
		`{"rope_scaling":{"factor":1,"factor":2}}`: "factor"} {
		if _, err := ParseConfig([]byte(text)); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// What the writer says of special tokens is what the reader finds.
func TestSpecialTokens(t *testing.T) {
	for _, want := range []Special{{}, {BOS: []int32{1}, EOS: []int32{2}}, {BOS: []int32{0}, EOS: []int32{3, 69, 0}}} {
		_, got, err := parseConfig(ConfigWith(small(), F32, want))
		if err != nil || !slices.Equal(got.BOS, want.BOS) || !slices.Equal(got.EOS, want.EOS) {
			t.Errorf("%+v came back as %+v, %v", want, got, err)
		}
	}
}

// Every key that a version of transformers asks for is there, with the value that this model has.
func TestConfigKeys(t *testing.T) {
	m := map[string]any{}
	if err := json.Unmarshal(Config(small(), F32), &m); err != nil {
		t.Fatal(err)
	}
	for k, want := range (keys{"architectures": []any{"LlamaForCausalLM"}, "model_type": "llama", "rope_theta": 5e5, "hidden_act": "silu", "attention_bias": false,
		"rope_parameters": map[string]any{"rope_theta": 5e5, "rope_type": "default"}, "rope_scaling": nil, "torch_dtype": "float32", "dtype": "float32", "mlp_bias": false,
		"tie_word_embeddings": true, "bos_token_id": nil, "eos_token_id": nil, "vocab_size": 70.0, "head_dim": 22.0}) {
		if got, ok := m[k]; !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %v, want %v", k, got, want)
		}
	}
}

// transformers takes a number without a point for an integer and complains about it where it wants a fraction.
func TestConfigFractionsHaveAPoint(t *testing.T) {
	c := small()
	c.RopeTheta, c.NormEps, c.Rope = 1e25, 1, &model.RopeScaling{Type: "llama3", Factor: 8, LowFreq: 1, HighFreq: 4, Original: 64}
	text := string(Config(c, F32))
	for _, want := range []string{`"factor": 8.0,`, `"low_freq_factor": 1.0,`, `"high_freq_factor": 4.0,`, `"rope_theta": 1e+25,`, `"rms_norm_eps": 1.0,`,
		`"attention_dropout": 0.0,`, `"original_max_position_embeddings": 64,`} {
		if !strings.Contains(text, want) {
			t.Errorf("config.json lacks %s", want)
		}
	}
}

// cases are the reference's model folders.
var cases = []string{"bf16-weights", "gqa-tied", "hf-init", "ignore-index", "legacy-llama1", "legacy-llama3", "llama3-rope", "long", "mha", "mqa-headdim", "sharded", "train"}

// The reference's own folders: what their config.json says is what their tensors are, also after our writer.
func TestConfigGolden(t *testing.T) {
	for _, name := range cases {
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join(golden.Case(t, "llama", name), "config.json"))
			if err != nil {
				t.Fatal(err)
			}
			c, special, err := parseConfig(raw)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(special.BOS, []int32{1}) || !slices.Equal(special.EOS, []int32{2}) {
				t.Errorf("special tokens %+v", special)
			}
			if again, err := ParseConfig(Config(c, F32)); err != nil || !reflect.DeepEqual(again, c) {
				t.Errorf("%+v became %+v, %v", c, again, err)
			}
			if scaled := strings.Contains(name, "llama3"); scaled != (c.Rope != nil) {
				t.Errorf("rope %+v", c.Rope)
			}
		})
	}
}

func FuzzParseConfig(f *testing.F) {
	c := small()
	f.Add(Config(c, F32))
	c.Rope = &model.RopeScaling{Type: "llama3", Factor: 8, LowFreq: 1, HighFreq: 4, Original: 64}
	f.Add(Config(c, F32))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(b)
		if err != nil {
			return
		}
		if again, err := ParseConfig(Config(c, F32)); err != nil || !reflect.DeepEqual(again, c) {
			t.Fatalf("%+v became %+v, %v", c, again, err)
		}
	})
}

// transformers loads weights in the type that config.json names.
func TestConfigNamesTheType(t *testing.T) {
	for dtype, want := range map[DType]string{F32: "float32", BF16: "bfloat16"} {
		var m map[string]any
		if err := json.Unmarshal(Config(small(), dtype), &m); err != nil {
			t.Fatal(err)
		}
		if m["dtype"] != want || m["torch_dtype"] != want {
			t.Errorf("%s: dtype %v, torch_dtype %v", dtype, m["dtype"], m["torch_dtype"])
		}
	}
}
