package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/bits"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// noise is n random bytes.
func noise(n int) []byte {
	r, b := rand.New(rand.NewPCG(1, 2)), make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// chinese is common ideographs with a full stop now and then.
func chinese(n int) []byte {
	r := rand.New(rand.NewPCG(3, 4))
	var s strings.Builder
	for s.Len() < n {
		if r.IntN(12) == 0 {
			s.WriteString("。")
		}
		s.WriteRune(0x4E00 + rune(r.ExpFloat64()*500))
	}
	return []byte(s.String())
}

// tiny is the vocabulary of the 256 bytes and some merges, as model of a tokenizer.json.
func tiny(pairs [][2]string, ignoreMerges bool) []byte {
	vocab := map[string]int{}
	for b, r := range Alphabet() {
		vocab[string(r)] = b
	}
	for _, p := range pairs {
		if _, ok := vocab[p[0]+p[1]]; !ok {
			vocab[p[0]+p[1]] = len(vocab)
		}
	}
	level := map[string]any{"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}
	if pairs == nil {
		pairs = [][2]string{}
	}
	b, err := json.Marshal(map[string]any{"pre_tokenizer": level, "decoder": level, "model": map[string]any{"type": "BPE", "vocab": vocab, "merges": pairs, "ignore_merges": ignoreMerges}})
	if err != nil {
		return nil
	}
	return b
}

// Both ways of merging give what the definition gives, for merges in any order: also such as no training makes.
func TestMergesAsDefined(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tokens := []string{"a", "b", "c"}
		var pairs [][2]string
		for range rapid.IntRange(0, 25).Draw(rt, "merges") {
			p := [2]string{rapid.SampledFrom(tokens).Draw(rt, "left"), rapid.SampledFrom(tokens).Draw(rt, "right")}
			if len(p[0])+len(p[1]) < 12 && !slices.Contains(pairs, p) {
				pairs, tokens = append(pairs, p), append(tokens, p[0]+p[1])
			}
		}
		file := tiny(rapid.Permutation(pairs).Draw(rt, "order"), false)
		var f struct {
			Model struct {
				Vocab  map[string]int32 `json:"vocab"`
				Merges [][2]string      `json:"merges"`
			} `json:"model"`
		}
		if err := json.Unmarshal(file, &f); err != nil {
			rt.Fatal(err)
		}
		rank := map[[2]string]int{}
		for i, p := range f.Model.Merges {
			rank[p] = i
		}
		word := rapid.StringOfN(rapid.RuneFrom([]rune("abc")), 2, 200, -1).Draw(rt, "word")
		var want []int32
		for _, p := range naive(rank, word) {
			want = append(want, f.Model.Vocab[p])
		}
		tok, err := parse(file)
		if err != nil {
			rt.Fatal(err)
		}
		if got := tok.Encode(nil, []byte(word)); !slices.Equal(got, want) {
			rt.Fatalf("%q with %q: %v, want %v", word, f.Model.Merges, got, want)
		}
		if got := tok.merges.mergeLong(nil, []byte(word), &scratch{}); !slices.Equal(got, want) {
			rt.Fatalf("%q with %q: by heap %v, want %v", word, f.Model.Merges, got, want)
		}
	})
}

// A merge that comes twice has its last rank, as in the reference.
func TestMergeTwice(t *testing.T) {
	for _, c := range []struct {
		pairs [][2]string
		want  string
	}{
		{[][2]string{{"a", "b"}, {"b", "c"}}, "ab c"},
		{[][2]string{{"a", "b"}, {"b", "c"}, {"a", "b"}}, "a bc"},
	} {
		tok := parsed(t, tiny(c.pairs, false))
		var parts []string
		for _, id := range tok.Encode(nil, []byte("abc")) {
			parts = append(parts, string(tok.Decode(nil, []int32{id})))
		}
		if got := strings.Join(parts, " "); got != c.want {
			t.Errorf("%q: %s, want %s", c.pairs, got, c.want)
		}
	}
}

// The steps in the heap grow as n log n, whatever the word: at most the 3n candidates there can be, each sifted in and out.
func TestHeapWork(t *testing.T) {
	tok, err := parse(llama3(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range hostile(1 << 15) {
		s := &scratch{}
		n := len(tok.merges.mergeLong(nil, text, s))
		if limit := 3 * len(text) * (2 + bits.Len(uint(len(text)))); s.work > limit {
			t.Errorf("%s: %d bytes to %d tokens took %d steps, more than %d", name, len(text), n, s.work, limit)
		}
	}
	s := &scratch{}
	if tok.merges.mergeLong(nil, bytes.Repeat([]byte(" "), 1<<15), s); s.work < 1<<15 {
		t.Errorf("%d steps for %d spaces: not counted", s.work, 1<<15)
	}
}

// Splitters cut texts of any shape without a gap and without looking twice at the same stretch again and again: quadratic
// work on half a megabyte (10^11 steps for each shape) would not end before the time limit of the tests.
func TestSplitHostile(t *testing.T) {
	table := classes()
	splits := map[string]splitter{"digits": digitRuns(table, false), "digit": digitRuns(table, true)}
	for pattern, of := range patterns {
		splits[pattern] = of(table)
	}
	for shape, text := range hostile(1 << 19) {
		for name, split := range splits {
			for rest := text; len(rest) > 0; {
				n := split(rest)
				if n < 1 || n > len(rest) {
					t.Fatalf("%s: %s: a pre-token of %d bytes of %d", name, shape, n, len(rest))
				}
				rest = rest[n:]
			}
		}
	}
}

// So does looking for added tokens, also for those that take white space along, and normalization.
func TestAddedHostile(t *testing.T) {
	strip := newMatcher([]added{{id: 1, content: " ", lstrip: true, rstrip: true}, {id: 2, content: "\n", lstrip: true}, {id: 3, content: "\u3000", rstrip: true},
		{id: 4, content: "<|begin_of_text|>"}, {id: 5, content: strings.Repeat("=-", maxAdded/2)}})
	long := newMatcher([]added{{id: 1, content: "\t", rstrip: true}, {id: 2, content: strings.Repeat("a", maxAdded)}, {id: 3, content: "\r", lstrip: true}})
	for shape, text := range hostile(1 << 19) {
		for name, m := range map[string]*matcher{"strip": &strip, "long": &long} {
			seen := 0
			ids := m.cut(nil, text, &encoder{}, func(_ *encoder, dst []int32, part []byte) []int32 {
				seen += len(part)
				return dst
			})
			if seen > len(text) || seen == 0 && len(ids) == 0 {
				t.Errorf("%s: %s: %d ids, %d of %d bytes between", name, shape, len(ids), seen, len(text))
			}
		}
		if got := appendNFC(nil, text); len(got) == 0 || len(got) > 3*len(text) {
			t.Errorf("%s: %d bytes became %d", shape, len(text), len(got))
		}
	}
}

// Whole texts of any shape are encoded and come back, added tokens and normalization included.
func TestHostile(t *testing.T) {
	files := map[string][]byte{"llama3": llama3(t), "gpt2": read(t, filepath.Join("testdata", "gpt2.json.gz"))}
	for _, v := range lines[variant](t, filepath.Join("testdata", "variants.jsonl.gz")) {
		if v.Name == "strip" || v.Name == "nfc-only" || v.Name == "o200k" {
			files[v.Name] = patch(t, files["llama3"], v.Patch)
		}
	}
	shapes := hostile(1 << 15)
	for name, file := range files {
		tok := parsed(t, file)
		for shape, text := range shapes {
			ids := tok.Encode(nil, text)
			if name != "strip" && name != "nfc-only" && !bytes.Equal(tok.Decode(nil, ids), text) {
				t.Errorf("%s: %s does not come back", name, shape)
			}
		}
	}
}

// Many at once get the same ids as one alone, and steady encoding allocates nothing.
func TestConcurrent(t *testing.T) {
	tok := parsed(t, llama3(t))
	text := bytes.Join(slices.Collect(maps.Values(hostile(300))), []byte(" the quick brown fox "))
	want := tok.Encode(nil, text)
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	for range cap(errs) {
		wg.Go(func() {
			for range 20 {
				if !slices.Equal(tok.Encode(nil, text), want) {
					errs <- fmt.Errorf("other ids")
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
}

func TestEncodeAllocatesNothing(t *testing.T) {
	tok := parsed(t, llama3(t))
	text := bytes.Repeat([]byte("func main() {\n\treturn fmt.Errorf(\"it's %d <|eot_id|>\", 12345)\n}\n"), 100)
	dst := tok.Encode(nil, text)
	// the race detector drops pooled encoders at random, and a collection may at any time
	if n := testing.AllocsPerRun(20, func() { dst = tok.Encode(dst[:0], text) }); n > 20 {
		t.Errorf("%v allocations for %d tokens", n, len(dst))
	}
}
