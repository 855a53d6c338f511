package hf

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
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
		{"unknown keys", keys{"quantum": true, "torch_dtype": "bfloat16"}, func(*model.Config) {}},
	} {
		want := small()
		c.want(&want)
		got, err := ParseConfig(change(t, c.set))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v; want %+v", c.name, got, err, want)
		}
	}
}

// What our engines cannot run, or two versions of the library read differently, is refused rather than guessed.
func TestParseConfigRefuses(t *testing.T) {
	for name, set := range map[string]keys{
		"another model":       {"model_type": "mistral"},
		"no model":            {"model_type": nil},
		"activation":          {"hidden_act": "gelu"},
		"attention bias":      {"attention_bias": true},
		"mlp bias":            {"mlp_bias": true},
		"no heads":            {"num_attention_heads": nil},
		"odd head":            {"head_dim": 21},
		"heads do not divide": {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": nil},
		"unknown rope":        {"rope_parameters": nil, "rope_scaling": keys{"rope_type": "yarn", "factor": 4}},
		"unknown new rope":    {"rope_scaling": nil, "rope_parameters": keys{"rope_type": "longrope"}},
		"rope without factor": {"rope_parameters": nil, "rope_scaling": keys{"type": "linear"}},
		"empty llama3":        {"rope_parameters": nil, "rope_scaling": keys{"rope_type": "llama3", "factor": 8}},
		"bases differ":        {"rope_theta": 1e4},
		"scalings differ":     {"rope_scaling": keys{"rope_type": "linear", "factor": 2}},
		"partial rotation":    {"partial_rotary_factor": 0.5},
		"negative width":      {"hidden_size": -66},
		"beyond any use":      {"vocab_size": 1 << 40},
		"text for a number":   {"vocab_size": "256"},
	} {
		if c, err := ParseConfig(change(t, set)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %+v, %v", name, c, err)
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

// The reference's own folders: what their config.json says is what their tensors are, also after our writer.
func TestConfigGolden(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(golden.Dir(t, "llama"), "*", "config.json"))
	if err != nil || len(dirs) < 11 {
		t.Fatalf("%d folders, %v", len(dirs), err)
	}
	for _, path := range dirs {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		c, err := ParseConfig(raw)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if again, err := ParseConfig(Config(c, F32)); err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%s: %+v became %+v, %v", path, c, again, err)
		}
		if scaled := strings.Contains(path, "llama3"); scaled != (c.Rope != nil) {
			t.Errorf("%s: rope %+v", path, c.Rope)
		}
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
