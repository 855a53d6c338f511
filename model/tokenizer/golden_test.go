package tokenizer

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sn3/internal/golden"
)

// vector is a line of cases.jsonl or decode.jsonl; a text that is absent equals Text.
type vector struct {
	Text       string  `json:"text"`
	IDs        []int32 `json:"ids"`
	AsText     []int32 `json:"as_text"` // by EncodeText, where it differs
	Decoded    *string `json:"decoded"`
	Plain      *string `json:"decoded_skip_special"`
	Unassigned bool    `json:"unassigned"`
}

// vectorMeta is meta.json.
type vectorMeta struct {
	Vocab   int              `json:"vocab_size"`
	Prefix  []int32          `json:"template_prefix_ids"`
	Special map[string]int32 `json:"special"`
	Cases   int              `json:"cases"`
}

// read returns the bytes of a file, unpacked if its name ends in .gz.
func read(t testing.TB, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = f
	if filepath.Ext(path) == ".gz" {
		if r, err = gzip.NewReader(bufio.NewReader(f)); err != nil {
			t.Fatal(err)
		}
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// lines decodes the lines of a .jsonl.gz.
func lines[T any](t testing.TB, path string) (out []T) {
	t.Helper()
	for line := range slices.Values(splitLines(read(t, path))) {
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}

func splitLines(b []byte) (out [][]byte) {
	for len(b) > 0 {
		n := slices.Index(b, '\n')
		if n < 0 {
			return append(out, b)
		}
		out, b = append(out, b[:n]), b[n+1:]
	}
	return out
}

func or(s *string, absent string) string {
	if s == nil {
		return absent
	}
	return *s
}

// check compares everything that a folder of vectors says with a tokenizer.
func check(t *testing.T, tok Tokenizer, meta vectorMeta, cases, decode []vector) {
	t.Helper()
	if len(cases) < 100 || len(decode) < 50 || meta.Cases != len(cases) {
		t.Fatalf("%d cases of %d, %d to decode", len(cases), meta.Cases, len(decode))
	}
	if tok.Vocab() != meta.Vocab {
		t.Errorf("%d ids, want %d", tok.Vocab(), meta.Vocab)
	}
	bos, ok := tok.BOS()
	if prefix := []int32{bos}; ok != (len(meta.Prefix) == 1) || ok && !slices.Equal(prefix, meta.Prefix) {
		t.Errorf("BOS %d %v, want %d", bos, ok, meta.Prefix)
	}
	special := 0
	for id := range int32(tok.Vocab()) {
		if tok.Special(id) {
			special++
		}
	}
	for text, id := range meta.Special {
		if got := tok.Encode(nil, []byte(text)); !slices.Equal(got, []int32{id}) || !tok.Special(id) {
			t.Errorf("%q is %d (special: %v), want %d", text, got, tok.Special(id), id)
		}
	}
	if special != len(meta.Special) {
		t.Errorf("%d special ids, want %d", special, len(meta.Special))
	}
	buf := make([]int32, 0, 1<<15)
	for i, c := range cases {
		got := tok.Encode(buf[:0], []byte(c.Text))
		if !slices.Equal(got, c.IDs) {
			t.Errorf("case %d %.100q (unassigned: %v):\ngot  %v\nwant %v", i, c.Text, c.Unassigned, head(got), head(c.IDs))
		}
		if got := Text(tok.Decode(nil, c.IDs)); got != or(c.Decoded, c.Text) {
			t.Errorf("case %d: decoded to %.100q, want %.100q", i, got, or(c.Decoded, c.Text))
		}
		all := append(slices.Clone(meta.Prefix), c.IDs...)
		if got := Text(Plain(nil, tok, all)); got != or(c.Plain, c.Text) {
			t.Errorf("case %d: without special tokens %.100q, want %.100q", i, got, or(c.Plain, c.Text))
		}
	}
	for i, c := range decode {
		if got := Text(tok.Decode(nil, c.IDs)); got != or(c.Decoded, c.Text) {
			t.Errorf("decode %d: %q, want %q", i, got, or(c.Decoded, c.Text))
		}
		if got := Text(Plain(nil, tok, c.IDs)); got != or(c.Plain, c.Text) {
			t.Errorf("decode %d: without special tokens %q, want %q", i, got, or(c.Plain, c.Text))
		}
	}
}

func head(ids []int32) []int32 { return ids[:min(len(ids), 40)] }

func parsed(t testing.TB, file []byte) Tokenizer {
	t.Helper()
	tok, err := Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestGolden(t *testing.T) {
	for _, name := range []string{"llama3-4096", "gpt2-4096"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(golden.Dir(t, "tokenizer"), name)
			var meta vectorMeta
			if err := json.Unmarshal(read(t, filepath.Join(dir, "meta.json")), &meta); err != nil {
				t.Fatal(err)
			}
			check(t, parsed(t, read(t, filepath.Join(dir, "tokenizer.json"))), meta, lines[vector](t, filepath.Join(dir, "cases.jsonl.gz")), lines[vector](t, filepath.Join(dir, "decode.jsonl.gz")))
		})
	}
}

// The same on what is committed, so that a clone without the vectors tests them too.
func TestGoldenSubset(t *testing.T) {
	for _, name := range []string{"llama3", "gpt2"} {
		t.Run(name, func(t *testing.T) {
			var v struct {
				Meta   vectorMeta `json:"meta"`
				Cases  []vector   `json:"cases"`
				Decode []vector   `json:"decode"`
			}
			if err := json.Unmarshal(read(t, filepath.Join("testdata", name+".vectors.json.gz")), &v); err != nil {
				t.Fatal(err)
			}
			check(t, parsed(t, read(t, filepath.Join("testdata", name+".json.gz"))), v.Meta, v.Cases, v.Decode)
		})
	}
}
