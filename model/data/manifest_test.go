package data

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
)

// The format is pinned: a change of any byte of it must be deliberate. Both hashes were computed from the same text by a
// second program in another language, from the comments on Manifest and Root.
func TestPackGolden(t *testing.T) {
	p := packed(t, toyCorpus(5*PageSize+1234, PageSize/2))
	const (
		manifest = "fa22d6a15d5d6e94a6649f8bf4336dd2bbed7edccf234cc7171f6f4bedbec7dc"
		root     = "cc0781320e9f2fef11621e59265de667e86e6ef37d8249b7525d9dc39a674f41"
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
	if got := hex.EncodeToString(head); got != "534e334401"+"00000000000504d2"+"0000000000008000" {
		t.Errorf("manifest starts %s", got)
	}
}

func TestPackObjects(t *testing.T) {
	p := packed(t, toyCorpus(MaxShard+PageSize+7, MaxShard))
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

func TestParseManifestRefuses(t *testing.T) {
	good := packed(t, toyCorpus(3*PageSize, 100)).Objects[2].Data
	if _, err := ParseManifest(good); err != nil {
		t.Fatal(err)
	}
	lengths := func(train, held uint64) func([]byte) []byte {
		return func(b []byte) []byte {
			binary.BigEndian.PutUint64(b[5:], train)
			binary.BigEndian.PutUint64(b[13:], held)
			return b
		}
	}
	for name, change := range map[string]func([]byte) []byte{
		"empty":           func([]byte) []byte { return nil },
		"head only":       func(b []byte) []byte { return b[:manifestHead] },
		"magic":           func(b []byte) []byte { b[0]++; return b },
		"version":         func(b []byte) []byte { b[4]++; return b },
		"truncated":       func(b []byte) []byte { return b[:len(b)-1] },
		"trailing":        func(b []byte) []byte { return append(b, 0) },
		"no train":        func([]byte) []byte { return emptySplit(0, 100) },
		"no held-out":     func([]byte) []byte { return emptySplit(100, 0) },
		"one page more":   lengths(3*PageSize+1, 100),
		"one page less":   lengths(2*PageSize, 100),
		"beyond use":      lengths(1<<63, 100),
		"bigger than cap": lengths(1<<39, 1<<39),
	} {
		if _, err := ParseManifest(change(bytes.Clone(good))); !errors.Is(err, ErrManifest) {
			t.Errorf("%s: %v, want ErrManifest", name, err)
		}
	}
}

// emptySplit is a manifest that would be right if a split could be empty.
func emptySplit(train, held uint64) []byte {
	return (&Manifest{Lengths: [2]uint64{train, held}, Pages: make([]chain.Hash, 1), Shards: make([]chain.Hash, 1)}).Encode()
}

// The head decides how much is read next: it must not ask for more than the cap.
func TestManifestHeadCap(t *testing.T) {
	b := packed(t, toyCorpus(100, 100)).Objects[2].Data[:manifestHead]
	if _, size, err := parseHead(b); err != nil || size != manifestHead+4*32 {
		t.Errorf("size %d, %v", size, err)
	}
	binary.BigEndian.PutUint64(b[5:], 64<<30)
	if _, _, err := parseHead(b); !errors.Is(err, ErrManifest) {
		t.Errorf("64 GiB of text: %v", err)
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add(packed(f, toyCorpus(3*PageSize, 100)).Objects[2].Data)
	f.Add(packed(f, toyCorpus(1, 1)).Objects[2].Data)
	f.Add([]byte(manifestMagic + "\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err != nil {
			return
		}
		if !bytes.Equal(m.Encode(), b) {
			t.Fatal("not canonical")
		}
		if n := m.NumPages(Train) + m.NumPages(HeldOut); n != len(m.Pages) || n < 2 {
			t.Fatalf("%d pages, lengths make %d", len(m.Pages), n)
		}
	})
}

// Pages tile the shards: each byte of each split is in exactly one page, at the place that place says.
func TestPlaceTiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &Manifest{Lengths: [2]uint64{rapid.Uint64Range(1, 3*MaxShard).Draw(t, "train"), rapid.Uint64Range(1, 3*MaxShard).Draw(t, "held")}}
		p, shard := 0, 0
		for s := range splits {
			var off, sum int64
			for range m.NumPages(s) {
				gotShard, gotOff, n := m.place(p)
				if off == MaxShard {
					shard, off = shard+1, 0
				}
				if gotShard != shard || gotOff != off || n < 1 || n > PageSize {
					t.Fatalf("page %d is at shard %d, %d+%d; want shard %d, %d", p, gotShard, gotOff, n, shard, off)
				}
				p, off, sum = p+1, off+n, sum+n
			}
			if uint64(sum) != m.Lengths[s] {
				t.Fatalf("pages of %v hold %d of %d bytes", s, sum, m.Lengths[s])
			}
			shard++
		}
		if shard != m.numShards(Train)+m.numShards(HeldOut) {
			t.Fatalf("%d shards", shard)
		}
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
	m, err := ParseManifest(packed(t, toyCorpus(3*PageSize, 2*PageSize)).Objects[2].Data)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[chain.Hash]string{m.Root(): "unchanged"}
	check := func(what string, c Manifest) {
		if old, ok := seen[c.Root()]; ok {
			t.Errorf("%s has the root of %s", what, old)
		}
		seen[c.Root()] = what
	}
	for i := range m.Pages {
		c := *m
		c.Pages = append([]chain.Hash(nil), m.Pages...)
		c.Pages[i][7] ^= 1
		check("another page", c)
	}
	c := *m
	c.Pages = append([]chain.Hash(nil), m.Pages...)
	c.Pages[0], c.Pages[1] = c.Pages[1], c.Pages[0]
	check("swapped pages", c)
	c = *m
	c.Lengths = [2]uint64{2 * PageSize, 3 * PageSize}
	check("a page moved from train to held-out", c)
}
