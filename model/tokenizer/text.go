package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// Text is b as valid UTF-8: one U+FFFD for each maximal part of a sequence that is not, as the reference decodes (Rust's
// from_utf8_lossy; Unicode 15, section 3.9, "U+FFFD Substitution of Maximal Subparts").
func Text(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	var out strings.Builder
	out.Grow(len(b))
	for len(b) > 0 {
		n, _ := prefix(b)
		if r, size := utf8.DecodeRune(b); r == utf8.RuneError && size <= 1 {
			out.WriteRune(utf8.RuneError)
		} else {
			out.Write(b[:n])
		}
		b = b[n:]
	}
	return out.String()
}

// prefix is the length of the first character of b, or of the maximal part of one that is broken; whole is false if b
// ends in its middle, so that more bytes may complete it. b is not empty.
func prefix(b []byte) (n int, whole bool) {
	if r, size := utf8.DecodeRune(b); r != utf8.RuneError || size > 1 {
		return size, true
	}
	want, lo, hi := 0, byte(0x80), byte(0xBF)
	switch c := b[0]; {
	case c >= 0xC2 && c <= 0xDF:
		want = 2
	case c >= 0xE0 && c <= 0xEF:
		want = 3
		if c == 0xE0 {
			lo = 0xA0 // no overlong form
		} else if c == 0xED {
			hi = 0x9F // no surrogate
		}
	case c >= 0xF0 && c <= 0xF4:
		want = 4
		if c == 0xF0 {
			lo = 0x90
		} else if c == 0xF4 {
			hi = 0x8F
		}
	}
	for n = 1; n < want; n++ {
		if n == len(b) {
			return n, false
		}
		if b[n] < lo || b[n] > hi {
			break
		}
		lo, hi = 0x80, 0xBF
	}
	return n, true
}

// Stream decodes ids one after another for showing: characters whose bytes are not all there yet are held back. What Next
// and Flush return is, put together, Text of Decode of all ids. One goroutine at a time.
type Stream struct {
	t    Coder
	held []byte // at most three bytes after Next
}

// NewStream returns a Stream that decodes by t.
func NewStream(t Coder) *Stream { return &Stream{t: t} }

// Next is the text that id completes; it may be empty.
func (s *Stream) Next(id int32) string {
	s.held = s.t.Decode(s.held, []int32{id})
	end := 0
	for end < len(s.held) {
		n, whole := prefix(s.held[end:])
		if !whole {
			break
		}
		end += n
	}
	text := Text(s.held[:end])
	s.held = s.held[:copy(s.held, s.held[end:])]
	return text
}

// Flush is what is still held back, one U+FFFD or nothing. The stream may go on after it.
func (s *Stream) Flush() string {
	text := Text(s.held)
	s.held = s.held[:0]
	return text
}
