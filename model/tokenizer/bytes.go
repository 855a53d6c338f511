package tokenizer

import "encoding/json"

// bytesName is the name of the tokenizer without a file.
const bytesName = "bytes"

// bytesTokenizer has 256 tokens, the bytes, and no special ones.
type bytesTokenizer struct{}

func (bytesTokenizer) Vocab() int         { return 256 }
func (bytesTokenizer) BOS() (int32, bool) { return 0, false }
func (bytesTokenizer) EOS() (int32, bool) { return 0, false }
func (bytesTokenizer) Special(int32) bool { return false }
func (bytesTokenizer) Name() string       { return bytesName }

func (bytesTokenizer) Encode(dst []int32, text []byte) []int32 {
	for _, b := range text {
		dst = append(dst, int32(b))
	}
	return dst
}

func (t bytesTokenizer) EncodeText(dst []int32, text []byte) []int32 { return t.Encode(dst, text) }

func (bytesTokenizer) Decode(dst []byte, ids []int32) []byte {
	for _, id := range ids {
		if id >= 0 && id < 256 {
			dst = append(dst, byte(id))
		}
	}
	return dst
}

// Alphabet is the printable character that byte-level BPE writes for each byte: GPT-2's bytes_to_unicode
// (openai/gpt-2, src/encoder.py). Printable Latin-1 stands for itself, the rest is moved to 256 and up, in order.
func Alphabet() [256]rune {
	var out [256]rune
	next := rune(256)
	for b := range 256 {
		if b >= '!' && b <= '~' || b >= 0xA1 && b <= 0xAC || b >= 0xAE && b <= 0xFF {
			out[b] = rune(b)
			continue
		}
		out[b] = next
		next++
	}
	return out
}

// Files implements Source: a byte-level BPE without merges whose ids are the byte values.
func (bytesTokenizer) Files() map[string][]byte {
	vocab := map[string]int{}
	for b, r := range Alphabet() {
		vocab[string(r)] = b
	}
	level := map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}
	tok := map[string]any{"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": []any{}, "normalizer": nil,
		"pre_tokenizer": level, "post_processor": nil, "decoder": level,
		"model": map[string]any{"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil,
			"end_of_word_suffix": nil, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": []any{}}}
	return map[string][]byte{tokenizerFile: encode(tok), configFile: encode(fileConfig())}
}

// fileConfig is the tokenizer_config.json of a tokenizer that came without one.
func fileConfig() map[string]any {
	// transformers 4 adds token_type_ids unless told otherwise, and then its own generate refuses them
	return map[string]any{"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false, "model_max_length": 1 << 30,
		"model_input_names": []string{"input_ids", "attention_mask"}}
}

// encode writes JSON with sorted keys, so that every validator publishes the same bytes.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil { // maps of strings, numbers and booleans always encode
		return nil
	}
	return append(b, '\n')
}
