// Package yuma turns validators' weights into incentive, dividends and emission: Subtensor's epoch, bit for bit, with
// Yuma3 and liquid alpha off. Steps are numbered as in the reference vectors' README (golden/README.md, "yuma"). Pure
// integers: no float, no map order, no clock.
package yuma

import (
	"errors"
	"fmt"
	"math/big"
	"sort"
)

// Errors of Epoch.
var (
	// ErrUnsupported: Yuma3 is on. Liquid alpha belongs to it: without Yuma3 the flag changes nothing.
	ErrUnsupported = errors.New("yuma: Yuma3 and its liquid alpha are not supported")
	// ErrInput: vectors of different lengths or ids out of range.
	ErrInput = errors.New("yuma: invalid input")
)

// Entry is one sparse entry: a neuron and a u16 value.
type Entry struct{ UID, Value uint16 }

// Child hands a proportion/(2^64-1) of a parent's stakes to a child.
type Child struct {
	Parent, Child int
	Proportion    uint64
}

// Params are the subnet's hyperparameters; proportions are u16 of 65535.
type Params struct {
	Yuma3, LiquidAlpha bool
	Tempo              uint64
	Kappa              uint16
	BondsMovingAverage uint64 // millionths; alpha of the EMA is 1 minus it
	BondsPenalty       uint16
	ActivityCutoff     uint64
	MaxValidators      int
	StakeThreshold     uint64
	TaoWeight          uint64 // of 2^64-1
	Owner              int    // uid of the owner's hotkey; -1 if not registered
	Emission           uint64 // rao to hand out
}

// Input is the state of a subnet; all vectors have one entry per neuron.
type Input struct {
	Params
	Block                    uint64
	RegisteredAt, LastUpdate []uint64
	AlphaStake, TaoStake     []uint64 // rao, before children
	Children                 []Child
	Permit                   []bool // of the previous epoch; they count in this one
	Weights, Bonds           [][]Entry
}

// Output is what the epoch stores.
type Output struct {
	Active                                               []bool
	StakeWeight, Consensus, Incentive, Dividends, VTrust []uint16
	Permit                                               []bool
	Emission                                             []uint64 // rao; the sum is at most Input.Emission
	Bonds                                                [][]Entry
	Server, Validator                                    []uint64 // of Emission: for incentive, for dividends; together at most that
}

// cell is one entry of a sparse matrix row.
type cell struct {
	at int
	v  fixed
}

type matrix [][]cell

// epoch carries the intermediate vectors from step to step.
type epoch struct {
	in      Input
	n       int
	out     Output
	s, a    []fixed // stake, active stake
	w, clip matrix
	cons    []fixed
	inc     []fixed
	div     []fixed
	bonds   matrix // of this epoch, as stored
}

// Epoch runs one epoch.
func Epoch(in Input) (Output, error) {
	n := len(in.RegisteredAt)
	if in.Yuma3 {
		return Output{}, ErrUnsupported
	}
	for _, l := range []int{len(in.LastUpdate), len(in.AlphaStake), len(in.TaoStake), len(in.Permit), len(in.Weights), len(in.Bonds)} {
		if l != n {
			return Output{}, fmt.Errorf("%w: vectors of %d and %d neurons", ErrInput, n, l)
		}
	}
	for _, c := range in.Children {
		if c.Parent < 0 || c.Parent >= n || c.Child < 0 || c.Child >= n {
			return Output{}, fmt.Errorf("%w: child link %d -> %d of %d neurons", ErrInput, c.Parent, c.Child, n)
		}
	}
	e := &epoch{in: in, n: n}
	e.stake()
	e.activity()   // 1
	e.permits()    // 2
	e.active()     // 3
	e.weights()    // 4
	e.consensus()  // 5
	e.clipped()    // 6
	e.incentive()  // 7
	e.dividends()  // 8, 9, 10
	e.emission()   // 12
	e.storeBonds() // 13
	return e.out, nil
}

// stake computes S: stakes after children, α + τ·w, threshold, normalised in 64 fraction bits of which 32 are kept.
func (e *epoch) stake() {
	full := new(big.Int).SetUint64(^uint64(0))
	alpha, tao := shifted(e.in.AlphaStake), shifted(e.in.TaoStake)
	for _, c := range e.in.Children {
		share := new(big.Int).Lsh(new(big.Int).SetUint64(c.Proportion), 32)
		share.Div(share, full)
		for _, x := range []struct {
			all  []*big.Int
			from uint64
		}{{alpha, e.in.AlphaStake[c.Parent]}, {tao, e.in.TaoStake[c.Parent]}} {
			part := new(big.Int).Mul(share, new(big.Int).SetUint64(x.from))
			x.all[c.Parent].Sub(x.all[c.Parent], part)
			x.all[c.Child].Add(x.all[c.Child], part)
		}
	}
	weight := new(big.Int).Lsh(new(big.Int).SetUint64(e.in.TaoWeight), 32)
	weight.Div(weight, full)
	total := make([]*big.Int, e.n) // with 32 fraction bits
	all := new(big.Int)
	threshold := new(big.Int).SetUint64(e.in.StakeThreshold)
	for i := range total {
		a, t := floor(alpha[i]), floor(tao[i])
		total[i] = new(big.Int).Add(new(big.Int).Lsh(a, 32), t.Mul(t, weight))
		if new(big.Int).Rsh(total[i], 32).Cmp(threshold) < 0 {
			total[i].SetInt64(0)
		}
		all.Add(all, total[i])
	}
	e.s = make([]fixed, e.n)
	e.out.StakeWeight = make([]uint16, e.n)
	for i, t := range total {
		if all.Sign() > 0 {
			q := t.Lsh(t, 64)
			e.s[i] = fixed(q.Div(q, all).Rsh(q, 32).Int64())
		}
		e.out.StakeWeight[i] = e.s[i].proportion()
	}
}

// shifted are stakes with 32 fraction bits.
func shifted(v []uint64) []*big.Int {
	out := make([]*big.Int, len(v))
	for i, x := range v {
		out[i] = new(big.Int).Lsh(new(big.Int).SetUint64(x), 32)
	}
	return out
}

// floor drops 32 fraction bits; a negative amount is nothing.
func floor(x *big.Int) *big.Int {
	if x.Sign() < 0 {
		return new(big.Int)
	}
	return new(big.Int).Rsh(x, 32)
}

func (e *epoch) activity() {
	e.out.Active = make([]bool, e.n)
	for i, u := range e.in.LastUpdate {
		until := u + e.in.ActivityCutoff
		e.out.Active[i] = until < u || until >= e.in.Block // an overflowing sum is never reached
	}
}

func (e *epoch) permits() {
	order := make([]int, e.n)
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(i, j int) bool { return e.s[order[i]] < e.s[order[j]] })
	e.out.Permit = make([]bool, e.n)
	for rank, i := range order {
		e.out.Permit[i] = e.s[i] != 0 && rank >= e.n-e.in.MaxValidators
	}
}

func (e *epoch) active() {
	e.a = make([]fixed, e.n)
	for i := range e.a {
		if e.out.Active[i] && e.in.Permit[i] {
			e.a[i] = e.s[i]
		}
	}
	normalise(e.a)
}

func (e *epoch) weights() {
	e.w = make(matrix, e.n)
	for i, row := range e.in.Weights {
		if !e.in.Permit[i] {
			continue
		}
		var total fixed
		for _, x := range row {
			j := int(x.UID)
			if j >= e.n || j == i && i != e.in.Owner || e.in.LastUpdate[i] <= e.in.RegisteredAt[j] {
				continue
			}
			e.w[i] = append(e.w[i], cell{j, whole(uint64(x.Value))})
			total = total.add(whole(uint64(x.Value)))
		}
		for k := range e.w[i] {
			e.w[i][k].v = e.w[i][k].v.div(total)
		}
	}
}

func (e *epoch) consensus() {
	var stake []fixed
	var rows []int
	for i, a := range e.a {
		if a > 0 {
			stake, rows = append(stake, a), append(rows, i)
		}
	}
	normalise(stake)
	total := sum(stake)
	minority := total.sub(whole(uint64(e.in.Kappa)).div(whole(u16Full)))
	scores := make([][]fixed, e.n)
	for j := range scores {
		scores[j] = make([]fixed, len(rows))
	}
	all := make([]int, len(rows))
	for k, i := range rows {
		all[k] = k
		for _, c := range e.w[i] {
			scores[c.at][k] = c.v
		}
	}
	e.cons = make([]fixed, e.n)
	e.out.Consensus = make([]uint16, e.n)
	for j := range e.cons {
		e.cons[j] = median(stake, scores[j], all, minority, 0, total)
		e.out.Consensus[j] = e.cons[j].proportion()
	}
}

// median is the weighted median by partition: lo is the stake below this part, hi the stake up to its end.
func median(stake, score []fixed, part []int, minority, lo, hi fixed) fixed {
	for len(part) > 1 {
		pivot := score[part[len(part)/2]]
		var below, above []int
		var stakeLo, stakeHi fixed
		for _, k := range part {
			switch {
			case score[k] < pivot:
				below, stakeLo = append(below, k), stakeLo.add(stake[k])
			case score[k] > pivot:
				above, stakeHi = append(above, k), stakeHi.add(stake[k])
			}
		}
		switch {
		case lo.add(stakeLo) <= minority && minority < hi.sub(stakeHi):
			return pivot
		case minority < lo.add(stakeLo) && len(below) > 0:
			part, hi = below, lo.add(stakeLo)
		case hi.sub(stakeHi) <= minority && len(above) > 0:
			part, lo = above, hi.sub(stakeHi)
		default:
			return pivot
		}
	}
	if len(part) == 0 {
		return 0
	}
	return score[part[0]]
}

func (e *epoch) clipped() {
	e.clip = make(matrix, e.n)
	e.out.VTrust = make([]uint16, e.n)
	for i, row := range e.w {
		var trust fixed
		for _, c := range row {
			if c.v > e.cons[c.at] {
				if e.cons[c.at] == 0 {
					continue
				}
				c.v = e.cons[c.at]
			}
			e.clip[i] = append(e.clip[i], c)
			trust = trust.add(c.v)
		}
		e.out.VTrust[i] = trust.proportion()
	}
}

func (e *epoch) incentive() {
	e.inc = make([]fixed, e.n)
	for i, row := range e.clip {
		for _, c := range row {
			e.inc[c.at] = e.inc[c.at].add(e.a[i].mul(c.v))
		}
	}
	normalise(e.inc)
	e.out.Incentive = proportions(e.inc)
}

func proportions(v []fixed) []uint16 {
	out := make([]uint16, len(v))
	for i, x := range v {
		out[i] = x.proportion()
	}
	return out
}
