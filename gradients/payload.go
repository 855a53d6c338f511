package gradients

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"

	"sn3/model"
	"sn3/model/kern"
)

// DecodeError says why bytes are not a payload. It is always the sender's fault.
type DecodeError struct{ Reason string }

// Error gives the reason.
func (e *DecodeError) Error() string { return "payload does not decode: " + e.Reason }

func bad(format string, args ...any) error { return &DecodeError{fmt.Sprintf(format, args...)} }

// Payload is a decoded, fully checked payload: a model.Delta. Safe for concurrent use.
type Payload struct {
	codec  *Codec
	k      int
	size   int64
	start  []int // first entry of chunk i; len = chunks + 1
	idx    []uint16
	codes  []byte
	scales []byte // of chunk i
	norm   float64
	large  []uint16 // large values of chunk i, while it is being read
}

// Open reads and checks a whole payload. Every bit must be as Encode writes it, so equal content has one form; the error
// is a *DecodeError, or the reader's. Memory stays within 20 bytes for each byte of a payload that is no longer than MaxLen, and
// a few for each chunk of the layout.
func (c *Codec) Open(r io.ReaderAt, size int64) (*Payload, error) {
	foot := int64(4 * c.segments())
	if size < payloadHead+foot {
		return nil, bad("%d bytes are too few", size)
	}
	head := make([]byte, payloadHead)
	if err := readAt(r, head, 0); err != nil {
		return nil, err
	}
	hash := c.layout.Hash()
	k := int(binary.BigEndian.Uint16(head[37:]))
	switch {
	case string(head[:4]) != payloadMagic || head[4] != payloadVer:
		return nil, bad("not a payload of version %d", payloadVer)
	case string(head[5:37]) != string(hash[:]):
		return nil, bad("made for another model layout")
	case k < 1 || k > model.ChunkSize:
		return nil, bad("k %d", k)
	}
	if longest := c.MaxLen(k); size > longest {
		return nil, bad("%d bytes, at most %d at k %d", size, longest, k)
	}
	table := make([]byte, foot)
	if err := readAt(r, table, size-foot); err != nil {
		return nil, err
	}
	most, full := c.most(k, size)
	p := &Payload{codec: c, k: k, size: size, large: make([]uint16, c.layout.Chunks()), start: make([]int, 1, c.layout.Chunks()+1), scales: make([]byte, c.layout.Chunks()),
		idx: make([]uint16, 0, most), codes: make([]byte, 0, most)}
	segments, err := readSegments(r, table, size-foot)
	if err != nil {
		return nil, err
	}
	if err := p.read(segments, full); err != nil {
		return nil, err
	}
	p.norm, p.large = p.measure(), nil
	return p, nil
}

// readSegments reads the bytes between header and footer, which table cuts up.
func readSegments(r io.ReaderAt, table []byte, end int64) ([]*bitReader, error) {
	var out []*bitReader
	at := int64(payloadHead)
	for s := range len(table) / 4 {
		n := int64(binary.BigEndian.Uint32(table[4*s:]))
		if n > end-at {
			return nil, bad("segment %d reaches beyond the end", s)
		}
		buf := make([]byte, n+readPad)
		if err := readAt(r, buf[:n], at); err != nil {
			return nil, err
		}
		out = append(out, newBitReader(buf, int(n)))
		at += n
	}
	if at != end {
		return nil, bad("%d bytes between segments and footer", end-at)
	}
	return out, nil
}

// read decodes the segments: some by turns where there is memory for what every chunk may keep, else one after the other.
func (p *Payload) read(segments []*bitReader, full bool) error {
	s := 0
	for full && s+1 < len(segments) {
		lanes := 2
		if s+maxLanes <= len(segments) {
			lanes = maxLanes
		}
		parts, at := make([]*part, lanes), len(p.idx)
		for i := range parts {
			parts[i] = p.part(segments[s+i], s+i, at)
			at += parts[i].most()
		}
		if err := byTurns(parts, p.codec.tables(p.k)); err != nil {
			return err
		}
		for _, a := range parts {
			p.join(a)
		}
		s += lanes
	}
	for ; s < len(segments); s++ {
		if err := p.segment(s, segments[s]); err != nil {
			return err
		}
	}
	return nil
}

// most is how many values a payload of size bytes can carry: what k allows, and each takes two bits or more. full says that it is
// all that k allows.
func (c *Codec) most(k int, size int64) (n int, full bool) {
	most := int64(0)
	for i := range c.layout.Chunks() {
		most += int64(Keep(k, c.layout.Chunk(i).Len))
	}
	return int(min(most, 4*size)), most <= 4*size
}

// readAt fills b; an io.ReaderAt may say EOF together with the last byte.
func readAt(r io.ReaderAt, b []byte, at int64) error {
	if n, err := r.ReadAt(b, at); n < len(b) {
		return fmt.Errorf("read payload: %w", err)
	}
	return nil
}

func (p *Payload) segment(s int, r *bitReader) error {
	var t *table
	all := p.codec.tables(p.k)
	for i := s * segmentChunks; i < min((s+1)*segmentChunks, p.codec.layout.Chunks()); i++ {
		t = all.of(i, t)
		if err := p.chunk(r, i, t); err != nil {
			return err
		}
	}
	return p.end(s, r)
}

// end checks that nothing of segment s is left.
func (p *Payload) end(s int, r *bitReader) error {
	if !r.done() {
		return bad("segment %d: bits missing, left over or padded with ones", s)
	}
	return nil
}

// chunk reads chunk i, refusing every form that putChunk does not write.
func (p *Payload) chunk(r *bitReader, i int, t *table) error {
	if t.bitmap {
		first := len(p.idx)
		if err := p.bitmap(r, i, t.shape); err != nil {
			return err
		}
		return p.values(r, i, len(p.idx)-first)
	}
	idx, err := p.room(r, i, t)
	if err != nil {
		return err
	}
	g := r.start(idx)
	return p.finish(r, i, t, &g, len(idx))
}

// values reads scale and codes of the n values of chunk i.
func (p *Payload) values(r *bitReader, i, n int) error {
	p.start = append(p.start, len(p.idx))
	if n == 0 {
		return nil
	}
	p.scales[i] = byte(r.get(scaleBits))
	first := len(p.codes)
	p.codes = slices.Grow(p.codes, n)[:first+n]
	large := r.codes(p.codes[first:])
	switch {
	case r.short:
		return bad("chunk %d: ends early", i)
	case large == n && int(p.scales[i])+octave < len(scales):
		return bad("chunk %d: only large values, which is written an octave higher", i)
	}
	if p.large != nil {
		p.large[i] = uint16(large)
	}
	return nil
}

func (p *Payload) bitmap(r *bitReader, i int, s shape) error {
	n := 0
	for x := 0; x < s.real; x += 32 {
		width := min(32, s.real-x)
		for w := uint32(r.get(uint(width)) << (32 - width)); w != 0; n++ {
			z := bits.LeadingZeros32(w)
			w &^= 1 << (31 - z)
			p.idx = append(p.idx, uint16(x+z))
		}
	}
	if n > s.keep || r.short {
		return bad("chunk %d: %d values, at most %d", i, n, s.keep)
	}
	return nil
}

// room reads how many values chunk i has and makes room for their indices.
func (p *Payload) room(r *bitReader, i int, t *table) ([]uint16, error) {
	n := t.keep
	if r.get(1) == 1 {
		if n = int(r.get(countBits)); n >= t.keep {
			return nil, bad("chunk %d: count %d where fewer than %d were announced", i, n, t.keep)
		}
	}
	if 3*uint64(n) > r.end-r.pos { // each takes three bits or more: no memory for what cannot come
		return nil, bad("chunk %d: ends early", i)
	}
	first := len(p.idx)
	p.idx = slices.Grow(p.idx, n)[:first+n]
	return p.idx[first:], nil
}

// finish reads the rest of the n indices of chunk i, and its values.
func (p *Payload) finish(r *bitReader, i int, t *table, rest *kern.Gaps, n int) error {
	switch ok := r.gaps(t, rest); {
	case !ok:
		return bad("chunk %d: index beyond its %d values", i, t.real)
	case r.short:
		return bad("chunk %d: ends early", i)
	}
	return p.values(r, i, n)
}

// Chunk implements model.Delta.
func (p *Payload) Chunk(i int, idx []uint16, val []float32) int {
	from, to := p.start[i], p.start[i+1]
	copy(idx, p.idx[from:to])
	for j, code := range p.codes[from:to] {
		val[j] = value(p.scales[i], code)
	}
	return to - from
}

// Symbols is chunk i as it is coded, to be read only: ascending indices, for each a code (1: twice the scale, 2: negative), and which
// scale of the table. A device decodes these; their values are what Chunk gives.
func (p *Payload) Symbols(i int) (idx []uint16, codes []byte, scale byte) {
	s := p.symbols(i)
	return s.idx, s.codes, s.scale
}

// K is the run's k that the payload was made with.
func (p *Payload) K() int { return p.k }

// Len is the payload's length in bytes.
func (p *Payload) Len() int64 { return p.size }

// Layout is the layout it was made for.
func (p *Payload) Layout() *model.Layout { return p.codec.layout }

// Stats counts what it carries.
func (p *Payload) Stats() Stats { return Stats{Kept: len(p.idx), Bytes: p.size} }

// Norm is the L2 norm of all values, from code counts and squared levels in float64, chunks in order: the same bits on
// every machine (DESIGN §5, "Aggregate").
func (p *Payload) Norm() float64 { return p.norm }

func (p *Payload) measure() float64 {
	sum := 0.0
	for i := range p.scales {
		n := p.start[i+1] - p.start[i]
		var large int
		if p.large != nil {
			large = int(p.large[i])
		} else {
			large = largeIn(p.codes[p.start[i]:p.start[i+1]])
		}
		s := float64(math.Float32frombits(scales[p.scales[i]]))
		sq := float64(s * s)
		sum += float64(sq * float64(n+3*large)) // n small ones and large ones at (2s)²
	}
	return math.Sqrt(sum)
}

// largeIn counts the codes of large values.
func largeIn(codes []byte) (n int) {
	for ; len(codes) >= 8; codes = codes[8:] {
		n += bits.OnesCount64(binary.LittleEndian.Uint64(codes) & 0x0101010101010101)
	}
	for _, c := range codes {
		n += int(c & 1)
	}
	return n
}

// WriteTo writes the payload again: the same bytes that Open read.
func (p *Payload) WriteTo(w io.Writer) (int64, error) {
	st, err := p.codec.write(w, p.k, func(i int, _ *table) (symbols, error) {
		return p.symbols(i), nil
	})
	return st.Bytes, err
}
