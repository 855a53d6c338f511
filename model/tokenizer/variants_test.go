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
			wrong := 0
			for i, c := range v.Cases {
				got := tok.Encode(nil, []byte(c.Text))
				decoded, plain := Text(tok.Decode(nil, c.IDs)), Text(Plain(nil, tok, c.IDs))
				if slices.Equal(got, c.IDs) && decoded == or(c.Decoded, c.Text) && plain == or(c.Plain, c.Text) {
					continue
				}
				if wrong++; wrong < 5 {
					t.Errorf("case %d %q:\ngot  %v\nwant %v\ndecoded %q, want %q\nwithout special tokens %q, want %q", i, c.Text, got, c.IDs, decoded, or(c.Decoded, c.Text), plain, or(c.Plain, c.Text))
				}
			}
			if wrong > 0 {
				t.Errorf("%d of %d wrong", wrong, len(v.Cases))
			}
		})
	}
}
