package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// variant is a line of variants.jsonl, made by testdata/make.py: llama3.json with parts replaced, and what the reference says.
type variant struct {
	Name  string                     `json:"name"`
	Patch map[string]json.RawMessage `json:"patch"`
	Vocab int                        `json:"vocab_size"`
	Cases []vector                   `json:"cases"`
}

// patch replaces keys of a tokenizer.json, or of its model for keys that begin so.
func patch(t testing.TB, file []byte, changes map[string]json.RawMessage) []byte {
	t.Helper()
	var top, model map[string]json.RawMessage
	if err := json.Unmarshal(file, &top); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(top["model"], &model); err != nil {
		t.Fatal(err)
	}
	for key, v := range changes {
		if k, ok := strings.CutPrefix(key, "model."); ok {
			model[k] = v
		} else {
			top[key] = v
		}
	}
	if _, ok := changes["model"]; !ok {
		b, err := json.Marshal(model)
		if err != nil {
			t.Fatal(err)
		}
		top["model"] = b
	}
	b, err := json.Marshal(top)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func llama3(t testing.TB) []byte { return read(t, filepath.Join("testdata", "llama3.json.gz")) }

// VARIANTS=<file> checks more of them than are committed.
func TestGoldenVariants(t *testing.T) {
	path := filepath.Join("testdata", "variants.jsonl.gz")
	if p := os.Getenv("VARIANTS"); p != "" {
		path = p
	}
	all := lines[variant](t, path)
	if len(all) < 12 {
		t.Fatalf("%d variants", len(all))
	}
	base := llama3(t)
	for _, v := range all {
		t.Run(v.Name, func(t *testing.T) {
			tok := parsed(t, patch(t, base, v.Patch))
			if tok.Vocab() != v.Vocab || len(v.Cases) < 30 {
				t.Errorf("%d ids, want %d; %d cases", tok.Vocab(), v.Vocab, len(v.Cases))
			}
			wrong, spelled := 0, 0
			for i, c := range v.Cases {
				got := tok.Encode(nil, []byte(c.Text))
				decoded, plain := Text(tok.Decode(nil, c.IDs)), Text(Plain(nil, tok, c.IDs))
				asText := c.IDs
				if c.AsText != nil {
					asText = c.AsText
					spelled++
				}
				if got := tok.EncodeText(nil, []byte(c.Text)); !slices.Equal(got, asText) {
					t.Errorf("case %d %q as text: %v, want %v", i, c.Text, got, asText)
				}
				if slices.Equal(got, c.IDs) && decoded == or(c.Decoded, c.Text) && plain == or(c.Plain, c.Text) {
					continue
				}
				if wrong++; wrong < 5 {
					t.Errorf("case %d %q:\ngot  %v\nwant %v\ndecoded %q, want %q\nwithout special tokens %q, want %q", i, c.Text, got, c.IDs, decoded, or(c.Decoded, c.Text), plain, or(c.Plain, c.Text))
				}
			}
			if tok.Special(4092) && spelled == 0 {
				t.Error("no case spells a special token out")
			}
			if wrong > 0 {
				t.Errorf("%d of %d wrong", wrong, len(v.Cases))
			}
		})
	}
}

// A text cannot spell its own end, also where the end is an added token that is not special, or a token of the vocabulary.
func TestEncodeText(t *testing.T) {
	text := []byte("one<|a|><|end|>two <|begin_of_text|>\n<|end_of_text|>")
	folder := func(config string, added ...string) Tokenizer {
		dir := t.TempDir()
		file := patch(t, llama3(t), map[string]json.RawMessage{"added_tokens": json.RawMessage("[" + strings.Join(added, ",") + "]"), "post_processor": nil})
		for name, b := range map[string][]byte{tokenizerFile: file, configFile: []byte(config)} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		tok, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		return tok
	}
	for name, c := range map[string]struct {
		tok    Tokenizer
		spells []int32 // what Encode makes of it
	}{
		"by template": {parsed(t, llama3(t)), []int32{4092, 4093}},
		"not special": {folder(`{"eos_token": "<|end|>"}`, `{"id": 4092, "content": "<|end|>", "special": false}`), []int32{4092}},
		"one is not an end": {folder(`{"eos_token": "<|end|>", "add_bos_token": true, "bos_token": "<|begin_of_text|>"}`, `{"id": 4092, "content": "<|end|>", "special": false}`,
			`{"id": 4093, "content": "<|a|>", "special": false}`, `{"id": 4094, "content": "<|begin_of_text|>", "special": false}`), []int32{4093, 4092, 4094}},
	} {
		ids := func(encoded []int32) (out []int32) {
			for _, id := range encoded {
				if id >= 4092 {
					out = append(out, id)
				}
			}
			return out
		}
		if got := ids(c.tok.Encode(nil, text)); !slices.Equal(got, c.spells) {
			t.Errorf("%s: encoded with %v, want %v", name, got, c.spells)
		}
		asText := c.tok.EncodeText(nil, text)
		if string(c.tok.Decode(nil, asText)) != string(text) {
			t.Errorf("%s: %v is another text", name, asText)
		}
		for _, id := range ids(asText) {
			if bos, ok := c.tok.BOS(); ok && id == bos || c.tok.Special(id) {
				t.Errorf("%s: the text spells token %d", name, id)
			}
			if eos, ok := c.tok.EOS(); !ok || id == eos {
				t.Errorf("%s: the text spells its end, %d", name, id)
			}
		}
	}
}
