// Package data is what a run trains on: text packed into content-addressed pages, read back by range with hash checks, and
// dealt to miners by one keyed permutation per window.
//
// A dataset has two splits, train and held-out, which never share a page, so no sample crosses from one to the other. A
// token is one byte. Sample i of a split is its bytes [i·T, i·T+T+1): x is the first T, y the same shifted by one. Samples
// overlap by one byte, so every byte but the first is predicted exactly once.
//
// Objects, all named data/<SHA-256 of the object>: shards of whole pages, and one manifest (see Manifest).
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
	// PageSize is the unit that is hashed and read; the last page of a split may be shorter.
	PageSize = 64 << 10
	// ShardPages is the most pages in one shard object.
	ShardPages = 64
	// MaxShard is the most bytes in one shard object.
	MaxShard = PageSize * ShardPages
	// MaxManifest bounds what a reader accepts: about 32 GiB of text.
	MaxManifest = 16 << 20

	manifestMagic   = "SN3D"
	manifestVersion = 1
	manifestHead    = len(manifestMagic) + 1 + 8 + 8
	maxSplit        = 1 << 40
)

// Split says which part of a dataset is meant.
type Split uint8

// The splits, in the order in which pages and shards are numbered.
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

// Manifest lists the pages and shards of a dataset. Bytes, integers big-endian:
//
//	magic "SN3D", version u8 = 1
//	length of the train split u64, of the held-out split u64, in bytes; both at least 1, at most 2^40
//	leaf hash, 32 bytes, of every page: those of train, then those of held-out
//	SHA-256 of every shard: those of train, then those of held-out
//
// A split of n bytes is cut into ceil(n / 65536) pages, only the last of which may be shorter, and its pages, 64 at a time,
// concatenated, are its shards; so the lengths determine every other number, and no byte may follow.
type Manifest struct {
	Lengths [2]uint64    // bytes of train and held-out
	Pages   []chain.Hash // leaf hashes
	Shards  []chain.Hash // SHA-256 of the objects
}

// NumPages is the number of pages of a split.
func (m *Manifest) NumPages(s Split) int { return ceil(m.Lengths[s], PageSize) }

func (m *Manifest) numShards(s Split) int { return ceil(m.Lengths[s], MaxShard) }

func ceil(n uint64, unit int) int { return int((n + uint64(unit) - 1) / uint64(unit)) }

// Encode writes the canonical bytes.
func (m *Manifest) Encode() []byte {
	b := make([]byte, 0, manifestHead+len(chain.Hash{})*(len(m.Pages)+len(m.Shards)))
	b = append(b, manifestMagic...)
	b = append(b, manifestVersion)
	for _, n := range m.Lengths {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	for _, hashes := range [][]chain.Hash{m.Pages, m.Shards} {
		for _, h := range hashes {
			b = append(b, h[:]...)
		}
	}
	return b
}

// parseHead reads the fixed part; size is the length of the whole manifest.
func parseHead(b []byte) (m *Manifest, size int, err error) {
	if len(b) < manifestHead || string(b[:len(manifestMagic)]) != manifestMagic || b[len(manifestMagic)] != manifestVersion {
		return nil, 0, fmt.Errorf("%w: want %q version %d", ErrManifest, manifestMagic, manifestVersion)
	}
	m = &Manifest{}
	var hashes int
	for s := range splits {
		n := binary.BigEndian.Uint64(b[len(manifestMagic)+1+8*int(s):])
		if n == 0 || n > maxSplit {
			return nil, 0, fmt.Errorf("%w: %v split of %d bytes", ErrManifest, s, n)
		}
		m.Lengths[s] = n
		hashes += m.NumPages(s) + m.numShards(s)
	}
	size = manifestHead + len(chain.Hash{})*hashes
	if size > MaxManifest {
		return nil, 0, fmt.Errorf("%w: %d bytes long, at most %d", ErrManifest, size, MaxManifest)
	}
	return m, size, nil
}

// ParseManifest is the only reader of a manifest; ParseManifest(b) ok implies Encode gives b.
func ParseManifest(b []byte) (*Manifest, error) {
	m, size, err := parseHead(b)
	if err != nil {
		return nil, err
	}
	if len(b) != size {
		return nil, fmt.Errorf("%w: %d bytes long, its lengths make %d", ErrManifest, len(b), size)
	}
	b = b[manifestHead:]
	take := func(n int) []chain.Hash {
		out := make([]chain.Hash, n)
		for i := range out {
			b = b[copy(out[i][:], b):]
		}
		return out
	}
	m.Pages = take(m.NumPages(Train) + m.NumPages(HeldOut))
	m.Shards = take(m.numShards(Train) + m.numShards(HeldOut))
	return m, nil
}

// Root binds every page and the two lengths: SHA-256 of 0x02, the two lengths as u64 big-endian, and the root of the page
// tree. The tree is that of RFC 6962, 2.1: a leaf is SHA-256(0x00 ‖ page), a node SHA-256(0x01 ‖ left ‖ right), and of n
// leaves the largest power of two below n goes left.
func (m *Manifest) Root() chain.Hash {
	b := []byte{2}
	for _, n := range m.Lengths {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	tree := merkle(m.Pages)
	return sha256.Sum256(append(b, tree[:]...))
}

func merkle(leaves []chain.Hash) chain.Hash {
	if len(leaves) == 1 {
		return leaves[0]
	}
	left := 1
	for left*2 < len(leaves) {
		left *= 2
	}
	l, r := merkle(leaves[:left]), merkle(leaves[left:])
	b := append([]byte{1}, l[:]...)
	return sha256.Sum256(append(b, r[:]...))
}

// leafHash is SHA-256(0x00 ‖ page).
func leafHash(page []byte) (sum chain.Hash) {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(page)
	h.Sum(sum[:0])
	return sum
}

// place says where page p (numbered over both splits) lies: shard number, offset in it, length.
func (m *Manifest) place(p int) (shard int, off, n int64) {
	s, first, firstShard := Train, 0, 0
	if p >= m.NumPages(Train) {
		s, first, firstShard = HeldOut, m.NumPages(Train), m.numShards(Train)
	}
	i := p - first
	n = min(PageSize, int64(m.Lengths[s])-int64(i)*PageSize)
	return firstShard + i/ShardPages, int64(i%ShardPages) * PageSize, n
}
