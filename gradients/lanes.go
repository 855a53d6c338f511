package gradients

import "sn3/model/kern"

// A gap's place is known only when the one before it is decoded: a core waits for its own look-up most of the time. Some segments
// decoded by turns fill the wait.

// maxLanes is how many segments at most are decoded by turns.
const maxLanes = 4

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
	x.Payload = Payload{codec: p.codec, k: p.k, scales: p.scales, large: p.large, start: make([]int, 0, c.To-c.From),
		idx: p.idx[at : at : at+room], codes: p.codes[at : at : at+room]}
	return x
}

// most is how many values the part has room for.
func (a *part) most() int { return cap(a.idx) }

// join puts what a has behind what p has; it is there already, or further up.
func (p *Payload) join(a *part) {
	n := len(p.idx)
	for _, end := range a.start {
		p.start = append(p.start, n+end)
	}
	p.idx, p.codes = append(p.idx, a.idx...), append(p.codes, a.codes...)
}

// byTurns decodes maxLanes segments or fewer.
func byTurns(parts []*part, all *tables) error {
	common := parts[0].to - parts[0].from
	for _, a := range parts {
		common = min(common, a.to-a.from)
	}
	for n := range common {
		alike := true
		for _, a := range parts {
			a.table = all.of(a.from+n, a.table)
			alike = alike && a.table == parts[0].table
		}
		if !alike || parts[0].table.spelled() == nil {
			for _, a := range parts {
				if err := a.chunk(a.r, a.from+n, a.table); err != nil {
					return err
				}
			}
			continue
		}
		if err := chunks(parts, n); err != nil {
			return err
		}
	}
	for _, a := range parts {
		if err := a.rest(a.from+common, all); err != nil {
			return err
		}
	}
	return nil
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

// chunks is chunk for the n-th of each part, which have the same table.
func chunks(parts []*part, n int) error {
	var lanes [maxLanes]kern.Gaps
	var count [maxLanes]int
	for i, a := range parts {
		idx, err := a.room(a.r, a.from+n, a.table)
		if err != nil {
			return err
		}
		lanes[i], count[i] = a.r.start(idx), len(idx)
	}
	codes, k := &parts[0].table.spelled().read, parts[0].codec.compute.kernels()
	for {
		stopped := k.GapLanes(codes, lanes[:len(parts)])
		if stopped == 0 || !parts[stopped-1].r.singly(parts[0].table, codes, &lanes[stopped-1], 4) {
			break // finish goes on, and meets the same error
		}
	}
	for i, a := range parts {
		if err := a.finish(a.r, a.from+n, a.table, &lanes[i], count[i]); err != nil {
			return err
		}
	}
	return nil
}
