// Package tokenizer turns text into tokens and back: bytes (a token is a byte), and every byte-level BPE that Hugging Face's
// tokenizer.json describes in the way of Llama 3, GPT-2 and Qwen. What such a file asks for beyond that is refused by name
// (UnsupportedError), so what this package reads, it reads exactly as the tokenizers library does.
package tokenizer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Tokenizer is a vocabulary with the rules that cut text into it. All methods are safe for concurrent use.
type Tokenizer interface {
	Coder
	Vocabulary
	Source
}

// Coder encodes and decodes. Neither can fail.
type Coder interface {
	// Encode appends the ids of text to dst. Special tokens written out in text become their ids, as in the reference;
	// what a template adds (BOS) is not added. Bytes that are not UTF-8 are encoded as they are.
	Encode(dst []int32, text []byte) []int32
	// EncodeText is Encode for a text that nobody vouches for: special tokens, BOS and EOS written out in it stay text. It is
	// encode_special_tokens of the reference, which looks for them all the same, so that no other added token begins in one.
	EncodeText(dst []int32, text []byte) []int32
	// Decode appends the bytes of ids to dst, special tokens as their text; an id outside the vocabulary is left out.
	Decode(dst []byte, ids []int32) []byte
}

// Vocabulary says what ids there are.
type Vocabulary interface {
	// Vocab is the highest id + 1: the least V a model needs.
	Vocab() int
	// BOS is the id that goes in front of every text; ok is false where texts begin bare (GPT-2, Qwen).
	BOS() (id int32, ok bool)
	// EOS is the id that ends a document; ok is false where none is known.
	EOS() (id int32, ok bool)
	// Special reports whether id is a control token, which readers do not want to see; false outside the vocabulary.
	Special(id int32) bool
}

// Source says where a tokenizer comes from.
type Source interface {
	// Name is what a run descriptor holds: "bytes", or the SHA-256 of tokenizer.json in hex.
	Name() string
	// Files are what Hugging Face's AutoTokenizer needs beside the model, by name; tokenizer.json is byte for byte the one
	// that was parsed. The map is the caller's, the bytes are shared: do not write to them.
	Files() map[string][]byte
}

// UnsupportedError names a component of a tokenizer.json that this package does not have.
type UnsupportedError struct {
	Component string // where in the file, as pre_tokenizer.Split.pattern
	Value     string // what stands there, shortened
}

// Error implements error.
func (e *UnsupportedError) Error() string {
	if e.Value == "" {
		return "tokenizer.json: " + e.Component + " is not supported"
	}
	return "tokenizer.json: " + e.Component + " " + e.Value + " is not supported"
}

// unsupported makes an UnsupportedError; value is cut so that a hostile file cannot flood a terminal.
func unsupported(component string, value any) error {
	s := fmt.Sprintf("%+q", fmt.Sprint(value))
	if len(s) > 200 {
		s = s[:200] + `..."`
	}
	return &UnsupportedError{Component: component, Value: s}
}

// New returns the tokenizer that a run descriptor names, of those which need no file: bytes. For the others see Load.
func New(name string) (Tokenizer, error) { return Load(name, nil) }

// Load returns the tokenizer that a run descriptor names: "bytes" (file is not looked at), or the SHA-256 in hex of file, a
// tokenizer.json. Another file is an error, so it may come from anywhere.
func Load(name string, file []byte) (Tokenizer, error) {
	if name == bytesName {
		return bytesTokenizer{}, nil
	}
	if b, err := hex.DecodeString(name); err != nil || len(b) != sha256.Size {
		return nil, fmt.Errorf("unknown tokenizer %q: neither %q nor the SHA-256 of a tokenizer.json", name, bytesName)
	}
	if file == nil {
		return nil, fmt.Errorf("tokenizer %s is a file of the dataset and was not given", name)
	}
	if got := hash(file); got != name {
		return nil, fmt.Errorf("tokenizer.json hashes to %s, the run has %s", got, name)
	}
	return Parse(file)
}

func hash(file []byte) string {
	sum := sha256.Sum256(file)
	return hex.EncodeToString(sum[:])
}

// Plain appends the bytes of ids to dst without the special tokens: what a reader sees.
func Plain(dst []byte, t Tokenizer, ids []int32) []byte {
	for start := 0; start < len(ids); {
		end := start
		for end < len(ids) && !t.Special(ids[end]) {
			end++
		}
		dst = t.Decode(dst, ids[start:end])
		start = end + 1
	}
	return dst
}
