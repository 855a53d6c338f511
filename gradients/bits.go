package gradients

// bitWriter packs bits most significant first.
type bitWriter struct {
	buf []byte
	acc uint64
	n   uint
}

func (w *bitWriter) put(v uint64, bits uint) {
	w.acc = w.acc<<bits | v
	for w.n += bits; w.n >= 8; {
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

// bitReader reads what bitWriter wrote. Reading past the end sets short and gives zeros.
type bitReader struct {
	buf   []byte
	pos   int
	acc   uint64
	n     uint
	short bool
}

func (r *bitReader) get(bits uint) uint64 {
	for r.n < bits {
		if r.pos >= len(r.buf) {
			r.short = true
			return 0
		}
		r.acc = r.acc<<8 | uint64(r.buf[r.pos])
		r.pos++
		r.n += 8
	}
	r.n -= bits
	return r.acc >> r.n & (1<<bits - 1)
}

// done says whether nothing but the zero padding of the last byte is left.
func (r *bitReader) done() bool {
	return !r.short && r.pos == len(r.buf) && r.n < 8 && r.acc&(1<<r.n-1) == 0
}

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
	for r.get(1) == 1 {
		if v += g.m; v >= limit {
			return 0, false
		}
	}
	if g.bits > 0 {
		x := r.get(g.bits - 1)
		if x >= g.cut {
			x = x<<1 | r.get(1)
			x -= g.cut
		}
		v += x
	}
	return v, !r.short && v < limit
}
