package gradients

import (
	"math"
	"math/bits"
	"slices"
)

// split is where a magnitude counts as large, in units of the scale: half-way between the levels 1 and 2.
const split = 1.5

// splits[c] is the largest float32 that is not above split·scale c, as bits: what is above it counts as large.
var splits = func() (out [len(scales)]uint32) {
	for c, b := range scales {
		limit := split * float64(math.Float32frombits(b))
		near := float32(limit)
		out[c] = math.Float32bits(near)
		if float64(near) > limit {
			out[c]--
		}
	}
	return out
}()

// firstBin[b >> binShift] is the bin of the smallest magnitude with those leading bits (8 of exponent, 3 of mantissa).
const binShift = 20

var firstBin = func() (out [1 << (31 - binShift)]uint16) {
	c := 0
	for i := range out {
		for c < len(splits) && uint32(i)<<binShift > splits[c] {
			c++
		}
		out[i] = uint16(c)
	}
	return out
}()

// bin is the first scale for which a magnitude with these bits is not large; len(scales) if there is none.
func bin(b uint32) int {
	c := int(firstBin[b>>binShift])
	for c < len(splits) && b > splits[c] {
		c++
	}
	return c
}

// bins hold, by bin, how many magnitudes there are and their sum.
type bins struct {
	count [len(scales) + 1]int32
	sum   [len(scales) + 1]float64
}

// quantise chooses scale and codes with the least squared error there is: for each scale s of the table a magnitude counts as
// large above split·s, and Σ(m − level)² = Σm² − 2s·A + s²·B, where A sums the magnitudes (large ones twice) and B counts
// them (large ones four times). Of equal errors the lower scale wins. Receivers never repeat this: only decoding must be bit-exact.
//
// While all are large the error falls as s grows up to half of the mean, and once none is it rises from the mean on; so only scales from
// half of the smallest magnitude to the largest can be best.
func (p *picker) quantise(sym symbols) byte {
	least, most, total := uint32(math.MaxUint32), uint32(0), 0.0
	for _, i := range sym.idx {
		b := bitsOf(p.dense[i])
		least, most = min(least, b), max(most, b)
		total += float64(math.Float32frombits(b))
	}
	n := len(sym.idx)
	if int(most>>23-least>>23) > 28-bits.Len(uint(n)) {
		return p.assign(sym, p.sortedBest(sym))
	}
	// float64 holds every sum of these exactly, in whatever order
	for _, i := range sym.idx {
		b := bitsOf(p.dense[i])
		c := bin(b)
		p.bins.count[c]++
		p.bins.sum[c] += float64(math.Float32frombits(b))
	}
	from, to := max(0, bin(least)-5), min(len(scales)-1, bin(most)+5) // 2^(4/8)·1.5 > 2 and 2^(5/8) > 1.5
	best, lowest := byte(0), math.Inf(1)
	at, below := 0, 0.0
	for c := from; c <= to; c++ {
		at, below = at+int(p.bins.count[c]), below+p.bins.sum[c]
		if e := squared(c, n, at, below, total-below); e < lowest {
			best, lowest = byte(c), e
		}
	}
	clear(p.bins.count[from : bin(most)+1])
	clear(p.bins.sum[from : bin(most)+1])
	return p.assign(sym, best)
}

// squared is the squared error with scale c, less Σm²: at of n magnitudes are small and sum to below, the large ones to above.
func squared(c, n, at int, below, above float64) float64 {
	s := float64(math.Float32frombits(scales[c]))
	a, b := below+2*above, float64(at+4*(n-at))
	return s * (float64(s*b) - 2*a)
}

// sortedBest is the same choice by sums over sorted magnitudes, where their order matters.
func (p *picker) sortedBest(sym symbols) byte {
	sorted, above := p.near[:0], 0.0
	for _, i := range sym.idx {
		sorted = append(sorted, bitsOf(p.dense[i]))
	}
	slices.Sort(sorted)
	for _, m := range sorted {
		above += float64(math.Float32frombits(m))
	}
	best, least := byte(0), math.Inf(1)
	at, below := 0, 0.0
	for c := range scales {
		for ; at < len(sorted) && sorted[at] <= splits[c]; at++ {
			m := float64(math.Float32frombits(sorted[at]))
			below, above = below+m, above-m
		}
		if e := squared(c, len(sorted), at, below, above); e < least {
			best, least = byte(c), e
		}
	}
	return best
}

// assign sets the codes for a scale. A chunk of only large values is written an octave higher as only small ones, so that
// every decoded chunk has one form.
func (p *picker) assign(sym symbols, scale byte) byte {
	limit := uint64(splits[scale])
	large := uint64(1)
	for j, i := range sym.idx {
		x := math.Float32bits(p.dense[i])
		over := (limit - uint64(x&^(1<<31))) >> 63
		large &= over
		sym.codes[j] = byte(over) | byte(x>>31)<<1
	}
	if large == 1 && int(scale)+octave < len(scales) {
		for j := range sym.codes {
			sym.codes[j] &^= 1
		}
		return scale + octave
	}
	return scale
}
