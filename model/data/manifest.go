// Package data is what a run trains on: tokens packed into content-addressed shards, read back by range with hash checks, and
// dealt to miners by one keyed permutation per window.
//
// A dataset has two splits, train and held-out, which never share a page, so no sample crosses from one to the other. Sample i
// of a split is its tokens [i·T, i·T+T+1): x is the first T, y the same shifted by one. Samples overlap by one token, so every
// token but the first is predicted exactly once.
//
// Objects, all named data/<SHA-256 of the object>: shards of pages (see shard.go), one manifest (see Manifest) and, unless
// tokens are bytes, the tokenizer.json. Package pack makes them from files.
package data

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"sn3/chain"
)

// Sizes of the format.
const (
	// MaxManifest bounds what a reader accepts. A shard takes 68 bytes of it, so 64 MiB list 15 TiB of tokens; 1 TB of text
	// (about 250e9 tokens of a large vocabulary, 4 bytes each) takes 4 MB.
	MaxManifest = 64 << 20
	// MaxVocab bounds the vocabulary, so that every id is a positive int32.
	MaxVocab = 1 << 30

	manifestMagic   = "SN3D"
	manifestVersion = 2
	manifestHead    = len(manifestMagic) + 1 + 4*4
	shardEntry      = 4 + 2*len(chain.Hash{})
	maxProvenance   = 4 << 20
)

// Split says which part of a dataset is meant.
type Split uint8

// The splits, in the order in which shards are listed.
const (
	Train Split = iota
	HeldOut
	splits
)

// String is the split's name in errors and reports.
func (s Split) String() string {
	if s == HeldOut {
		return "held-out"
	}
	return "train"
}

// ErrManifest: the bytes are not a canonical manifest.
var ErrManifest = errors.New("data: not a canonical dataset manifest")

// ErrVersion: a manifest of another version of the format.
var ErrVersion = errors.New("data: a dataset of another format version")

// Shard is one entry of a manifest.
type Shard struct {
	Tokens uint32     `json:"tokens"` // 1 to ShardTokens of the width
	Root   chain.Hash `json:"root"`   // of the tree over its pages
	Sum    chain.Hash `json:"sum"`    // SHA-256 of the object
}

// Manifest lists the shards of a dataset and says what is in them. Bytes, integers big-endian:
//
//	magic "SN3D", version u8 = 2
//	vocabulary V u32, at least 2, at most 2^30
//	number of train shards u32, of held-out shards u32
//	length of the provenance u32
//	every shard, train first: tokens u32, page root 32 bytes, SHA-256 of the object 32 bytes
//	provenance: the canonical JSON of Provenance
//
// The width of a token follows from V, so everything has one spelling, and no byte may follow. A split may be empty (a part of
// a larger dataset may have no held-out document); who trains needs both.
type Manifest struct {
	Vocab      int // V
	Shards     [splits][]Shard
	Provenance Provenance
}

// Width is the number of bytes of a token: 1, 2 or 4, the least that holds every id below vocab.
func Width(vocab int) int {
	switch {
	case vocab <= 1<<8:
		return 1
	case vocab <= 1<<16:
		return 2
	}
	return 4
}

// Width is the number of bytes of a token.
func (m *Manifest) Width() int { return Width(m.Vocab) }

// Tokens is the number of tokens of a split.
func (m *Manifest) Tokens(s Split) (n uint64) {
	for _, x := range m.Shards[s] {
		n += uint64(x.Tokens)
	}
	return n
}

// Encode writes the canonical bytes of a manifest that Check accepts.
func (m *Manifest) Encode() []byte {
	provenance := m.Provenance.encode()
	b := make([]byte, 0, manifestHead+shardEntry*(len(m.Shards[Train])+len(m.Shards[HeldOut]))+len(provenance))
	b = append(append(b, manifestMagic...), manifestVersion)
	for _, n := range []int{m.Vocab, len(m.Shards[Train]), len(m.Shards[HeldOut]), len(provenance)} {
		b = binary.BigEndian.AppendUint32(b, uint32(n))
	}
	for _, list := range m.Shards {
		for _, x := range list {
			b = binary.BigEndian.AppendUint32(b, x.Tokens)
			b = append(append(b, x.Root[:]...), x.Sum[:]...)
		}
	}
	return append(b, provenance...)
}

// head is the fixed part of a manifest.
type head struct {
	vocab      int
	shards     [splits]int
	provenance int
}

// size is the length of the whole manifest.
func (h head) size() int {
	return manifestHead + shardEntry*(h.shards[Train]+h.shards[HeldOut]) + h.provenance
}

// parseHead reads the fixed part, which says how much there is to read.
func parseHead(b []byte) (h head, err error) {
	if len(b) < manifestHead || string(b[:len(manifestMagic)]) != manifestMagic {
		return h, fmt.Errorf("%w: it does not start with %q", ErrManifest, manifestMagic)
	}
	if v := b[len(manifestMagic)]; v != manifestVersion {
		return h, fmt.Errorf("%w: version %d, this build reads %d; pack the text again with sn3 data pack (a local network: make it anew in another folder)",
			ErrVersion, v, manifestVersion)
	}
	field := func(i int) uint64 { return uint64(binary.BigEndian.Uint32(b[len(manifestMagic)+1+4*i:])) }
	vocab, train, held, provenance := field(0), field(1), field(2), field(3)
	switch {
	case vocab < 2 || vocab > MaxVocab:
		return h, fmt.Errorf("%w: a vocabulary of %d", ErrManifest, vocab)
	case provenance > maxProvenance:
		return h, fmt.Errorf("%w: %d bytes of provenance, at most %d", ErrManifest, provenance, maxProvenance)
	case uint64(manifestHead)+uint64(shardEntry)*(train+held)+provenance > MaxManifest:
		return h, fmt.Errorf("%w: %d shards are more than %d bytes hold", ErrManifest, train+held, MaxManifest)
	}
	return head{int(vocab), [splits]int{int(train), int(held)}, int(provenance)}, nil
}

// ParseManifest is the only reader of a manifest; ParseManifest(b) ok implies Encode gives b. Errors match ErrManifest or
// ErrVersion.
func ParseManifest(b []byte) (*Manifest, error) {
	h, err := parseHead(b)
	if err != nil {
		return nil, err
	}
	if len(b) != h.size() {
		return nil, fmt.Errorf("%w: %d bytes long, its head makes %d", ErrManifest, len(b), h.size())
	}
	m := &Manifest{Vocab: h.vocab}
	b = b[manifestHead:]
	for s := range splits {
		m.Shards[s] = make([]Shard, h.shards[s])
		for i := range m.Shards[s] {
			x := &m.Shards[s][i]
			x.Tokens = binary.BigEndian.Uint32(b)
			copy(x.Root[:], b[4:])
			copy(x.Sum[:], b[4+len(x.Root):])
			b = b[shardEntry:]
		}
	}
	if m.Provenance, err = parseProvenance(b); err != nil {
		return nil, err
	}
	if err := m.Check(); err != nil {
		return nil, err
	}
	return m, nil
}

// Check refuses a manifest that contradicts itself. Errors match ErrManifest.
func (m *Manifest) Check() error {
	if m.Vocab < 2 || m.Vocab > MaxVocab {
		return fmt.Errorf("%w: a vocabulary of %d", ErrManifest, m.Vocab)
	}
	most := uint32(ShardTokens(m.Width()))
	for s, list := range m.Shards {
		for i, x := range list {
			if x.Tokens < 1 || x.Tokens > most {
				return fmt.Errorf("%w: %v shard %d of %d tokens", ErrManifest, Split(s), i, x.Tokens)
			}
		}
	}
	return m.Provenance.check(m)
}

// Root binds every token: SHA-256 of 0x02, V u32, the tokens of train u64, of held-out u64 and the root of a tree over the
// shards, train first. A leaf is SHA-256(0x03 ‖ tokens u32 ‖ page root); the tree is that of RFC 6962, 2.1: a node is
// SHA-256(0x01 ‖ left ‖ right), of n leaves the largest power of two below n goes left, and of none the hash of nothing.
// Provenance is not in it: the same tokens are the same data, whoever describes them.
func (m *Manifest) Root() chain.Hash {
	b := binary.BigEndian.AppendUint32([]byte{2}, uint32(m.Vocab))
	var leaves []chain.Hash
	for s := range splits {
		b = binary.BigEndian.AppendUint64(b, m.Tokens(s))
		for _, x := range m.Shards[s] {
			leaf := binary.BigEndian.AppendUint32([]byte{3}, x.Tokens)
			leaves = append(leaves, sha256.Sum256(append(leaf, x.Root[:]...)))
		}
	}
	tree := merkle(leaves)
	return sha256.Sum256(append(b, tree[:]...))
}

func merkle(leaves []chain.Hash) chain.Hash {
	switch len(leaves) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return leaves[0]
	}
	left := 1
	for left*2 < len(leaves) {
		left *= 2
	}
	return node(merkle(leaves[:left]), merkle(leaves[left:]))
}

// node is SHA-256(0x01 ‖ left ‖ right).
func node(l, r chain.Hash) chain.Hash {
	var b [1 + 2*len(l)]byte
	b[0] = 1
	copy(b[1:], l[:])
	copy(b[1+len(l):], r[:])
	return sha256.Sum256(b[:])
}
