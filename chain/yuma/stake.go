package yuma

import (
	"math"
	"math/bits"
)

// wide is an unsigned 128-bit number; here always an amount with 32 fraction bits.
type wide struct{ hi, lo uint64 }

// maxTotal is the largest amount that the reference can hold (I64F64).
var maxTotal = wide{1<<31 - 1, math.MaxUint64}

func product(a, b uint64) wide {
	hi, lo := bits.Mul64(a, b)
	return wide{hi, lo}
}

func (a wide) less(b wide) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

// add saturates.
func (a wide) add(b wide) wide {
	lo, c := bits.Add64(a.lo, b.lo, 0)
	hi, c := bits.Add64(a.hi, b.hi, c)
	if c != 0 {
		return wide{math.MaxUint64, math.MaxUint64}
	}
	return wide{hi, lo}
}

// sub ends at zero.
func (a wide) sub(b wide) wide {
	if a.less(b) {
		return wide{}
	}
	lo, c := bits.Sub64(a.lo, b.lo, 0)
	hi, _ := bits.Sub64(a.hi, b.hi, c)
	return wide{hi, lo}
}

// floor is the whole part, at most 2^64-1.
func (a wide) floor() uint64 {
	if a.hi>>32 != 0 {
		return math.MaxUint64
	}
	return a.hi<<32 | a.lo>>32
}

// over is a/b with 32 fraction bits, by long division; a <= b, b > 0, and b is below 2^127.
func (a wide) over(b wide) fixed {
	var q fixed
	for range 33 {
		q <<= 1
		if !a.less(b) {
			a, q = a.sub(b), q|1
		}
		a = wide{a.hi<<1 | a.lo>>63, a.lo << 1}
	}
	return q
}

// shareOf is p/(2^64-1) with 32 fraction bits, rounded down.
func shareOf(p uint64) uint64 {
	q, _ := bits.Div64(p>>32, p<<32, math.MaxUint64)
	return q
}

// stake computes S: stakes after children, α + τ·w, threshold, normalised in 64 fraction bits of which 32 are kept.
func (e *epoch) stake() {
	alpha, tao := inherited(e.in.AlphaStake, e.in.Children), inherited(e.in.TaoStake, e.in.Children)
	weight := shareOf(e.in.TaoWeight)
	total := make([]wide, e.n)
	var all wide // at most 2^16 totals below 2^95
	for i := range total {
		t := product(min(alpha[i], math.MaxInt64), 1<<32).add(product(min(tao[i], math.MaxInt64), weight))
		if maxTotal.less(t) {
			t = maxTotal
		}
		if t.floor() < e.in.StakeThreshold && !e.spared(i) {
			t = wide{}
		}
		total[i], all = t, all.add(t)
	}
	e.s = make([]fixed, e.n)
	if all != (wide{}) {
		for i, t := range total {
			e.s[i] = t.over(all)
		}
	}
	e.out.StakeWeight = proportions(e.s)
}

// inherited are whole stakes less what goes to children, plus what comes from parents.
func inherited(stake []uint64, links []Child) []uint64 {
	if len(links) == 0 {
		return stake
	}
	given, got := make([]wide, len(stake)), make([]wide, len(stake))
	for _, c := range links {
		part := product(shareOf(c.Proportion), stake[c.Parent])
		given[c.Parent] = given[c.Parent].add(part)
		got[c.Child] = got[c.Child].add(part)
	}
	out := make([]uint64, len(stake))
	for i, x := range stake {
		out[i] = product(x, 1<<32).sub(given[i]).add(got[i]).floor()
	}
	return out
}
