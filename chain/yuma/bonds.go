package yuma

import "math/bits"

// dividends makes bonds of this epoch and what they earn.
func (e *epoch) dividends() {
	forBonds := e.bondWeights()                  // 8
	stored := e.mature(e.storedBonds())          // 9
	delta := scaleRows(forBonds, e.a)            // 10
	normaliseColumns(stored, e.n)                // 10
	normaliseColumns(delta, e.n)                 // 10
	e.bonds = ema(delta, stored, e.alpha(), e.n) // 10
	normaliseColumns(e.bonds, e.n)
	e.div = make([]fixed, e.n)
	for i, row := range e.bonds {
		for _, c := range row {
			e.div[i] = e.div[i].add(c.v.mul(e.inc[c.at]))
		}
	}
	normalise(e.div)
	e.out.Dividends = proportions(e.div)
	upscaleColumns(e.bonds, e.n)
}

// alpha is 1 − BondsMovingAverage, a quotient of 32 fraction bits.
func (e *epoch) alpha() fixed {
	return max(0, one.sub(whole(e.in.BondsMovingAverage).div(whole(1_000_000))))
}

// bondWeights are the weights at penalty 0, the clipped ones at full penalty, else in between.
func (e *epoch) bondWeights() matrix {
	switch e.in.BondsPenalty {
	case 0:
		return copied(e.w)
	case u16Full:
		return copied(e.clip)
	}
	p := whole(uint64(e.in.BondsPenalty)).div(whole(u16Full))
	out := make(matrix, e.n)
	for i := range out {
		a, b := dense(e.w[i], e.n), dense(e.clip[i], e.n)
		for j := range a {
			if v := a[j].add(p.mul(b[j].sub(a[j]))); v > 0 {
				out[i] = append(out[i], cell{j, v})
			}
		}
	}
	return out
}

func copied(m matrix) matrix {
	out := make(matrix, len(m))
	for i, row := range m {
		out[i] = append([]cell(nil), row...)
	}
	return out
}

func dense(row []cell, n int) []fixed {
	out := make([]fixed, n)
	for _, c := range row {
		out[c.at] = c.v
	}
	return out
}

func (e *epoch) storedBonds() matrix {
	out := make(matrix, e.n)
	for i, row := range e.in.Bonds {
		for _, x := range row {
			if int(x.UID) < e.n {
				out[i] = append(out[i], cell{int(x.UID), whole(uint64(x.Value))})
			}
		}
	}
	return out
}

// mature drops the stored columns of neurons that registered within the last tempo.
func (e *epoch) mature(m matrix) matrix {
	since := e.in.Block - min(e.in.Tempo, e.in.Block)
	for i, row := range m {
		keep := row[:0]
		for _, c := range row {
			if since > e.in.RegisteredAt[c.at] {
				keep = append(keep, c)
			}
		}
		m[i] = keep
	}
	return m
}

func scaleRows(m matrix, by []fixed) matrix {
	for i, row := range m {
		for k := range row {
			row[k].v = row[k].v.mul(by[i])
		}
	}
	return m
}

func normaliseColumns(m matrix, n int) {
	total := make([]fixed, n)
	for _, row := range m {
		for _, c := range row {
			total[c.at] = total[c.at].add(c.v)
		}
	}
	for _, row := range m {
		for k, c := range row {
			if total[c.at] != 0 {
				row[k].v = c.v.div(total[c.at])
			}
		}
	}
}

func upscaleColumns(m matrix, n int) {
	top := make([]fixed, n)
	for _, row := range m {
		for _, c := range row {
			top[c.at] = max(top[c.at], c.v)
		}
	}
	for _, row := range m {
		for k, c := range row {
			if top[c.at] != 0 {
				row[k].v = c.v.div(top[c.at])
			}
		}
	}
}

// ema is a·delta + (1−a)·old; entries above 0, ascending.
func ema(delta, old matrix, a fixed, n int) matrix {
	rest := one.sub(a)
	out := make(matrix, len(delta))
	for i := range out {
		row := make([]fixed, n)
		for _, c := range delta[i] {
			row[c.at] = row[c.at].add(a.mul(c.v))
		}
		for _, c := range old[i] {
			row[c.at] = row[c.at].add(rest.mul(c.v))
		}
		for j, v := range row {
			if v > 0 {
				out[i] = append(out[i], cell{j, v})
			}
		}
	}
	return out
}

// emission hands out the amount by incentive + dividend; without either by active stake, then by stake, as dividends.
func (e *epoch) emission() {
	share, server, validator := make([]fixed, e.n), append([]fixed(nil), e.inc...), append([]fixed(nil), e.div...)
	for i := range share {
		share[i] = e.inc[i].add(e.div[i])
	}
	if total := sum(share); total == 0 {
		copy(share, e.a)
		if sum(share) == 0 {
			copy(share, e.s)
		}
		validator = share
	} else {
		for _, part := range [][]fixed{share, server, validator} {
			for i := range part {
				part[i] = part[i].div(total)
			}
		}
	}
	e.out.Emission, e.out.Server, e.out.Validator = e.amounts(share), e.amounts(server), e.amounts(validator)
}

// amounts are shares of what is handed out, rounded down.
func (e *epoch) amounts(share []fixed) []uint64 {
	out := make([]uint64, len(share))
	for i, s := range share {
		hi, lo := bits.Mul64(uint64(max(s, 0)), e.in.Emission)
		out[i] = hi<<32 | lo>>32
	}
	return out
}

// storeBonds replaces the rows with a new permit, clears the rows that lost theirs, and leaves the others.
func (e *epoch) storeBonds() {
	e.out.Bonds = make([][]Entry, e.n)
	for i := range e.out.Bonds {
		switch {
		case e.out.Permit[i]:
			for _, c := range e.bonds[i] {
				e.out.Bonds[i] = append(e.out.Bonds[i], Entry{uint16(c.at), c.v.proportion()})
			}
		case !e.in.Permit[i]:
			e.out.Bonds[i] = append([]Entry(nil), e.in.Bonds[i]...)
		}
	}
}
