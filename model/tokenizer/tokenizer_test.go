package tokenizer

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestRoundTrip(t *testing.T) {
	tok, err := New("bytes")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.SliceOf(rapid.Byte()).Draw(rt, "text")
		if got := tok.Decode(nil, tok.Encode(nil, text)); !bytes.Equal(got, text) {
			rt.Fatalf("%q came back as %q", text, got)
		}
	})
	if got := tok.Decode(nil, []int32{-1, 65, 256}); string(got) != "A" {
		t.Fatalf("ids outside the vocabulary: %q", got)
	}
}

func TestUnknownName(t *testing.T) {
	if _, err := New("llama3"); err == nil {
		t.Fatal("accepted")
	}
}

// The vocabulary file maps GPT-2's alphabet to the byte values, each once.
func TestVocabularyFile(t *testing.T) {
	tok, _ := New("bytes")
	var f struct {
		Model struct{ Vocab map[string]int }
	}
	if err := json.Unmarshal(tok.Files()["tokenizer.json"], &f); err != nil {
		t.Fatal(err)
	}
	if len(f.Model.Vocab) != 256 || f.Model.Vocab["A"] != 65 || f.Model.Vocab["Ġ"] != ' ' || f.Model.Vocab["Ċ"] != '\n' || f.Model.Vocab["Ń"] != 173 {
		t.Fatalf("%d entries; A %d, space %d, newline %d", len(f.Model.Vocab), f.Model.Vocab["A"], f.Model.Vocab["Ġ"], f.Model.Vocab["Ċ"])
	}
}

// The file is one that this package reads itself, with the same ids.
func TestVocabularyFileIsRead(t *testing.T) {
	tok, _ := New("bytes")
	again, err := Parse(tok.Files()["tokenizer.json"])
	if err != nil {
		t.Fatal(err)
	}
	text := []byte("it's\x00\xff\n  字 12345")
	if got := again.Encode(nil, text); !slices.Equal(got, tok.Encode(nil, text)) || again.Vocab() != 256 {
		t.Errorf("%v, %d ids", got, again.Vocab())
	}
}

// Every validator publishes the same bytes.
func TestFilesGolden(t *testing.T) {
	tok, err := New("bytes")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"tokenizer.json":        "6f65ca731c2ce1ae1123d1a3e11408ed22e2687789d85546691c6787ae3f4906",
		"tokenizer_config.json": "5f65ea6728c21c15f0ffbd3e2a98c7ca328d378c0e3741f5d17685ef68ed99f9",
	}
	files := tok.Files()
	if len(files) != len(want) {
		t.Errorf("%d files, want %d", len(files), len(want))
	}
	for name, b := range files {
		if got := fmt.Sprintf("%x", sha256.Sum256(b)); got != want[name] {
			t.Errorf("%s hashes to %s, it was %s", name, got, want[name])
		}
	}
}
