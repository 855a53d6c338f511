package tokenizer

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// goSource is up to n bytes of the Go standard library's source, without tests, tables and what is generated: the same
// files in the same order for a given Go.
func goSource(t testing.TB, n int) []byte {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skipf("no Go source to read: %v", err)
	}
	root, err := filepath.EvalSymlinks(filepath.Join(strings.TrimSpace(string(out)), "src"))
	if err != nil {
		t.Skipf("no Go source to read: %v", err)
	}
	var text []byte
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.Contains(path, "table") || strings.Contains(path, "testdata") || len(text) >= n {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && !bytes.Contains(b[:min(len(b), 500)], []byte("Code generated")) {
			text = append(text, b...)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return text[:min(len(text), n)]
}

// prose is the text of the whole-line comments of Go source: English.
func prose(source []byte) (out []byte) {
	for line := range bytes.Lines(source) {
		if s, ok := bytes.CutPrefix(bytes.TrimLeft(line, "\t"), []byte("// ")); ok {
			out = append(out, s...)
		}
	}
	return out
}

// grown is base with its vocabulary grown to size ids: for the most frequent pre-tokens of text, the merges that make each
// of them one token, in order of frequency. It is not what training would give, but as large, and its words are real.
func grown(t testing.TB, base, text []byte, size int) []byte {
	t.Helper()
	var f map[string]json.RawMessage
	var model map[string]any
	if err := json.Unmarshal(base, &f); err != nil {
		t.Fatal(err)
	}
	var m struct {
		Vocab  map[string]int32 `json:"vocab"`
		Merges [][2]string      `json:"merges"`
	}
	if err := json.Unmarshal(f["model"], &m); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(f["model"], &model); err != nil {
		t.Fatal(err)
	}
	rank := map[[2]string]int{}
	for i, p := range m.Merges {
		rank[p] = i
	}
	next := int32(len(m.Vocab) + 4)
	for _, word := range frequent(text) {
		parts := naive(rank, word)
		for ; len(parts) > 1; parts = append([]string{parts[0] + parts[1]}, parts[2:]...) {
			p := [2]string{parts[0], parts[1]}
			if _, ok := m.Vocab[p[0]+p[1]]; !ok && int(next) < size {
				m.Vocab[p[0]+p[1]] = next
				next++
			}
			if _, ok := m.Vocab[p[0]+p[1]]; !ok {
				break
			}
			if _, ok := rank[p]; !ok {
				rank[p] = len(m.Merges)
				m.Merges = append(m.Merges, p)
			}
		}
		if int(next) == size {
			break
		}
	}
	if int(next) != size {
		t.Skipf("%d bytes of text give %d tokens of %d", len(text), next, size)
	}
	model["vocab"], model["merges"] = m.Vocab, m.Merges
	f["model"], _ = json.Marshal(model)
	out, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// frequent is the pre-tokens of text in the byte-level alphabet, the most frequent first.
func frequent(text []byte) []string {
	count := map[string]int{}
	for split := patterns[llama3Pattern](classes()); len(text) > 0; {
		n := split(text)
		count[string(text[:n])]++
		text = text[n:]
	}
	words := make([]string, 0, len(count))
	for w := range count {
		if len(w) < 40 {
			words = append(words, w)
		}
	}
	slices.SortFunc(words, func(a, b string) int { return cmp.Or(count[b]-count[a], cmp.Compare(a, b)) })
	alphabet := Alphabet()
	for i, w := range words {
		var s strings.Builder
		for k := range len(w) {
			s.WriteRune(alphabet[w[k]])
		}
		words[i] = s.String()
	}
	return words
}

// naive is BPE as it is defined, on a word in the byte-level alphabet: again and again the neighbours of the lowest rank,
// the leftmost first, become one.
func naive(rank map[[2]string]int, word string) (parts []string) {
	for _, r := range word {
		parts = append(parts, string(r))
	}
	for {
		best, at := -1, 0
		for i := range len(parts) - 1 {
			if r, ok := rank[[2]string{parts[i], parts[i+1]}]; ok && (best < 0 || r < best) {
				best, at = r, i
			}
		}
		if best < 0 {
			return parts
		}
		parts[at] += parts[at+1]
		parts = slices.Delete(parts, at+1, at+2)
	}
}

func BenchmarkEncode(b *testing.B) {
	source := goSource(b, 64<<20)
	base := llama3(b)
	texts := []struct {
		name string
		text []byte
	}{
		{"go", source[len(source)-8<<20:]}, {"english", prose(source)[:4<<20]}, {"random", noise(1 << 20)}, {"chinese", chinese(1 << 20)},
		{"base64", []byte(base64.StdEncoding.EncodeToString(noise(1 << 20)))},
	}
	nfc := patch(b, base, map[string]json.RawMessage{"normalizer": json.RawMessage(`{"type":"NFC"}`)})
	for _, v := range []struct {
		name string
		file []byte
	}{{"4096", base}, {"nfc", nfc}, {"gpt2-4096", read(b, filepath.Join("testdata", "gpt2.json.gz"))}, {"128k", grown(b, base, source, 128256)}} {
		tok := parsed(b, v.file)
		var dst []int32
		for _, x := range texts {
			b.Run(fmt.Sprintf("%s/%s", v.name, x.name), func(b *testing.B) {
				b.SetBytes(int64(len(x.text)))
				b.ReportAllocs()
				for b.Loop() {
					dst = tok.Encode(dst[:0], x.text)
				}
				b.ReportMetric(float64(len(x.text))/float64(len(dst)), "bytes/token")
			})
		}
	}
}

// hostile texts are of the shapes that make a naive tokenizer quadratic.
func hostile(n int) map[string][]byte {
	rep := func(s string) []byte { return bytes.Repeat([]byte(s), n/len(s)+1)[:n/len(s)*len(s)] }
	return map[string][]byte{
		"one letter": rep("a"), "alternating": rep("ab"), "spaces": rep(" "), "lines": rep("\n"), "line then spaces": append([]byte("\n"), rep(" ")...),
		"spaces then line": append(rep(" "), '\n'), "digits": rep("7"), "quotes": rep("'"), "symbols": rep("=-"), "capitals": append([]byte("ª"), rep("A")...),
		"accents": rep("é"), "marks": append([]byte("a"), rep("\u0301\u0323")...), "jamo": append([]byte("\u1100"), rep("\u11a8")...), "bytes": rep("\xff\xc3"),
		"token begins": rep("<|begin_of_text"), "tokens": rep("<|begin_of_text|>"), "blank tokens": rep(" \t"), "words": rep("aAa é1 \r\n"),
	}
}

func BenchmarkHostile(b *testing.B) {
	tok := parsed(b, llama3(b))
	var dst []int32
	for name, text := range hostile(10 << 20) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				dst = tok.Encode(dst[:0], text)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	file := grown(b, llama3(b), goSource(b, 64<<20), 128256)
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		parsed(b, file)
	}
}
