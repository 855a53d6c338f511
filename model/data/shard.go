package data

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"sn3/chain"
)

// A shard is the object data/<SHA-256> with up to 16 MiB of tokens, little-endian ids of the manifest's width, cut into pages.
// Behind every page stands its proof, the path to the shard's page root, so that one range read brings a page and all it takes
// to check it: the manifest lists shards only, and no index has to be fetched.
//
//	page 0 ‖ proof 0 ‖ page 1 ‖ proof 1 ‖ …      the last page may be shorter
//
// A page is what is read and hashed at once. A byte vocabulary means a small model and a small text that is soon all in the
// cache: 64 KiB make few requests. For larger vocabularies a page is 4,096 tokens: a sample of T = 2,048 lies in 1.5 pages on
// average, so three tokens are read per token used; smaller pages would save little (a sample starts anywhere) and add to the
// proofs, which take 2 to 4 % as it is.
const (
	shardBytes = 16 << 20
	// MaxShard is the most bytes in one shard object, tokens and proofs: those of width 2 have the most proofs.
	MaxShard = shardBytes + shardBytes/(2*widePage)*11*len(chain.Hash{})

	bytePage = 64 << 10 // tokens of a page at width 1
	widePage = 4096     // at widths 2 and 4
)

// PageTokens is the number of tokens of a page; the last one of a shard may have fewer.
func PageTokens(width int) int {
	if width == 1 {
		return bytePage
	}
	return widePage
}

// ShardTokens is the most tokens in a shard.
func ShardTokens(width int) int { return shardBytes / width }

// geometry is the shape of the shards of a width.
type geometry struct {
	width int
	page  int // tokens
	depth int // of the tree: 2^depth pages fill a shard
}

func geometryOf(width int) geometry {
	g := geometry{width: width, page: PageTokens(width)}
	for pages := ShardTokens(width) / g.page; 1<<g.depth < pages; {
		g.depth++
	}
	return g
}

// pages is the number of pages of a shard.
func (g geometry) pages(tokens uint32) int { return (int(tokens) + g.page - 1) / g.page }

// proof is the length of a proof in bytes.
func (g geometry) proof() int { return g.depth * len(chain.Hash{}) }

// length is the size of the object in bytes.
func (g geometry) length(tokens uint32) int64 {
	return int64(tokens)*int64(g.width) + int64(g.pages(tokens))*int64(g.proof())
}

// record says where page i of a shard with so many tokens lies, its proof included.
func (g geometry) record(i int, tokens uint32) (off, n int64) {
	full := int64(g.page*g.width + g.proof())
	in := min(g.page, int(tokens)-i*g.page)
	return int64(i) * full, int64(in*g.width + g.proof())
}

// leafHash is SHA-256(0x00 ‖ page).
func leafHash(page []byte) (sum chain.Hash) {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(page)
	h.Sum(sum[:0])
	return sum
}

// build makes a shard of tokens (encoded ids, at most ShardTokens): a binary tree over 2^depth leaves, the hashes of the pages
// in order and then zeros. A proof is the sibling at each level, that of the leaf first.
func (g geometry) build(tokens []byte) (Shard, []byte) {
	count := uint32(len(tokens) / g.width)
	levels := make([][]chain.Hash, g.depth+1)
	levels[0] = make([]chain.Hash, 1<<g.depth)
	pages, size := g.pages(count), g.page*g.width
	for i := range pages {
		levels[0][i] = leafHash(tokens[i*size : min((i+1)*size, len(tokens))])
	}
	for l := 1; l <= g.depth; l++ {
		levels[l] = make([]chain.Hash, 1<<(g.depth-l))
		for i := range levels[l] {
			levels[l][i] = node(levels[l-1][2*i], levels[l-1][2*i+1])
		}
	}
	out := make([]byte, 0, g.length(count))
	for i := range pages {
		out = append(out, tokens[i*size:min((i+1)*size, len(tokens))]...)
		for l := range g.depth {
			out = append(out, levels[l][i>>l^1][:]...)
		}
	}
	return Shard{count, levels[g.depth][0], sha256.Sum256(out)}, out
}

// right says whether record is page i of the shard with that root.
func (g geometry) right(record []byte, i int, root chain.Hash) bool {
	if len(record) <= g.proof() {
		return false
	}
	end := len(record) - g.proof()
	at, proof := leafHash(record[:end]), record[end:]
	for l := range g.depth {
		sibling := chain.Hash(proof[l*len(at):][:len(at)])
		if i>>l&1 == 0 {
			at = node(at, sibling)
		} else {
			at = node(sibling, at)
		}
	}
	return at == root
}

// ErrVocab: a token id is not in the vocabulary.
var ErrVocab = errors.New("data: a token outside the vocabulary")

// AppendToken appends an id at a width.
func AppendToken(dst []byte, width int, id int32) []byte {
	switch width {
	case 1:
		return append(dst, byte(id))
	case 2:
		return binary.LittleEndian.AppendUint16(dst, uint16(id))
	}
	return binary.LittleEndian.AppendUint32(dst, uint32(id))
}

// decode reads len(dst) ids; the first not below vocab is an error that matches ErrVocab.
func decode(dst []int32, src []byte, width, vocab int) error {
	for i := range dst {
		var id uint32
		switch width {
		case 1:
			id = uint32(src[i])
		case 2:
			id = uint32(binary.LittleEndian.Uint16(src[2*i:]))
		default:
			id = binary.LittleEndian.Uint32(src[4*i:])
		}
		if id >= uint32(vocab) {
			return fmt.Errorf("%w: id %d of %d", ErrVocab, id, vocab)
		}
		dst[i] = int32(id)
	}
	return nil
}
