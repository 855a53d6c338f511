package tokenizer

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"
)

// The examples of Unicode 15, section 3.9, tables 3-8 to 3-11, and of the documentation of Rust's from_utf8_lossy.
func TestText(t *testing.T) {
	const bad = "\uFFFD"
	for _, c := range []struct{ in, want string }{
		{"", ""}, {"abc", "abc"}, {"é字👩", "é字👩"}, {"\uFFFD", bad},
		{"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", strings.Repeat(bad, 8) + "A"},
		{"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", strings.Repeat(bad, 8) + "A"},
		{"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", strings.Repeat(bad, 5) + "A" + bad + bad + "B"},
		{"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", bad + bad + bad + bad + "A"},
		{"Hello \xF0\x90\x80World", "Hello " + bad + "World"},
		{"\xF0\x9F\x91", bad}, {"\xE5\xAD", bad}, {"\xC3", bad}, {"\xF5\x80", bad + bad}, {"a\xF4\x8F\xBFb", "a" + bad + "b"},
	} {
		if got := Text([]byte(c.in)); got != c.want {
			t.Errorf("% x: %q, want %q", c.in, got, c.want)
		}
	}
}

// pieces draws bytes among which broken characters are frequent.
func pieces(rt *rapid.T) []byte {
	return []byte(strings.Join(rapid.SliceOf(rapid.OneOf(rapid.SampledFrom([]string{"\xF0", "\x9F", "\x91", "\xA9", "\xE5", "\xED", "\xA0", "\x80", "\xC3", "\xFF", "a", "é", "字", "👩", "\uFFFD"}),
		rapid.StringN(0, 3, -1))).Draw(rt, "pieces"), ""))
}

func TestStream(t *testing.T) {
	tok := parsed(t, llama3(t))
	rapid.Check(t, func(rt *rapid.T) {
		ids := tok.Encode(nil, pieces(rt))
		ids = append(ids, rapid.SliceOf(rapid.Int32Range(-1, int32(tok.Vocab()))).Draw(rt, "ids")...)
		var out strings.Builder
		s := NewStream(tok)
		for _, id := range ids {
			part := s.Next(id)
			if !utf8.ValidString(part) {
				rt.Fatalf("%q is not UTF-8", part)
			}
			if len(s.held) >= utf8.UTFMax {
				rt.Fatalf("%d bytes are held back", len(s.held))
			}
			out.WriteString(part)
		}
		out.WriteString(s.Flush())
		if want := Text(tok.Decode(nil, ids)); out.String() != want {
			rt.Fatalf("%q, want %q", out.String(), want)
		}
		if again := s.Flush(); again != "" {
			rt.Fatalf("flushed %q twice", again)
		}
	})
}

func TestStreamHoldsBack(t *testing.T) {
	tok, err := New("bytes")
	if err != nil {
		t.Fatal(err)
	}
	s := NewStream(tok)
	var got []string
	for _, b := range []byte("a字\xE5b") {
		got = append(got, s.Next(int32(b)))
	}
	if want := "a|||字||\uFFFDb"; strings.Join(got, "|") != want {
		t.Errorf("%q, want %q", strings.Join(got, "|"), want)
	}
}

// The definition, which marks in crowds need, agrees with x/text where that can be asked: in texts without crowds.
func TestComposedAsXText(t *testing.T) {
	alphabet := []rune("aeAoÅéſẛ\u0301\u0323\u0327\u0344\u0345\u0f71\u0f72\u0f73가각\u1100\u1161\u11a8\u0915\u093c\u0958\u1025\u102e\u212b\u0340Ⅷﬁ字")
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.StringOfN(rapid.OneOf(rapid.SampledFrom(alphabet), rapid.RuneFrom(nil, unicode.M, unicode.L)), 0, 12, -1).Draw(rt, "text")
		var got []byte
		for rest := []byte(text); len(rest) > 0; {
			n := segment(rest)
			got = appendComposed(got, rest[:n])
			rest = rest[n:]
		}
		if want := norm.NFC.String(text); string(got) != want {
			rt.Fatalf("%+q: %+q, want %+q", text, got, want)
		}
	})
}

// Crowds get no character that was not there, whatever stands around them, and bytes that are not UTF-8 stay.
func TestCrowds(t *testing.T) {
	many := strings.Repeat("\u0323", 40)
	for _, c := range []struct{ name, in, want string }{
		{"sorted and composed", "x e\u0301" + many + " y", "x \u1eb9" + many[2:] + "\u0301 y"},
		{"at the start", many + "a", many + "a"},
		{"after a broken byte", "a\xff" + many + "e\u0301", "a\xff" + many + "é"},
		{"twice", "e\u0301" + many + "o\u0301" + many, "\u1eb9" + many[2:] + "\u0301" + "\u1ecd" + many[2:] + "\u0301"},
		{"not composed with the end of the crowd", "a" + many + "\u1100\u1161", "\u1ea1" + many[2:] + "가"},
	} {
		if got := string(appendNFC(nil, []byte(c.in))); got != c.want {
			t.Errorf("%s: %+q, want %+q", c.name, got, c.want)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		text := pieces(rt)
		text = append(text, strings.Repeat("\u0344", rapid.IntRange(0, 30).Draw(rt, "crowd"))...)
		got := appendNFC(nil, append(text, pieces(rt)...))
		if strings.ContainsRune(string(got), '\u034f') {
			rt.Fatalf("%+q has U+034F", got)
		}
		if again := appendNFC(nil, got); string(again) != string(got) {
			rt.Fatalf("%+q becomes %+q", got, again)
		}
	})
}
