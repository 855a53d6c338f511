package data

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"sn3/chain"
)

// The format is pinned: a change of any byte of it must be deliberate. The hashes were computed from the same text by a second
// program in another language, from the comments on Manifest, Root and shards.
func TestPackGolden(t *testing.T) {
	p := packed(t, toyCorpus(5*bytePage+1234, bytePage/2))
	const (
		manifest = "1ebd1b59332a8b75ca1dffb1c218025bcd1ea40312fc0e9078653b8777ac334a"
		root     = "ed230e1f57ae70aa615c7e0ea9928f172048c06a0d91883cc83f3dde6e465d58"
	)
	if got := p.Spec.Manifest.String(); got != manifest {
		t.Errorf("manifest hash %s, want %s", got, manifest)
	}
	if got := p.Spec.Root.String(); got != root {
		t.Errorf("root %s, want %s", got, root)
	}
	if len(p.Objects) != 3 || p.Objects[2].Key != Key(p.Spec.Manifest) {
		t.Errorf("%d objects, want two shards and the manifest last", len(p.Objects))
	}
	head := p.Objects[2].Data[:manifestHead]
	if got := hex.EncodeToString(head[:17]); got != "534e334402"+"00000100"+"00000001"+"00000001" {
		t.Errorf("manifest starts %s", got)
	}
}

func TestPackObjects(t *testing.T) {
	p := packed(t, toyCorpus(shardBytes+bytePage+7, 100))
	if len(p.Objects) != 4 {
		t.Fatalf("%d objects, want 3 shards and a manifest", len(p.Objects))
	}
	var n int64
	for _, o := range p.Objects {
		if o.Key != Key(sha256.Sum256(o.Data)) {
			t.Errorf("object %s is not named by its hash", o.Key)
		}
		if len(o.Data) > MaxShard {
			t.Errorf("object of %d bytes", len(o.Data))
		}
		n += int64(len(o.Data))
	}
	if n != p.Size() {
		t.Errorf("Size %d, objects hold %d", p.Size(), n)
	}
	for _, c := range []*Corpus{{}, {Train: []byte("a")}, {HeldOut: []byte("a")}} {
		if _, err := Pack(c); err == nil {
			t.Errorf("packed %d and %d bytes", len(c.Train), len(c.HeldOut))
		}
	}
}

// smallManifest is a manifest with two shards of each split.
func smallManifest() *Manifest {
	m := &Manifest{Vocab: 50_257, Provenance: Provenance{Tokenizer: strings.Repeat("ab", 32), BOS: None, EOS: 50_256, HeldOut: 100, Sources: []Source{
		{Name: "pile", Licence: "ODC-By", Documents: [splits]uint64{3, 1}, Bytes: [splits]uint64{99, 9}, Tokens: [splits]uint64{17, 5}},
		{Name: "pile", Licence: "MIT", Tokens: [splits]uint64{3, 2}, Duplicates: 1, Empty: 2, Bad: 3}}}}
	for i := range byte(2) {
		m.Shards[Train] = append(m.Shards[Train], Shard{10, chain.Hash{1, i}, chain.Hash{2, i}})
		m.Shards[HeldOut] = append(m.Shards[HeldOut], Shard{3 + uint32(i), chain.Hash{3, i}, chain.Hash{4, i}})
	}
	return m
}

func TestParseManifestRefuses(t *testing.T) {
	good := smallManifest().Encode()
	for _, special := range []string{"", SpecialAsText, SpecialAsTokens} {
		m := smallManifest()
		m.Provenance.Special = special
		good := m.Encode()
		if m, err := ParseManifest(good); err != nil || m.Provenance.Special != special || !bytes.Equal(m.Encode(), good) {
			t.Fatal(err)
		}
	}
	field := func(i int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.BigEndian.PutUint32(b[5+4*i:], v); return b }
	}
	changed := func(f func(m *Manifest)) func([]byte) []byte {
		return func([]byte) []byte { m := smallManifest(); f(m); return m.Encode() }
	}
	text := func(old, new string) func([]byte) []byte {
		return func(b []byte) []byte {
			if !bytes.Contains(b, []byte(old)) {
				t.Fatalf("no %q in the manifest", old)
			}
			b = bytes.Replace(b, []byte(old), []byte(new), 1)
			binary.BigEndian.PutUint32(b[17:], uint32(len(b)-manifestHead-4*shardEntry))
			return b
		}
	}
	for name, change := range map[string]func([]byte) []byte{
		"empty":             func([]byte) []byte { return nil },
		"head only":         func(b []byte) []byte { return b[:manifestHead] },
		"magic":             func(b []byte) []byte { b[0]++; return b },
		"truncated":         func(b []byte) []byte { return b[:len(b)-1] },
		"trailing":          func(b []byte) []byte { return append(b, 0) },
		"no vocabulary":     field(0, 1),
		"a huge vocabulary": field(0, 1<<31),
		"a shard more":      field(1, 3),
		"a shard less":      field(2, 1),
		"shards beyond cap": field(1, 1<<31),
		"text beyond cap":   field(3, maxProvenance+1),
		"an empty shard":    changed(func(m *Manifest) { m.Shards[Train][0].Tokens = 0 }),
		"a full shard":      changed(func(m *Manifest) { m.Shards[Train][0].Tokens = uint32(ShardTokens(2)) + 1 }),
		"other tokens":      changed(func(m *Manifest) { m.Shards[Train][0].Tokens++ }),
		"tokens overflow":   changed(func(m *Manifest) { m.Provenance.Sources[0].Tokens[0] = 1<<64 - 1 }),
		"tokenizer":         changed(func(m *Manifest) { m.Provenance.Tokenizer = "llama" }),
		"tokenizer in caps": changed(func(m *Manifest) { m.Provenance.Tokenizer = strings.Repeat("AB", 32) }),
		"EOS":               changed(func(m *Manifest) { m.Provenance.EOS = m.Vocab }),
		"BOS":               changed(func(m *Manifest) { m.Provenance.BOS = -2 }),
		"special tokens":    changed(func(m *Manifest) { m.Provenance.Special = "both" }),
		"special bytes": changed(func(m *Manifest) {
			m.Vocab, m.Provenance.Tokenizer, m.Provenance.EOS, m.Provenance.Special = 256, ByteTokenizer, 0, SpecialAsText
		}),
		"no source":        changed(func(m *Manifest) { *m = Manifest{Vocab: 300, Provenance: Provenance{Tokenizer: "bytes"}} }),
		"a source twice":   changed(func(m *Manifest) { m.Provenance.Sources[1].Licence = "ODC-By" }),
		"a control sign":   changed(func(m *Manifest) { m.Provenance.Sources[1].Name = "\x1b[2J" }),
		"a long licence":   changed(func(m *Manifest) { m.Provenance.Sources[1].Licence = strings.Repeat("x", maxWord+1) }),
		"unknown field":    text(`{"tokenizer"`, `{"x":1,"tokenizer"`),
		"another spelling": text(`"bos":-1`, `"bos": -1`),
		"field twice":      text(`"bos":-1`, `"bos":-1,"bos":-1`),
		"more JSON":        text(`]}`, `]}{}`),
		"not JSON":         text(`{"tokenizer"`, `"tokenizer"`),
	} {
		if _, err := ParseManifest(change(bytes.Clone(good))); !errors.Is(err, ErrManifest) {
			t.Errorf("%s: %v, want ErrManifest", name, err)
		}
	}
}

// A pinned manifest is the one of that hash and that root, and both.
func TestGetManifest(t *testing.T) {
	p := packed(t, toyCorpus(3*bytePage, 5_000))
	good := Pin{Manifest: p.Spec.Manifest, Root: p.Spec.Root}
	if m, err := GetManifest(t.Context(), p, good); err != nil || m.Root() != good.Root {
		t.Fatal(err)
	}
	for name, pin := range map[string]Pin{"another root": {Manifest: good.Manifest}, "a shard": {Manifest: sha256.Sum256(p.Objects[0].Data), Root: good.Root}, "nothing": {Root: good.Root}} {
		if _, err := GetManifest(t.Context(), p, pin); err == nil || name == "another root" && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A manifest of the format before is refused with advice, not as nonsense.
func TestOldManifest(t *testing.T) {
	old := append([]byte("SN3D\x01"), make([]byte, 16+4*32)...)
	if _, err := ParseManifest(old); !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "sn3 data pack") {
		t.Errorf("%v", err)
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add(packed(f, toyCorpus(3*bytePage, 100)).Objects[2].Data)
	f.Add(smallManifest().Encode())
	f.Add([]byte(manifestMagic + "\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err != nil {
			return
		}
		if !bytes.Equal(m.Encode(), b) {
			t.Fatal("not canonical")
		}
		if err := m.Check(); err != nil {
			t.Fatal(err)
		}
		m.Root()
	})
}

// merkleTwin builds the same tree bottom-up: pairs are joined, an odd one at the end moves up.
func merkleTwin(level []chain.Hash) chain.Hash {
	for len(level) > 1 {
		var up []chain.Hash
		for ; len(level) > 1; level = level[2:] {
			up = append(up, sha256.Sum256(append(append([]byte{1}, level[0][:]...), level[1][:]...)))
		}
		level = append(up, level...)
	}
	return level[0]
}

func TestMerkleTwin(t *testing.T) {
	var leaves []chain.Hash
	for i := range 130 {
		leaves = append(leaves, leafHash([]byte{byte(i)}))
		if merkle(leaves) != merkleTwin(leaves) {
			t.Fatalf("%d leaves: trees differ", i+1)
		}
	}
}

func TestRootBindsEverything(t *testing.T) {
	seen := map[chain.Hash]string{smallManifest().Root(): "unchanged"}
	check := func(what string, change func(m *Manifest)) {
		m := smallManifest()
		change(m)
		if old, ok := seen[m.Root()]; ok {
			t.Errorf("%s has the root of %s", what, old)
		}
		seen[m.Root()] = what
	}
	check("another page", func(m *Manifest) { m.Shards[Train][1].Root[7] ^= 1 })
	check("other tokens", func(m *Manifest) { m.Shards[HeldOut][1].Tokens++ })
	check("tokens moved to the next shard", func(m *Manifest) { m.Shards[Train][0].Tokens++; m.Shards[Train][1].Tokens-- })
	check("swapped shards", func(m *Manifest) {
		m.Shards[Train][0], m.Shards[Train][1] = m.Shards[Train][1], m.Shards[Train][0]
	})
	check("a shard moved to held-out", func(m *Manifest) {
		m.Shards[HeldOut] = append(m.Shards[Train][1:2:2], m.Shards[HeldOut]...)
		m.Shards[Train] = m.Shards[Train][:1]
	})
	check("another vocabulary", func(m *Manifest) { m.Vocab++ })
	check("nothing", func(m *Manifest) { m.Shards = [splits][]Shard{} })
	m := smallManifest()
	m.Provenance.Sources[0].Licence = "CC0"
	if m.Root() != smallManifest().Root() {
		t.Error("the root depends on words")
	}
}

func FuzzParsePin(f *testing.F) {
	f.Add(Pin{Manifest: chain.Hash{1}, Root: chain.Hash{2}}.Encode())
	f.Add(Pin{Job: "ab"}.Encode())
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := ParsePin(b); err == nil && !bytes.Equal(p.Encode(), b) {
			t.Fatal("not canonical")
		}
	})
}
