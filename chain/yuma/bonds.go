package yuma

// 8. weightsForBonds are the weights at penalty 0, the clipped ones at full penalty, else in between.
func (e *epoch) weightsForBonds() {
	switch e.in.BondsPenalty {
	case 0:
		e.forBonds = e.w
		return
	case u16Full:
		e.forBonds = e.clip
		return
	}
	p := proportionOf(e.in.BondsPenalty)
	e.forBonds = newMatrix(e.n, len(e.w.cells))
	for i := range e.n {
		row := ascending(e.w.row(i))
		for k, c := range row {
			if k+1 < len(row) && row[k+1].at == c.at {
				continue // the later of two counts
			}
			if v := c.v.add(p.mul(min(c.v, e.cons[c.at]).sub(c.v))); v > 0 {
				e.forBonds.put(c.at, v)
			}
		}
		e.forBonds.endRow()
	}
}

// 9. matured are the stored bonds, as whole numbers, without those on neurons that registered since.
func (e *epoch) matured() {
	e.old = newMatrix(e.n, sumLens(e.in.Bonds))
	for _, row := range e.in.Bonds {
		for _, x := range row {
			if int(x.UID) < e.n && e.mature(e.in.RegisteredAt[x.UID]) {
				e.old.put(int32(x.UID), whole(uint64(x.Value)))
			}
		}
		e.old.endRow()
	}
}

func sumLens(rows [][]Entry) (n int) {
	for _, row := range rows {
		n += len(row)
	}
	return n
}

// mature says whether bonds on a neuron of that registration count.
func (e *epoch) mature(registered uint64) bool {
	if e.in.Rules == Spec425 && e.in.LastEpoch != 0 {
		return e.in.LastEpoch >= registered // registered < LastEpoch + 1
	}
	return e.in.Block-min(e.in.Tempo, e.in.Block) > registered
}

// alpha is 1 − BondsMovingAverage; an average above one counts as one.
func (e *epoch) alpha() fixed {
	return max(0, one.sub(whole(e.in.BondsMovingAverage).div(whole(1_000_000))))
}

// 10. yuma2: bonds are a moving average of stake that backs a neuron; dividends are bonds times incentive.
func (e *epoch) yuma2() {
	e.old.normaliseColumns()
	delta := e.forBonds.clone()
	delta.scaleRows(e.a)
	delta.normaliseColumns()
	e.bonds = blend(e.alpha(), delta, e.old)
	e.bonds.normaliseColumns()
	e.dividends(e.bonds)
	e.bonds.upscaleColumns()
}

// 11. yuma3: bonds are a moving average of weights, each at its own pace with liquid alpha; stake comes in afterwards.
func (e *epoch) yuma3() {
	full := whole(u16Full)
	for k, c := range e.old.cells {
		e.old.cells[k].v = c.v.div(full)
	}
	if e.in.LiquidAlpha && sum(e.cons) != 0 {
		e.bonds = e.liquid()
	} else {
		e.bonds = blend(e.alpha(), e.forBonds, e.old)
	}
	shares := e.bonds.clone()
	shares.normaliseColumns()
	e.dividends(shares)
}

// dividends are each row times incentive; with Yuma3 also times the active stake.
func (e *epoch) dividends(bonds matrix) {
	e.div = make([]fixed, e.n)
	for i := range e.div {
		for _, c := range bonds.row(i) {
			e.div[i] = e.div[i].add(c.v.mul(e.inc[c.at]))
		}
		if e.in.Yuma3 {
			e.div[i] = e.div[i].mul(e.a[i])
		}
	}
	normalise(e.div)
	e.out.Dividends = proportions(e.div)
}

// liquid is the moving average in which every pair has its own alpha. Bonds survive only where the weights' row has an
// entry, be it zero.
func (e *epoch) liquid() matrix {
	s := e.sigmoid()
	out := newMatrix(e.n, len(e.forBonds.cells))
	weight, bond, stored := make([]fixed, e.n), make([]fixed, e.n), make([]fixed, e.n)
	for i := range e.n {
		row, old := e.forBonds.row(i), e.old.row(i)
		scan(row, weight)
		scan(old, bond)
		for _, c := range old {
			stored[c.at] = c.v
		}
		for _, c := range row {
			a := s.alpha(weight[c.at], bond[c.at], e.cons[c.at])
			if v := min(one, one.sub(a).mul(stored[c.at]).add(a.mul(c.v))); v > 0 {
				out.put(c.at, v)
			}
		}
		out.endRow()
		for _, c := range row {
			weight[c.at] = 0
		}
		for _, c := range old {
			bond[c.at], stored[c.at] = 0, 0
		}
	}
	return out
}

// scan fills in what one pass forward through a row finds when it looks for ascending uids: an entry that stands behind a
// larger uid is never seen, and of equal ones the first is.
func scan(row []cell, found []fixed) {
	next := int32(0)
	for _, c := range row {
		if c.at >= next {
			found[c.at], next = c.v, c.at+1
		}
	}
}

// sigmoid makes the liquid alpha of one pair.
type sigmoid struct{ low, high, span, slope fixed }

func (e *epoch) sigmoid() sigmoid {
	low, high := proportionOf(e.in.AlphaLow), proportionOf(e.in.AlphaHigh)
	return sigmoid{low, high, high.sub(low), fixed(int64(e.in.SigmoidSteepness) << 32).div(-100 * one)}
}

// alpha grows with how far a weight is above consensus, or below its bond.
func (s sigmoid) alpha(weight, bond, consensus fixed) fixed {
	d := bond.sub(weight)
	if weight >= bond {
		d = weight.sub(consensus)
	}
	d = max(0, min(one, d))
	y := one.div(one.add(exp(s.slope.mul(d.sub(one / 2)))))
	return max(s.low, min(s.high, s.low.add(y.mul(s.span))))
}
