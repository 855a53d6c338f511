package yuma

import (
	"cmp"
	"math"
	"slices"
)

// square is a dense matrix that knows which entries are there (a zero can be), and in which order rows list them.
type square[T number[T]] struct {
	v     [][]T
	has   [][]bool
	order [][]int
}

func newSquare[T number[T]](n int) square[T] {
	m := square[T]{make([][]T, n), make([][]bool, n), make([][]int, n)}
	for i := range n {
		m.v[i], m.has[i] = make([]T, n), make([]bool, n)
	}
	return m
}

func (m *square[T]) put(i, j int, v T) {
	m.v[i][j], m.has[i][j] = v, true
	m.order[i] = append(m.order[i], j)
}

// found is what a search forward through row i for ascending uids sees at j: the first entry not before j, if it is j's.
func (m *square[T]) found(i, j int) T {
	for _, k := range m.order[i] {
		if k >= j {
			if k == j {
				return m.v[i][j]
			}
			break
		}
	}
	return 0
}

func (m *square[T]) byColumnSum() {
	for j := range m.v {
		var s T
		for i := range m.v {
			s = s.add(m.v[i][j])
		}
		for i := range m.v {
			if s != 0 {
				m.v[i][j] = m.v[i][j].div(s)
			}
		}
	}
}

func normalised[T number[T]](v []T) []T {
	var s T
	for _, x := range v {
		s = s.add(x)
	}
	out := slices.Clone(v)
	for i := range out {
		if s != 0 {
			out[i] = out[i].div(s)
		}
	}
	return out
}

// twinEpoch is an epoch of the twin in progress; old are the permits that count.
type twinEpoch[T number[T]] struct {
	kit[T]
	in          Input
	n           int
	out         Output
	full, unit  T
	old         []bool
	s, a        []T
	cons, inc   []T
	div         []T
	w, clip, wb square[T]
	b, ema      square[T]
}

// twin runs one epoch.
func twin[T number[T]](in Input, k kit[T]) Output {
	n := len(in.RegisteredAt)
	e := &twinEpoch[T]{kit: k, in: in, n: n, full: k.whole(u16Full), unit: k.whole(1), ema: newSquare[T](n)}
	e.who()
	e.weights()
	if e.cons = make([]T, n); k.consensus != nil {
		e.cons = k.consensus(in)
	} else {
		e.medians()
	}
	e.out.Consensus = e.toU16(e.cons)
	e.clipping()
	e.bondWeights()
	e.masked()
	if in.Yuma3 {
		e.yuma3()
	} else {
		e.yuma2()
	}
	e.pay()
	e.store()
	return e.out
}

func (e *twinEpoch[T]) toU16(v []T) (u []uint16) {
	for _, x := range v {
		u = append(u, e.u16(x))
	}
	return u
}

func (e *twinEpoch[T]) owner(i int) bool { return e.in.Rules == Spec425 && i == e.in.Owner }

// who are steps 1 to 3.
func (e *twinEpoch[T]) who() {
	in := e.in
	e.s = e.stake(in)
	e.out.StakeWeight = e.toU16(e.s)
	ids := make([]int, e.n)
	e.old, e.a = make([]bool, e.n), make([]T, e.n)
	e.out.Active, e.out.Permit = make([]bool, e.n), make([]bool, e.n)
	for i := range e.n {
		ids[i], e.old[i] = i, in.Permit[i] || e.owner(i)
		e.out.Active[i] = in.LastUpdate[i] > math.MaxUint64-in.ActivityCutoff || in.LastUpdate[i]+in.ActivityCutoff >= in.Block
		if e.out.Active[i] && e.old[i] {
			e.a[i] = e.s[i]
		}
	}
	e.a = normalised(e.a)
	slices.SortStableFunc(ids, func(i, j int) int { return cmp.Compare(e.s[i], e.s[j]) })
	for rank, i := range ids {
		e.out.Permit[i] = e.owner(i) || e.s[i] != 0 && (e.n < in.MaxValidators || rank >= e.n-in.MaxValidators)
	}
}

// weights is step 4.
func (e *twinEpoch[T]) weights() {
	in := e.in
	e.w = newSquare[T](e.n)
	for i := range e.n {
		for _, x := range in.Weights[i] {
			j := int(x.UID)
			if !e.old[i] || j >= e.n || i == j && i != in.Owner || in.LastUpdate[i] <= in.RegisteredAt[j] {
				continue
			}
			if in.Rules == Spec425 && in.EarliestCommit != nil && in.EarliestCommit[i] < in.RegisteredAt[j] {
				continue
			}
			e.w.put(i, j, e.whole(int64(x.Value)))
		}
		e.w.v[i] = normalised(e.w.v[i])
	}
}

// medians is step 5.
func (e *twinEpoch[T]) medians() {
	var stake []T
	var rows []int
	for i := range e.n {
		if e.a[i] > 0 {
			stake, rows = append(stake, e.a[i]), append(rows, i)
		}
	}
	stake = normalised(stake)
	var total T
	for _, x := range stake {
		total = total.add(x)
	}
	for j := range e.n {
		score, part := make([]T, len(rows)), make([]int, len(rows))
		for x, i := range rows {
			score[x], part[x] = e.w.v[i][j], x
		}
		if len(part) > 0 {
			e.cons[j] = partition(stake, score, part, total.sub(e.whole(int64(e.in.Kappa)).div(e.full)), 0, total)
		}
	}
}

// clipping are steps 6 and 7.
func (e *twinEpoch[T]) clipping() {
	e.clip = newSquare[T](e.n)
	trust, rank := make([]T, e.n), make([]T, e.n)
	for i := range e.n {
		for _, j := range e.w.order[i] {
			if v := e.w.v[i][j]; v <= e.cons[j] {
				e.clip.put(i, j, v)
			} else if e.cons[j] != 0 {
				e.clip.put(i, j, e.cons[j])
			}
			trust[i] = trust[i].add(e.clip.v[i][j])
			rank[j] = rank[j].add(e.a[i].mul(e.clip.v[i][j]))
		}
	}
	e.inc = normalised(rank)
	e.out.VTrust, e.out.Incentive = e.toU16(trust), e.toU16(e.inc)
}

// bondWeights is step 8.
func (e *twinEpoch[T]) bondWeights() {
	switch e.in.BondsPenalty {
	case 0:
		e.wb = e.w
		return
	case u16Full:
		e.wb = e.clip
		return
	}
	e.wb = newSquare[T](e.n)
	p := e.whole(int64(e.in.BondsPenalty)).div(e.full)
	for i := range e.n {
		for j := range e.n {
			w := e.w.v[i][j]
			if v := w.add(p.mul(e.clip.v[i][j].sub(w))); v > 0 {
				e.wb.put(i, j, v)
			}
		}
	}
}

// masked is step 9.
func (e *twinEpoch[T]) masked() {
	in := e.in
	e.b = newSquare[T](e.n)
	for i := range e.n {
		for _, x := range in.Bonds[i] {
			j := int(x.UID)
			if j >= e.n {
				continue
			}
			late := in.Block-min(in.Block, in.Tempo) <= in.RegisteredAt[j]
			if in.Rules == Spec425 && in.LastEpoch > 0 {
				late = in.LastEpoch < in.RegisteredAt[j]
			}
			if !late {
				e.b.put(i, j, e.whole(int64(x.Value)))
			}
		}
	}
}

// average is a·x + (1−a)·y where it is above 0, a = 1 − BondsMovingAverage.
func (e *twinEpoch[T]) average(x, y square[T]) {
	moving := e.whole(int64(min(e.in.BondsMovingAverage, math.MaxInt32))).div(e.whole(1_000_000))
	a := max(0, e.unit.sub(moving))
	for i := range e.n {
		for j := range e.n {
			if v := a.mul(x.v[i][j]).add(e.unit.sub(a).mul(y.v[i][j])); v > 0 {
				e.ema.put(i, j, v)
			}
		}
	}
}

// earn is what bonds give of incentive.
func (e *twinEpoch[T]) earn(bonds square[T]) {
	e.div = make([]T, e.n)
	for i := range e.n {
		for j := range e.n {
			e.div[i] = e.div[i].add(bonds.v[i][j].mul(e.inc[j]))
		}
	}
}

// yuma2 is step 10.
func (e *twinEpoch[T]) yuma2() {
	e.b.byColumnSum()
	delta := newSquare[T](e.n)
	for i := range e.n {
		for j := range e.n {
			delta.v[i][j] = e.wb.v[i][j].mul(e.a[i])
		}
	}
	delta.byColumnSum()
	e.average(delta, e.b)
	e.ema.byColumnSum()
	e.earn(e.ema)
	for j := range e.n {
		var top T
		for i := range e.n {
			top = max(top, e.ema.v[i][j])
		}
		for i := range e.n {
			e.ema.v[i][j] = e.ema.v[i][j].div(top)
		}
	}
}

// yuma3 is step 11.
func (e *twinEpoch[T]) yuma3() {
	for i := range e.n {
		for j := range e.n {
			e.b.v[i][j] = e.b.v[i][j].div(e.full)
		}
	}
	if e.in.LiquidAlpha && slices.ContainsFunc(e.cons, func(c T) bool { return c != 0 }) {
		for i := range e.n {
			for _, j := range e.wb.order[i] {
				x := e.liquid(e.wb.found(i, j), e.b.found(i, j), e.cons[j])
				if v := min(e.unit, e.unit.sub(x).mul(e.b.v[i][j]).add(x.mul(e.wb.v[i][j]))); v > 0 {
					e.ema.put(i, j, v)
				}
			}
		}
	} else {
		e.average(e.wb, e.b)
	}
	shares := newSquare[T](e.n)
	for i := range e.n {
		copy(shares.v[i], e.ema.v[i])
	}
	shares.byColumnSum()
	e.earn(shares)
	for i := range e.n {
		e.div[i] = e.div[i].mul(e.a[i])
	}
}

func (e *twinEpoch[T]) liquid(w, b, c T) T {
	low, high := e.whole(int64(e.in.AlphaLow)).div(e.full), e.whole(int64(e.in.AlphaHigh)).div(e.full)
	d := b.sub(w)
	if w >= b {
		d = w.sub(c)
	}
	d = max(0, min(e.unit, d))
	x := e.whole(int64(e.in.SigmoidSteepness)).div(e.whole(-100)).mul(d.sub(e.unit.div(e.whole(2))))
	sigma := e.unit.div(e.unit.add(e.exp(x)))
	return max(low, min(high, low.add(sigma.mul(high.sub(low)))))
}

// pay is step 12.
func (e *twinEpoch[T]) pay() {
	e.div = normalised(e.div)
	e.out.Dividends = e.toU16(e.div)
	var all, active T
	for i := range e.n {
		all, active = all.add(e.inc[i]).add(e.div[i]), active.add(e.a[i])
	}
	for i := range e.n {
		miner, validator, both := e.inc[i].div(all), e.div[i].div(all), e.inc[i].add(e.div[i]).div(all)
		if all == 0 {
			if validator = e.a[i]; active == 0 {
				validator = e.s[i]
			}
			both = validator
		}
		e.out.Emission = append(e.out.Emission, e.part(both, e.in.Emission))
		e.out.Server = append(e.out.Server, e.part(miner, e.in.Emission))
		e.out.Validator = append(e.out.Validator, e.part(validator, e.in.Emission))
	}
}

// store is step 13.
func (e *twinEpoch[T]) store() {
	e.out.Bonds = make([][]Entry, e.n)
	for i := range e.n {
		if e.out.Permit[i] {
			for _, j := range e.ema.order[i] {
				e.out.Bonds[i] = append(e.out.Bonds[i], Entry{uint16(j), e.u16(e.ema.v[i][j])})
			}
		} else if !e.old[i] {
			e.out.Bonds[i] = append(e.out.Bonds[i], e.in.Bonds[i]...)
		}
	}
}

// partition is the weighted median as the reference finds it.
func partition[T number[T]](stake, score []T, part []int, minority, lo, hi T) T {
	if len(part) == 1 {
		return score[part[0]]
	}
	pivot := score[part[len(part)/2]]
	var left, right []int
	var l, r T
	for _, x := range part {
		switch {
		case score[x] < pivot:
			left, l = append(left, x), l.add(stake[x])
		case score[x] > pivot:
			right, r = append(right, x), r.add(stake[x])
		}
	}
	switch {
	case lo.add(l) <= minority && minority < hi.sub(r):
	case minority < lo.add(l) && len(left) > 0:
		return partition(stake, score, left, minority, lo, lo.add(l))
	case hi.sub(r) <= minority && len(right) > 0:
		return partition(stake, score, right, minority, hi.sub(r), hi)
	}
	return pivot
}
