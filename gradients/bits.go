package gradients

import (
	"encoding/binary"
	"math/bits"
)

// bitWriter packs bits most significant first.
type bitWriter struct {
	buf []byte
	acc uint64
	n   uint
}

// put appends the low n bits of v, at most 32; the others must be zero.
func (w *bitWriter) put(v uint64, n uint) {
	w.acc = w.acc<<n | v
	for w.n += n; w.n >= 8; {
		w.n -= 8
		w.buf = append(w.buf, byte(w.acc>>w.n))
	}
}

// flush pads the last byte with zeros.
func (w *bitWriter) flush() {
	if w.n > 0 {
		w.put(0, 8-w.n)
	}
}

// readPad is how many bytes beyond the data a bitReader may load: one load gives peekBits valid bits at any position.
const (
	readPad  = 8
	peekBits = 57
)

// bitReader reads what bitWriter wrote. Reading past the end sets short and gives zeros.
type bitReader struct {
	buf      []byte // data and readPad zeros
	pos, end uint64 // in bits
	short    bool
}

// newBitReader reads data[:n]; data must be n + readPad bytes long.
func newBitReader(data []byte, n int) *bitReader {
	clear(data[n:])
	return &bitReader{buf: data, end: 8 * uint64(n)}
}

// peek is the next peekBits bits, left-aligned; zeros follow the end.
func (r *bitReader) peek() uint64 { return binary.BigEndian.Uint64(r.buf[r.pos>>3:]) << (r.pos & 7) }

// skip moves past n bits that peek has shown.
func (r *bitReader) skip(n uint64) bool {
	if r.pos += n; r.pos > r.end {
		r.pos, r.short = r.end, true
	}
	return !r.short
}

// get reads n bits, at most peekBits.
func (r *bitReader) get(n uint) uint64 {
	v := r.peek() >> (64 - n)
	if !r.skip(uint64(n)) {
		return 0
	}
	return v
}

// done says whether nothing but the zero padding of the last byte is left.
func (r *bitReader) done() bool { return !r.short && r.end-r.pos < 8 && r.peek() == 0 }

// golomb is a Golomb code with parameter m: quotient in unary (ones, then a zero), remainder in truncated binary.
// Source: S. Golomb, Run-length encodings, IEEE Trans. Inf. Theory 12 (1966).
type golomb struct {
	m, cut uint64 // remainders below cut take bits-1 bits
	bits   uint
}

func newGolomb(m int) golomb {
	g := golomb{m: uint64(m)}
	for 1<<g.bits < m {
		g.bits++
	}
	g.cut = 1<<g.bits - g.m
	return g
}

func (g golomb) put(w *bitWriter, v uint64) {
	for q := v / g.m; q > 0; {
		n := min(q, 32)
		w.put(1<<n-1, uint(n))
		q -= n
	}
	w.put(0, 1)
	switch r := v % g.m; {
	case g.bits == 0:
	case r < g.cut:
		w.put(r, g.bits-1)
	default:
		w.put(r+g.cut, g.bits)
	}
}

// get reads a value below limit; ok is false when it is not below or the bits run out.
func (g golomb) get(r *bitReader, limit uint64) (v uint64, ok bool) {
	for {
		ones := uint64(bits.LeadingZeros64(^r.peek()))
		if ones < peekBits {
			r.skip(ones + 1)
			v += ones * g.m
			break
		}
		r.skip(peekBits - 1)
		if v += (peekBits - 1) * g.m; v >= limit || r.short {
			return 0, false
		}
	}
	if g.bits > 0 {
		x := r.peek() >> (64 - g.bits) // shifting by 64 gives 0
		if short := x >> 1; short < g.cut {
			r.skip(uint64(g.bits - 1))
			v += short
		} else {
			r.skip(uint64(g.bits))
			v += x - g.cut
		}
	}
	return v, !r.short && v < limit
}
