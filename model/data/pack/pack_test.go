package pack

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sn3/model/data"
	"sn3/model/tokenizer"
)

// isHeld is the rule of FORMAT.md.
func isHeld(text string, n uint64) bool {
	sum := sha256.Sum256([]byte(text))
	return binary.BigEndian.Uint64(sum[:8])%n == 0
}

// parted are docs as the two splits, in order, without duplicates and empty ones.
func parted(docs []string, n uint64) (out [2][]string, duplicates int) {
	seen := map[string]bool{}
	for _, d := range docs {
		switch {
		case d == "":
		case seen[d]:
			duplicates++
		case isHeld(d, n):
			out[1] = append(out[1], d)
		default:
			out[0] = append(out[0], d)
		}
		seen[d] = true
	}
	return out, duplicates
}

// Every kind of input, plain and packed, brings back its documents in order, with marks, in both tokenizers.
func TestEveryInput(t *testing.T) {
	docs := append(texts("kinds", 120, 2000), "", "same", "same", "one line")
	docs = append(docs, docs[7])
	files := map[string][]byte{"l.jsonl": asLines(docs), "l.ndjson": asLines(docs), "p.parquet": asParquet(t, docs)}
	for _, tok := range []tokenizer.Tokenizer{byBytes(t), wide{}} {
		for name, b := range files {
			for ext, b := range map[string][]byte{"": b, ".gz": gzipped(t, b), ".zst": zstded(t, b)} {
				t.Run(fmt.Sprintf("%d/%s%s", tok.Vocab(), name, ext), func(t *testing.T) {
					out := filepath.Join(t.TempDir(), "out")
					in := folder(t, map[string][]byte{name + ext: b})
					res := run(t, out, Options{Inputs: []string{in}, Tokenizer: tok, HeldOut: 5, Source: "toy", Licence: "CC0-1.0", Workers: 3})
					want, duplicates := parted(docs, 5)
					if got := documents(t, out, tok); !slices.Equal(got[0], want[0]) || !slices.Equal(got[1], want[1]) {
						t.Errorf("%d and %d documents, want %d and %d", len(got[0]), len(got[1]), len(want[0]), len(want[1]))
					}
					s := res.Source
					if s.Duplicates != uint64(duplicates) || s.Empty != 1 || s.Bad != 0 || s.Name != "toy" || s.Licence != "CC0-1.0" ||
						s.Documents != [2]uint64{uint64(len(want[0])), uint64(len(want[1]))} {
						t.Errorf("%+v", s)
					}
				})
			}
		}
	}
}

func TestTextFiles(t *testing.T) {
	files, docs := map[string][]byte{}, texts("text", 40, 3000)
	for i, d := range docs {
		name := fmt.Sprintf("%c/%02d.txt", 'a'+i%3, i)
		switch i % 4 {
		case 1:
			files[name+".gz"] = gzipped(t, []byte(d))
			continue
		case 2:
			files[name+".zst"] = zstded(t, []byte(d))
			continue
		case 3:
			name = strings.TrimSuffix(name, ".txt") + ".MD"
		}
		files[name] = []byte(d)
	}
	files["a/.hidden.txt"], files[".git/x.txt"], files["picture.png"], files["empty.txt"] = []byte("no"), []byte("no"), []byte("no"), nil
	in := folder(t, files)
	if err := os.Symlink(filepath.Join(in, "a", "00.txt"), filepath.Join(in, "b", "link.txt")); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "to")
	if err := os.Symlink(in, link); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	res := run(t, out, Options{Inputs: []string{link}, AsText: []string{".md"}, Tokenizer: byBytes(t), HeldOut: 5})
	if res.Skipped.Files != 1 || filepath.Base(res.Skipped.First) != "picture.png" || res.Source.Empty != 1 || res.Source.Duplicates != 1 {
		t.Errorf("%+v", res)
	}
	got := documents(t, out, byBytes(t))
	all := slices.Concat(got[0], got[1])
	slices.Sort(all)
	slices.Sort(docs)
	if !slices.Equal(all, docs) {
		t.Errorf("%d documents, want %d", len(all), len(docs))
	}
}

// The result is the same bytes whatever the number of workers, the place of the folders and the pace of checkpoints.
func TestSameBytes(t *testing.T) {
	docs := texts("same", 400, 8_000)
	files := map[string][]byte{"x/a.jsonl": asLines(docs[:200]), "x/b.jsonl.gz": gzipped(t, asLines(docs[150:300])), "y.parquet": asParquet(t, docs[290:])}
	var want map[string]string
	for _, o := range []Options{{Workers: 1}, {Workers: 7}, {Workers: 2, every: 1 << 18}} {
		in, out := folder(t, files), filepath.Join(t.TempDir(), "out")
		o.Inputs, o.Tokenizer, o.pages = []string{filepath.Join(in, "x"), filepath.Join(in, "y.parquet")}, wide{}, 16
		run(t, out, o)
		got := tree(t, out)
		if want == nil {
			want = got
		}
		if !maps.Equal(got, want) {
			t.Errorf("%d workers make %d files, other than %d", o.Workers, len(got), len(want))
		}
	}
	if len(want) < 10 {
		t.Errorf("only %d files: too few to tell", len(want))
	}
}

// A text longer than a document may be is cut at line ends; nothing is lost, also where there are no lines.
func TestLongText(t *testing.T) {
	line := strings.Repeat("x", 99) + "é\n"
	long := "begin\n" + strings.Repeat(line, MaxDocument/len(line)+9)
	solid := strings.Repeat("é", MaxDocument*3/4)
	in := folder(t, map[string][]byte{"a.txt": []byte(long), "b.txt": []byte("small"), "c.jsonl": asLines([]string{solid, "tiny"})})
	out := filepath.Join(t.TempDir(), "out")
	run(t, out, Options{Inputs: []string{in}, Tokenizer: byBytes(t), HeldOut: 2})
	got := documents(t, out, byBytes(t))
	sum := 0
	for _, d := range slices.Concat(got[0], got[1]) {
		if sum += len(d); len(d) > MaxDocument {
			t.Errorf("a document of %d bytes", len(d))
		}
		if strings.HasPrefix(d, "begin") && !strings.HasSuffix(d, "é\n") {
			t.Error("cut inside a line")
		}
	}
	if want := len(long) + len("small") + len(solid) + len("tiny"); sum != want {
		t.Errorf("%d bytes, want %d", sum, want)
	}
}

// What cannot be read stops the job with its name; allowed for, it is counted and named, and nothing else is lost.
func TestBadInput(t *testing.T) {
	good := asLines(texts("good", 50, 500))
	whole := gzipped(t, good)
	flipped := slices.Clone(whole)
	flipped[len(flipped)/3] ^= 0x55
	pq := asParquet(t, texts("pq", 200, 500))
	torn := slices.Clone(pq)
	for i := len(torn) / 4; i < len(torn)/2; i++ {
		torn[i] ^= 0xff
	}
	for name, c := range map[string]struct {
		file string
		b    []byte
		o    Options
		says string
		bad  uint64
	}{
		"broken JSON":      {"a.jsonl", append(slices.Clone(good), "{\"text\": \"half\n"...), Options{}, "a.jsonl:51: not a JSON object", 1},
		"no object":        {"a.jsonl", append([]byte("[1]\n17\n"), good...), Options{}, "a.jsonl:1: not a JSON object", 2},
		"no field":         {"a.jsonl", append([]byte("{\"txt\":\"x\"}\n"), good...), Options{}, `a.jsonl:1: no field "text"`, 1},
		"wrong field":      {"a.jsonl", append([]byte("{\"text\":[\"x\"]}\n"), good...), Options{}, `a.jsonl:1: field "text" is not a string`, 1},
		"not UTF-8":        {"a.jsonl", append([]byte("{\"text\":\"\xff\"}\n"), good...), Options{}, "a.jsonl:1: not UTF-8", 1},
		"a 0 byte":         {"a.jsonl", append([]byte("{\"text\":\"a\\u0000b\"}\n"), good...), Options{}, "a.jsonl:1: the text holds a 0 byte", 1},
		"a long line":      {"a.jsonl", append(append([]byte("\n"), strings.Repeat("x", MaxLine+1)...), append([]byte("\n"), good...)...), Options{}, "a.jsonl:2: a line longer", 1},
		"gzip cut off":     {"a.jsonl.gz", whole[:len(whole)*2/3], Options{}, "the rest of the file cannot be read", 1},
		"gzip flipped":     {"a.jsonl.gz", flipped, Options{}, "a.jsonl.gz:", 0},
		"no gzip":          {"a.jsonl.gz", good, Options{}, "gzip", 1},
		"text gzip cut":    {"a.txt.gz", whole[:len(whole)-4], Options{}, "the rest of the file cannot be read", 1},
		"zstd cut off":     {"a.jsonl.zst", zstded(t, good)[:200], Options{}, "a.jsonl.zst:", 0},
		"no zstd":          {"a.txt.zst", good, Options{}, "the rest of the file cannot be read", 1},
		"no parquet":       {"a.parquet", good, Options{}, "parquet", 1},
		"wrong column":     {"a.parquet", pq, Options{Column: "content"}, `no column "content"; it has id, text, meta.body`, 1},
		"a column of ints": {"a.parquet", pq, Options{Column: "id"}, "does not hold one text per row", 1},
		"a group":          {"a.parquet", pq, Options{Column: "meta"}, `no column "meta"`, 1},
		"parquet torn":     {"a.parquet", torn, Options{}, "a.parquet:", 0},
		"parquet cut off":  {"a.parquet", pq[:len(pq)-100], Options{}, "parquet", 1},
		"parquet gzip cut": {"a.parquet.gz", gzipped(t, pq)[:900], Options{}, "the rest of the file cannot be read", 1},
		"empty parquet":    {"a.parquet", nil, Options{}, "parquet", 1},
	} {
		t.Run(name, func(t *testing.T) {
			in := folder(t, map[string][]byte{c.file: c.b, "z.jsonl": asLines(texts("other", 30, 300))})
			out := filepath.Join(t.TempDir(), "out")
			var named []string
			c.o.Inputs, c.o.Tokenizer, c.o.HeldOut = []string{in}, byBytes(t), 3
			c.o.Warn = func(s string) { named = append(named, s) }
			_, err := Run(context.Background(), out, c.o)
			if !errors.Is(err, ErrBad) || !strings.Contains(err.Error(), "--max-bad") || len(named) == 0 || !strings.Contains(named[0], c.says) {
				t.Fatalf("%v; named %q, want %q", err, named, c.says)
			}
			c.o.MaxBad, named = 100, nil
			res := run(t, out, c.o)
			if res.Source.Bad != uint64(len(named)) || c.bad > 0 && res.Source.Bad != c.bad || res.Source.Bad == 0 {
				t.Errorf("%d bad, named %q", res.Source.Bad, named)
			}
			got := documents(t, out, byBytes(t))
			all := slices.Concat(got[0], got[1])
			for _, d := range texts("other", 30, 300) {
				if !slices.Contains(all, d) {
					t.Fatal("a document of another file was lost")
				}
			}
		})
	}
}

// A nested column, and a field of another name.
func TestNames(t *testing.T) {
	docs := texts("names", 60, 300)
	in := folder(t, map[string][]byte{"p.parquet": asParquet(t, docs), "l.jsonl": []byte("{\"content\":\"hello\"}\n{\"content\":null}\n")})
	out := filepath.Join(t.TempDir(), "out")
	res := run(t, out, Options{Inputs: []string{in}, Tokenizer: byBytes(t), HeldOut: 3, Field: "content", Column: "meta.body"})
	got := documents(t, out, byBytes(t))
	all := slices.Concat(got[0], got[1])
	if len(all) != 61 || !slices.Contains(all, "hello") || !slices.Contains(all, "body of "+docs[3]) || res.Source.Empty != 1 {
		t.Errorf("%d documents, %+v", len(all), res.Source)
	}
}

func TestRunRefuses(t *testing.T) {
	in := folder(t, map[string][]byte{"a.jsonl": asLines(texts("a", 30, 100)), "x.png": []byte("x"), "e/empty.txt": nil, "one/a.txt": []byte("one")})
	lines := filepath.Join(in, "a.jsonl")
	tok := byBytes(t)
	for name, c := range map[string]struct {
		o    Options
		says string
	}{
		"no input":       {Options{Tokenizer: tok}, "no file"},
		"not there":      {Options{Inputs: []string{filepath.Join(in, "nothing")}, Tokenizer: tok}, "no such file"},
		"unknown kind":   {Options{Inputs: []string{filepath.Join(in, "x.png")}, Tokenizer: tok}, "--as-text .png"},
		"no tokenizer":   {Options{Inputs: []string{lines}}, "no tokenizer"},
		"held-out":       {Options{Inputs: []string{lines}, Tokenizer: tok, HeldOut: 1}, "nothing to train on"},
		"part":           {Options{Inputs: []string{lines}, Tokenizer: tok, Part: 3, Parts: 2}, "part 3 of 2"},
		"part of none":   {Options{Inputs: []string{lines}, Tokenizer: tok, Part: 2, Parts: 2}, "fewer parts"},
		"vocabulary":     {Options{Inputs: []string{lines}, Tokenizer: tok, Vocab: 255}, "vocabulary of 255"},
		"licence":        {Options{Inputs: []string{lines}, Tokenizer: tok, Licence: "a\nb"}, "cannot be printed"},
		"nothing in it":  {Options{Inputs: []string{filepath.Join(in, "e")}, Tokenizer: tok}, "no document"},
		"one split only": {Options{Inputs: []string{filepath.Join(in, "one")}, Tokenizer: tok}, "--held-out 1/2"},
		"little memory":  {Options{Inputs: []string{lines}, Tokenizer: tok, Memory: 1}, "1 MiB"},
	} {
		if _, err := Run(context.Background(), filepath.Join(t.TempDir(), "out"), c.o); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

// A padded vocabulary sets the width; ids stay.
func TestPaddedVocabulary(t *testing.T) {
	in := folder(t, map[string][]byte{"a.jsonl": asLines(texts("a", 60, 100))})
	out := filepath.Join(t.TempDir(), "out")
	run(t, out, Options{Inputs: []string{in}, Tokenizer: byBytes(t), HeldOut: 4, Vocab: 300})
	pin, err := data.ReadPin(out)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := data.ReadManifest(out, pin); err != nil || m.Vocab != 300 || m.Width() != 2 {
		t.Errorf("%+v, %v", m, err)
	}
	if got := documents(t, out, byBytes(t)); len(got[0])+len(got[1]) != 60 {
		t.Errorf("%d documents", len(got[0])+len(got[1]))
	}
}

// The set is a set, and never takes more than it may.
func TestSeen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, twin := newSeen(8<<10), map[string]bool{}
		for range rapid.IntRange(0, 800).Draw(t, "n") {
			k := make([]byte, seenKey) // few values, so that some repeat
			k[rapid.IntRange(0, 3).Draw(t, "at")] = byte(rapid.IntRange(0, 40).Draw(t, "v"))
			k[15] = byte(rapid.IntRange(0, 3).Draw(t, "w"))
			key := split(k)
			fresh, err := s.add(k)
			if err != nil {
				if !errors.Is(err, ErrMemory) || twin[fmt.Sprint(key)] && 4*(s.tables[byte(key[0])].n+1) <= 3*len(s.tables[byte(key[0])].keys) {
					t.Fatal(err)
				}
				break
			}
			if fresh == twin[fmt.Sprint(key)] {
				t.Fatalf("%v: fresh %v", key, fresh)
			}
			twin[fmt.Sprint(key)] = true
		}
		var held int64
		for i := range s.tables {
			held += int64(len(s.tables[i].keys)) * seenKey
		}
		if s.len() != len(twin) || held != s.bytes || held > s.most {
			t.Fatalf("%d keys, want %d; %d bytes, counted %d", s.len(), len(twin), held, s.bytes)
		}
	})
}

// What a document costs, as the help text says: 21 to 43 bytes.
func TestSeenCost(t *testing.T) {
	s := newSeen(1 << 30)
	for n := 1; n <= 300_000; n++ {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
		if fresh, err := s.add(sum[:]); err != nil || !fresh {
			t.Fatal(fresh, err)
		}
		if n%50_000 == 0 {
			if cost := float64(s.bytes) / float64(n); cost < 21 || cost > 44 {
				t.Errorf("%d documents cost %.1f bytes each", n, cost)
			}
		}
	}
}

// Too many documents are refused with advice, not with the end of the process.
func TestMemoryForDuplicates(t *testing.T) {
	docs := make([]string, 80_000)
	for i := range docs {
		docs[i] = fmt.Sprint(i)
	}
	in := folder(t, map[string][]byte{"a.jsonl": asLines(docs)})
	o := Options{Inputs: []string{in}, Tokenizer: byBytes(t), Memory: 1 << 20}
	out := filepath.Join(t.TempDir(), "out")
	if _, err := Run(context.Background(), out, o); !errors.Is(err, ErrMemory) || !strings.Contains(err.Error(), "--dedup-memory") {
		t.Errorf("%v", err)
	}
	o.Memory = 4 << 20
	if res := run(t, out, o); res.Source.Documents[0]+res.Source.Documents[1] != 80_000 {
		t.Errorf("%+v", res.Source)
	}
}
