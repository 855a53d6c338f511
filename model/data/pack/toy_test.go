package pack

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"

	"sn3/model/data"
	"sn3/model/tokenizer"
)

// wide is a tokenizer for tests: the id of a byte is the byte times 1,000, in four bytes. "<end>" is its EOS, "<x>" special.
type wide struct{}

func (w wide) Encode(dst []int32, text []byte) []int32 {
	for len(text) > 0 {
		n := len(text)
		for word, id := range map[string]int32{"<end>": 255_002, "<x>": 255_003} {
			if at := bytes.Index(text, []byte(word)); at == 0 {
				dst, text, n = append(dst, id), text[len(word):], 0
			} else if at > 0 {
				n = min(n, at)
			}
		}
		n = min(n, len(text))
		dst, text = w.EncodeText(dst, text[:n]), text[n:]
	}
	return dst
}

func (wide) EncodeText(dst []int32, text []byte) []int32 {
	for _, b := range text {
		dst = append(dst, 1000*int32(b))
	}
	return dst
}

func (wide) Decode(dst []byte, ids []int32) []byte {
	for _, id := range ids {
		if id%1000 == 0 && id <= 255_000 {
			dst = append(dst, byte(id/1000))
		}
	}
	return dst
}

func (wide) Vocab() int         { return 256_000 }
func (wide) BOS() (int32, bool) { return 255_001, true }
func (wide) EOS() (int32, bool) { return 255_002, true }
func (wide) Special(id int32) bool {
	return id > 255_000
}
func (wide) Name() string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte("{}")))
}
func (wide) Files() map[string][]byte { return map[string][]byte{"tokenizer.json": []byte("{}")} }

func byBytes(t testing.TB) tokenizer.Tokenizer {
	t.Helper()
	tok, err := tokenizer.New(data.ByteTokenizer)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// texts are n different documents of up to most bytes, the same on every machine.
func texts(seed string, n, most int) []string {
	var key [32]byte
	copy(key[:], seed)
	src := rand.NewChaCha8(key)
	out := make([]string, n)
	for i := range out {
		var b strings.Builder
		fmt.Fprintf(&b, "document %d of %s\n", i, seed)
		for size := int(src.Uint64() % uint64(most)); b.Len() < size; {
			fmt.Fprintf(&b, "the %x miner\tsends \"é\" %d\n", src.Uint64()%4096, src.Uint64()%100)
		}
		out[i] = b.String()
	}
	return out
}

func asLines(docs []string) []byte {
	var b bytes.Buffer
	for i, d := range docs {
		raw, err := json.Marshal(map[string]any{"id": i, "text": d, "meta": map[string]any{"text": "not this"}})
		if err != nil {
			panic(err)
		}
		b.Write(append(raw, '\n'))
	}
	return b.Bytes()
}

type row struct {
	ID   int64   `parquet:"id"`
	Text *string `parquet:"text,optional,zstd"`
	Meta struct {
		Body string `parquet:"body"`
	} `parquet:"meta"`
}

func asParquet(t testing.TB, docs []string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[row](&b, parquet.PageBufferSize(4<<10), parquet.MaxRowsPerRowGroup(50))
	for i, d := range docs {
		r := row{ID: int64(i), Text: &d}
		if d == "" {
			r.Text = nil
		}
		r.Meta.Body = "body of " + d
		if _, err := w.Write([]row{r}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	for half := range 2 { // two members, as parallel compressors write them
		w := gzip.NewWriter(&out)
		if _, err := w.Write(b[half*len(b)/2 : (half+1)*len(b)/2]); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

func zstded(t testing.TB, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

// folder writes files below a new folder.
func folder(t testing.TB, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, b := range files {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func run(t testing.TB, out string, o Options) Result {
	t.Helper()
	res, err := Run(context.Background(), out, o)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// tree is every file below dir and its content.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		rel, _ := filepath.Rel(dir, p)
		out[rel] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// documents reads a dataset back: the texts of each split in order, cut at the marks.
func documents(t testing.TB, dir string, tok tokenizer.Tokenizer) (out [2][]string) {
	t.Helper()
	pin, err := data.ReadPin(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := data.ReadManifest(dir, pin)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := data.Verify(context.Background(), data.Folder(dir), m, 2, func(k string, err error) { t.Error(k, err) }); err != nil {
		t.Fatalf("%+v, %v", v, err)
	}
	for s := range out {
		var ids []int32
		for i := range m.Shards[s] {
			ids = append(ids, shardIDs(t, dir, m, data.Split(s), i)...)
		}
		for len(ids) > 0 {
			if p := m.Provenance; p.BOS != data.None {
				if int(ids[0]) != p.BOS {
					t.Fatalf("a document begins with %d", ids[0])
				}
				ids = ids[1:]
			}
			n := 0
			for int(ids[n]) != m.Provenance.EOS {
				n++
			}
			out[s] = append(out[s], string(tok.Decode(nil, ids[:n])))
			ids = ids[n+1:]
		}
	}
	return out
}

// shardIDs reads a shard as FORMAT.md says, apart from the code that reads samples.
func shardIDs(t testing.TB, dir string, m *data.Manifest, s data.Split, i int) (ids []int32) {
	t.Helper()
	x, w := m.Shards[s][i], m.Width()
	b, err := os.ReadFile(filepath.Join(dir, data.Key(x.Sum)))
	if err != nil {
		t.Fatal(err)
	}
	proof := map[int]int{1: 8, 2: 11, 4: 10}[w] * 32
	for left := int(x.Tokens); left > 0; {
		n := min(data.PageTokens(w), left)
		for k := range n {
			var id int32
			for c := range w {
				id |= int32(b[k*w+c]) << (8 * c)
			}
			ids = append(ids, id)
		}
		b, left = b[n*w+proof:], left-n
	}
	return ids
}
