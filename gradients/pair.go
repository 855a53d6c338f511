package gradients

import "sn3/model"

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

// part is segment s, whose values go to at and the places after it.
func (p *Payload) part(r *bitReader, s, at int) *part {
	c := group(p.codec.layout, segmentChunks, s)
	room := 0
	for i := c.From; i < c.To; i++ {
		room += Keep(p.k, p.codec.layout.Chunk(i).Len)
	}
	x := &part{r: r, from: c.From, to: c.To}
	x.Payload = Payload{codec: p.codec, k: p.k, scales: p.scales, large: p.large, start: make([]int32, 0, c.To-c.From),
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
	g, h := a.r.start(x), b.r.start(y)
	for codes, k := &a.table.spelled().read, a.codec.compute.kernels(); ; {
		stopped := k.GapPair(codes, &g, &h)
		if stopped == 0 || stopped == 1 && !a.r.singly(a.table, codes, &g, 4) || stopped == 2 && !b.r.singly(b.table, codes, &h, 4) {
			break // finish goes on, and meets the same error
		}
	}
	if err := a.finish(a.r, i, a.table, &g, len(x)); err != nil {
		return err
	}
	return b.finish(b.r, j, b.table, &h, len(y))
}
