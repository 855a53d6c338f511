package pack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"

	"sn3/model/data"
)

// pinned reads the provenance of a dataset.
func pinned(t *testing.T, dir string) data.Provenance {
	t.Helper()
	pin, err := data.ReadPin(dir)
	check(t, err)
	m, err := data.ReadManifest(dir, pin)
	check(t, err)
	return m.Provenance
}

// A document cannot end itself, unless that was asked for; either way the manifest says so.
func TestSpecialTokens(t *testing.T) {
	docs := append(texts("special", 30, 200), "one<end>two", "<x>", "<end>")
	o := Options{Inputs: []string{folder(t, map[string][]byte{"a.jsonl": asLines(docs)})}, Tokenizer: wide{}, HeldOut: 3}
	asText, asTokens := filepath.Join(t.TempDir(), "text"), filepath.Join(t.TempDir(), "tokens")
	run(t, asText, o)
	want, _ := parted(docs, 3)
	if got := documents(t, asText, wide{}); !slices.Equal(got[0], want[0]) || !slices.Equal(got[1], want[1]) {
		t.Errorf("as text: %d and %d documents, want %d and %d", len(got[0]), len(got[1]), len(want[0]), len(want[1]))
	}
	p := pinned(t, asText)
	if p.Special != data.SpecialAsText {
		t.Errorf("the manifest says %q", p.Special)
	}
	o.Special = true
	if _, err := Run(context.Background(), asText, o); !errors.Is(err, ErrDone) {
		t.Errorf("the other way in the same folder: %v", err)
	}
	run(t, asTokens, o)
	if s := pinned(t, asTokens); s.Special != data.SpecialAsTokens || s.Sources[0].Bytes != p.Sources[0].Bytes || s.Sources[0].Tokens == p.Sources[0].Tokens {
		t.Errorf("as tokens: %+v", s)
	}
	if _, err := Merge(context.Background(), filepath.Join(t.TempDir(), "out"), []string{asText, asTokens}); !errors.Is(err, ErrMerge) || !strings.Contains(err.Error(), "--special-tokens") {
		t.Errorf("merged both: %v", err)
	}
	o.Tokenizer = byBytes(t)
	inBytes := filepath.Join(t.TempDir(), "bytes")
	run(t, inBytes, o)
	if p := pinned(t, inBytes); p.Special != "" {
		t.Errorf("bytes: the manifest says %q", p.Special)
	}
	o.Tokenizer, o.Special, o.MaxBad = leaky{}, false, 9
	if res := run(t, filepath.Join(t.TempDir(), "leaky"), o); res.Source.Bad != 3 {
		t.Errorf("a vocabulary that spells control tokens anyway: %+v", res.Source)
	}
}

// leaky makes special tokens of a text whatever it is asked.
type leaky struct{ wide }

func (l leaky) EncodeText(dst []int32, text []byte) []int32 { return l.Encode(dst, text) }

// zeroEnd has the end of a document at 0, as GPT-NeoX, and no beginning.
type zeroEnd struct{ wide }

func (zeroEnd) BOS() (int32, bool) { return 0, false }
func (zeroEnd) EOS() (int32, bool) { return 0, true }
func (z zeroEnd) EncodeText(dst []int32, text []byte) []int32 {
	for _, b := range text {
		dst = append(dst, 1+int32(b))
	}
	return dst
}

// Only in bytes does a 0 byte end a document.
func TestZeroByte(t *testing.T) {
	in := folder(t, map[string][]byte{"a.jsonl": append([]byte("{\"text\":\"a\\u0000b\"}\n"), asLines(texts("zero", 20, 50))...)})
	res := run(t, filepath.Join(t.TempDir(), "out"), Options{Inputs: []string{in}, Tokenizer: zeroEnd{}, HeldOut: 3})
	if res.Source.Documents[0]+res.Source.Documents[1] != 21 {
		t.Errorf("%+v", res.Source)
	}
}

// A byte order mark is no part of a text; line ends of any kind part lines of JSON.
func TestMarksAndLineEnds(t *testing.T) {
	const bom = byteOrderMark
	lines := []byte(bom + "{\"text\":\"one\"}\r\n\r\n  {\"text\":\"two\"}\t\n{\"text\":\"" + bom + "inside\"}")
	in := folder(t, map[string][]byte{
		"a.jsonl": lines, "b.jsonl.gz": gzipped(t, bytes.Replace(lines, []byte("t\":\""), []byte("t\":\"packed "), -1)), "c.txt": []byte(bom + "three\r\n"),
		"d.txt.zst": zstded(t, []byte(bom+"four"+bom)), "e.txt": []byte(bom), "f.txt": []byte("x"), "g.txt": []byte(bom[:2]),
	})
	out := filepath.Join(t.TempDir(), "out")
	res := run(t, out, Options{Inputs: []string{in}, Tokenizer: byBytes(t), HeldOut: 3, MaxBad: 1})
	got := documents(t, out, byBytes(t))
	all := slices.Sorted(slices.Values(slices.Concat(got[0], got[1])))
	want := []string{"four" + bom, "one", "packed one", "packed two", "packed " + bom + "inside", "three\r\n", "two", "x", bom + "inside"}
	if !slices.Equal(all, want) || res.Source.Empty != 1 || res.Source.Bad != 1 {
		t.Errorf("%q, want %q; %+v", all, want, res.Source)
	}
}

// A text of the longest length is one document.
func TestLongestText(t *testing.T) {
	longest := bytes.Repeat([]byte("x\n"), MaxDocument/2)
	longest[MaxDocument-1] = 'x' // no line end, where it could be cut
	in := folder(t, map[string][]byte{"a.txt": longest, "b.jsonl": asLines(texts("b", 9, 9))})
	res := run(t, filepath.Join(t.TempDir(), "out"), Options{Inputs: []string{in}, Tokenizer: byBytes(t), HeldOut: 2})
	if n := res.Source.Documents[0] + res.Source.Documents[1]; n != 10 {
		t.Errorf("%d documents, want 10", n)
	}
}

// What cannot be read twice is refused at once: opening a pipe would wait for ever.
func TestPipeRefused(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "p.txt")
	check(t, syscall.Mkfifo(pipe, 0o600))
	for _, in := range []string{pipe, filepath.Dir(pipe)} {
		if _, err := Run(context.Background(), filepath.Join(t.TempDir(), "out"), Options{Inputs: []string{in}, Tokenizer: byBytes(t)}); err == nil {
			t.Errorf("%s was read", in)
		}
	}
}

// A file that changes while it is read ends the job, whatever was found in it.
func TestChangedWhileRead(t *testing.T) {
	in := folder(t, map[string][]byte{"a.jsonl": asLines(texts("change", 5, 50)), "b.jsonl.gz": []byte("no gzip")})
	files, _, err := list([]string{in}, nil)
	check(t, err)
	for _, f := range files {
		f.stamp--
		s := &source{read: new(atomic.Int64)}
		if err := s.items(context.Background(), f, func(x item) error { return nil }); !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), f.path) {
			t.Errorf("%s: %v", f.name, err)
		}
	}
}

// fieldOf is what decoding the whole object gives.
func FuzzField(f *testing.F) {
	for _, s := range []string{`{"text":"a"}`, `{"a":[{"text":1}],"text":"b","text":"c"}`, `{"text":null}`, `{"text":7,"text":"x"}`, `{"text":"x","text":[]}`, `{}`, `{"a":1,}`,
		`{"a" 1}`, `{"text":"x"} {}`, `{"text":"x"`, `[]`, `null`, `"text"`, `{"text":"\ud800"}`, `{"Text":"x"}`, `{"\u0074ext":"x"}`, `{"a":1 "text":"b"}`, `{,}`, `{"a":tru}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var o map[string]json.RawMessage
		var want *string
		err := json.Unmarshal(line, &o)
		raw, ok := o["text"]
		if err == nil && ok {
			err = json.Unmarshal(raw, &want)
		}
		got, gotErr := fieldOf(line, "text")
		if (gotErr == nil) != (err == nil && ok) {
			t.Fatalf("%q: %v, want %v (there: %v)", line, gotErr, err, ok)
		}
		if gotErr == nil && (want == nil && got != nil || want != nil && string(got) != *want) {
			t.Fatalf("%q: %q", line, got)
		}
	})
}

// parquetOf writes rows in groups of a few, with empty groups between them.
func parquetOf[T any](t *testing.T, rows []T, o ...parquet.WriterOption) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[T](&b, append([]parquet.WriterOption{parquet.PageBufferSize(256)}, o...)...)
	for part := range slices.Chunk(rows, 7) {
		_, err := w.Write(part)
		check(t, errors.Join(err, w.Flush()))
		empty := parquet.NewGenericBuffer[T]()
		_, err = w.WriteRowGroup(empty)
		check(t, err)
	}
	check(t, w.Close())
	return b.Bytes()
}

// Whatever way parquet stores a text, it comes back; what is no text per row is refused by name.
func TestParquetForms(t *testing.T) {
	type plain struct {
		Text string `parquet:"text"`
	}
	type dictionary struct {
		Text *string `parquet:"text,optional,dict"`
	}
	type delta struct {
		Text []byte `parquet:"text,delta"`
	}
	type dotted struct {
		Text string `parquet:"a.text"`
	}
	type inner struct {
		Text *string `parquet:"text,optional"`
	}
	type nested struct {
		Group *inner `parquet:"group,optional"`
	}
	type list struct {
		Text []string `parquet:"text,list"`
	}
	type number struct {
		Text float64 `parquet:"text"`
	}
	docs := []string{}
	for i := range 40 {
		docs = append(docs, fmt.Sprintf("é %d", i%15)) // some twice, so that a dictionary is one
	}
	var plains []plain
	var dictionaries []dictionary
	var deltas []delta
	var dotteds []dotted
	var nesteds []nested
	for _, d := range docs {
		plains, deltas, dotteds = append(plains, plain{d}), append(deltas, delta{[]byte(d)}), append(dotteds, dotted{d})
		dictionaries = append(dictionaries, dictionary{&d}, dictionary{})
		nesteds = append(nesteds, nested{&inner{&d}}, nested{}, nested{&inner{}})
	}
	codecs := []compress.Codec{&parquet.Uncompressed, &parquet.Snappy, &parquet.Gzip, &parquet.Zstd, &parquet.Brotli, &parquet.Lz4Raw}
	for name, c := range map[string]struct {
		b      []byte
		column string
		empty  int
		says   string // why not
	}{
		"dictionary":    {parquetOf(t, dictionaries), "", 40, ""},
		"dictionary v1": {parquetOf(t, dictionaries, parquet.DataPageVersion(1)), "", 40, ""},
		"delta":         {parquetOf(t, deltas), "", 0, ""},
		"dots":          {parquetOf(t, dotteds), "a.text", 0, ""},
		"nested":        {parquetOf(t, nesteds), "group.text", 80, ""},
		"no rows":       {parquetOf[plain](t, nil), "", 0, ""},
		"list":          {parquetOf(t, []list{{docs}}), "text.list.element", 0, "does not hold one text per row"},
		"numbers":       {parquetOf(t, []number{{1}}), "", 0, "does not hold one text per row"},
		"text in part":  {parquetOf(t, dotteds), "a", 0, `no column "a"`},
	} {
		tryParquet(t, name, c.b, c.column, docs, c.empty, c.says)
	}
	for _, codec := range codecs {
		tryParquet(t, codec.String(), parquetOf(t, plains, parquet.Compression(codec)), "", docs, 0, "")
	}
}

// tryParquet reads the items of a file; a file of no rows may hold none.
func tryParquet(t *testing.T, name string, b []byte, column string, docs []string, empty int, says string) {
	t.Helper()
	files, _, err := list([]string{folder(t, map[string][]byte{"a.parquet": b})}, nil)
	check(t, err)
	if column == "" {
		column = DefaultField
	}
	var got []string
	var at uint64
	none := 0
	s := &source{column: column, read: new(atomic.Int64)}
	err = s.items(context.Background(), files[0], func(x item) error {
		if x.bad != nil {
			return x.bad
		}
		if at++; x.at != at {
			t.Errorf("%s: row %d is called %d", name, at, x.at)
		}
		if len(x.raw) == 0 {
			none++
			return nil
		}
		got = append(got, string(x.raw))
		return nil
	})
	switch {
	case says != "":
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", name, err, says)
		}
	case err != nil || none != empty || len(got) > 0 && !slices.Equal(got, docs) || len(got) == 0 && name != "no rows":
		t.Errorf("%s: %d texts, %d empty, want %d and %d; %v", name, len(got), none, len(docs), empty, err)
	}
}

// An error of the disk is never taken for a bad file, in parquet either.
func TestDiskError(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.parquet", "a.jsonl", "a.txt.gz", "a.txt.zst"} {
		k, packed, _ := kindOf(name, nil)
		s := &source{column: "text", tmp: dir, read: new(atomic.Int64)} // a folder can be opened, not read
		err := s.items(context.Background(), input{path: dir, kind: k, packed: packed, size: 99}, func(x item) error { return errors.New("an item") })
		if !errors.As(err, new(*os.PathError)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
