package data

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
)

// vocabularies, one of each width and the borders between them.
var vocabularies = []int{2, 256, 257, 50_257, 1 << 16, 1<<16 + 1, 128_256, MaxVocab}

// builtSet makes a dataset of ids, with shards of so many pages.
func builtSet(t rapid.TB, vocab, pages int, ids [splits][]int32) (*Packed, *Manifest) {
	p := &Packed{}
	b, err := NewBuilder(vocab, func(sum chain.Hash, object []byte) error {
		if sum != sha256.Sum256(object) {
			return errors.New("named by another hash")
		}
		p.Objects = append(p.Objects, Object{Key(sum), object})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	b.Shrink(pages)
	src := Source{}
	for s := range splits {
		src.Tokens[s] = uint64(len(ids[s]))
		for part := range slices.Chunk(ids[s], 10_007) { // not in step with pages
			var raw []byte
			for _, id := range part {
				raw = AppendToken(raw, b.Width(), id)
			}
			if err := b.Append(s, raw); err != nil {
				t.Fatal(err)
			}
		}
	}
	m, spec, err := b.Finish(Provenance{Tokenizer: ByteTokenizer, BOS: None, EOS: 0, Sources: []Source{src}})
	if err != nil {
		t.Fatal(err)
	}
	p.Spec = spec
	return p, m
}

// someIDs are n ids below vocab, the highest among them.
func someIDs(n, vocab int) []int32 {
	out := make([]int32, n)
	x := uint64(n)
	for i := range out {
		x = x*6364136223846793005 + 1442695040888963407
		out[i] = int32(x >> 33 % uint64(vocab))
	}
	if n > 0 {
		out[n/2] = int32(vocab - 1)
	}
	return out
}

func TestWidth(t *testing.T) {
	for vocab, want := range map[int]int{2: 1, 256: 1, 257: 2, 1 << 16: 2, 1<<16 + 1: 4, MaxVocab: 4} {
		if Width(vocab) != want {
			t.Errorf("vocabulary %d: width %d, want %d", vocab, Width(vocab), want)
		}
	}
	for _, w := range []int{1, 2, 4} {
		g := geometryOf(w)
		if n := g.length(uint32(ShardTokens(w))); n > int64(MaxShard) || 1<<g.depth*g.page != ShardTokens(w) {
			t.Errorf("width %d: a shard of %d bytes, at most %d; %d pages of %d", w, n, MaxShard, 1<<g.depth, g.page)
		}
	}
}

// Whatever the vocabulary and wherever shards end, sample i is tokens [i·T, i·T+T] of its split.
func TestSamplesOfEveryWidth(t *testing.T) {
	for _, vocab := range vocabularies {
		t.Run(fmt.Sprint(vocab), func(t *testing.T) {
			page := PageTokens(Width(vocab))
			ids := [splits][]int32{someIDs(5*page+77, vocab), someIDs(page+5, vocab)}
			p, m := builtSet(t, vocab, 2, ids)
			if len(m.Shards[Train]) != 3 || len(m.Shards[HeldOut]) != 1 {
				t.Fatalf("%d and %d shards", len(m.Shards[Train]), len(m.Shards[HeldOut]))
			}
			rapid.Check(t, func(t *rapid.T) {
				seq := rapid.IntRange(1, 3*page).Draw(t, "T")
				d, err := Open(context.Background(), From(p), p.Spec, ReadOptions{Seq: seq, Vocab: vocab, Tokenizer: ByteTokenizer})
				if err != nil {
					if errors.Is(err, ErrTooSmall) && seq > page+4 {
						return
					}
					t.Fatal(err)
				}
				for s := range splits {
					i := rapid.Uint64Range(0, d.Samples(s)-1).Draw(t, "sample")
					b, err := d.batch(context.Background(), s, []uint64{i})
					if err != nil {
						t.Fatal(err)
					}
					if want := ids[s][i*uint64(seq):][:seq+1]; !slices.Equal(b.X, want[:seq]) || !slices.Equal(b.Y, want[1:]) {
						t.Fatalf("sample %d of the %v split is not what was packed", i, s)
					}
				}
			})
		})
	}
}

// One sample costs one read per shard it lies in, also over the border of two pages.
func TestOneReadForOneSample(t *testing.T) {
	p, _ := builtSet(t, 50_257, 4, [splits][]int32{someIDs(8*widePage, 50_257), someIDs(3001, 50_257)})
	for name, c := range map[string]struct {
		sample uint64
		reads  int
	}{"within a page": {0, 1}, "over a page": {1, 1}, "over a shard": {5, 2}} {
		r := newBucket(p)
		d := open(t, r, p.Spec, "", 3000)
		before := r.total()
		if _, err := d.Load(context.Background(), []uint64{c.sample}); err != nil {
			t.Fatal(err)
		}
		if n := r.total() - before; n != c.reads {
			t.Errorf("%s: %d reads, want %d", name, n, c.reads)
		}
	}
}

// A page proves itself: any changed bit of page or proof, and any other page number, is refused.
func TestProof(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		vocab := rapid.SampledFrom([]int{256, 60_000, 100_000}).Draw(t, "vocab")
		g := geometryOf(Width(vocab))
		n := rapid.IntRange(1, 3*g.page).Draw(t, "tokens")
		var raw []byte
		for _, id := range someIDs(n, vocab) {
			raw = AppendToken(raw, g.width, id)
		}
		shard, object := g.build(raw)
		if int64(len(object)) != g.length(shard.Tokens) || shard.Sum != sha256.Sum256(object) {
			t.Fatalf("%d bytes, want %d", len(object), g.length(shard.Tokens))
		}
		i := rapid.IntRange(0, g.pages(shard.Tokens)-1).Draw(t, "page")
		off, size := g.record(i, shard.Tokens)
		record := bytes.Clone(object[off : off+size])
		if !g.right(record, i, shard.Root) {
			t.Fatal("the page does not prove itself")
		}
		if g.right(record, i^1, shard.Root) {
			t.Fatal("proves itself in another place")
		}
		at := rapid.IntRange(0, len(record)-1).Draw(t, "byte")
		record[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if g.right(record, i, shard.Root) || g.right(record[:at], i, shard.Root) {
			t.Fatal("a changed record proves itself")
		}
	})
}

func TestDecodeRefusesVocabulary(t *testing.T) {
	for _, w := range []int{1, 2, 4} {
		raw := AppendToken(AppendToken(nil, w, 7), w, 200)
		if err := decode(make([]int32, 2), raw, w, 201); err != nil {
			t.Error(err)
		}
		if err := decode(make([]int32, 2), raw, w, 200); !errors.Is(err, ErrVocab) {
			t.Errorf("width %d: %v", w, err)
		}
	}
	if err := decode(make([]int32, 1), []byte{0, 0, 0, 0x80}, 4, MaxVocab); !errors.Is(err, ErrVocab) {
		t.Errorf("a negative id: %v", err)
	}
}

// A dataset whose maker wrote ids beyond its own vocabulary is named, in reading and in verifying.
func TestForeignIDs(t *testing.T) {
	ids := someIDs(300, 200)
	ids[7] = 210
	p, m := builtSet(t, 200, 1, [splits][]int32{ids, someIDs(300, 200)})
	var pe *PageError
	if _, err := open(t, p, p.Spec, "", 16).Load(context.Background(), []uint64{0}); !errors.Is(err, ErrVocab) || !errors.As(err, &pe) || pe.Shard != Key(m.Shards[Train][0].Sum) {
		t.Errorf("read: %v", err)
	}
	v, err := Verify(context.Background(), p, m, 2, func(string, error) {})
	if !errors.Is(err, ErrUnsound) || v.Bad != 1 {
		t.Errorf("verify: %+v, %v", v, err)
	}
}

func TestOpenRefusesOtherModels(t *testing.T) {
	p, _ := builtSet(t, 1000, 1, [splits][]int32{someIDs(300, 1000), someIDs(300, 1000)})
	for name, o := range map[string]ReadOptions{
		"vocabulary": {Seq: 16, Vocab: 1024},
		"tokenizer":  {Seq: 16, Vocab: 1000, Tokenizer: "ab"},
	} {
		if _, err := Open(context.Background(), From(p), p.Spec, o); !errors.Is(err, ErrVocab) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, o := range map[string]ReadOptions{"no cache": {Seq: 16, CacheBytes: -1}, "T": {}} {
		if _, err := Open(context.Background(), From(p), p.Spec, o); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	if _, err := Open(context.Background(), nil, p.Spec, ReadOptions{Seq: 16}); err == nil {
		t.Error("opened from nowhere")
	}
}

func TestVerify(t *testing.T) {
	ids := [splits][]int32{someIDs(5*widePage+1, 60_000), someIDs(99, 60_000)}
	p, m := builtSet(t, 60_000, 2, ids)
	if v, err := Verify(context.Background(), p, m, 3, func(k string, err error) { t.Error(k, err) }); err != nil || v.Objects != 4 || v.Tokens != 5*widePage+1+99 {
		t.Errorf("%+v, %v", v, err)
	}
	g := geometryOf(2)
	for name, harm := range map[string]func(b []byte) []byte{
		"a token":   func(b []byte) []byte { b[9] ^= 1; return b },
		"a proof":   func(b []byte) []byte { b[2*widePage+5] ^= 1; return b },
		"cut short": func(b []byte) []byte { return b[:len(b)-1] },
		"too long":  func(b []byte) []byte { return append(b, 0) },
		"gone":      func([]byte) []byte { return make([]byte, MaxShard+1) },
	} {
		q := &Packed{Objects: slices.Clone(p.Objects)}
		q.Objects[1].Data = harm(bytes.Clone(p.Objects[1].Data))
		var bad []string
		v, err := Verify(context.Background(), q, m, 1, func(k string, err error) { bad = append(bad, k) })
		if !errors.Is(err, ErrUnsound) || v.Bad != 1 || !slices.Equal(bad, []string{p.Objects[1].Key}) {
			t.Errorf("%s: %+v, %v, named %v", name, v, err, bad)
		}
	}
	// a shard that hashes to what the manifest says but was not made as the format wants: the proof of an absent neighbour is not zero
	x, object := g.build(AppendToken(nil, 2, 1))
	object[len(object)-1] ^= 1
	x.Sum = sha256.Sum256(object)
	q := &Packed{Objects: []Object{{Key(x.Sum), object}}}
	if err := g.verify(context.Background(), q, x, 100); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a shard of another making: %v", err)
	}
}
