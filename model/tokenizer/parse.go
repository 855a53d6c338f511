package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
)

// maxID bounds the ids of a file, and with them the tables that Parse makes: four million, sixteen times the largest in use.
const maxID = 1<<22 - 1

// Parse reads a tokenizer.json. Errors are *UnsupportedError for a component that this package does not have, and plain ones
// for a file that is broken or contradicts itself. BOS is what the file's template puts in front of a text; EOS what it puts
// behind, else the first special token with a name in use for that (eosNames). Files has a tokenizer_config.json that says so.
func Parse(file []byte) (Tokenizer, error) {
	t, err := parse(bytes.Clone(file))
	if err != nil {
		return nil, err
	}
	t.files[configFile] = encode(t.config())
	return t, nil
}

// config is the tokenizer_config.json of a tokenizer.json that came alone.
func (t *bpe) config() map[string]any {
	out := fileConfig()
	for key, id := range map[string]int32{"bos_token": t.bos, "eos_token": t.eos} {
		if id >= 0 {
			out[key] = string(t.Decode(nil, []int32{id}))
		}
	}
	return out
}

// object decodes a JSON object into dst; a key that is not known is unsupported, for it may change what the file means.
func object(where string, raw json.RawMessage, dst any, known ...string) error {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(raw, &keys); err != nil {
		return fmt.Errorf("parse %s: %w", where, err)
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if !slices.Contains(known, k) {
			return unsupported(where+": key", k)
		}
	}
	if err := json.Unmarshal(raw, dst); err != nil {
		return fmt.Errorf("parse %s: %w", where, err)
	}
	return nil
}

// parse is Parse without the file beside it. It keeps file.
func parse(file []byte) (*bpe, error) {
	var f struct {
		Added         []json.RawMessage `json:"added_tokens"`
		Normalizer    json.RawMessage   `json:"normalizer"`
		PreTokenizer  json.RawMessage   `json:"pre_tokenizer"`
		PostProcessor json.RawMessage   `json:"post_processor"`
		Decoder       json.RawMessage   `json:"decoder"`
		Model         json.RawMessage   `json:"model"`
	}
	// truncation and padding are about batches, and transformers sets them anew at each call
	if err := object("tokenizer.json", file, &f, "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
		"post_processor", "decoder", "model"); err != nil {
		return nil, err
	}
	t := &bpe{name: hash(file), files: map[string][]byte{tokenizerFile: file}, seed: maphash.MakeSeed(), special: map[int32]bool{}, bos: -1, eos: -1}
	var err error
	if t.nfc, err = normalizer(f.Normalizer, 0); err != nil {
		return nil, err
	}
	if t.steps, err = preTokenizer(f.PreTokenizer); err != nil {
		return nil, err
	}
	if err := decoder(f.Decoder); err != nil {
		return nil, err
	}
	vocab, err := t.model(f.Model)
	if err != nil {
		return nil, err
	}
	tokens, err := t.addedTokens(f.Added, vocab)
	if err != nil {
		return nil, err
	}
	if err := t.table(vocab); err != nil {
		return nil, err
	}
	if err := t.template(f.PostProcessor, 0); err != nil {
		return nil, err
	}
	t.eosByName(tokens)
	return t, nil
}

// eosNames are the special tokens that end a document in the families in use, asked for in this order.
var eosNames = []string{"<|end_of_text|>", "<|endoftext|>", "<｜end▁of▁sentence｜>", "</s>", "<eos>"}

func (t *bpe) eosByName(tokens []added) {
	for _, name := range eosNames {
		for _, a := range tokens {
			if t.eos < 0 && a.special && a.content == name {
				t.eos = a.id
			}
		}
	}
}

// mergeRule is a merge as "a b" or, from version 0.20 of the library on, as ["a", "b"].
type mergeRule [2]string

// UnmarshalJSON implements json.Unmarshaler.
func (m *mergeRule) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] == '"' {
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
		left, right, ok := strings.Cut(s, " ")
		if !ok || left == "" || right == "" || strings.Contains(right, " ") {
			return fmt.Errorf("merge %q is not two tokens with a space between", s)
		}
		*m = mergeRule{left, right}
		return nil
	}
	var p []string
	if err := json.Unmarshal(raw, &p); err != nil {
		return err
	}
	if len(p) != 2 {
		return fmt.Errorf("merge %q is not two tokens", p)
	}
	*m = mergeRule{p[0], p[1]}
	return nil
}

// model reads the BPE and returns its vocabulary, the texts as they stand in the file.
func (t *bpe) model(raw json.RawMessage) (map[string]int32, error) {
	var m struct {
		Type         *string          `json:"type"` // files of before 2020 have none
		Dropout      *float64         `json:"dropout"`
		Prefix       *string          `json:"continuing_subword_prefix"`
		Suffix       *string          `json:"end_of_word_suffix"`
		IgnoreMerges bool             `json:"ignore_merges"`
		Vocab        map[string]int32 `json:"vocab"`
		Merges       []mergeRule      `json:"merges"`
	}
	if absent(raw) {
		return nil, fmt.Errorf("parse tokenizer.json: model missing")
	}
	var kind struct {
		Type *string `json:"type"`
	}
	if err := json.Unmarshal(raw, &kind); err != nil {
		return nil, fmt.Errorf("parse model: %w", err)
	}
	if kind.Type != nil && *kind.Type != "BPE" {
		return nil, unsupported("model", *kind.Type)
	}
	// unk_token, fuse_unk and byte_fallback say what to do with a character that has no token: every byte has one here
	if err := object("model", raw, &m, "type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
		"byte_fallback", "ignore_merges", "vocab", "merges"); err != nil {
		return nil, err
	}
	switch {
	case m.Dropout != nil && *m.Dropout != 0:
		return nil, unsupported("model.dropout", *m.Dropout)
	case m.Prefix != nil && *m.Prefix != "":
		return nil, unsupported("model.continuing_subword_prefix", *m.Prefix)
	case m.Suffix != nil && *m.Suffix != "":
		return nil, unsupported("model.end_of_word_suffix", *m.Suffix)
	case m.Vocab == nil || m.Merges == nil:
		return nil, fmt.Errorf("parse model: vocab or merges missing")
	}
	var byID [256]int32
	for b, r := range Alphabet() {
		id, ok := m.Vocab[string(r)]
		if !ok {
			return nil, unsupported("model.vocab without a token for byte", fmt.Sprintf("0x%02x", b))
		}
		byID[b] = id
	}
	t.merges = newMerges(len(m.Merges), byID)
	for i, r := range m.Merges {
		left, ok1 := m.Vocab[r[0]]
		right, ok2 := m.Vocab[r[1]]
		made, ok3 := m.Vocab[r[0]+r[1]]
		if !ok1 || !ok2 || !ok3 {
			return nil, fmt.Errorf("parse model: merge %d of %.60q and %.60q: not all three tokens are in the vocabulary", i, r[0], r[1])
		}
		t.merges.add(left, right, made)
	}
	t.merges.finish()
	if m.IgnoreMerges {
		t.whole = map[string]int32{}
		for s, id := range m.Vocab {
			if b, ok := unalphabet(nil, s); ok && len(b) > 0 {
				t.whole[string(b)] = id
			}
		}
	}
	return m.Vocab, nil
}

// unalphabet appends the bytes that s spells in the alphabet of byte-level BPE; ok is false if it has other characters.
func unalphabet(dst []byte, s string) (out []byte, ok bool) {
	for _, r := range s {
		b, ok := byteOf()[r]
		if !ok {
			return nil, false
		}
		dst = append(dst, b)
	}
	return dst, true
}

// table lays the bytes of all ids out one after another.
func (t *bpe) table(vocab map[string]int32) error {
	top := int32(-1)
	for s, id := range vocab {
		if id < 0 || id > maxID {
			return fmt.Errorf("parse vocabulary: id %d of %.60q is not between 0 and %d", id, s, maxID)
		}
		top = max(top, id)
	}
	texts := make([]string, top+1)
	seen := make([]bool, top+1)
	for s, id := range vocab {
		if seen[id] {
			return fmt.Errorf("parse vocabulary: id %d stands for %.60q and for %.60q", id, min(s, texts[id]), max(s, texts[id]))
		}
		texts[id], seen[id] = s, true
	}
	t.offset = make([]uint32, 0, len(texts)+1)
	for _, s := range texts {
		t.offset = append(t.offset, uint32(len(t.text)))
		// as in the reference, a token with a character outside the alphabet is its own text
		b, ok := unalphabet(t.text, s)
		if !ok {
			b = append(t.text, s...)
		}
		if len(b) > 1<<30 {
			return fmt.Errorf("parse vocabulary: the texts of all tokens are longer than 1 GiB")
		}
		t.text = b
	}
	t.offset = append(t.offset, uint32(len(t.text)))
	return nil
}
