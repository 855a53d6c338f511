// Package gradients turns what a miner learned into what it sends, and what was sent into an outer step:
// pseudo-gradient -> error feedback -> payload -> checked -> clipped dense mean -> θ.
//
// Decoding, aggregation, the outer step and the state root are bit-exact on every platform (DESIGN §5): fixed order,
// float32, every product rounded before it is added.
package gradients

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sync/atomic"

	"sn3/model"
)

//go:generate go run ./gen

// The payload's fixed parts (docs/FORMAT.md, "Payload").
const (
	payloadMagic  = "SN3P"
	payloadVer    = 1
	payloadHead   = 4 + 1 + 32 + 2
	segmentChunks = 1024 // chunks in a segment, each decodable alone
	countBits     = 13
	scaleBits     = 8
	octave        = 8 // steps of the scale table per factor 2: the large magnitude is the scale an octave higher
)

// ErrNotFinite: a value to be sent is NaN or infinite; the inner steps have diverged.
var ErrNotFinite = errors.New("gradients: pseudo-gradient is not finite")

// Source yields the dense values of a chunk, len(dst) of them, in chunk order.
type Source interface {
	Chunk(i int, dst []float32) error
}

// Stats is what encoding or decoding a payload found.
type Stats struct {
	Kept  int   // values sent
	Bytes int64 // length of the payload
}

// BitsPerValue is the size of a payload per value sent.
func (s Stats) BitsPerValue() float64 { return 8 * float64(s.Bytes) / math.Max(1, float64(s.Kept)) }

// Codec reads and writes payloads of one layout. Safe for concurrent use.
type Codec struct {
	layout  *model.Layout
	compute Compute
	last    atomic.Pointer[tables]
}

// NewCodec makes the codec of a layout.
func NewCodec(l *model.Layout) *Codec { return &Codec{layout: l} }

// Use sets the kernels that Open uses, before its first call; without it, portable ones. What it reads is the same.
func (c *Codec) Use(x Compute) { c.compute = x }

// Keep is how many values a chunk of real values may send: k·real/4096, at least 1.
func Keep(k, real int) int { return min(max(1, k*real/model.ChunkSize), real) }

// shape is how one chunk is coded; it follows from the layout and k alone.
type shape struct {
	real, keep int
	bitmap     bool // keep > real/4: one bit per value is shorter than gaps
	gaps       golomb
}

func (c *Codec) shape(i, k int) shape {
	real := c.layout.Chunk(i).Len
	s := shape{real: real, keep: Keep(k, real)}
	if s.bitmap = s.keep > real/4; !s.bitmap {
		s.gaps = newGolomb(max(1, (177*real+128*s.keep)/(256*s.keep)))
	}
	return s
}

// MaxLen is the longest valid payload with the given k: the bound on what is ever read.
func (c *Codec) MaxLen(k int) int64 {
	total, bits := int64(payloadHead), 0
	var s shape
	most := 0
	for i := range c.layout.Chunks() {
		if n := c.layout.Chunk(i).Len; n != s.real {
			s = c.shape(i, k)
			most = s.most()
		}
		bits += most
		if (i+1)%segmentChunks == 0 || i+1 == c.layout.Chunks() {
			total += int64(bits+7)/8 + 4
			bits = 0
		}
	}
	return total
}

// most is the largest number of bits a chunk can take: full, or one short of it with the count spelled out.
func (s shape) most() int {
	if s.bitmap {
		return s.real + scaleBits + 2*s.keep
	}
	// the gaps of n indices sum to at most real − n, so their unary parts have at most (real − n)/m ones
	gaps := func(n int) int {
		return (s.real-n)/int(s.gaps.m) + n*(1+int(s.gaps.bits)) + min(n, 1)*scaleBits + 2*n
	}
	return max(1+gaps(s.keep), 1+countBits+gaps(s.keep-1))
}

func (c *Codec) segments() int { return (c.layout.Chunks() + segmentChunks - 1) / segmentChunks }

// symbols is a chunk as it is coded: ascending indices, per value a sign bit (2) and a large bit (1), one scale.
type symbols struct {
	idx   []uint16
	codes []byte
	scale byte
}

// value is what a receiver decodes: exact, because the large magnitude is an octave above the small one.
func value(scale, code byte) float32 {
	v := math.Float32frombits(scales[scale])
	if code&1 != 0 {
		v += v
	}
	if code&2 != 0 {
		v = -v
	}
	return v
}

// Encode compresses src with k values per 4096 and streams the payload to w. sent, if not nil, sees for every chunk what a
// receiver will decode; its slices are valid during the call only.
//
//  1. keep the largest magnitudes of a chunk, ties to the lower index, never a zero
//  2. choose scale and large bits to minimise the squared error
//  3. code count, indices, scale and values; segments of 1,024 chunks, their lengths in the footer
func (c *Codec) Encode(w io.Writer, src Source, k int, sent func(i int, idx []uint16, val []float32)) (Stats, error) {
	if k < 1 || k > model.ChunkSize {
		return Stats{}, fmt.Errorf("encode payload: k %d is not in 1..%d", k, model.ChunkSize)
	}
	var dense [model.ChunkSize]float32
	var pick picker
	val := make([]float32, model.ChunkSize)
	next := func(i int, s *table) (symbols, error) {
		chunk := dense[:s.real]
		if err := src.Chunk(i, chunk); err != nil {
			return symbols{}, fmt.Errorf("read chunk %d: %w", i, err)
		}
		sym, err := pick.choose(chunk, s.keep)
		if err != nil {
			return symbols{}, fmt.Errorf("chunk %d: %w", i, err)
		}
		if sent != nil {
			for j, code := range sym.codes {
				val[j] = value(sym.scale, code)
			}
			sent(i, sym.idx, val[:len(sym.idx)])
		}
		return sym, nil
	}
	return c.write(w, k, next)
}

// head is what a payload begins with.
func (c *Codec) head(k int) []byte {
	hash := c.layout.Hash()
	b := append(append([]byte(payloadMagic), payloadVer), hash[:]...)
	return binary.BigEndian.AppendUint16(b, uint16(k))
}

// write streams a payload whose chunks come from next.
func (c *Codec) write(w io.Writer, k int, next func(i int, s *table) (symbols, error)) (Stats, error) {
	head := c.head(k)
	st := Stats{Bytes: int64(len(head))}
	if _, err := w.Write(head); err != nil {
		return st, fmt.Errorf("write payload: %w", err)
	}
	var footer []byte
	var bits bitWriter
	var s *table
	all := c.tables(k)
	for i := range c.layout.Chunks() {
		s = all.of(i, s)
		sym, err := next(i, s)
		if err != nil {
			return st, err
		}
		putChunk(&bits, s, sym)
		st.Kept += len(sym.idx)
		if (i+1)%segmentChunks != 0 && i+1 != c.layout.Chunks() {
			continue
		}
		bits.flush()
		footer = binary.BigEndian.AppendUint32(footer, uint32(len(bits.buf)))
		st.Bytes += int64(len(bits.buf))
		if _, err := w.Write(bits.buf); err != nil {
			return st, fmt.Errorf("write payload: %w", err)
		}
		bits = bitWriter{buf: bits.buf[:0]}
	}
	st.Bytes += int64(len(footer))
	if _, err := w.Write(footer); err != nil {
		return st, fmt.Errorf("write payload: %w", err)
	}
	return st, nil
}

func putChunk(w *bitWriter, s *table, sym symbols) {
	n := len(sym.idx)
	if s.bitmap {
		at := 0
		for i := range s.real {
			bit := uint64(0)
			if at < n && int(sym.idx[at]) == i {
				bit, at = 1, at+1
			}
			w.put(bit, 1)
		}
	} else {
		if n == s.keep {
			w.put(0, 1)
		} else {
			w.put(1, 1)
			w.put(uint64(n), countBits)
		}
		w.gaps(s, sym.idx)
	}
	if n == 0 {
		return
	}
	w.put(uint64(sym.scale), scaleBits)
	w.codes(sym.codes)
}
