package tokenizer

import (
	"slices"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// crowd is how many marks in a row x/text is trusted with: after 30 (decomposed, of which one may be three) it inserts
// U+034F, the stream-safe format of UAX #15, which the reference does not.
const crowd = 8

// appendNFC appends the NFC form of text to dst, which is empty; bytes that are not UTF-8 stay as they are.
func appendNFC(dst, text []byte) []byte {
	for len(text) > 0 {
		end := crowded(text)
		if end < 0 {
			return append(dst, norm.NFC.Bytes(text)...)
		}
		start := end
		for p := norm.NFC.Properties(text[start:]); start > 0 && !p.BoundaryBefore(); p = norm.NFC.Properties(text[start:]) {
			_, n := utf8.DecodeLastRune(text[:start])
			start -= n
		}
		if r, n := utf8.DecodeRune(text[start:]); r == utf8.RuneError && n <= 1 {
			start++ // no character, and nothing composes with it
		}
		dst = append(dst, norm.NFC.Bytes(text[:start])...)
		end = start + segment(text[start:])
		dst = appendComposed(dst, text[start:end])
		text = text[end:]
	}
	return dst
}

// crowded is where in text a mark stands that has too many before it, -1 if none does.
func crowded(text []byte) int {
	table := classes()
	for i, row := 0, 0; i < len(text); {
		c, n := table.at(text, i)
		if row++; c&mark == 0 { // what has a combining class is a mark
			row = 0
		}
		if row > crowd {
			return i
		}
		i += n
	}
	return -1
}

// segment is the length of the first character of text with all that may compose with it.
func segment(text []byte) int {
	n := 0
	for n < len(text) {
		p := norm.NFC.Properties(text[n:])
		if n > 0 && p.BoundaryBefore() {
			break
		}
		n += max(p.Size(), 1)
	}
	return n
}

// char is a character with its canonical combining class.
type char struct {
	r   rune
	ccc uint8
}

// appendComposed is NFC by its definition (UAX #15) for one segment of valid UTF-8 with a starter at most at its begin:
// decompose, sort marks by class, compose with the last starter what is not blocked.
func appendComposed(dst, text []byte) []byte {
	var chars []char
	for len(text) > 0 {
		p := norm.NFD.Properties(text)
		n := max(p.Size(), 1)
		d := p.Decomposition()
		if d == nil {
			d = text[:n]
		}
		for len(d) > 0 {
			r, size := utf8.DecodeRune(d)
			chars = append(chars, char{r, norm.NFD.Properties(d).CCC()})
			d = d[size:]
		}
		text = text[n:]
	}
	for i := 0; i < len(chars); {
		k := i + 1
		for k < len(chars) && chars[i].ccc > 0 && chars[k].ccc > 0 {
			k++
		}
		slices.SortStableFunc(chars[i:k], func(a, b char) int { return int(a.ccc) - int(b.ccc) })
		i = k
	}
	out, starter := chars[:0], -1
	for _, c := range chars {
		last := len(out) - 1
		if starter >= 0 && (last == starter || out[last].ccc != 0 && out[last].ccc < c.ccc) {
			if r, ok := compose(out[starter].r, c.r); ok {
				out[starter].r = r
				continue
			}
		}
		if out = append(out, c); c.ccc == 0 {
			starter = len(out) - 1
		}
	}
	for _, c := range out {
		dst = utf8.AppendRune(dst, c.r)
	}
	return dst
}

// compose is the one character that a and b are together, if there is one.
func compose(a, b rune) (rune, bool) {
	var in, out [2 * utf8.UTFMax]byte
	pair := norm.NFC.Append(out[:0], utf8.AppendRune(utf8.AppendRune(in[:0], a), b)...)
	r, n := utf8.DecodeRune(pair)
	return r, n == len(pair)
}
