package data

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sn3/chain"
)

// toy is n bytes of a small grammar, the same on every machine and Go version (ChaCha8 is specified).
func toy(seed string, n int) []byte {
	var key [32]byte
	copy(key[:], seed)
	src := rand.NewChaCha8(key)
	pick := func(of ...string) string { return of[src.Uint64()%uint64(len(of))] }
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "%s %s%d(%s) { %s %s }\n", pick("func", "type", "var"), pick("open", "close", "read", "pack"), src.Uint64()%1000,
			pick("a int", "b string", "", "c ...byte"), pick("return", "if ok", "go", "defer"), pick("x + y", "nil", "err", "f(x)"))
	}
	return []byte(b.String()[:n])
}

func toyCorpus(train, held int) *Corpus {
	return &Corpus{Train: toy("train", train), HeldOut: toy("held out", held)}
}

func packed(t testing.TB, c *Corpus) *Packed {
	t.Helper()
	p, err := Pack(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func open(t testing.TB, r Ranger, spec chain.DatasetSpec, cache string, seq int) *Dataset {
	t.Helper()
	d, err := Open(context.Background(), From(r), spec, ReadOptions{Seq: seq, Cache: cache})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// toySet is a dataset of 40 KB in memory.
func toySet(t testing.TB, seq int) *Dataset {
	p := packed(t, toyCorpus(36_000, 4_000))
	return open(t, p, p.Spec, "", seq)
}

// tree writes files below a new folder.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
