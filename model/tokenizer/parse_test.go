package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// raw is a patch of one key.
func raw(key, value string) map[string]json.RawMessage {
	return map[string]json.RawMessage{key: json.RawMessage(value)}
}

const level = `{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}`

// What the package does not have is refused by its name.
func TestUnsupported(t *testing.T) {
	base := tiny([][2]string{{"a", "b"}}, false)
	sequence := func(parts string) string { return `{"type":"Sequence","pretokenizers":[` + parts + `]}` }
	split := func(pattern, more string) string {
		return sequence(`{"type":"Split","pattern":` + pattern + more + `},` + level)
	}
	token := func(more string) string { return `[{"id":300,"content":"<x>","special":true` + more + `}]` }
	for _, c := range []struct{ key, value, names string }{
		{"model.type", `"Unigram"`, "model \"Unigram\""},
		{"model.type", `"WordPiece"`, "WordPiece"},
		{"model.dropout", `0.1`, "model.dropout"},
		{"model.continuing_subword_prefix", `"##"`, "continuing_subword_prefix"},
		{"model.end_of_word_suffix", `"</w>"`, "end_of_word_suffix"},
		{"model.unheard_of", `1`, "unheard_of"},
		{"model.vocab", `{"a":0,"b":1,"ab":2}`, "0x00"},
		{"unheard_of", `1`, "unheard_of"},
		{"normalizer", `{"type":"NFKC"}`, "normalizer \"NFKC\""},
		{"normalizer", `{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Lowercase"}]}`, "Lowercase"},
		{"normalizer", `{"type":"NFC","left":true}`, "normalizer.NFC"},
		{"pre_tokenizer", `null`, "pre_tokenizer \"null\""},
		{"pre_tokenizer", `{"type":"Metaspace"}`, "Metaspace"},
		{"pre_tokenizer", `{"type":"Digits"}`, "Digits"},
		{"pre_tokenizer", sequence(""), "pre_tokenizer"},
		{"pre_tokenizer", sequence(level + `,{"type":"Digits"}`), "ByteLevel"},
		{"pre_tokenizer", sequence(level + `,` + level), "ByteLevel"},
		{"pre_tokenizer", sequence(`{"type":"Whitespace"},` + level), "Whitespace"},
		{"pre_tokenizer", `{"type":"ByteLevel","add_prefix_space":true}`, "add_prefix_space"},
		{"pre_tokenizer", `{"type":"ByteLevel","add_prefix_space":false,"upside_down":true}`, "upside_down"},
		{"pre_tokenizer", split(`{"Regex":"\\w+|\\W"}`, `,"behavior":"Isolated","invert":false`), `\\w+|\\W`},
		{"pre_tokenizer", split(`{"String":" "}`, `,"behavior":"Isolated","invert":false`), "String"},
		{"pre_tokenizer", strings.Repeat(`{"type":"Sequence","pretokenizers":[`, 9) + level + strings.Repeat(`]}`, 9), "nested deeper than \"8\""},
		{"normalizer", strings.Repeat(`{"type":"Sequence","normalizers":[`, 9) + `{"type":"NFC"}` + strings.Repeat(`]}`, 9), "nested"},
		{"post_processor", strings.Repeat(`{"type":"Sequence","processors":[`, 9) + level + strings.Repeat(`]}`, 9), "nested"},
		{"decoder", `{"type":"ByteLevel","speed":1}`, "speed"},
		{"pre_tokenizer", split(`{"Regex":`+string(quote(llama3Pattern))+`}`, `,"behavior":"Removed","invert":false`), "behavior"},
		{"pre_tokenizer", split(`{"Regex":`+string(quote(llama3Pattern))+`}`, `,"behavior":"MergedWithNext","invert":false`), "MergedWithNext"},
		{"decoder", `null`, "decoder"},
		{"decoder", `{"type":"Sequence","decoders":[]}`, "decoder \"Sequence\""},
		{"post_processor", `{"type":"RobertaProcessing","sep":["</s>",2],"cls":["<s>",0]}`, "RobertaProcessing"},
		{"post_processor", `{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"a"}},{"Sequence":{"id":"A"}}],"special_tokens":{"a":{"ids":[1,2]}}}`, "2 tokens on one side"},
		{"added_tokens", token(`,"single_word":true`), "single_word"},
		{"added_tokens", token(`,"color":1`), "color"},
	} {
		_, err := Parse(patch(t, base, raw(c.key, c.value)))
		var u *UnsupportedError
		if !errors.As(err, &u) || !strings.Contains(err.Error(), c.names) || u.Component == "" {
			t.Errorf("%s %s: %v, want an UnsupportedError with %q", c.key, c.value, err, c.names)
		}
	}
}

func quote(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		return nil
	}
	return b
}

// What is broken or contradicts itself is refused, too, and is not called unsupported.
func TestBroken(t *testing.T) {
	base := tiny([][2]string{{"a", "b"}}, false)
	vocab := func(more string) string {
		v := map[string]int{}
		for b, r := range Alphabet() {
			v[string(r)] = b
		}
		s, _ := json.Marshal(v)
		return strings.TrimSuffix(string(s), "}") + "," + more + "}"
	}
	template := func(single, special string) string {
		return `{"type":"TemplateProcessing","single":` + single + `,"special_tokens":` + special + `}`
	}
	for _, c := range []struct{ key, value, says string }{
		{"model.merges", `["ab"]`, "not two tokens"},
		{"model.merges", `["a b c"]`, "not two tokens"},
		{"model.merges", `[" b"]`, "not two tokens"},
		{"model.merges", `[["a"]]`, "not two tokens"},
		{"model.merges", `[["a","c"]]`, "not all three"},
		{"model.merges", `[["a",""]]`, "not all three"},
		{"model.merges", `null`, "missing"},
		{"model.vocab", vocab(`"ab":256,"x y":-1`), "not between"},
		{"model.vocab", vocab(`"ab":4194304`), "not between"},
		{"model.vocab", vocab(`"ab":3000000000`), "parse model"},
		{"model.vocab", vocab(`"ab":97`), "stands for"},
		{"model", `[]`, "parse model"},
		{"added_tokens", `[{"content":"<x>"}]`, "an id"},
		{"added_tokens", `[{"id":300,"content":""}]`, "1 to"},
		{"added_tokens", `[{"id":300,"content":"` + strings.Repeat("x", 257) + `"}]`, "1 to"},
		{"added_tokens", `[{"id":-300,"content":"<x>"}]`, "not between"},
		{"added_tokens", `[{"id":300,"content":"<x>"},{"id":301,"content":"<x>"}]`, "twice"},
		{"added_tokens", `[{"id":300,"content":"<x>"},{"id":300,"content":"<y>"}]`, "twice"},
		{"added_tokens", `[{"id":300,"content":"ab"}]`, "in the vocabulary"},
		{"added_tokens", `[{"id":97,"content":"<x>"}]`, "stands for"},
		{"post_processor", template(`[{"SpecialToken":{"id":"x"}},{"Sequence":{"id":"A"}}]`, `{}`), "not among"},
		{"post_processor", template(`[{"SpecialToken":{"id":"x"}},{"Sequence":{"id":"A"}}]`, `{"x":{"ids":[9999]}}`), "outside"},
		{"post_processor", template(`[{"Sequence":{"id":"A"}},{"Sequence":{"id":"A"}}]`, `{}`), "around one"},
		{"post_processor", template(`[{}]`, `{}`), "around one"},
	} {
		_, err := Parse(patch(t, base, raw(c.key, c.value)))
		var u *UnsupportedError
		if err == nil || errors.As(err, &u) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s %.200s: %v, want an error with %q", c.key, c.value, err, c.says)
		}
	}
	for _, file := range []string{"", "null", "[]", "{}", `{"model":null}`, string(base[:len(base)-1]), string(base) + "x"} {
		if _, err := Parse([]byte(file)); err == nil {
			t.Errorf("%.60q: accepted", file)
		}
	}
}

// Older and newer spellings of the same file are the same tokenizer.
func TestSpellings(t *testing.T) {
	base := llama3(t)
	text := []byte("The quick 12345 brown foxes' it's\n\n\t字 é quixotically zzyzx ÷÷÷ <|eot_id|>")
	want := parsed(t, base).Encode(nil, text)
	var f struct{ Model struct{ Merges [][2]string } }
	if err := json.Unmarshal(base, &f); err != nil {
		t.Fatal(err)
	}
	var joined []string
	for _, m := range f.Model.Merges {
		joined = append(joined, m[0]+" "+m[1])
	}
	merges, err := json.Marshal(joined)
	if err != nil {
		t.Fatal(err)
	}
	split := `{"type":"Split","pattern":{"Regex":` + string(quote(llama3Pattern)) + `},"behavior":"Isolated","invert":false}`
	for name, p := range map[string]map[string]json.RawMessage{
		"merges as strings": raw("model.merges", string(merges)), "no model type": raw("model.type", `null`), "empty prefix": raw("model.continuing_subword_prefix", `""`),
		"dropout 0": raw("model.dropout", `0`), "truncation": raw("truncation", `{"max_length":2}`), "no processor": raw("post_processor", `null`),
		"nested":           raw("pre_tokenizer", `{"type":"Sequence","pretokenizers":[{"type":"Sequence","pretokenizers":[`+split+`]},`+level+`]}`),
		"empty normalizer": raw("normalizer", `{"type":"Sequence","normalizers":[]}`),
	} {
		if got := parsed(t, patch(t, base, p)).Encode(nil, text); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func TestName(t *testing.T) {
	file := llama3(t)
	tok := parsed(t, file)
	if got := tok.Files()[tokenizerFile]; !bytes.Equal(got, file) {
		t.Error("another tokenizer.json came back")
	}
	if tok.Name() != hash(file) || len(tok.Name()) != 64 {
		t.Errorf("name %s", tok.Name())
	}
	if again, err := Load(tok.Name(), file); err != nil || again.Name() != tok.Name() {
		t.Errorf("load: %v", err)
	}
	for _, c := range []struct {
		name string
		file []byte
		says string
	}{{tok.Name(), append([]byte(" "), file...), "hashes to"}, {tok.Name(), nil, "not given"}, {"llama3", file, "unknown tokenizer"}, {"", nil, "unknown tokenizer"}, {strings.ToUpper(tok.Name()), file, "hashes to"}} {
		if _, err := Load(c.name, c.file); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%.10s: %v, want %q", c.name, err, c.says)
		}
	}
	file[0] = 'x' // the caller's slice is the caller's
	if tok.Files()[tokenizerFile][0] == 'x' {
		t.Error("Parse kept the caller's bytes")
	}
	var c struct {
		BOS string `json:"bos_token"`
		EOS string `json:"eos_token"`
	}
	if err := json.Unmarshal(tok.Files()[configFile], &c); err != nil || c.BOS != "<|begin_of_text|>" || c.EOS != "<|end_of_text|>" {
		t.Errorf("tokenizer_config.json says %q %q, %v", c.BOS, c.EOS, err)
	}
}

// Ids between those of the vocabulary and beyond are left out, and a sparse vocabulary is one up to its highest id.
func TestSparse(t *testing.T) {
	tok := parsed(t, patch(t, tiny(nil, false), raw("added_tokens", `[{"id":1000,"content":"<x>","special":true}]`)))
	if tok.Vocab() != 1001 {
		t.Errorf("%d ids, want 1001", tok.Vocab())
	}
	if got := string(tok.Decode(nil, []int32{-1 << 31, -1, 97, 256, 999, 1000, 1001, 1<<31 - 1})); got != "a<x>" {
		t.Errorf("decoded to %q", got)
	}
	if got := string(Plain(nil, tok, []int32{1000, 97, 1000, 1000, 98, 1000})); got != "ab" {
		t.Errorf("without special tokens %q", got)
	}
	if _, ok := tok.EOS(); ok || tok.Special(999) || !tok.Special(1000) {
		t.Error("<x> ends documents, or is not special, or another id is")
	}
}

func FuzzParse(f *testing.F) {
	small := tiny([][2]string{{"a", "b"}, {"ab", "c"}}, true)
	f.Add(small)
	f.Add(patch(f, small, raw("added_tokens", `[{"id":300,"content":"<x>","special":true,"lstrip":true,"rstrip":true},{"id":301,"content":" ","normalized":true,"rstrip":true}]`)))
	f.Add(patch(f, small, raw("normalizer", `{"type":"NFC"}`)))
	f.Add(patch(f, small, raw("pre_tokenizer", `{"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},{"type":"ByteLevel","add_prefix_space":false}]}`)))
	f.Add(patch(f, small, raw("post_processor", `{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"a"}},{"Sequence":{"id":"A"}}],"special_tokens":{"a":{"ids":[97]}}}`)))
	f.Add([]byte(`{"model":{"type":"BPE","vocab":{},"merges":[]}}`))
	f.Fuzz(func(t *testing.T, file []byte) {
		tok, err := Parse(file)
		if err != nil {
			return
		}
		for _, id := range tok.Encode(nil, []byte("abc <x>  é\xff 12'\n")) {
			if id < 0 || int(id) >= tok.Vocab() {
				t.Fatalf("id %d of %d", id, tok.Vocab())
			}
		}
		again, err := Load(tok.Name(), tok.Files()[tokenizerFile])
		if err != nil || again.Vocab() != tok.Vocab() {
			t.Fatalf("read again: %v", err)
		}
	})
}

// Text comes back, whatever bytes it is, and as text without special tokens; with NFC, in that form.
func FuzzRoundTrip(f *testing.F) {
	for _, s := range []string{"", "Hello, world!", "it'ſ\u0085 x\n\n y", "<|begin_of_text|><|eot_id|", "\xff\xe5\xad \xf0\x9f", "字é字 12345", strings.Repeat("a", 300), "e\u0301\u0323", "ªAb'S ǅ"} {
		f.Add([]byte(s))
	}
	base := llama3(f)
	toks := map[string]Tokenizer{}
	for name, pattern := range map[string]string{"llama3": llama3Pattern, "gpt2": gpt2Pattern, "o200k": o200kPattern} {
		toks[name] = parsed(f, patch(f, base, raw("pre_tokenizer", `{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":`+string(quote(pattern))+`},"behavior":"Isolated","invert":false},`+level+`]}`)))
	}
	nfc := parsed(f, patch(f, base, raw("normalizer", `{"type":"NFC"}`)))
	f.Fuzz(func(t *testing.T, text []byte) {
		for name, tok := range toks {
			ids := tok.Encode(nil, text)
			if got := tok.Decode(nil, ids); !bytes.Equal(got, text) {
				t.Fatalf("%s: %q came back as %q", name, text, got)
			}
			if twice := tok.Encode(tok.Encode(nil, text), text); !slices.Equal(twice, append(slices.Clone(ids), ids...)) {
				t.Fatalf("%s: %q: other ids the second time", name, text)
			}
			asText := tok.EncodeText(nil, text)
			if got := tok.Decode(nil, asText); !bytes.Equal(got, text) || slices.ContainsFunc(asText, tok.Special) {
				t.Fatalf("%s: %q as text is %v: %q", name, text, asText, got)
			}
			if got := Text(text); !utf8.ValidString(got) || utf8.Valid(text) && got != string(text) {
				t.Fatalf("%q as text is %q", text, got)
			}
		}
		// a special token cuts the text before it is normalized; crowds are x/text's exception, tested apart
		if bytes.Contains(text, []byte("<|")) || crowded(text) >= 0 {
			return
		}
		if got := nfc.Decode(nil, nfc.Encode(nil, text)); !bytes.Equal(got, norm.NFC.Bytes(text)) {
			t.Fatalf("%q came back as %q", text, got)
		}
	})
}

func ExampleParse() {
	tok, err := Parse([]byte(`{"model": {"type": "Unigram", "vocab": []}, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}, "decoder": {"type": "ByteLevel"}}`))
	fmt.Println(tok, err)
	// Output: <nil> tokenizer.json: model "Unigram" is not supported
}
