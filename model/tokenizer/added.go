package tokenizer

import (
	"unicode"
	"unicode/utf8"
)

// added is a token that is found in the text before anything else is done with it.
type added struct {
	id             int32
	content        string
	lstrip, rstrip bool // it takes the white space before or after it along
	normalized     bool // it is looked for after normalisation
	special        bool
}

// maxAdded is the longest content of an added token, in bytes; a search looks at most that far from each place.
const maxAdded = 256

// matcher finds added tokens: the longest at the leftmost place.
type matcher struct {
	tokens []added
	begins [256]bool        // whether a token begins with this byte
	next   map[uint64]int32 // node << 8 | byte -> node; the root is 0
	ends   []int32          // by node: the token that ends there, -1: none
	longer []int            // by node: how many edges leave it
}

// newMatcher makes a matcher of tokens with distinct contents, none of them empty.
func newMatcher(tokens []added) matcher {
	m := matcher{tokens: tokens, next: map[uint64]int32{}, ends: []int32{-1}, longer: []int{0}}
	for i, t := range tokens {
		node := int32(0)
		m.begins[t.content[0]] = true
		for k := range len(t.content) {
			edge := uint64(node)<<8 | uint64(t.content[k])
			to, ok := m.next[edge]
			if !ok {
				to = int32(len(m.ends))
				m.next[edge], m.ends, m.longer = to, append(m.ends, -1), append(m.longer, 0)
				m.longer[node]++
			}
			node = to
		}
		m.ends[node] = int32(i)
	}
	return m
}

// find is the first match at from or after it: its borders and the number of the token, -1 if there is none.
func (m *matcher) find(text []byte, from int) (start, end, token int) {
	for i := from; i < len(text); i++ {
		if !m.begins[text[i]] {
			continue
		}
		token, node := -1, int32(0)
		for k := i; k < len(text) && m.longer[node] > 0; k++ {
			to, ok := m.next[uint64(node)<<8|uint64(text[k])]
			if !ok {
				break
			}
			if node = to; m.ends[node] >= 0 {
				end, token = k+1, int(m.ends[node])
			}
		}
		if token >= 0 {
			return i, end, token
		}
	}
	return len(text), len(text), -1
}

// cut appends the ids of text: those of the tokens found, and what between does with the parts between them (not empty).
// It is AddedVocabulary::find_matches of the tokenizers library, with white space at both sides looked at once only.
func (m *matcher) cut(dst []int32, text []byte, e *encoder, between func(*encoder, []int32, []byte) []int32) []int32 {
	done, blank := 0, 0 // blank: the end of the white space that was looked at last
	for at := 0; len(m.tokens) > 0; {
		start, end, k := m.find(text, at)
		if k < 0 {
			break
		}
		t := &m.tokens[k]
		if at = end; e.spelled && e.control(t.id) {
			continue
		}
		if t.lstrip && start > done {
			start = done + len(trimRight(text[done:start]))
		}
		if t.rstrip {
			if blank <= end {
				blank = classes().run(text, end, space)
			}
			end = blank
		}
		if done < start {
			dst = between(e, dst, text[done:start])
		}
		dst = append(dst, t.id)
		done = end
	}
	if done < len(text) {
		dst = between(e, dst, text[done:])
	}
	return dst
}

// trimRight is text without the white space at its end.
func trimRight(text []byte) []byte {
	for len(text) > 0 {
		r, n := utf8.DecodeLastRune(text)
		if !unicode.Is(unicode.White_Space, r) {
			break
		}
		text = text[:len(text)-n]
	}
	return text
}
