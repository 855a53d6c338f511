package tokenizer

import (
	"sync"
	"unicode"
	"unicode/utf8"
)

// Classes of characters, as bits. What has none of them is punctuation, a symbol, a mark, a control or unassigned; so is a
// byte that is not UTF-8, each on its own.
const (
	letter  = 1 << iota // \p{L}
	number              // \p{N}
	space               // \s: White_Space, with U+0085, U+00A0 and U+3000
	newline             // \r and \n, which are space too
	mark                // \p{M}
	upper               // [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}] of the o200k pattern
	lower               // [\p{Ll}\p{Lm}\p{Lo}\p{M}] of the same
)

// classTable has the class of every code point.
type classTable [unicode.MaxRune + 1]uint8

// classes builds the table once a process: 1.1 MB, of which a text touches the pages of its scripts.
var classes = sync.OnceValue(func() *classTable {
	t := new(classTable)
	for _, c := range []struct {
		bit    uint8
		tables []*unicode.RangeTable
	}{
		{letter, []*unicode.RangeTable{unicode.L}}, {number, []*unicode.RangeTable{unicode.N}}, {space, []*unicode.RangeTable{unicode.White_Space}},
		{mark, []*unicode.RangeTable{unicode.M}},
		{upper, []*unicode.RangeTable{unicode.Lu, unicode.Lt, unicode.Lm, unicode.Lo, unicode.M}},
		{lower, []*unicode.RangeTable{unicode.Ll, unicode.Lm, unicode.Lo, unicode.M}},
	} {
		for _, table := range c.tables {
			for _, r := range table.R16 {
				for x := int(r.Lo); x <= int(r.Hi); x += int(r.Stride) {
					t[x] |= c.bit
				}
			}
			for _, r := range table.R32 {
				for x := int(r.Lo); x <= int(r.Hi); x += int(r.Stride) {
					t[x] |= c.bit
				}
			}
		}
	}
	t['\r'] |= newline
	t['\n'] |= newline
	return t
})

// at is the class and the length of the character of text at i < len(text).
func (t *classTable) at(text []byte, i int) (class uint8, size int) {
	if b := text[i]; b < utf8.RuneSelf {
		return t[b], 1
	}
	r, n := utf8.DecodeRune(text[i:])
	return t[r], n
}

// run is the end of the characters from i on that have a bit of mask.
func (t *classTable) run(text []byte, i int, mask uint8) int {
	for i < len(text) {
		c, n := t.at(text, i)
		if c&mask == 0 {
			break
		}
		i += n
	}
	return i
}

// without is the end of the characters from i on that have no bit of mask.
func (t *classTable) without(text []byte, i int, mask uint8) int {
	for i < len(text) {
		c, n := t.at(text, i)
		if c&mask != 0 {
			break
		}
		i += n
	}
	return i
}

// A splitter returns the length of the first pre-token of text, at least 1; text is not empty. It looks at no more than
// the pre-token and the white space or letters after it, so that cutting a text of any shape takes linear time.
type splitter func(text []byte) int

// patterns are the regular expressions that stand in tokenizer files, with what does the same by hand. Go's regexp has no
// look-ahead, and a general matcher would be slower by far.
var patterns = map[string]func(t *classTable) splitter{
	llama3Pattern: func(t *classTable) splitter { return func(text []byte) int { return t.cl100k(text, 3, letter) } },
	// GPT-4 as tiktoken writes it: `?+` and `++` give nothing back, and there is nothing to give back
	`'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+`: func(t *classTable) splitter {
		return func(text []byte) int { return t.cl100k(text, 3, letter) }
	},
	// Qwen 2, 2.5, 3: one digit at a time
	`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`: func(t *classTable) splitter {
		return func(text []byte) int { return t.cl100k(text, 1, letter) }
	},
	// Qwen 3.5: marks belong to the word
	`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`: func(t *classTable) splitter {
		return func(text []byte) int { return t.cl100k(text, 1, letter|mark) }
	},
	gpt2Pattern: func(t *classTable) splitter { return t.gpt2 },
	`'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`: func(t *classTable) splitter { return t.gpt2 },
	o200kPattern: func(t *classTable) splitter { return func(text []byte) int { return t.o200k(text, 3, true) } },
	// Mistral Nemo: without contractions, one digit at a time
	`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+` +
		`|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*` +
		`|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`: func(t *classTable) splitter {
		return func(text []byte) int { return t.o200k(text, 1, false) }
	},
}

const (
	llama3Pattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	// what ByteLevel does on its own
	gpt2Pattern = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	// Llama 4, gpt-oss, Phi-4-mini
	o200kPattern = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?` +
		`|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?` +
		`|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// cl100k cuts by the patterns of Llama 3 and Qwen: at most digits digits, words of the classes in word.
func (t *classTable) cl100k(text []byte, digits int, word uint8) int {
	if text[0] == '\'' {
		if n := contraction(text, true); n > 0 {
			return n
		}
	}
	c, n := t.at(text, 0)
	// [^\r\n\p{L}\p{N}]?\p{L}+ : a mark may be the one in front of a word, or with it the word; the text is the same
	if c&word != 0 {
		return t.run(text, n, word)
	}
	if c&(number|newline) == 0 && n < len(text) {
		if c1, n1 := t.at(text, n); c1&word != 0 {
			return t.run(text, n+n1, word)
		}
	}
	if c&number != 0 {
		return t.digits(text, n, digits)
	}
	if end := t.symbols(text, word|number|space); end > 0 {
		return t.run(text, end, newline)
	}
	return t.spaces(text, true)
}

// gpt2 cuts by the pattern of GPT-2.
func (t *classTable) gpt2(text []byte) int {
	if text[0] == '\'' {
		if n := contraction(text, false); n > 0 {
			return n
		}
	}
	i := 0
	if text[0] == ' ' && len(text) > 1 {
		i = 1
	}
	c, n := t.at(text, i)
	for _, class := range [...]uint8{letter, number} {
		if c&class != 0 {
			return t.run(text, i+n, class)
		}
	}
	if c&space == 0 {
		return t.without(text, i+n, letter|number|space)
	}
	return t.spaces(text, false)
}

// digits is the end of at most n numbers, of which the first ends at i.
func (t *classTable) digits(text []byte, i, n int) int {
	for ; n > 1 && i < len(text); n-- {
		c, size := t.at(text, i)
		if c&number == 0 {
			break
		}
		i += size
	}
	return i
}

// symbols is the end of ` ?[^...]+`, with the classes of not excluded; 0: no match.
func (t *classTable) symbols(text []byte, not uint8) int {
	i := 0
	if text[0] == ' ' {
		i = 1
	}
	if end := t.without(text, i, not); end > i {
		return end
	}
	return 0
}

// spaces is the end of `\s*[\r\n]+|\s+(?!\S)|\s+` (without the first alternative if not lines): white space up to its last
// line break; else all of it if the text ends there; else all but its last character, which belongs to the word after it.
func (t *classTable) spaces(text []byte, lines bool) int {
	end, last, broken := 0, 0, 0
	for end < len(text) {
		c, n := t.at(text, end)
		if c&space == 0 {
			break
		}
		last = end
		end += n
		if c&newline != 0 {
			broken = end
		}
	}
	switch {
	case lines && broken > 0:
		return broken
	case end == len(text) || last == 0:
		return max(end, 1)
	}
	return last
}

// contraction is the length of 's, 't, 're, 've, 'm, 'll or 'd at the start of text, 0 for none; with fold in either case,
// where the long s (U+017F) is an s too.
func contraction(text []byte, fold bool) int {
	at := func(i int) byte {
		if i >= len(text) {
			return 0
		}
		if b := text[i]; fold && b >= 'A' && b <= 'Z' {
			return b + 'a' - 'A'
		}
		return text[i]
	}
	switch a, b := at(1), at(2); {
	case a == 's' || a == 't' || a == 'm' || a == 'd':
		return 2
	case (a == 'r' || a == 'v') && b == 'e' || a == 'l' && b == 'l':
		return 3
	case fold && a == 0xC5 && b == 0xBF:
		return 3
	}
	return 0
}

// digitRuns cuts numbers from the rest, one by one if individual.
func digitRuns(t *classTable, individual bool) splitter {
	return func(text []byte) int {
		switch c, n := t.at(text, 0); {
		case c&number == 0:
			return t.without(text, n, number)
		case individual:
			return n
		default:
			return t.run(text, n, number)
		}
	}
}
