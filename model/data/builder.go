package data

import (
	"crypto/sha256"
	"fmt"

	"sn3/chain"
)

// Object is something to upload to the data bucket.
type Object struct {
	Key  string
	Data []byte
}

// Key is the name of the object with the given SHA-256.
func Key(sum chain.Hash) string { return "data/" + sum.String() }

// Builder cuts two streams of tokens into shards and hands every object on as soon as it is whole. It holds at most one shard of
// each split in memory. Not safe for concurrent use.
type Builder struct {
	vocab int
	geo   geometry
	put   func(sum chain.Hash, b []byte) error
	full  int // bytes of tokens that make a shard

	shards [splits][]Shard
	open   [splits][]byte // tokens that fill no shard yet
}

// NewBuilder makes an empty builder. put keeps or uploads an object; the bytes are its own.
func NewBuilder(vocab int, put func(sum chain.Hash, b []byte) error) (*Builder, error) {
	if vocab < 2 || vocab > MaxVocab {
		return nil, fmt.Errorf("build dataset: a vocabulary of %d, want 2 to %d", vocab, MaxVocab)
	}
	return &Builder{vocab: vocab, geo: geometryOf(Width(vocab)), put: put, full: shardBytes}, nil
}

// Width is the number of bytes of a token.
func (b *Builder) Width() int { return b.geo.width }

// Shrink makes shards of so many pages instead of as many as fit: more and smaller objects. Before the first Append.
func (b *Builder) Shrink(pages int) {
	b.full = min(max(1, pages)*b.geo.page*b.geo.width, shardBytes)
}

// Append adds tokens, encoded at Width, to a split.
func (b *Builder) Append(s Split, tokens []byte) error {
	for len(tokens) > 0 {
		n := min(b.full-len(b.open[s]), len(tokens))
		b.open[s], tokens = append(b.open[s], tokens[:n]...), tokens[n:]
		if len(b.open[s]) < b.full {
			break
		}
		if err := b.cut(s); err != nil {
			return err
		}
	}
	return nil
}

// cut makes a shard of what is open.
func (b *Builder) cut(s Split) error {
	shard, object := b.geo.build(b.open[s])
	if err := b.put(shard.Sum, object); err != nil {
		return fmt.Errorf("keep shard %d of the %v split: %w", len(b.shards[s]), s, err)
	}
	b.shards[s], b.open[s] = append(b.shards[s], shard), b.open[s][:0]
	return nil
}

// Shards are those that are whole; read only.
func (b *Builder) Shards(s Split) []Shard { return b.shards[s] }

// Open are the tokens that fill no shard yet; valid until the next call, read only.
func (b *Builder) Open(s Split) []byte { return b.open[s] }

// Resume continues a split where Shards and Open of another builder ended; the slices are the builder's from then on.
func (b *Builder) Resume(s Split, shards []Shard, open []byte) { b.shards[s], b.open[s] = shards, open }

// Finish closes the last shards and puts the manifest, last of all, so that a manifest that is there has its shards. The
// builder is not to be used again.
func (b *Builder) Finish(p Provenance) (*Manifest, chain.DatasetSpec, error) {
	for s := range splits {
		if len(b.open[s]) == 0 {
			continue
		}
		if err := b.cut(s); err != nil {
			return nil, chain.DatasetSpec{}, err
		}
	}
	m := &Manifest{Vocab: b.vocab, Shards: b.shards, Provenance: p}
	spec, err := m.Put(b.put)
	return m, spec, err
}

// Put encodes a manifest and hands it on; the spec pins it, the caller fills in the Locator of the bucket.
func (m *Manifest) Put(put func(sum chain.Hash, b []byte) error) (spec chain.DatasetSpec, err error) {
	if err := m.Check(); err != nil {
		return spec, fmt.Errorf("write manifest: %w", err)
	}
	raw := m.Encode()
	if len(raw) > MaxManifest || len(m.Provenance.encode()) > maxProvenance {
		return spec, fmt.Errorf("write manifest: %d bytes, at most %d and %d of them provenance: make several datasets", len(raw), MaxManifest, maxProvenance)
	}
	spec = chain.DatasetSpec{Manifest: sha256.Sum256(raw), Root: m.Root()}
	if err := put(spec.Manifest, raw); err != nil {
		return spec, fmt.Errorf("keep manifest: %w", err)
	}
	return spec, nil
}
