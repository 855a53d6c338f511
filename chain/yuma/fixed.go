package yuma

import (
	"math"
	"math/bits"
)

// fixed is a 64-bit fixed-point number with 32 fraction bits (Rust's I32F32): products are rounded down, quotients towards
// zero, x/0 is 0, and results beyond the range saturate.
type fixed int64

const (
	one     fixed = 1 << 32
	u16Full       = 65535
)

func whole(n uint64) fixed {
	if n > math.MaxInt32 {
		return math.MaxInt64
	}
	return fixed(n) << 32
}

func (a fixed) add(b fixed) fixed {
	s := a + b
	if a > 0 && b > 0 && s < 0 {
		return math.MaxInt64
	}
	if a < 0 && b < 0 && s >= 0 {
		return math.MinInt64
	}
	return s
}

func (a fixed) sub(b fixed) fixed {
	if b == math.MinInt64 {
		return a.add(math.MaxInt64).add(1)
	}
	return a.add(-b)
}

func (a fixed) mul(b fixed) fixed {
	neg := (a < 0) != (b < 0)
	hi, lo := bits.Mul64(magnitude(a), magnitude(b))
	if hi >= 1<<31 {
		return saturated(neg)
	}
	q := hi<<32 | lo>>32
	if neg {
		if lo&math.MaxUint32 != 0 {
			q++ // rounding down, away from zero
		}
		return fixed(-int64(q))
	}
	return fixed(q)
}

func (a fixed) div(b fixed) fixed {
	if b == 0 {
		return 0
	}
	neg := (a < 0) != (b < 0)
	n, d := magnitude(a), magnitude(b)
	if n>>32 >= d { // the quotient needs more than 64 bits
		return saturated(neg)
	}
	q, _ := bits.Div64(n>>32, n<<32, d)
	if q > math.MaxInt64 {
		return saturated(neg)
	}
	if neg {
		return -fixed(q)
	}
	return fixed(q)
}

func magnitude(a fixed) uint64 {
	if a < 0 {
		return uint64(-a)
	}
	return uint64(a)
}

func saturated(neg bool) fixed {
	if neg {
		return math.MinInt64
	}
	return math.MaxInt64
}

// proportionOf is p/65535.
func proportionOf(p uint16) fixed { return whole(uint64(p)).div(whole(u16Full)) }

// round is the nearest whole number of one that is not negative, halves up.
func (a fixed) round() int64 { return int64(a.add(one/2) >> 32) }

// of is the part of an amount, rounded down; a share below zero is none.
func (a fixed) of(amount uint64) uint64 {
	hi, lo := bits.Mul64(uint64(max(a, 0)), amount)
	return hi<<32 | lo>>32
}

// proportion is a as a u16 of 65535 parts, rounded down.
func (a fixed) proportion() uint16 {
	switch {
	case a <= 0:
		return 0
	case a >= one:
		return u16Full
	}
	return uint16(uint64(a) * u16Full >> 32)
}

func proportions(v []fixed) []uint16 {
	out := make([]uint16, len(v))
	for i, x := range v {
		out[i] = x.proportion()
	}
	return out
}

func sum(v []fixed) fixed {
	var s fixed
	for _, x := range v {
		s = s.add(x)
	}
	return s
}

// normalise divides by the sum; a vector of zeros stays.
func normalise(v []fixed) {
	s := sum(v)
	for i := range v {
		if s != 0 {
			v[i] = v[i].div(s)
		}
	}
}

// euler is e as the reference has it.
const euler = 22802600 << 9

// exp is e^x by its series of 31 terms; below zero 1/e^-x; 0 where a product of the series leaves the range, which is from
// x = 20.8885 on: the sum is still in range there.
func exp(x fixed) fixed {
	switch x {
	case 0:
		return one
	case one:
		return euler
	}
	m := magnitude(x)
	sum, term := uint64(one)+m, m
	for i := uint64(2); i < 32 && term > 0; i++ {
		hi, lo := bits.Mul64(term, m)
		if hi >= 1<<31 {
			return 0
		}
		term = (hi<<32 | lo>>32) / i
		sum += term
	}
	if x < 0 {
		return one.div(fixed(sum))
	}
	return fixed(sum)
}
