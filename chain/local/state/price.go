package state

import (
	"math/bits"

	"sn3/chain"
)

// cost is what a registration costs: half of it is gone after burn_half_life blocks, and every registration raises it by
// 26 %, as on Subtensor.
type cost struct {
	Last chain.Amount // at block At
	At   chain.Block
}

// Price is what a registration costs in the block being executed, or else in the newest one.
func (s *State) Price() chain.Amount {
	c := s.meta.Cost
	return s.params.clamped(decayed(c.Last, uint64(s.meta.Height-c.At), uint64(s.params.BurnHalfLife)))
}

// raise makes the next registration dearer than one that cost price.
func (s *State) raise(price chain.Amount) {
	s.meta.Cost = cost{s.params.clamped(scaled(price, 63, 50)), s.meta.Height}
}

func (p Params) clamped(a chain.Amount) chain.Amount { return max(min(a, p.MaxBurn), p.MinBurn) }

// scaled is a·num/den, rounded down; the largest Amount where that is not enough.
func scaled(a chain.Amount, num, den uint64) chain.Amount {
	hi, lo := bits.Mul64(uint64(a), num)
	if hi >= den {
		return ^chain.Amount(0)
	}
	q, _ := bits.Div64(hi, lo, den)
	return chain.Amount(q)
}

// decayed is a·2^(-blocks/halfLife), rounded down. The fraction of the power is a product of entries of roots, in units of
// 2^-64 and rounded down each time. It is off by less than 2^-56 of itself, the result by at most one rao for every amount
// below 2^55 rao.
func decayed(a chain.Amount, blocks, halfLife uint64) chain.Amount {
	whole, rest := blocks/halfLife, blocks%halfLife
	exponent, _ := bits.Div64(rest, 0, halfLife) // the fraction, in units of 2^-64
	if exponent == 0 {
		return a >> whole
	}
	power := uint64(0)
	for _, root := range roots {
		switch {
		case exponent>>63 == 0:
		case power == 0: // the first factor
			power = root
		default:
			power, _ = bits.Mul64(power, root)
		}
		exponent <<= 1
	}
	out, _ := bits.Mul64(uint64(a), power)
	return chain.Amount(out) >> whole
}

// roots[i] is 2^-(2^-(i+1)) in units of 2^-64, rounded down.
var roots = [64]uint64{
	0xb504f333f9de6484, 0xd744fccad69d6af4, 0xeac0c6e7dd24392e, 0xf5257d152486cc2c,
	0xfa83b2db722a033a, 0xfd3e0c0cf486c174, 0xfe9e115c7b8f884b, 0xff4ecb59511ec8a5,
	0xffa756521c8daed1, 0xffd3a751c0f7e10b, 0xffe9d2b2f7db2755, 0xfff4e91bff1b8c3d,
	0xfffa747ea0040664, 0xfffd3a3b7814eb53, 0xfffe9d1cc60ddab1, 0xffff4e8e25879bfa,
	0xffffa7470363f451, 0xffffd3a37dda0313, 0xffffe9d1bdf703ae, 0xfffff4e8debe025e,
	0xfffffa746f4fa150, 0xfffffd3a37a3f8b0, 0xfffffe9d1bd1065a, 0xffffff4e8de845ad,
	0xffffffa746f41376, 0xffffffd3a37a05e3, 0xffffffe9d1bd01fb, 0xfffffff4e8de80c0,
	0xfffffffa746f4050, 0xfffffffd3a37a024, 0xfffffffe9d1bd011, 0xffffffff4e8de808,
	0xffffffffa746f404, 0xffffffffd3a37a02, 0xffffffffe9d1bd01, 0xfffffffff4e8de80,
	0xfffffffffa746f40, 0xfffffffffd3a37a0, 0xfffffffffe9d1bd0, 0xffffffffff4e8de8,
	0xffffffffffa746f4, 0xffffffffffd3a37a, 0xffffffffffe9d1bd, 0xfffffffffff4e8de,
	0xfffffffffffa746f, 0xfffffffffffd3a37, 0xfffffffffffe9d1b, 0xffffffffffff4e8d,
	0xffffffffffffa746, 0xffffffffffffd3a3, 0xffffffffffffe9d1, 0xfffffffffffff4e8,
	0xfffffffffffffa74, 0xfffffffffffffd3a, 0xfffffffffffffe9d, 0xffffffffffffff4e,
	0xffffffffffffffa7, 0xffffffffffffffd3, 0xffffffffffffffe9, 0xfffffffffffffff4,
	0xfffffffffffffffa, 0xfffffffffffffffd, 0xfffffffffffffffe, 0xffffffffffffffff,
}
