package tokenizer

import (
	"hash/maphash"
	"maps"
	"sync"
)

// bpe is a tokenizer.json. Nothing in it changes after Parse.
type bpe struct {
	name  string
	files map[string][]byte

	merges *merges
	whole  map[string]int32 // ignore_merges: words that are tokens as they stand; nil without
	steps  []splitter       // text is cut by the first, each part by the next, ...
	nfc    bool
	raw    matcher // added tokens that are looked for in the text as it is
	normal matcher // and those after normalisation

	offset   []uint32 // [Vocab()+1]: where the bytes of an id begin in text
	text     []byte
	special  map[int32]bool
	bos, eos int32 // -1: none

	encoders sync.Pool // of *encoder
	seed     maphash.Seed
}

// Vocab implements Vocabulary.
func (t *bpe) Vocab() int { return len(t.offset) - 1 }

// BOS implements Vocabulary.
func (t *bpe) BOS() (int32, bool) { return max(t.bos, 0), t.bos >= 0 }

// EOS implements Vocabulary.
func (t *bpe) EOS() (int32, bool) { return max(t.eos, 0), t.eos >= 0 }

// Special implements Vocabulary.
func (t *bpe) Special(id int32) bool { return t.special[id] }

// Name implements Source.
func (t *bpe) Name() string { return t.name }

// Files implements Source.
func (t *bpe) Files() map[string][]byte { return maps.Clone(t.files) }

// Decode implements Coder.
func (t *bpe) Decode(dst []byte, ids []int32) []byte {
	for _, id := range ids {
		if id >= 0 && int(id) < len(t.offset)-1 {
			dst = append(dst, t.text[t.offset[id]:t.offset[id+1]]...)
		}
	}
	return dst
}

// Encode implements Coder.
func (t *bpe) Encode(dst []int32, text []byte) []int32 { return t.encode(dst, text, false) }

// EncodeText implements Coder.
func (t *bpe) EncodeText(dst []int32, text []byte) []int32 { return t.encode(dst, text, true) }

func (t *bpe) encode(dst []int32, text []byte, spelled bool) []int32 {
	e, _ := t.encoders.Get().(*encoder)
	if e == nil {
		e = &encoder{bpe: t, cache: make([]entry, cacheSize)}
	}
	e.spelled = spelled
	dst = t.raw.cut(dst, text, e, (*encoder).segment)
	e.trim()
	t.encoders.Put(e)
	return dst
}

// encoder is what one Encode at a time needs; they are kept in a pool, so that there are as many as run at once.
type encoder struct {
	*bpe
	scratch
	cache      []entry
	normalised []byte
	spelled    bool // control tokens written out in the text stay text
}

// control reports whether an id steers a model: a special token or an end of a text, which need not be marked as special.
func (t *bpe) control(id int32) bool { return t.special[id] || id == t.bos || id == t.eos }

const (
	cacheSize = 1 << 14 // entries, a power of two: 768 KB an encoder
	cacheWord = 22      // longest word that is kept, in bytes
	cacheIDs  = 6       // most ids that are kept of it
)

// entry is a word and its ids. A word may stand in one of two neighbouring entries; the newer one stands in its own.
type entry struct {
	length, n uint8 // length 0: empty
	word      [cacheWord]byte
	ids       [cacheIDs]int32
}

// trim gives back what a giant document needed.
func (e *encoder) trim() {
	e.scratch.trim()
	if cap(e.normalised) > 1<<20 {
		e.normalised = nil
	}
}

// segment appends the ids of text between added tokens.
func (e *encoder) segment(dst []int32, text []byte) []int32 {
	if e.nfc {
		e.normalised = appendNFC(e.normalised[:0], text)
		text = e.normalised
	}
	return e.normal.cut(dst, text, e, (*encoder).plain)
}

// plain appends the ids of text without added tokens.
func (e *encoder) plain(dst []int32, text []byte) []int32 { return e.split(dst, text, e.steps) }

// split cuts text by the steps left.
func (e *encoder) split(dst []int32, text []byte, steps []splitter) []int32 {
	if len(steps) == 0 {
		return e.word(dst, text)
	}
	for next := steps[0]; len(text) > 0; {
		n := next(text)
		if len(steps) == 1 {
			dst = e.word(dst, text[:n])
		} else {
			dst = e.split(dst, text[:n], steps[1:])
		}
		text = text[n:]
	}
	return dst
}

// longest is the most that is merged as one word, in bytes; only a text without any pre-token border in a gigabyte, which
// would take 24 GB, is cut there.
const longest = 1 << 30

// word appends the ids of one pre-token, which is not empty.
func (e *encoder) word(dst []int32, word []byte) []int32 {
	if len(word) > cacheWord {
		for ; len(word) > longest; word = word[longest:] {
			dst = e.look(dst, word[:longest])
		}
		return e.look(dst, word)
	}
	if len(word) == 1 {
		return append(dst, e.merges.byID[word[0]])
	}
	at := maphash.Bytes(e.seed, word) % cacheSize
	first, second := &e.cache[at], &e.cache[at^1]
	for _, x := range [...]*entry{first, second} {
		if int(x.length) == len(word) && string(x.word[:x.length]) == string(word) {
			return append(dst, x.ids[:x.n]...)
		}
	}
	from := len(dst)
	dst = e.look(dst, word)
	if n := len(dst) - from; n <= cacheIDs {
		*second = *first
		first.length, first.n = uint8(len(word)), uint8(n)
		copy(first.word[:], word)
		copy(first.ids[:], dst[from:])
	}
	return dst
}

// look appends the ids of a word that is not in the cache.
func (e *encoder) look(dst []int32, word []byte) []int32 {
	if id, ok := e.whole[string(word)]; ok {
		return append(dst, id)
	}
	return e.merges.merge(dst, word, &e.scratch)
}
