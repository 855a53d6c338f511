package gradients

import (
	"fmt"
	"math"
	"slices"

	"sn3/model"
)

// split is where a magnitude counts as large, in units of the scale: half-way between the levels 1 and 2.
const split = 1.5

// smallest is the bit pattern of half the smallest scale, 2^-29. Sending less than that would add more error than it takes
// away, so such values count as zeros: they wait in the error feedback.
const smallest = 0x31000000

// picker chooses what a chunk sends; it keeps its scratch memory between chunks.
type picker struct {
	mag   [model.ChunkSize]uint32 // magnitudes as float bits, which order as the magnitudes do
	tied  [model.ChunkSize]uint32
	hist  [1 << histBits]uint16
	idx   [model.ChunkSize]uint16
	codes [model.ChunkSize]byte
}

// histBits is how many leading bits of a magnitude (8 of exponent, 3 of mantissa) the first pass of threshold looks at.
const histBits = 11

// choose keeps the keep largest magnitudes of v and quantises them. The result is valid until the next call.
func (p *picker) choose(v []float32, keep int) (symbols, error) {
	nonzero := 0
	for i, x := range v {
		b := math.Float32bits(x) &^ (1 << 31)
		if b >= 0x7f800000 {
			return symbols{}, fmt.Errorf("%w: value %d is %v", ErrNotFinite, i, x)
		}
		if b < smallest {
			b = 0
		} else {
			nonzero++
		}
		p.mag[i] = b
	}
	n := 0
	if keep = min(keep, nonzero); keep > 0 {
		n = p.take(len(v), keep)
	}
	sym := symbols{idx: p.idx[:n], codes: p.codes[:n]}
	if n > 0 {
		sym.scale = p.quantise(v, sym)
	}
	return sym, nil
}

// take fills idx with the indices of the keep largest magnitudes, ascending; of equal ones the lower index wins.
func (p *picker) take(real, keep int) int {
	limit, ties := p.threshold(real, keep)
	n := 0
	for i, b := range p.mag[:real] {
		if b < limit {
			continue
		}
		if b == limit {
			if ties == 0 {
				continue
			}
			ties--
		}
		p.idx[n] = uint16(i)
		n++
	}
	return n
}

// threshold is the keep-th largest magnitude and how many values equal to it are among the keep largest. One pass of a radix
// selection leaves a few values to sort.
func (p *picker) threshold(real, keep int) (limit uint32, ties int) {
	clear(p.hist[:])
	for _, b := range p.mag[:real] {
		p.hist[b>>(31-histBits)]++
	}
	bucket, above := len(p.hist)-1, 0
	for ; above+int(p.hist[bucket]) < keep; bucket-- {
		above += int(p.hist[bucket])
	}
	near := p.tied[:0]
	for _, b := range p.mag[:real] {
		if int(b>>(31-histBits)) == bucket {
			near = append(near, b)
		}
	}
	slices.Sort(near)
	at := len(near) - (keep - above)
	limit = near[at]
	for at < len(near) && near[at] == limit {
		at, ties = at+1, ties+1
	}
	return limit, ties
}

// quantise chooses scale and codes with the least squared error there is: for each scale s of the table a magnitude counts as
// large above split·s, and Σ(m − level)² = Σm² − 2s·A + s²·B, where A sums the magnitudes (large ones twice) and B counts
// them (large ones four times). Over sorted magnitudes that is one pass for all scales; of equal ones the lower wins.
// Receivers never repeat this: only decoding must be bit-exact.
func (p *picker) quantise(v []float32, sym symbols) byte {
	sorted, above := p.tied[:0], 0.0
	for _, i := range sym.idx {
		sorted = append(sorted, p.mag[i])
	}
	slices.Sort(sorted)
	for _, m := range sorted {
		above += float64(math.Float32frombits(m))
	}
	best, least := byte(0), math.Inf(1)
	at, below := 0, 0.0
	for c := range scales {
		s := float64(math.Float32frombits(scales[c]))
		for ; at < len(sorted); at++ {
			m := float64(math.Float32frombits(sorted[at]))
			if m > split*s {
				break
			}
			below, above = below+m, above-m
		}
		a, b := below+2*above, float64(at+4*(len(sorted)-at))
		if e := s * (s*b - 2*a); e < least {
			best, least = byte(c), e
		}
	}
	return p.assign(v, sym, best)
}

// assign sets the codes for a scale. A chunk of only large values is written an octave higher as only small ones, so that
// every decoded chunk has one form.
func (p *picker) assign(v []float32, sym symbols, scale byte) byte {
	s := float64(math.Float32frombits(scales[scale]))
	small := false
	for j, i := range sym.idx {
		code := byte(0)
		if math.Abs(float64(v[i])) > split*s {
			code = 1
		} else {
			small = true
		}
		if v[i] < 0 {
			code |= 2
		}
		sym.codes[j] = code
	}
	if !small && int(scale)+octave < len(scales) {
		for j := range sym.codes {
			sym.codes[j] &^= 1
		}
		return scale + octave
	}
	return scale
}
