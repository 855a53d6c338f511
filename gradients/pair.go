package gradients

import (
	"encoding/binary"

	"sn3/model"
)

// A gap's place is known only when the one before it is decoded: a core waits for its own look-up most of the time. Two segments
// decoded in turns fill the wait.

// part is a segment being decoded into its own piece of a payload's memory, as if every chunk before it were full.
type part struct {
	Payload // start, idx and codes are pieces; start counts from 0
	r       *bitReader
	from    int // first chunk
	to      int
	table   *table
}

// progress is how far the gaps of a chunk are decoded: so many, and the lowest index that the next can have.
type progress struct {
	done int
	next uint64
}

// part is segment s, whose values go to at and the places after it.
func (p *Payload) part(r *bitReader, s, at int) *part {
	c := group(p.codec.layout, segmentChunks, s)
	room := 0
	for i := c.From; i < c.To; i++ {
		room += Keep(p.k, p.codec.layout.Chunk(i).Len)
	}
	x := &part{r: r, from: c.From, to: c.To}
	x.Payload = Payload{codec: p.codec, k: p.k, scales: p.scales, start: make([]int32, 0, c.To-c.From),
		idx: p.idx[at : at : at+room], codes: p.codes[at : at : at+room]}
	return x
}

// most is how many values the part has room for.
func (a *part) most() int { return cap(a.idx) }

// join puts what a has behind what p has; it is there already, or further up.
func (p *Payload) join(a *part) {
	n := int32(len(p.idx))
	for _, end := range a.start {
		p.start = append(p.start, n+end)
	}
	p.idx, p.codes = append(p.idx, a.idx...), append(p.codes, a.codes...)
}

// pair decodes two segments.
func pair(a, b *part, all *tables) error {
	i, j := a.from, b.from
	for ; i < a.to && j < b.to; i, j = i+1, j+1 {
		a.table, b.table = all.of(i, a.table), all.of(j, b.table)
		if a.table != b.table || a.table.bitmap || a.table.real < model.ChunkSize {
			if err := a.chunk(a.r, i, a.table); err != nil {
				return err
			}
			if err := b.chunk(b.r, j, b.table); err != nil {
				return err
			}
			continue
		}
		if err := pairOfChunks(a, b, i, j); err != nil {
			return err
		}
	}
	if err := a.rest(i, all); err != nil {
		return err
	}
	return b.rest(j, all)
}

// rest decodes the chunks from i on and checks that nothing is left.
func (a *part) rest(i int, all *tables) error {
	for ; i < a.to; i++ {
		a.table = all.of(i, a.table)
		if err := a.chunk(a.r, i, a.table); err != nil {
			return err
		}
	}
	return a.end(a.from/segmentChunks, a.r)
}

// pairOfChunks is chunk for two of the same table at once.
func pairOfChunks(a, b *part, i, j int) error {
	x, err := a.room(a.r, i, a.table)
	if err != nil {
		return err
	}
	y, err := b.room(b.r, j, b.table)
	if err != nil {
		return err
	}
	p, q := gapsOfTwo(a.r, b.r, a.table, x, y)
	if err := a.finish(a.r, i, a.table, x, p); err != nil {
		return err
	}
	return b.finish(b.r, j, b.table, y, q)
}

// gapsOfTwo decodes as long as both have four more, and says how far it came.
func gapsOfTwo(ra, rb *bitReader, t *table, da, db []uint16) (p, q progress) {
	codes := t.spelled()
	a, b := ra.pos, rb.pos
	for len(da)-p.done >= 4 && len(db)-q.done >= 4 && a <= ra.end && b <= rb.end {
		v := binary.BigEndian.Uint64(ra.buf[a>>3:]) << (a & 7)
		w := binary.BigEndian.Uint64(rb.buf[b>>3:]) << (b & 7)
		x, y := da[p.done:p.done+4], db[q.done:q.done+4]
		n := 0
		var c, d uint32
		for ; n < 4; n++ {
			c, d = codes.read[v>>(64-lookBits)], codes.read[w>>(64-lookBits)]
			if c == 0 || d == 0 {
				break
			}
			v <<= c & 63
			w <<= d & 63
			a += uint64(c & 63)
			b += uint64(d & 63)
			p.next += uint64(c >> 6)
			q.next += uint64(d >> 6)
			x[n], y[n] = uint16(p.next), uint16(q.next)
			p.next++
			q.next++
		}
		p.done += n
		q.done += n
		if n == 4 {
			continue
		}
		ra.pos, rb.pos = a, b
		if c == 0 && !ra.long(t, da, &p) || d == 0 && !rb.long(t, db, &q) {
			return p, q // finish meets the same error
		}
		a, b = ra.pos, rb.pos
	}
	ra.pos, rb.pos = a, b
	return p, q
}

// long decodes one code that is not spelled out; false, and nothing is read, if that fails.
func (r *bitReader) long(t *table, dst []uint16, p *progress) bool {
	if r.pos > r.end || p.next > uint64(t.real) {
		return false
	}
	before := *r
	gap, ok := t.gaps.get(r, uint64(t.real)-p.next)
	if !ok {
		*r = before
		return false
	}
	p.next += gap
	dst[p.done] = uint16(p.next)
	p.next++
	p.done++
	return true
}
