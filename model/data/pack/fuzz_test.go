package pack

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
)

// Whatever is in a file, reading it yields items, bounded in size, and no error: what is wrong with it is the last item.
func FuzzItems(f *testing.F) {
	docs := texts("fuzz", 6, 200)
	for i, b := range [][]byte{asLines(docs), asParquet(f, docs), []byte(docs[0]), {0xff, '\n', '{', '}'}} {
		f.Add(uint8(i), b)
		f.Add(uint8(i+4), gzipped(f, b))
		f.Add(uint8(i+8), zstded(f, b))
		f.Add(uint8(9), gzipped(f, b)[:20])
		f.Add(uint8(i), append([]byte(byteOrderMark), b...))
	}
	names := []string{"a.jsonl", "a.parquet", "a.txt", "a.ndjson", "a.jsonl.gz", "a.parquet.gz", "a.txt.gz", "a.ndjson.gz",
		"a.jsonl.zst", "a.parquet.zst", "a.txt.zst", "a.ndjson.zst"}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, as uint8, b []byte) {
		name := names[int(as)%len(names)]
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		k, packed, ok := kindOf(name, nil)
		if !ok {
			t.Fatal(name)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		s := &source{column: "text", tmp: dir, read: new(atomic.Int64)}
		var all []byte
		err = s.items(context.Background(), input{path: path, kind: k, packed: packed, size: info.Size(), stamp: info.ModTime().UnixNano()}, func(x item) error {
			if len(x.raw) > MaxLine {
				t.Fatalf("an item of %d bytes", len(x.raw))
			}
			all = append(all, x.raw...)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if k == textFile && packed == "" && !bytes.Equal(all, bytes.TrimPrefix(b, []byte(byteOrderMark))) {
			t.Fatal("a text came back changed")
		}
		left, err := filepath.Glob(filepath.Join(dir, "*.tmp"))
		if err != nil || len(left) > 0 {
			t.Fatalf("left behind: %v, %v", left, err)
		}
	})
}
