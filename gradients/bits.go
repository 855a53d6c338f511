package gradients

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"sn3/model/kern"
)

// bitWriter packs bits most significant first.
type bitWriter struct {
	buf []byte // whole bytes; behind them there is always room for writePad more
	acc uint64 // the n < 8 bits after them, left-aligned
	n   uint
}

// writePad is how many bytes beyond its own a code may store.
const writePad = 8

// put appends the low n bits of v, at most 32; the others must be zero.
func (w *bitWriter) put(v uint64, n uint) {
	at := len(w.buf)
	w.reserve(4)
	w.acc |= v << (64 - w.n - n)
	w.n += n
	binary.BigEndian.PutUint64(w.buf[at:at+writePad], w.acc)
	w.buf = w.buf[:at+int(w.n>>3)]
	w.acc <<= w.n &^ 7
	w.n &= 7
}

// reserve makes room for n more bytes and the pad.
func (w *bitWriter) reserve(n int) {
	if cap(w.buf)-len(w.buf) < n+writePad {
		w.buf = slices.Grow(w.buf, max(n+writePad, cap(w.buf)))
	}
}

// flush pads the last byte with zeros.
func (w *bitWriter) flush() {
	if w.n > 0 {
		w.put(0, 8-w.n)
	}
}

// gaps appends the gaps between the ascending idx in the code of t.
func (w *bitWriter) gaps(t *table, idx []uint16) {
	codes := t.spelled()
	w.reserve(3 * len(idx)) // what the table has; a long code reserves for itself
	out, at, acc, n := w.buf[:cap(w.buf)], len(w.buf), w.acc, w.n
	next := 0
	for j, x := range idx {
		gap := int(x) - next
		next = int(x) + 1
		var code uint32
		if codes != nil && gap < longGap {
			code = codes.write[gap]
		}
		if code == 0 {
			w.buf, w.acc, w.n = out[:at], acc, n
			t.gaps.put(w, uint64(gap))
			w.reserve(3 * (len(idx) - j))
			out, at, acc, n = w.buf[:cap(w.buf)], len(w.buf), w.acc, w.n
			continue
		}
		size := uint(code & 31)
		acc |= uint64(code>>5) << ((64 - n - size) & 63)
		n += size
		binary.BigEndian.PutUint64(out[at:at+writePad], acc)
		at += int(n >> 3)
		acc <<= n & 56
		n &= 7
	}
	w.buf, w.acc, w.n = out[:at], acc, n
}

// codes appends two bits for each code.
func (w *bitWriter) codes(codes []byte) {
	w.reserve(len(codes)/4 + 4)
	out, at, acc, n := w.buf[:cap(w.buf)], len(w.buf), w.acc, w.n
	for ; len(codes) >= 8; codes = codes[8:] {
		// four codes in four bytes become eight bits, the first on top, without a carry
		x := binary.LittleEndian.Uint64(codes)
		v := (x&math.MaxUint32)*0x40100401>>24&0xff<<8 | (x>>32)*0x40100401>>24&0xff
		acc |= v << ((48 - n) & 63)
		binary.BigEndian.PutUint64(out[at:at+writePad], acc)
		at += 2
		acc <<= 16
	}
	w.buf, w.acc, w.n = out[:at], acc, n
	for _, c := range codes {
		w.put(uint64(c), 2)
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

// codes reads two bits for each of dst and returns how many are odd: the large ones.
func (r *bitReader) codes(dst []byte) (large int) {
	for len(dst) >= 16 && r.pos+32 <= r.end {
		v := uint32(r.peek() >> 32)
		r.pos += 32
		binary.LittleEndian.PutUint32(dst, unpacked[v>>24])
		binary.LittleEndian.PutUint32(dst[4:], unpacked[v>>16&0xff])
		binary.LittleEndian.PutUint32(dst[8:], unpacked[v>>8&0xff])
		binary.LittleEndian.PutUint32(dst[12:], unpacked[v&0xff])
		large += bits.OnesCount32(v & 0x55555555)
		dst = dst[16:]
	}
	for j := range dst {
		dst[j] = byte(r.get(2))
		large += int(dst[j] & 1)
	}
	return large
}

// unpacked has, for eight bits, their four codes in four bytes, the first lowest.
var unpacked = func() (out [256]uint32) {
	for i := range out {
		v := uint32(i)
		out[i] = v>>6 | v>>4&3<<8 | v>>2&3<<16 | v&3<<24
	}
	return out
}()

// spellFrom is the least number of bytes for which spelled codes are worth their making.
const spellFrom = 1 << 12

// gaps reads the indices whose gaps are in the code of t to g.Out; ok is false if one reaches the chunk's end or beyond. The bits may run
// out: then short is set. A few bytes are read without spelled codes, which would take more memory than they.
func (r *bitReader) gaps(t *table, g *kern.Gaps) (ok bool) {
	var codes *kern.GapCodes
	if s := t.spelled(); s != nil && len(r.buf) >= spellFrom {
		codes = &s.read
	}
	for ok = true; ok && codes != nil && len(g.Out) >= 4 && g.Pos <= g.End; {
		ok = g.Four(codes) || r.singly(t, codes, g, 4)
	}
	ok = ok && r.singly(t, codes, g, len(g.Out))
	if r.pos = g.Pos; g.Pos > g.End {
		r.pos, r.short = r.end, true
		return true
	}
	return ok && after(g) <= uint64(t.real)
}

// start is where the gaps of a chunk begin.
func (r *bitReader) start(dst []uint16) kern.Gaps {
	return kern.Gaps{Bytes: r.buf, Pos: r.pos, End: r.end, Last: ^uint64(63), Out: dst}
}

// after is the lowest index that can come next.
func after(g *kern.Gaps) uint64 { return uint64(int64(g.Last)>>6) + 1 }

// singly reads n codes one by one; false if it cannot: then it stands before the one that cannot be read, or beyond the end.
func (r *bitReader) singly(t *table, codes *kern.GapCodes, g *kern.Gaps, n int) bool {
	for range n {
		next := after(g)
		if g.Pos > g.End || next > uint64(t.real) {
			return false
		}
		r.pos = g.Pos
		var c uint16
		if codes != nil {
			c = codes[r.peek()>>(64-kern.GapBits)]
		}
		if c != 0 {
			r.pos += uint64(c & 63)
			next += uint64(c>>6) - 1
		} else {
			gap, ok := t.gaps.get(r, uint64(t.real)-next)
			if !ok {
				return false
			}
			next += gap
		}
		g.Pos, g.Last = r.pos, next<<6
		g.Out[0], g.Out = uint16(next), g.Out[1:]
	}
	return true
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

// code is what put writes, if it has at most 32 bits; size is its length in any case.
func (g golomb) code(v uint64) (code uint64, size uint) {
	q, r := v/g.m, v%g.m
	rest := g.bits
	switch {
	case g.bits == 0:
	case r < g.cut:
		rest--
	default:
		r += g.cut
	}
	return (1<<min(q, 32)-1)<<(1+rest) | r, uint(q) + 1 + rest
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
