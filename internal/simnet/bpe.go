package simnet

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"sn3/chain"
	"sn3/model/data"
	"sn3/model/tokenizer"
)

// endOfText is the last token of every vocabulary that BPE makes.
const endOfText = "<|endoftext|>"

// BPE is a tokenizer.json that was learned from text: bytes, then merges of the most frequent neighbours inside words, ties to
// the one that sorts first, then a mark that ends documents; vocab tokens in all, at least 257. The same everywhere.
func BPE(text []byte, vocab int) ([]byte, error) {
	plain, err := tokenizer.New(data.ByteTokenizer)
	if err != nil {
		return nil, err
	}
	var file map[string]any
	if err := json.Unmarshal(plain.Files()["tokenizer.json"], &file); err != nil {
		return nil, err
	}
	model, ok := file["model"].(map[string]any)
	if !ok || vocab < 257 {
		return nil, fmt.Errorf("make tokenizer of %d tokens: want at least 257", vocab)
	}
	merges := learn(text, vocab-257)
	if len(merges) != vocab-257 {
		return nil, fmt.Errorf("make tokenizer of %d tokens: the text has words for %d", vocab, 257+len(merges))
	}
	ids := map[string]int{}
	for b, r := range tokenizer.Alphabet() {
		ids[string(r)] = b
	}
	for i, m := range merges {
		ids[m[0]+m[1]] = 256 + i
	}
	model["vocab"], model["merges"] = ids, merges
	file["pre_tokenizer"] = map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true}
	file["added_tokens"] = []any{map[string]any{"id": vocab - 1, "content": endOfText, "single_word": false, "lstrip": false, "rstrip": false,
		"normalized": false, "special": true}}
	return json.Marshal(file)
}

// learn finds at most n merges.
func learn(text []byte, n int) (merges [][2]string) {
	alphabet, counts := tokenizer.Alphabet(), map[string]int{}
	for _, w := range bytes.SplitAfter(text, []byte(" ")) {
		counts[string(w)]++
	}
	words := make([][]string, 0, len(counts)) // of symbols; a space begins the word after it
	var times []int
	for w, c := range counts {
		var symbols []string
		for _, b := range []byte(strings.TrimRight(w, " \n")) {
			symbols = append(symbols, string(alphabet[b]))
		}
		words, times = append(words, append([]string{string(alphabet[' '])}, symbols...)), append(times, c)
	}
	for len(merges) < n {
		pairs := map[[2]string]int{}
		for i, w := range words {
			for j := range len(w) - 1 {
				pairs[[2]string{w[j], w[j+1]}] += times[i]
			}
		}
		best, most := [2]string{}, 0
		for p, c := range pairs {
			if c > most || c == most && slices.Compare(p[:], best[:]) < 0 {
				best, most = p, c
			}
		}
		if most == 0 {
			break
		}
		merges = append(merges, best)
		for i, w := range words {
			words[i] = join(w, best)
		}
	}
	return merges
}

// join replaces every occurrence of a pair.
func join(w []string, pair [2]string) []string {
	out := w[:0:0]
	for i := 0; i < len(w); i++ {
		if i+1 < len(w) && w[i] == pair[0] && w[i+1] == pair[1] {
			out, i = append(out, pair[0]+pair[1]), i+1
			continue
		}
		out = append(out, w[i])
	}
	return out
}

// Packed is a dataset in tokens of a tokenizer.json, a line of text being a document, with the tokenizer among its objects.
func Packed(c *data.Corpus, file []byte) (*data.Packed, *data.Manifest, error) {
	tok, err := tokenizer.Parse(file)
	if err != nil {
		return nil, nil, err
	}
	eos, _ := tok.EOS()
	p := &data.Packed{Objects: []data.Object{{Key: data.Key(sha256.Sum256(file)), Data: file}}}
	b, err := data.NewBuilder(tok.Vocab(), func(sum chain.Hash, object []byte) error {
		p.Objects = append(p.Objects, data.Object{Key: data.Key(sum), Data: object})
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	sum := sha256.Sum256(file)
	source := data.Source{Name: "toy"}
	for s, text := range [][]byte{c.Train, c.HeldOut} {
		var ids []int32
		for line := range bytes.Lines(text) {
			ids = append(tok.Encode(ids, line), eos)
			source.Documents[s]++
		}
		raw := make([]byte, 0, 2*len(ids))
		for _, id := range ids {
			raw = data.AppendToken(raw, b.Width(), id)
		}
		if err := b.Append(data.Split(s), raw); err != nil {
			return nil, nil, err
		}
		source.Bytes[s], source.Tokens[s] = uint64(len(text)), uint64(len(ids))
	}
	m, spec, err := b.Finish(data.Provenance{Tokenizer: hex.EncodeToString(sum[:]), BOS: data.None, EOS: int(eos), Sources: []data.Source{source}})
	p.Spec = spec
	return p, m, err
}
