package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"sn3/chain"
	"sn3/internal/proc"
	"sn3/model/data"
	"sn3/model/hf"
	"sn3/model/tokenizer"
)

// tokenizerConfig is the file of a checkpoint that names the marks.
const tokenizerConfig = "tokenizer_config.json"

// Checkpoint is what goes with the weights of a run so that others can use them.
type Checkpoint struct {
	Files   map[string][]byte // tokenizer.json, as it lies beside the dataset, and tokenizer_config.json
	Special hf.Special        // the dataset's marks
}

// Tokenizer reads the tokenizer that lies beside a run's dataset and checks that it is the run's and within the model's
// vocabulary: by its hash, so it may come from any mirror. A tokenizer that is refused cannot become right by trying again.
func Tokenizer(ctx context.Context, r *chain.Run, d *data.Dataset) (c Checkpoint, err error) {
	file, err := d.Tokenizer(ctx)
	if err != nil {
		return c, err
	}
	tok, err := tokenizer.Load(r.Tokenizer, file)
	if err != nil {
		return c, proc.Refused(fmt.Errorf("read the run's tokenizer: %w", err))
	}
	if tok.Vocab() > r.Model.Vocab {
		return c, proc.Refused(fmt.Errorf("the run's tokenizer has %d tokens, its model a vocabulary of %d: whoever made this network must make it anew with "+
			"model.vocab %d", tok.Vocab(), r.Model.Vocab, tok.Vocab()))
	}
	p := d.Manifest().Provenance
	c.Files = tok.Files()
	if p.BOS != data.None {
		c.Special.BOS = []int32{int32(p.BOS)}
	}
	if p.EOS != data.None {
		c.Special.EOS = []int32{int32(p.EOS)}
	}
	if c.Files[tokenizerConfig], err = withMarks(c.Files[tokenizerConfig], tok, p); err != nil {
		return c, proc.Refused(fmt.Errorf("read the run's tokenizer: %w", err))
	}
	return c, nil
}

// withMarks says in tokenizer_config.json which tokens stand around the dataset's documents: tokenizer.json alone may not know,
// for whoever packed the text may have had them from other files. Bytes have no token that could be named.
func withMarks(config []byte, tok tokenizer.Tokenizer, p data.Provenance) ([]byte, error) {
	if tok.Name() == data.ByteTokenizer {
		return config, nil
	}
	var c map[string]any
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, fmt.Errorf("parse %s: %w", tokenizerConfig, err)
	}
	if text, ok := named(tok, p.EOS); ok {
		c["eos_token"] = text
	}
	bos, known := tok.BOS() // a template's is added anyway
	if text, ok := named(tok, p.BOS); ok && (!known || int(bos) != p.BOS) {
		c["bos_token"], c["add_bos_token"] = text, true
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(c); err != nil {
		return nil, fmt.Errorf("write %s: %w", tokenizerConfig, err)
	}
	return b.Bytes(), nil
}

// named is a token as text, if that is what it is called by.
func named(tok tokenizer.Tokenizer, id int) (string, bool) {
	if id == data.None {
		return "", false
	}
	text := tok.Decode(nil, []int32{int32(id)})
	back := tok.Encode(nil, text)
	return string(text), utf8.Valid(text) && len(back) == 1 && int(back[0]) == id
}
