package gradients

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/bits"

	"sn3/model"
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
	start  []int32 // first entry of chunk i; len = chunks + 1
	idx    []uint16
	codes  []byte
	scales []byte // of chunk i
	norm   float64
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
	case size > c.MaxLen(k):
		return nil, bad("%d bytes, at most %d at k %d", size, c.MaxLen(k), k)
	}
	table := make([]byte, foot)
	if err := readAt(r, table, size-foot); err != nil {
		return nil, err
	}
	most := c.most(k, size)
	p := &Payload{codec: c, k: k, size: size, start: make([]int32, 1, c.layout.Chunks()+1), scales: make([]byte, c.layout.Chunks()),
		idx: make([]uint16, 0, most), codes: make([]byte, 0, most)}
	at := int64(payloadHead)
	for s := range c.segments() {
		n := int64(binary.BigEndian.Uint32(table[4*s:]))
		if n > size-foot-at {
			return nil, bad("segment %d reaches beyond the end", s)
		}
		buf := make([]byte, n+readPad)
		if err := readAt(r, buf[:n], at); err != nil {
			return nil, err
		}
		if err := p.segment(s, newBitReader(buf, int(n))); err != nil {
			return nil, err
		}
		at += n
	}
	if at != size-foot {
		return nil, bad("%d bytes between segments and footer", size-foot-at)
	}
	p.norm = p.measure()
	return p, nil
}

// most is how many values a payload of size bytes can carry: what k allows, and each takes two bits or more.
func (c *Codec) most(k int, size int64) int {
	most := int64(0)
	for i := range c.layout.Chunks() {
		most += int64(Keep(k, c.layout.Chunk(i).Len))
	}
	return int(min(most, 4*size))
}

// readAt fills b; an io.ReaderAt may say EOF together with the last byte.
func readAt(r io.ReaderAt, b []byte, at int64) error {
	if n, err := r.ReadAt(b, at); n < len(b) {
		return fmt.Errorf("read payload: %w", err)
	}
	return nil
}

func (p *Payload) segment(s int, r *bitReader) error {
	for i := s * segmentChunks; i < min((s+1)*segmentChunks, p.codec.layout.Chunks()); i++ {
		if err := p.chunk(r, i); err != nil {
			return err
		}
	}
	if !r.done() {
		return bad("segment %d: bits missing, left over or padded with ones", s)
	}
	return nil
}

// chunk reads chunk i, refusing every form that putChunk does not write.
func (p *Payload) chunk(r *bitReader, i int) error {
	s := p.codec.shape(i, p.k)
	first := len(p.idx)
	var err error
	if s.bitmap {
		err = p.bitmap(r, i, s)
	} else {
		err = p.gaps(r, i, s)
	}
	if err != nil {
		return err
	}
	n := len(p.idx) - first
	p.start = append(p.start, int32(len(p.idx)))
	if n == 0 {
		return nil
	}
	p.scales[i] = byte(r.get(scaleBits))
	small := false
	for range n {
		code := byte(r.get(2))
		small = small || code&1 == 0
		p.codes = append(p.codes, code)
	}
	switch {
	case r.short:
		return bad("chunk %d: ends early", i)
	case !small && int(p.scales[i])+octave < len(scales):
		return bad("chunk %d: only large values, which is written an octave higher", i)
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

func (p *Payload) gaps(r *bitReader, i int, s shape) error {
	n := s.keep
	if r.get(1) == 1 {
		if n = int(r.get(countBits)); n >= s.keep {
			return bad("chunk %d: count %d where fewer than %d were announced", i, n, s.keep)
		}
	}
	last := -1
	for range n {
		gap, ok := s.gaps.get(r, uint64(s.real-last-1))
		if !ok {
			return bad("chunk %d: index beyond its %d values", i, s.real)
		}
		last += 1 + int(gap)
		p.idx = append(p.idx, uint16(last))
	}
	if r.short {
		return bad("chunk %d: ends early", i)
	}
	return nil
}

// Chunk implements model.Delta.
func (p *Payload) Chunk(i int, idx []uint16, val []float32) int {
	from, to := p.start[i], p.start[i+1]
	copy(idx, p.idx[from:to])
	for j, code := range p.codes[from:to] {
		val[j] = value(p.scales[i], code)
	}
	return int(to - from)
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
		large := 0
		codes := p.codes[p.start[i]:p.start[i+1]]
		for _, c := range codes {
			large += int(c & 1)
		}
		s := float64(math.Float32frombits(scales[p.scales[i]]))
		sq := float64(s * s)
		sum += float64(sq * float64(len(codes)+3*large)) // n small ones and large ones at (2s)²
	}
	return math.Sqrt(sum)
}

// WriteTo writes the payload again: the same bytes that Open read.
func (p *Payload) WriteTo(w io.Writer) (int64, error) {
	st, err := p.codec.write(w, p.k, func(i int, _ shape) (symbols, error) {
		from, to := p.start[i], p.start[i+1]
		return symbols{p.idx[from:to], p.codes[from:to], p.scales[i]}, nil
	})
	return st.Bytes, err
}
