package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Files of a Hugging Face folder that are about the tokenizer.
const (
	tokenizerFile = "tokenizer.json"
	configFile    = "tokenizer_config.json"
	mapFile       = "special_tokens_map.json"
	chatFile      = "chat_template.jinja"
)

// maxFile is the longest file that Open reads, in bytes: a tokenizer.json with 262,144 tokens has 33 MB.
const maxFile = 256 << 20

// Open reads the tokenizer of a Hugging Face folder: tokenizer.json, and what tokenizer_config.json, generation_config.json
// and config.json say about the ends of a text. BOS is the template's; without one, the bos_token of tokenizer_config.json if
// add_bos_token is true. EOS is the eos_token of tokenizer_config.json, else the (first) eos_token_id of the other two, else
// as in Parse. Files are those of the folder. A folder without a tokenizer.json is an error that is fs.ErrNotExist.
func Open(dir string) (Tokenizer, error) {
	file, err := readFile(dir, tokenizerFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; files of other formats (tokenizer.model, vocab.json with merges.txt) are converted by "+
			"transformers: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)", err)
	}
	if err != nil {
		return nil, err
	}
	t, err := parse(file)
	if err != nil {
		return nil, fmt.Errorf("open tokenizer in %s: %w", dir, err)
	}
	for _, name := range []string{configFile, mapFile, chatFile} {
		b, err := readFile(dir, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		t.files[name] = b
	}
	if err := t.ends(dir); err != nil {
		return nil, fmt.Errorf("open tokenizer in %s: %w", dir, err)
	}
	if t.files[configFile] == nil {
		t.files[configFile] = encode(t.config())
	}
	return t, nil
}

// readFile reads a file of dir that is not longer than maxFile.
func readFile(dir, name string) ([]byte, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return nil, fmt.Errorf("open tokenizer: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read tokenizer: %w", err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("read tokenizer: %s is longer than %d MiB", f.Name(), maxFile>>20)
	}
	return b, nil
}

// ends sets BOS and EOS by the files beside tokenizer.json.
func (t *bpe) ends(dir string) error {
	var c struct {
		BOS    tokenText `json:"bos_token"`
		EOS    tokenText `json:"eos_token"`
		AddBOS bool      `json:"add_bos_token"`
	}
	if b := t.files[configFile]; b != nil {
		if err := json.Unmarshal(b, &c); err != nil {
			return fmt.Errorf("parse %s: %w", configFile, err)
		}
	}
	if t.bos < 0 && c.AddBOS && c.BOS != "" {
		if err := t.named("bos_token", string(c.BOS), &t.bos); err != nil {
			return err
		}
	}
	if c.EOS != "" {
		return t.named("eos_token", string(c.EOS), &t.eos)
	}
	for _, name := range []string{"generation_config.json", "config.json"} {
		b, err := readFile(dir, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		var g struct {
			EOS firstID `json:"eos_token_id"`
		}
		if err := json.Unmarshal(b, &g); err != nil {
			return fmt.Errorf("parse %s: %w", name, err)
		}
		if g.EOS.ok {
			if g.EOS.id < 0 || int(g.EOS.id) >= t.Vocab() {
				return fmt.Errorf("%s: eos_token_id %d is not in tokenizer.json (%d tokens)", name, g.EOS.id, t.Vocab())
			}
			t.eos = g.EOS.id
			return nil
		}
	}
	return nil
}

// named finds the id of a token that a configuration names.
func (t *bpe) named(key, text string, id *int32) error {
	for _, m := range []*matcher{&t.raw, &t.normal} {
		for _, a := range m.tokens {
			if a.content == text {
				*id = a.id
				return nil
			}
		}
	}
	// a plain token of the vocabulary: the one that is this text by itself
	for i := range t.Vocab() {
		if string(t.text[t.offset[i]:t.offset[i+1]]) == text {
			*id = int32(i)
			return nil
		}
	}
	return fmt.Errorf("%s: %s %q is not in tokenizer.json", configFile, key, text)
}

// tokenText is a token as a string, or as an object with its content; null is "".
type tokenText string

// UnmarshalJSON implements json.Unmarshaler.
func (s *tokenText) UnmarshalJSON(raw []byte) error {
	var o struct {
		Content string `json:"content"`
	}
	if len(raw) > 0 && raw[0] == '{' {
		if err := json.Unmarshal(raw, &o); err != nil {
			return err
		}
		*s = tokenText(o.Content)
		return nil
	}
	return json.Unmarshal(raw, (*string)(s))
}

// firstID is an id, the first of a list of them, or null.
type firstID struct {
	id int32
	ok bool
}

// UnmarshalJSON implements json.Unmarshaler.
func (f *firstID) UnmarshalJSON(raw []byte) error {
	var list []int32
	if len(raw) > 0 && raw[0] != '[' {
		raw = append(append([]byte("["), raw...), ']')
	}
	if string(raw) == "[null]" {
		return nil
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return err
	}
	if len(list) > 0 {
		f.id, f.ok = list[0], true
	}
	return nil
}
