package pack

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"unicode/utf8"

	"sn3/model/data"
	"sn3/model/tokenizer"
)

// position is a place in the inputs: items of file File that are done.
type position struct {
	File  int    `json:"file"`
	Items uint64 `json:"items"`
}

// batch is a run of items on its way through the workers; done is closed when documents are ready.
type batch struct {
	items []placed
	size  int64    // bytes held
	after position // where the next batch begins
	read  int64    // bytes of the files that were read when it was made

	done chan struct{}
	out  []document
	buf  []byte // tokens of all documents
}

// placed is an item and where it is from.
type placed struct {
	item
	file int
}

// document is what becomes of an item, or of a part of it.
type document struct {
	sum      [sha256.Size]byte // of the text
	text     int               // bytes
	from, to int               // tokens in buf
	bad      string            // why there is none, with its place
	empty    bool
}

// encoder turns items into documents. Each worker has its own.
type encoder struct {
	tok     tokenizer.Tokenizer
	special string // what becomes of control tokens in the text
	field   string
	bos     int // data.None: no mark
	eos     int
	vocab   int
	width   int
	files   []input
	ids     []int32
}

// marks are the ids around a document: those of the tokenizer; bytes end with a 0.
func marks(t tokenizer.Tokenizer) (bos, eos int, err error) {
	if t.Name() == data.ByteTokenizer {
		return data.None, 0, nil
	}
	bos, eos = data.None, data.None
	if id, ok := t.BOS(); ok {
		bos = int(id)
	}
	if id, ok := t.EOS(); ok {
		eos = int(id)
	}
	if bos == data.None && eos == data.None {
		return bos, eos, errors.New("the tokenizer has no mark for the beginning or the end of a text: give its Hugging Face folder, whose tokenizer_config.json names bos_token and eos_token")
	}
	return bos, eos, nil
}

// run encodes a batch.
func (e *encoder) run(b *batch) error {
	for i := range b.items {
		x := &b.items[i]
		text, err := e.text(x.item)
		if err != nil {
			b.out = append(b.out, document{bad: fmt.Sprintf("%s: %v", e.place(x), err)})
			continue
		}
		if len(text) == 0 {
			b.out = append(b.out, document{empty: true})
		}
		for len(text) > 0 {
			n := len(text)
			if n > MaxDocument {
				n = cutAt(text[:MaxDocument])
			}
			err := e.document(b, text[:n])
			if errors.Is(err, errSpelled) {
				b.out = append(b.out, document{bad: fmt.Sprintf("%s: %v", e.place(x), err)})
			} else if err != nil {
				return fmt.Errorf("tokenise %s: %w", e.place(x), err)
			}
			text = text[n:]
		}
		x.raw = nil
	}
	b.items = nil
	return nil
}

// place is where an item is from, for people.
func (e *encoder) place(x *placed) string {
	if x.at == 0 {
		return e.files[x.file].path
	}
	return fmt.Sprintf("%s:%d", e.files[x.file].path, x.at)
}

// text is an item's text, or why it is none.
func (e *encoder) text(x item) ([]byte, error) {
	if x.bad != nil {
		return nil, x.bad
	}
	text := x.raw
	if !utf8.Valid(text) {
		return nil, errors.New("not UTF-8")
	}
	if x.line {
		var err error
		if text, err = fieldOf(text, e.field); err != nil {
			return nil, err
		}
	}
	if e.tok.Name() == data.ByteTokenizer && bytes.IndexByte(text, 0) >= 0 {
		return nil, errors.New("the text holds a 0 byte, which ends a document")
	}
	return text, nil
}

// errSpelled: the plain vocabulary makes a control token of a text, by its merges or as a whole word (ignore_merges).
var errSpelled = errors.New("the text spells a control token")

// document encodes a text with its marks at the end of b.
func (e *encoder) document(b *batch, text []byte) error {
	d := document{sum: sha256.Sum256(text), text: len(text), from: len(b.buf)}
	e.ids = e.ids[:0]
	if e.bos != data.None {
		e.ids = append(e.ids, int32(e.bos))
	}
	from := len(e.ids)
	if e.special == data.SpecialAsText {
		e.ids = e.tok.EncodeText(e.ids, text)
		for _, id := range e.ids[from:] {
			if int(id) == e.bos || int(id) == e.eos || e.tok.Special(id) {
				return fmt.Errorf("%w: token %d", errSpelled, id)
			}
		}
	} else {
		e.ids = e.tok.Encode(e.ids, text)
	}
	if e.eos != data.None {
		e.ids = append(e.ids, int32(e.eos))
	}
	for _, id := range e.ids {
		if id < 0 || int(id) >= e.vocab {
			return fmt.Errorf("%w: id %d of %d", data.ErrVocab, id, e.vocab)
		}
		b.buf = data.AppendToken(b.buf, e.width, id)
	}
	d.to = len(b.buf)
	b.out = append(b.out, d)
	return nil
}
