package yuma

import (
	"math"
	"math/big"
)

// What the runtime of 293 adds to each hotkey's stake after an epoch. It follows from Server and Validator, the stakes and the
// children; our own chain has neither root stake nor children and pays those amounts as they are.

// amount is the runtime's unsigned number of 96 whole and 32 fraction bits, in units of 2^-32; nothing here comes near 2^128.
type amount struct{ x *big.Int }

func rao(n uint64) amount { return amount{new(big.Int).Lsh(new(big.Int).SetUint64(n), 32)} }

func (a amount) add(b amount) amount { return amount{new(big.Int).Add(a.x, b.x)} }
func (a amount) floor() uint64       { return new(big.Int).Rsh(a.x, 32).Uint64() }

// sub ends at zero.
func (a amount) sub(b amount) amount {
	if a.x.Cmp(b.x) < 0 {
		return rao(0)
	}
	return amount{new(big.Int).Sub(a.x, b.x)}
}

func (a amount) times(b amount) amount {
	p := new(big.Int).Mul(a.x, b.x)
	return amount{p.Rsh(p, 32)}
}

// over is 0 for a divisor of 0.
func (a amount) over(b amount) amount {
	if b.x.Sign() == 0 {
		return rao(0)
	}
	q := new(big.Int).Lsh(a.x, 32)
	return amount{q.Quo(q, b.x)}
}

// payout is what each neuron's stake grows by.
func payout(e *epoch) []uint64 {
	in := e.in
	weight := rao(in.TaoWeight).over(rao(math.MaxUint64))
	paid := make([]uint64, e.n)

	// 1. Incentive as it is, but the owner's.
	pending := in.Emission
	for i, x := range e.out.Server {
		if x > 0 {
			pending = in.Emission / 2
		}
		if i != in.Owner {
			paid[i] = x
		}
	}

	// 2. Dividends are shared with parents; of what is left the part for root stake is paid elsewhere.
	part := shared(e, weight)
	all := rao(0)
	for i := range part {
		root := rao(in.TaoStake[i]).times(weight)
		part[i] = part[i].sub(part[i].times(root.over(root.add(rao(in.AlphaStake[i])))))
		all = all.add(part[i])
	}

	// 3. They are proportions of half of the emission, or of all without incentive. The default take comes first; both of its
	// sides are whole rao.
	take := rao(11796).over(rao(u16Full))
	for i := range part {
		x := rao(pending).times(part[i].over(all))
		own := take.times(x)
		paid[i] += own.floor() + x.sub(own).floor()
	}
	return paid
}

// shared are the dividends after each neuron's parents have theirs, in proportion to what they and the neuron contribute. No
// neuron of the vectors is both a parent and a child with dividends.
func shared(e *epoch, weight amount) []amount {
	in, part := e.in, make([]amount, e.n)
	for i := range part {
		part[i] = rao(0)
	}
	for i, dividend := range e.out.Validator {
		of := func(who int, proportion amount) amount {
			return rao(in.AlphaStake[who]).times(proportion).add(rao(in.TaoStake[who]).times(proportion).times(weight))
		}
		given := map[int]amount{}
		for _, c := range in.Children {
			if c.Child == i {
				given[c.Parent] = of(c.Parent, rao(c.Proportion).over(rao(math.MaxUint64)))
			}
		}
		total := of(i, rao(1))
		for _, x := range given {
			total = total.add(x)
		}
		left := rao(dividend)
		for parent, x := range given {
			theirs := rao(dividend).times(x.over(total))
			left = left.sub(theirs)
			part[parent] = part[parent].add(theirs)
		}
		part[i] = part[i].add(left)
	}
	return part
}
