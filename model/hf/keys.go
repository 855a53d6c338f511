package hf

import (
	"encoding/json"
	"slices"
	"strings"
)

// silent are the keys that transformers and well-known converters write into config.json and that change neither the forward
// pass nor its gradient: who wrote it, in which type (every tensor says its own), what training began with, and how its own
// generate and its own outputs behave. transformers 4 could write all of its PretrainedConfig.
var silent = split(`_attn_implementation _attn_implementation_autoset _commit_hash _flash_attn_2_enabled _name_or_path
 transformers_version torch_dtype dtype initializer_range pretraining_tp use_cache pad_token_id sep_token_id
 decoder_start_token_id is_llama_config transformers.js_config unsloth_fixed unsloth_version

 bad_words_ids begin_suppress_tokens chunk_size_feed_forward cross_attention_hidden_size diversity_penalty do_sample
 early_stopping encoder_no_repeat_ngram_size exponential_decay_length_penalty finetuning_task forced_bos_token_id
 forced_eos_token_id id2label is_decoder label2id length_penalty max_length min_length no_repeat_ngram_size num_beam_groups
 num_beams num_return_sequences output_attentions output_hidden_states output_scores prefix problem_type remove_invalid_values
 repetition_penalty return_dict return_dict_in_generate suppress_tokens task_specific_params temperature tf_legacy_loss
 tie_encoder_decoder tokenizer_class top_k top_p torchscript typical_p use_bfloat16`)

// read are the keys that fields takes.
var read = split(`model_type vocab_size hidden_size num_hidden_layers num_attention_heads num_key_value_heads head_dim
 intermediate_size max_position_embeddings max_sequence_length tie_word_embeddings rope_theta rms_norm_eps rope_scaling
 rope_parameters hidden_act bos_token_id eos_token_id architectures`)

// inert are keys that would change the computation, with the values (in JSON) that say they do not.
var inert = map[string][]string{
	"attention_bias":        {"false", "null"},
	"mlp_bias":              {"false", "null"},
	"attention_dropout":     {"0", "0.0", "null"},
	"partial_rotary_factor": {"1", "1.0", "null"},
	"rope_interleaved":      {"false", "null"},
	"pruned_heads":          {"{}", "null"},
	"add_cross_attention":   {"false", "null"},
	"is_encoder_decoder":    {"false", "null"},
	"sliding_window":        {"null"},
	"use_sliding_window":    {"false", "null"},
	"quantization_config":   {"null"},
	"auto_map":              {"null", "{}"},
}

// ropeKeys are the keys of a scaling object.
var ropeKeys = split("rope_theta partial_rotary_factor rope_type type factor low_freq_factor high_freq_factor original_max_position_embeddings")

func split(s string) map[string]bool {
	m := map[string]bool{}
	for _, k := range strings.Fields(s) {
		m[k] = true
	}
	return m
}

// checkKeys refuses a key twice, one that is not known, and one whose value asks for what our engines do not compute.
func checkKeys(b []byte) error {
	if !json.Valid(b) {
		return invalid("config.json is not JSON")
	}
	if err := checkFamily(b); err != nil {
		return err
	}
	seen := map[string]bool{}
	return eachField(b, func(key string, raw []byte) error {
		if seen[key] {
			return invalid("config.json: %s twice", key)
		}
		seen[key] = true
		switch want, fixed := inert[key]; {
		case fixed && !slices.Contains(want, string(raw)):
			return invalid("config.json: %s is %.60s; this engine computes a Llama with %s only", key, raw, want[0])
		case fixed, silent[key]:
			return nil
		case key == "rope_scaling" || key == "rope_parameters":
			return checkRopeKeys(key, raw)
		case !read[key]:
			return invalid("config.json: unknown field %s (%.60s): it may change what the model computes; if it does not, remove it", key, raw)
		}
		return nil
	})
}

// checkFamily names another architecture, whose first key that a Llama has not would else be called unknown.
func checkFamily(b []byte) error {
	var f struct {
		ModelType string   `json:"model_type"`
		Classes   []string `json:"architectures"`
	}
	if json.Unmarshal(b, &f) != nil {
		return nil // parseConfig says what is wrong
	}
	isLlama := func(class string) bool { return strings.EqualFold(class, "LlamaForCausalLM") } // LLaMAForCausalLM at first
	if f.ModelType != "" && f.ModelType != "llama" || len(f.Classes) > 0 && !slices.ContainsFunc(f.Classes, isLlama) {
		return invalid("config.json: model_type is %q, architectures are %q: only a Llama (llama, LlamaForCausalLM) can be read", f.ModelType, f.Classes)
	}
	return nil
}

func checkRopeKeys(object string, raw []byte) error {
	if string(raw) == "null" {
		return nil
	}
	var r rope
	if json.Unmarshal(raw, &r) == nil { // else parseConfig says what is wrong
		if _, err := r.kind(); err != nil {
			return err // an unknown type has fields of its own
		}
	}
	seen := map[string]bool{}
	return eachField(raw, func(key string, _ []byte) error {
		if seen[key] || !ropeKeys[key] {
			return invalid("config.json: %s: unknown or repeated field %s", object, key)
		}
		seen[key] = true
		return nil
	})
}

// agree compares two spellings of one setting; either may be missing.
func agree[T comparable](a, b *T, nameA, nameB string) error {
	if a != nil && b != nil && *a != *b {
		return invalid("config.json: %s is %v, %s is %v", nameA, *a, nameB, *b)
	}
	return nil
}

// ids are token ids in config.json or generation_config.json: null, one or a list.
type ids []int32

// UnmarshalJSON implements json.Unmarshaler.
func (x *ids) UnmarshalJSON(b []byte) error {
	*x = nil
	if string(b) == "null" {
		return nil
	}
	if b[0] == '[' {
		return json.Unmarshal(b, (*[]int32)(x))
	}
	var one int32
	if err := json.Unmarshal(b, &one); err != nil {
		return err
	}
	*x = ids{one}
	return nil
}

// within refuses ids that the vocabulary does not have.
func (x ids) within(vocab int, key string) error {
	for _, id := range x {
		if id < 0 || int(id) >= vocab {
			return invalid("%s: token %d of a vocabulary of %d", key, id, vocab)
		}
	}
	return nil
}
