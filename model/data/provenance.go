package data

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"unicode"
	"unicode/utf8"

	"sn3/chain"
)

// ByteTokenizer is the name of the tokenizer whose tokens are bytes.
const ByteTokenizer = "bytes"

// What became of control tokens that stand in the text.
const (
	SpecialAsText   = "text"   // they are text: a document cannot spell its own end
	SpecialAsTokens = "tokens" // they are those tokens
)

// None stands for a mark that a tokenizer does not have.
const None = -1

// Provenance says where the tokens of a dataset come from. Its canonical bytes are Go's encoding/json of this struct.
type Provenance struct {
	Tokenizer string `json:"tokenizer"` // "bytes", or the SHA-256 in hex of tokenizer.json, the object data/<it>
	BOS       int    `json:"bos"`       // id before every document; -1: none
	EOS       int    `json:"eos"`       // id after every document; -1: none
	// Special says what became of control tokens (special ones, BOS, EOS) that a text spells out: SpecialAsText or SpecialAsTokens.
	// "" for bytes, which spell none, and for datasets of before there was a choice: tokens.
	Special string   `json:"special_tokens,omitempty"`
	HeldOut uint64   `json:"held_out"`       // N: a document is held out if its hash is a multiple of N; 0: chosen otherwise
	Part    string   `json:"part,omitempty"` // "i/n by file of W" or "i/n by document of W", W names the whole: to be merged
	Sources []Source `json:"sources"`        // at least one, no two with the same name and licence
}

// Source is what came from one place under one licence. Counts are of train and held-out.
type Source struct {
	Name       string         `json:"name"`    // a name or URL; "" is not known
	Licence    string         `json:"licence"` // as SPDX or in words; "" is not known
	Documents  [splits]uint64 `json:"documents"`
	Bytes      [splits]uint64 `json:"bytes"`  // of text
	Tokens     [splits]uint64 `json:"tokens"` // with marks
	Duplicates uint64         `json:"duplicates"`
	Empty      uint64         `json:"empty"`
	Bad        uint64         `json:"bad"` // lines, values and rests of files that could not be read, each named when packing
}

// maxWord bounds a name and a licence, in bytes.
const maxWord = 512

// CheckWord refuses a source's name or licence that a manifest cannot hold.
func CheckWord(s string) error {
	if len(s) > maxWord || !utf8.ValidString(s) {
		return fmt.Errorf("%.60q is longer than %d bytes or not UTF-8", s, maxWord)
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("%.60q has a character that cannot be printed", s)
		}
	}
	return nil
}

func (p *Provenance) encode() []byte {
	b, err := json.Marshal(p)
	if err != nil { // strings and integers always encode
		return nil
	}
	return b
}

func parseProvenance(b []byte) (p Provenance, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return p, fmt.Errorf("%w: provenance: %w", ErrManifest, err)
	}
	if !bytes.Equal(p.encode(), b) {
		return p, fmt.Errorf("%w: provenance is not canonical", ErrManifest)
	}
	return p, nil
}

// TokenizerSum is the object with the tokenizer.json; ok is false for bytes, which need none.
func (p *Provenance) TokenizerSum() (sum chain.Hash, ok bool) {
	b, err := hex.DecodeString(p.Tokenizer)
	if p.Tokenizer == ByteTokenizer || err != nil || len(b) != len(sum) {
		return sum, false
	}
	return chain.Hash(b), true
}

// check refuses what contradicts itself or the shards of m.
func (p *Provenance) check(m *Manifest) error {
	if sum, ok := p.TokenizerSum(); p.Tokenizer != ByteTokenizer && (!ok || sum.String() != p.Tokenizer) {
		return fmt.Errorf("%w: tokenizer %.80q is neither %q nor a SHA-256", ErrManifest, p.Tokenizer, ByteTokenizer)
	}
	for _, id := range []int{p.BOS, p.EOS} {
		if id < None || id >= m.Vocab {
			return fmt.Errorf("%w: a document's mark is token %d of %d", ErrManifest, id, m.Vocab)
		}
	}
	if s := p.Special; s != "" && (p.Tokenizer == ByteTokenizer || s != SpecialAsText && s != SpecialAsTokens) {
		return fmt.Errorf("%w: control tokens spelled out in %.80q became %.80q", ErrManifest, p.Tokenizer, p.Special)
	}
	if len(p.Sources) == 0 || CheckWord(p.Part) != nil {
		return fmt.Errorf("%w: %d sources, part %.80q", ErrManifest, len(p.Sources), p.Part)
	}
	var tokens [splits]uint64
	seen := map[[2]string]bool{}
	for i, s := range p.Sources {
		key := [2]string{s.Name, s.Licence}
		for _, w := range key {
			if err := CheckWord(w); err != nil {
				return fmt.Errorf("%w: source %d: %w", ErrManifest, i, err)
			}
		}
		if seen[key] {
			return fmt.Errorf("%w: source %q under %q is listed twice", ErrManifest, s.Name, s.Licence)
		}
		seen[key] = true
		for t := range splits {
			if tokens[t] += s.Tokens[t]; tokens[t] < s.Tokens[t] {
				return fmt.Errorf("%w: more tokens than can be counted", ErrManifest)
			}
		}
	}
	for t := range splits {
		if tokens[t] != m.Tokens(t) {
			return fmt.Errorf("%w: its sources have %d tokens in the %v split, its shards %d", ErrManifest, tokens[t], t, m.Tokens(t))
		}
	}
	return nil
}

// Add counts what o counts.
func (s *Source) Add(o Source) {
	for t := range splits {
		s.Documents[t] += o.Documents[t]
		s.Bytes[t] += o.Bytes[t]
		s.Tokens[t] += o.Tokens[t]
	}
	s.Duplicates += o.Duplicates
	s.Empty += o.Empty
	s.Bad += o.Bad
}
