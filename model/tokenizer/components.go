package tokenizer

import (
	"encoding/json"
	"fmt"
	"sync"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// byteOf is Alphabet the other way round.
var byteOf = sync.OnceValue(func() map[rune]byte {
	out := make(map[rune]byte, 256)
	for b, r := range Alphabet() {
		out[r] = byte(b)
	}
	return out
})

// absent reports whether a component is missing or null.
func absent(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// kindOf is the type of a component.
func kindOf(where string, raw json.RawMessage) (string, error) {
	var c struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return "", fmt.Errorf("parse %s: %w", where, err)
	}
	return c.Type, nil
}

// maxDepth bounds sequences in sequences; each level is scanned again by the one below it.
const maxDepth = 8

// normalizer reports whether the file asks for NFC.
func normalizer(raw json.RawMessage, depth int) (nfc bool, err error) {
	if absent(raw) {
		return false, nil
	}
	if depth > maxDepth {
		return false, unsupported("normalizer.Sequence nested deeper than", maxDepth)
	}
	kind, err := kindOf("normalizer", raw)
	if err != nil {
		return false, err
	}
	switch kind {
	case "NFC":
		return true, object("normalizer.NFC", raw, &struct{}{}, "type")
	case "Sequence":
		var s struct {
			Normalizers []json.RawMessage `json:"normalizers"`
		}
		if err := object("normalizer.Sequence", raw, &s, "type", "normalizers"); err != nil {
			return false, err
		}
		for _, n := range s.Normalizers {
			one, err := normalizer(n, depth+1)
			if err != nil {
				return false, err
			}
			nfc = nfc || one
		}
		return nfc, nil
	}
	return false, unsupported("normalizer", kind)
}

// preTokenizer is the chain of splitters of the file. ByteLevel stands last: after it the text is in another alphabet.
func preTokenizer(raw json.RawMessage) ([]splitter, error) {
	var flat []json.RawMessage
	if err := flatten(raw, &flat, 0); err != nil {
		return nil, err
	}
	var steps []splitter
	for i, c := range flat {
		kind, err := kindOf("pre_tokenizer", c)
		if err != nil {
			return nil, err
		}
		var step splitter
		switch kind {
		case "Split":
			step, err = splitStep(c)
		case "Digits":
			step, err = digitStep(c)
		case "ByteLevel":
			if step, err = byteLevelStep(c); err == nil && i != len(flat)-1 {
				err = unsupported("pre_tokenizer.Sequence with more after", kind)
			}
		default:
			err = unsupported("pre_tokenizer", kind)
		}
		if err != nil {
			return nil, err
		}
		if step != nil {
			steps = append(steps, step)
		}
		if i == len(flat)-1 && kind != "ByteLevel" {
			return nil, unsupported("pre_tokenizer without ByteLevel at its end, but", kind)
		}
	}
	if len(flat) == 0 {
		return nil, unsupported("pre_tokenizer", "null")
	}
	return steps, nil
}

// flatten appends the components of nested sequences to out.
func flatten(raw json.RawMessage, out *[]json.RawMessage, depth int) error {
	if absent(raw) {
		return nil
	}
	if depth > maxDepth {
		return unsupported("pre_tokenizer.Sequence nested deeper than", maxDepth)
	}
	kind, err := kindOf("pre_tokenizer", raw)
	if err != nil {
		return err
	}
	if kind != "Sequence" {
		*out = append(*out, raw)
		return nil
	}
	var s struct {
		Parts []json.RawMessage `json:"pretokenizers"`
	}
	if err := object("pre_tokenizer.Sequence", raw, &s, "type", "pretokenizers"); err != nil {
		return err
	}
	for _, p := range s.Parts {
		if err := flatten(p, out, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func splitStep(raw json.RawMessage) (splitter, error) {
	var s struct {
		Pattern  map[string]string `json:"pattern"`
		Behavior string            `json:"behavior"`
		Invert   bool              `json:"invert"`
	}
	if err := object("pre_tokenizer.Split", raw, &s, "type", "pattern", "behavior", "invert"); err != nil {
		return nil, err
	}
	if len(s.Pattern) != 1 || s.Pattern["Regex"] == "" {
		return nil, unsupported("pre_tokenizer.Split.pattern", s.Pattern)
	}
	step, ok := patterns[s.Pattern["Regex"]]
	if !ok {
		return nil, unsupported("pre_tokenizer.Split.pattern.Regex", s.Pattern["Regex"])
	}
	// all patterns match every character, so nothing stands between the matches
	if s.Behavior != "Isolated" && !(s.Behavior == "Removed" && s.Invert) {
		return nil, unsupported("pre_tokenizer.Split.behavior", fmt.Sprintf("%s with invert %v", s.Behavior, s.Invert))
	}
	return step(classes()), nil
}

func digitStep(raw json.RawMessage) (splitter, error) {
	var s struct {
		Individual bool `json:"individual_digits"`
	}
	if err := object("pre_tokenizer.Digits", raw, &s, "type", "individual_digits"); err != nil {
		return nil, err
	}
	return digitRuns(classes(), s.Individual), nil
}

func byteLevelStep(raw json.RawMessage) (splitter, error) {
	s := struct {
		Prefix   bool  `json:"add_prefix_space"`
		UseRegex *bool `json:"use_regex"` // files of before 0.12 have none: true
	}{}
	if err := object("pre_tokenizer.ByteLevel", raw, &s, "type", "add_prefix_space", "trim_offsets", "use_regex"); err != nil {
		return nil, err
	}
	if s.Prefix {
		return nil, unsupported("pre_tokenizer.ByteLevel.add_prefix_space", true)
	}
	if s.UseRegex != nil && !*s.UseRegex {
		return nil, nil
	}
	return classes().gpt2, nil
}

// decoder checks that ids are decoded by the byte-level alphabet and nothing else.
func decoder(raw json.RawMessage) error {
	if absent(raw) {
		return unsupported("decoder", "null")
	}
	kind, err := kindOf("decoder", raw)
	if err != nil {
		return err
	}
	if kind != "ByteLevel" {
		return unsupported("decoder", kind)
	}
	return object("decoder.ByteLevel", raw, &struct{}{}, "type", "add_prefix_space", "trim_offsets", "use_regex")
}

// addedTokens reads the added tokens into the matchers and the vocabulary.
func (t *bpe) addedTokens(list []json.RawMessage, vocab map[string]int32) ([]added, error) {
	var all, raw, normal []added
	byContent, byID := map[string]bool{}, map[int32]string{}
	for _, r := range list {
		a, err := t.addedToken(r)
		if err != nil {
			return nil, err
		}
		if other, ok := byID[a.id]; ok || byContent[a.content] {
			return nil, fmt.Errorf("parse added_tokens: %d %q comes twice, or its id is that of %q", a.id, a.content, other)
		}
		if id, ok := vocab[a.content]; ok && id != a.id {
			return nil, fmt.Errorf("parse added_tokens: %q has id %d, and %d in the vocabulary", a.content, a.id, id)
		}
		byContent[a.content], byID[a.id], vocab[a.content] = true, a.content, a.id
		if a.special {
			t.special[a.id] = true
		}
		all = append(all, a)
		switch {
		case !a.normalized:
			raw = append(raw, a)
		case t.nfc && !norm.NFC.IsNormalString(a.content): // the reference finds it, but decodes another text
			return nil, unsupported("added_tokens: normalized, and changed by the normalizer:", a.content)
		default:
			normal = append(normal, a)
		}
	}
	t.raw, t.normal = newMatcher(raw), newMatcher(normal)
	return all, nil
}

func (t *bpe) addedToken(raw json.RawMessage) (added, error) {
	var a struct {
		ID         *int32 `json:"id"`
		Content    string `json:"content"`
		SingleWord bool   `json:"single_word"`
		LStrip     bool   `json:"lstrip"`
		RStrip     bool   `json:"rstrip"`
		Normalized bool   `json:"normalized"`
		Special    bool   `json:"special"`
	}
	if err := object("added_tokens", raw, &a, "id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"); err != nil {
		return added{}, err
	}
	switch {
	case a.SingleWord:
		return added{}, unsupported("added_tokens: single_word of", a.Content)
	case a.ID == nil || a.Content == "" || len(a.Content) > maxAdded || !utf8.ValidString(a.Content):
		return added{}, fmt.Errorf("parse added_tokens: %.60q: an id and 1 to %d bytes of text are needed", a.Content, maxAdded)
	}
	return added{id: *a.ID, content: a.Content, lstrip: a.LStrip, rstrip: a.RStrip, normalized: a.Normalized, special: a.Special}, nil
}

// template finds what the post-processor puts around a text: at most one token on each side.
func (t *bpe) template(raw json.RawMessage, depth int) error {
	if absent(raw) {
		return nil
	}
	if depth > maxDepth {
		return unsupported("post_processor.Sequence nested deeper than", maxDepth)
	}
	kind, err := kindOf("post_processor", raw)
	if err != nil {
		return err
	}
	switch kind {
	case "ByteLevel": // moves offsets only
		return nil
	case "Sequence":
		var s struct {
			Processors []json.RawMessage `json:"processors"`
		}
		if err := object("post_processor.Sequence", raw, &s, "type", "processors"); err != nil {
			return err
		}
		for _, p := range s.Processors {
			if err := t.template(p, depth+1); err != nil {
				return err
			}
		}
		return nil
	case "TemplateProcessing":
		return t.templateProcessing(raw)
	}
	return unsupported("post_processor", kind)
}

func (t *bpe) templateProcessing(raw json.RawMessage) error {
	type piece struct {
		Special  *struct{ ID string } `json:"SpecialToken"`
		Sequence *struct{ ID string } `json:"Sequence"`
	}
	var p struct {
		Single  []piece `json:"single"`
		Special map[string]struct {
			IDs []int32 `json:"ids"`
		} `json:"special_tokens"`
	}
	if err := object("post_processor.TemplateProcessing", raw, &p, "type", "single", "pair", "special_tokens"); err != nil {
		return err
	}
	const where = "post_processor.TemplateProcessing.single"
	var around [2][]int32
	side := 0
	for _, s := range p.Single {
		switch {
		case s.Sequence != nil && side == 0:
			side = 1
		case s.Special != nil && s.Sequence == nil:
			ids := p.Special[s.Special.ID].IDs
			if len(ids) == 0 {
				return fmt.Errorf("parse %s: %q is not among special_tokens", where, s.Special.ID)
			}
			around[side] = append(around[side], ids...)
		default:
			return fmt.Errorf("parse %s: want tokens around one Sequence", where)
		}
	}
	for k, own := range []*int32{&t.bos, &t.eos} {
		switch {
		case len(around[k]) == 0:
			continue
		case len(around[k]) > 1 || *own >= 0:
			return unsupported(where, fmt.Sprintf("%d tokens on one side", len(around[k])))
		case around[k][0] < 0 || int(around[k][0]) >= t.Vocab():
			return fmt.Errorf("parse %s: id %d is outside the vocabulary", where, around[k][0])
		}
		*own = around[k][0]
	}
	return nil
}
