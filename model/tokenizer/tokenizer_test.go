package tokenizer

import (
	"bytes"
	"encoding/json"
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
