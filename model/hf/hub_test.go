package hf

import (
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sn3/model"
)

// published are config.json files as they stand on the Hub, in the spelling of the library that wrote them, without names of
// people and folders.
var published = map[string]string{
	"Llama 1 7B, first conversion": `{"architectures": ["LLaMAForCausalLM"], "bos_token_id": 0, "eos_token_id": 1, "hidden_act": "silu", "hidden_size": 4096,
		"intermediate_size": 11008, "initializer_range": 0.02, "max_sequence_length": 2048, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 32,
		"pad_token_id": -1, "rms_norm_eps": 1e-06, "torch_dtype": "float16", "transformers_version": "4.27.0.dev0", "use_cache": true, "vocab_size": 32000}`,
	"Llama 2 7B": `{"_name_or_path": "x", "architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096,
		"initializer_range": 0.02, "intermediate_size": 11008, "max_position_embeddings": 4096, "model_type": "llama", "num_attention_heads": 32,
		"num_hidden_layers": 32, "num_key_value_heads": 32, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": null, "tie_word_embeddings": false,
		"torch_dtype": "float16", "transformers_version": "4.31.0.dev0", "use_cache": true, "vocab_size": 32000}`,
	"Llama 3 8B": `{"architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 128000, "eos_token_id": 128001,
		"hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336, "max_position_embeddings": 8192, "model_type": "llama",
		"num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": null,
		"rope_theta": 500000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.40.0.dev0", "use_cache": true, "vocab_size": 128256}`,
	"Llama 3.1 8B Instruct": `{"architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 128000,
		"eos_token_id": [128001, 128008, 128009], "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336,
		"max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
		"pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
		"original_max_position_embeddings": 8192, "rope_type": "llama3"}, "rope_theta": 500000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
		"transformers_version": "4.42.3", "use_cache": true, "vocab_size": 128256}`,
	"Llama 3.2 1B": `{"architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 128000, "eos_token_id": 128001,
		"head_dim": 64, "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 131072,
		"mlp_bias": false, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8, "pretraining_tp": 1,
		"rms_norm_eps": 1e-05, "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
		"rope_type": "llama3"}, "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version": "4.45.0.dev0",
		"use_cache": true, "vocab_size": 128256}`,
	"Llama 3.2 1B, saved by transformers 5": `{"architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 128000,
		"dtype": "bfloat16", "eos_token_id": 128001, "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 8192,
		"max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
		"pad_token_id": null, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_parameters": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
		"original_max_position_embeddings": 8192, "rope_theta": 500000.0, "rope_type": "llama3"}, "tie_word_embeddings": true, "transformers_version": "5.0.0",
		"use_cache": true, "vocab_size": 128256}`,
	"TinyLlama 1.1B": `{"architectures": ["LlamaForCausalLM"], "attention_bias": false, "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 2048,
		"initializer_range": 0.02, "intermediate_size": 5632, "max_position_embeddings": 2048, "model_type": "llama", "num_attention_heads": 32,
		"num_hidden_layers": 22, "num_key_value_heads": 4, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 10000.0,
		"tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.35.0", "use_cache": true, "vocab_size": 32000}`,
	"SmolLM 135M": `{"_name_or_path": "x", "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 0, "eos_token_id": 0,
		"hidden_act": "silu", "hidden_size": 576, "initializer_range": 0.02, "intermediate_size": 1536, "max_position_embeddings": 2048, "model_type": "llama",
		"num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": null,
		"rope_theta": 10000.0, "tie_word_embeddings": true, "torch_dtype": "float32", "transformers_version": "4.41.2", "use_cache": true, "vocab_size": 49152}`,
	"SmolLM2 360M Instruct": `{"architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
		"hidden_act": "silu", "hidden_size": 960, "initializer_range": 0.02, "intermediate_size": 2560, "is_llama_config": true, "max_position_embeddings": 8192,
		"mlp_bias": false, "model_type": "llama", "num_attention_heads": 15, "num_hidden_layers": 32, "num_key_value_heads": 5, "pad_token_id": 2,
		"pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_interleaved": false, "rope_scaling": null, "rope_theta": 100000, "tie_word_embeddings": true,
		"torch_dtype": "bfloat16", "transformers_version": "4.42.3", "transformers.js_config": {"dtype": "q4", "kv_cache_dtype": {"q4f16": "float16"}},
		"use_cache": true, "vocab_size": 49152}`,
	"DeepSeek Coder 6.7B": `{"architectures": ["LlamaForCausalLM"], "bos_token_id": 32013, "eos_token_id": 32014, "hidden_act": "silu", "hidden_size": 4096,
		"initializer_range": 0.02, "intermediate_size": 11008, "max_position_embeddings": 16384, "model_type": "llama", "num_attention_heads": 32,
		"num_hidden_layers": 32, "num_key_value_heads": 32, "pretraining_tp": 1, "rms_norm_eps": 1e-06, "rope_scaling": {"factor": 4.0, "type": "linear"},
		"rope_theta": 100000, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.33.1", "use_cache": true, "vocab_size": 32256}`,
	"Mistral 7B v0.3": `{"architectures": ["MistralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
		"hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336, "max_position_embeddings": 32768, "model_type": "mistral",
		"num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "sliding_window": null,
		"tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.42.0.dev0", "use_cache": true, "vocab_size": 32768}`,
	"Qwen2 0.5B": `{"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151643, "hidden_act": "silu",
		"hidden_size": 896, "initializer_range": 0.02, "intermediate_size": 4864, "max_position_embeddings": 131072, "max_window_layers": 24, "model_type": "qwen2",
		"num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 131072,
		"tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version": "4.40.1", "use_cache": true, "use_sliding_window": false, "vocab_size": 151936}`,
	"Gemma 2B": `{"architectures": ["GemmaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 2, "eos_token_id": 1, "head_dim": 256,
		"hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 16384,
		"max_position_embeddings": 8192, "model_type": "gemma", "num_attention_heads": 8, "num_hidden_layers": 18, "num_key_value_heads": 1, "pad_token_id": 0,
		"rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 10000.0, "torch_dtype": "bfloat16", "transformers_version": "4.38.0.dev0", "use_cache": true,
		"vocab_size": 256000}`,
	"Phi 3 mini": `{"architectures": ["Phi3ForCausalLM"], "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"}, "embd_pdrop": 0.0, "model_type": "phi3",
		"hidden_size": 3072, "vocab_size": 32064}`,
	"Llama 4 Scout": `{"architectures": ["Llama4ForConditionalGeneration"], "model_type": "llama4", "text_config": {"model_type": "llama4_text"}, "boi_token_index": 200080}`,
}

// What the Hub holds is read as what it is, and what is no Llama is refused as what it is, not by the first key that differs.
func TestPublishedConfigs(t *testing.T) {
	llama := func(vocab, width, layers, heads, kv, dim, ffn, seq int, theta, eps float64, tied bool, rope *model.RopeScaling) model.Config {
		return model.Config{Vocab: vocab, Width: width, Layers: layers, Heads: heads, KVHeads: kv, HeadDim: dim, FFN: ffn, Seq: seq, RopeTheta: theta, NormEps: eps,
			Tied: tied, Rope: rope}
	}
	llama3 := func(factor float64) *model.RopeScaling {
		return &model.RopeScaling{Type: "llama3", Factor: factor, LowFreq: 1, HighFreq: 4, Original: 8192}
	}
	one := llama(128256, 2048, 16, 32, 8, 64, 8192, 131072, 5e5, 1e-5, true, llama3(32))
	reads := map[string]model.Config{
		"Llama 1 7B, first conversion":          llama(32000, 4096, 32, 32, 32, 128, 11008, 2048, 1e4, 1e-6, false, nil),
		"Llama 2 7B":                            llama(32000, 4096, 32, 32, 32, 128, 11008, 4096, 1e4, 1e-5, false, nil),
		"Llama 3 8B":                            llama(128256, 4096, 32, 32, 8, 128, 14336, 8192, 5e5, 1e-5, false, nil),
		"Llama 3.1 8B Instruct":                 llama(128256, 4096, 32, 32, 8, 128, 14336, 131072, 5e5, 1e-5, false, llama3(8)),
		"Llama 3.2 1B":                          one,
		"Llama 3.2 1B, saved by transformers 5": one,
		"TinyLlama 1.1B":                        llama(32000, 2048, 22, 32, 4, 64, 5632, 2048, 1e4, 1e-5, false, nil),
		"SmolLM 135M":                           llama(49152, 576, 30, 9, 3, 64, 1536, 2048, 1e4, 1e-5, true, nil),
		"SmolLM2 360M Instruct":                 llama(49152, 960, 32, 15, 5, 64, 2560, 8192, 1e5, 1e-5, true, nil),
		"DeepSeek Coder 6.7B":                   llama(32256, 4096, 32, 32, 32, 128, 11008, 16384, 1e5, 1e-6, false, &model.RopeScaling{Type: "linear", Factor: 4}),
	}
	refuses := map[string]string{"Mistral 7B v0.3": `"mistral", architectures are ["MistralForCausalLM"]`, "Qwen2 0.5B": `"qwen2", architectures are ["Qwen2ForCausalLM"]`,
		"Gemma 2B": `"gemma"`, "Phi 3 mini": `"phi3"`, "Llama 4 Scout": `"llama4"`}
	for _, name := range slices.Sorted(maps.Keys(published)) {
		got, err := ParseConfig([]byte(published[name]))
		if want, ok := reads[name]; ok {
			if strconv.IntSize == 32 && want.Width == 4096 {
				continue // 7 billion parameters have no place there
			}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %+v, %v; want %+v", name, got, err, want)
			}
			continue
		}
		if !errors.Is(err, ErrFormat) || refuses[name] == "" || !strings.Contains(err.Error(), "model_type is "+refuses[name]) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(published) != len(reads)+len(refuses) {
		t.Errorf("%d configurations, %d verdicts", len(published), len(reads)+len(refuses))
	}
}

// What makers of Llamas have set in config.json that is another computation: refused with the field's name.
func TestPublishedChanges(t *testing.T) {
	for _, c := range []struct {
		name, says string
		set        keys
	}{
		{"head_dim null", "", keys{"head_dim": json.RawMessage("null")}},
		{"no scaling, named default", "", keys{"rope_scaling": keys{"rope_type": "default"}}},
		{"both spellings of the type", "", keys{"dtype": "bfloat16"}},
		{"kv heads null", "", keys{"num_key_value_heads": json.RawMessage("null")}},
		{"dynamic NTK", `unknown rope_type "dynamic"`, keys{"rope_scaling": keys{"type": "dynamic", "factor": 2}}},
		{"YaRN", `unknown rope_type "yarn"`, keys{"rope_scaling": keys{"type": "yarn", "factor": 16, "original_max_position_embeddings": 4096, "finetuned": true}}},
		{"long rope", `unknown rope_type "longrope"`, keys{"rope_scaling": keys{"rope_type": "longrope", "long_factor": []float64{1, 2}, "short_factor": []float64{1, 2}}}},
		{"type of scaling is a number", "rope_type", keys{"rope_scaling": keys{"rope_type": 3, "factor": 2}}},
		{"biases", "attention_bias is true", keys{"attention_bias": true}},
		{"base of the model only", `architectures are ["LlamaModel"]`, keys{"architectures": []string{"LlamaModel"}}},
		{"a classifier", "LlamaForSequenceClassification", keys{"architectures": []string{"LlamaForSequenceClassification"}, "num_labels": 2}},
		{"quantised", "quantization_config", keys{"quantization_config": keys{"quant_method": "gptq", "bits": 4}}},
		{"types that differ", "dtype is float32, torch_dtype is bfloat16", keys{"dtype": "float32"}},
		{"a type that is none", "model_type", keys{"model_type": 7}},
	} {
		m := keys{}
		if err := json.Unmarshal([]byte(published["TinyLlama 1.1B"]), &m); err != nil {
			t.Fatal(err)
		}
		maps.Copy(m, c.set)
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		_, err = ParseConfig(b)
		if (err == nil) != (c.says == "") || err != nil && (!errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
}
