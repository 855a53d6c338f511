package yuma

import (
	"math"
	"math/big"
)

// The twin is the epoch a second time, written from the reference's words for reading and not for speed: dense, every
// matrix n by n, the median by the partition that the words describe. It is generic over the numbers: slow are the
// reference's fixed-point numbers by unbounded integers, float is what a program without them would compute.

type number[T any] interface {
	~int64 | ~float64
	sums[T]
	products[T]
}

type sums[T any] interface {
	add(T) T
	sub(T) T
}

type products[T any] interface {
	mul(T) T
	div(T) T
}

// slow is a number of 32 fraction bits whose operations go through unbounded integers.
type slow int64

func (a slow) big() *big.Int { return big.NewInt(int64(a)) }
func clampSlow(x *big.Int) slow {
	if x.IsInt64() {
		return slow(x.Int64())
	}
	if x.Sign() < 0 {
		return math.MinInt64
	}
	return math.MaxInt64
}
func (a slow) add(b slow) slow { return clampSlow(new(big.Int).Add(a.big(), b.big())) }
func (a slow) sub(b slow) slow { return clampSlow(new(big.Int).Sub(a.big(), b.big())) }
func (a slow) mul(b slow) slow {
	p := new(big.Int).Mul(a.big(), b.big())
	return clampSlow(p.Rsh(p, 32)) // rounds down
}
func (a slow) div(b slow) slow {
	if b == 0 {
		return 0
	}
	return clampSlow(new(big.Int).Quo(new(big.Int).Lsh(a.big(), 32), b.big())) // towards zero
}

type float float64

func (a float) add(b float) float { return a + b }
func (a float) sub(b float) float { return a - b }
func (a float) mul(b float) float { return float(a * b) } // the conversion keeps it from being fused with a sum
func (a float) div(b float) float {
	if b == 0 {
		return 0
	}
	return a / b
}

// kit is what differs between the numbers beyond the four operations.
type kit[T number[T]] struct {
	whole     func(int64) T
	exp       func(T) T
	stake     func(Input) []T
	consensus func(Input) []T // nil: by its own numbers
	u16       func(T) uint16
	part      func(T, uint64) uint64
}

func slowKit() kit[slow] {
	return kit[slow]{
		whole: func(n int64) slow { return clampSlow(new(big.Int).Lsh(big.NewInt(n), 32)) },
		exp:   slowExp,
		stake: func(in Input) []slow {
			totals, all := stakeTotals(in)
			out := make([]slow, len(totals))
			for i, t := range totals {
				if all.Sign() > 0 {
					out[i] = slow(t.Quo(t.Lsh(t, 32), all).Int64())
				}
			}
			return out
		},
		u16: func(x slow) uint16 { return uint16(min(u16Full, max(0, x.mul(u16Full<<32)>>32))) },
		part: func(x slow, amount uint64) uint64 {
			p := new(big.Int).Mul(x.big(), new(big.Int).SetUint64(amount))
			return p.Rsh(p, 32).Uint64()
		},
	}
}

func floatKit() kit[float] {
	return kit[float]{
		whole: func(n int64) float { return float(n) },
		exp:   func(x float) float { return float(math.Exp(float64(x))) },
		stake: floatStake,
		u16:   func(x float) uint16 { return uint16(min(u16Full, max(0, math.Floor(float64(x)*u16Full)))) },
		part:  func(x float, amount uint64) uint64 { return uint64(float64(x) * float64(amount)) },
	}
}

// floatStake is α + τ·w after children and threshold, normalised.
func floatStake(in Input) []float {
	const full = float(math.MaxUint64)
	alpha, tao := make([]float, len(in.AlphaStake)), make([]float, len(in.TaoStake))
	for i := range alpha {
		alpha[i], tao[i] = float(in.AlphaStake[i]), float(in.TaoStake[i])
	}
	for _, c := range in.Children {
		p := float(c.Proportion) / full
		a, t := p.mul(float(in.AlphaStake[c.Parent])), p.mul(float(in.TaoStake[c.Parent]))
		alpha[c.Parent], alpha[c.Child] = alpha[c.Parent]-a, alpha[c.Child]+a
		tao[c.Parent], tao[c.Child] = tao[c.Parent]-t, tao[c.Child]+t
	}
	for i, t := range tao {
		alpha[i] += t.mul(float(in.TaoWeight) / full)
		if alpha[i] < float(in.StakeThreshold) && (in.Rules == Spec293 || i != in.Owner) {
			alpha[i] = 0
		}
	}
	return normalised(alpha)
}

func slowExp(x slow) slow {
	const one = slow(1) << 32
	if x == 0 {
		return one
	}
	if x == one {
		return slow(22802600) << 9
	}
	m := new(big.Int).Abs(x.big())
	total, term := new(big.Int).Add(big.NewInt(int64(one)), m), new(big.Int).Set(m)
	for i := int64(2); i <= 31; i++ {
		term.Rsh(term.Mul(term, m), 32)
		if !term.IsInt64() {
			return 0
		}
		term.Quo(term, big.NewInt(i))
		total.Add(total, term)
	}
	if !total.IsInt64() {
		return 0
	}
	if x > 0 {
		return slow(total.Int64())
	}
	return one.div(slow(total.Int64()))
}

// stakeTotals are α + τ·w after children and threshold, in 2^-32 rao, and their sum.
func stakeTotals(in Input) (totals []*big.Int, all *big.Int) {
	full := new(big.Int).SetUint64(math.MaxUint64)
	part := func(p uint64) *big.Int {
		x := new(big.Int).Lsh(new(big.Int).SetUint64(p), 32)
		return x.Quo(x, full)
	}
	inherit := func(stake []uint64) []*big.Int {
		out := make([]*big.Int, len(stake))
		for i, x := range stake {
			given, got := new(big.Int), new(big.Int)
			for _, c := range in.Children {
				p := new(big.Int).Mul(part(c.Proportion), new(big.Int).SetUint64(stake[c.Parent]))
				if c.Parent == i {
					given.Add(given, p)
				}
				if c.Child == i {
					got.Add(got, p)
				}
			}
			v := new(big.Int).Sub(new(big.Int).Lsh(new(big.Int).SetUint64(x), 32), given)
			if v.Sign() < 0 {
				v.SetInt64(0)
			}
			v.Rsh(v.Add(v, got), 32)
			if !v.IsInt64() {
				v.SetInt64(math.MaxInt64)
			}
			out[i] = v
		}
		return out
	}
	alpha, tao := inherit(in.AlphaStake), inherit(in.TaoStake)
	top := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 95), big.NewInt(1))
	all = new(big.Int)
	for i := range alpha {
		t := new(big.Int).Add(new(big.Int).Lsh(alpha[i], 32), new(big.Int).Mul(tao[i], part(in.TaoWeight)))
		if t.Cmp(top) > 0 {
			t.Set(top)
		}
		owner := in.Rules == Spec425 && i == in.Owner
		if new(big.Int).Rsh(t, 32).Cmp(new(big.Int).SetUint64(in.StakeThreshold)) < 0 && !owner {
			t.SetInt64(0)
		}
		totals, all = append(totals, t), all.Add(all, t)
	}
	return totals, all
}
