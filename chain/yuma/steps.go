package yuma

import (
	"cmp"
	"slices"
)

// 1. activity: who updated its weights within the cut-off. A sum that overflows is never reached.
func (e *epoch) activity() {
	e.out.Active = make([]bool, e.n)
	for i, u := range e.in.LastUpdate {
		until := u + e.in.ActivityCutoff
		e.out.Active[i] = until < u || until >= e.in.Block
	}
}

// 2. permits of the next epoch: the largest stakes above zero; of equal ones the lower uids lose.
func (e *epoch) permits() {
	order := make([]int, e.n)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(e.s[i], e.s[j]) })
	losers := max(0, e.n-max(0, e.in.MaxValidators))
	e.out.Permit = make([]bool, e.n)
	for _, i := range order[losers:] {
		e.out.Permit[i] = e.s[i] != 0
	}
	for i := range e.out.Permit {
		e.out.Permit[i] = e.out.Permit[i] || e.spared(i)
	}
}

// 3. activeStake A: the stake of the active with a permit.
func (e *epoch) activeStake() {
	e.a = make([]fixed, e.n)
	for i := range e.a {
		if e.out.Active[i] && e.permitted(i) {
			e.a[i] = e.s[i]
		}
	}
	normalise(e.a)
}

// 4. weights W: rows of those with a permit, without what does not count, each divided by its sum.
func (e *epoch) weights() {
	e.w = newMatrix(e.n, e.entries(e.in.Weights))
	for i, row := range e.in.Weights {
		var total fixed
		if e.permitted(i) {
			for _, x := range row {
				if e.counts(i, int(x.UID)) {
					v := whole(uint64(x.Value))
					e.w.put(int32(x.UID), v)
					total = total.add(v)
				}
			}
		}
		e.w.endRow()
		own := e.w.row(i)
		for k, c := range own {
			own[k].v = c.v.div(total)
		}
	}
}

// entries counts the entries of the rows that are read.
func (e *epoch) entries(rows [][]Entry) (n int) {
	for i, row := range rows {
		if e.permitted(i) {
			n += len(row)
		}
	}
	return n
}

// counts says whether the weight of i on j is about j: not on itself (but the owner), nor older than j's registration.
func (e *epoch) counts(i, j int) bool {
	switch {
	case j >= e.n, j == i && i != e.in.Owner, e.in.LastUpdate[i] <= e.in.RegisteredAt[j]:
		return false
	case e.in.Rules == Spec425 && e.in.EarliestCommit != nil:
		return e.in.EarliestCommit[i] >= e.in.RegisteredAt[j]
	}
	return true
}

// vote is one validator's weight in a column.
type vote struct {
	row   int
	stake fixed
	value fixed
}

// 5. consensus C: per neuron the weighted median over the validators with active stake; a missing weight is a zero.
func (e *epoch) consensus() {
	e.cons = make([]fixed, e.n)
	stake := make([]fixed, e.n) // renormalised A
	copy(stake, e.a)
	normalise(stake)
	if total := sum(stake); total > 0 {
		minority := total.sub(whole(uint64(e.in.Kappa)).div(whole(u16Full)))
		minority = min(max(minority, 0), total-1) // below: the least weight; kappa 0: the greatest
		for j, votes := range e.columns(stake) {
			e.cons[j] = median(votes, total, minority)
		}
	}
	e.out.Consensus = proportions(e.cons)
}

// columns are the weights of the rows with stake, by neuron. Of two of one row in a column the later counts.
func (e *epoch) columns(stake []fixed) [][]vote {
	count := make([]int, e.n)
	for i, s := range stake {
		if s > 0 {
			for _, c := range e.w.row(i) {
				count[c.at]++
			}
		}
	}
	all := make([]vote, sumInts(count))
	out := make([][]vote, e.n)
	for j, k := range count {
		out[j], all = all[:0:k], all[k:]
	}
	for i, s := range stake {
		if s <= 0 {
			continue
		}
		for _, c := range e.w.row(i) {
			col := out[c.at]
			if k := len(col); k > 0 && col[k-1].row == i {
				col[k-1].value = c.v
				continue
			}
			out[c.at] = append(col, vote{i, s, c.v})
		}
	}
	return out
}

func sumInts(v []int) (n int) {
	for _, x := range v {
		n += x
	}
	return n
}

// median is the value below which there is at most the minority of the stake, and up to which there is more: found bit by
// bit from the highest. 0 <= minority < total; who has no vote here votes for zero. The votes are reordered.
func median(votes []vote, total, minority fixed) fixed {
	below := total // stake that is known to vote for less; first that of the zeros
	for _, v := range votes {
		below -= v.stake
	}
	if minority < below {
		return 0
	}
	for bit := one; bit > 0 && len(votes) > 1; bit >>= 1 {
		k := 0
		var stake fixed
		for x, v := range votes {
			if v.value&bit == 0 {
				votes[x], votes[k] = votes[k], v
				k++
				stake += v.stake
			}
		}
		if minority < below+stake {
			votes = votes[:k]
		} else {
			votes, below = votes[k:], below+stake
		}
	}
	return votes[0].value
}

// 6. clipped: weights are cut to consensus, and dropped where that is zero. What is left of a row is its author's trust.
func (e *epoch) clipped() {
	e.clip = newMatrix(e.n, len(e.w.cells))
	e.trust = make([]fixed, e.n)
	for i := range e.n {
		for _, c := range e.w.row(i) {
			if v := min(c.v, e.cons[c.at]); v > 0 || c.v == 0 {
				e.clip.put(c.at, v)
				e.trust[i] = e.trust[i].add(v)
			}
		}
		e.clip.endRow()
	}
	e.out.VTrust = proportions(e.trust)
}

// 7. incentive: what the active stake gives to each neuron, normalised.
func (e *epoch) incentive() {
	e.rank = e.clip.times(e.a)
	e.inc = slices.Clone(e.rank)
	normalise(e.inc)
	e.out.Incentive = proportions(e.inc)
}

// 12. emission hands out the amount by incentive + dividend; without either by active stake, then by stake.
func (e *epoch) emission() {
	miner, validator := slices.Clone(e.inc), slices.Clone(e.div)
	all := sum(miner).add(sum(validator))
	if all == 0 {
		copy(validator, e.a)
		if sum(validator) == 0 {
			copy(validator, e.s)
		}
		all = one // shares already
	}
	e.share = make([]fixed, e.n)
	e.out.Emission, e.out.Server, e.out.Validator = make([]uint64, e.n), make([]uint64, e.n), make([]uint64, e.n)
	for i := range e.share {
		e.share[i] = miner[i].add(validator[i]).div(all)
		e.out.Emission[i] = e.share[i].of(e.in.Emission)
		e.out.Server[i] = miner[i].div(all).of(e.in.Emission)
		e.out.Validator[i] = validator[i].div(all).of(e.in.Emission)
	}
}

// 13. storeBonds replaces the rows with a new permit, clears the rows that lost theirs, and leaves the others.
func (e *epoch) storeBonds() {
	e.out.Bonds = make([][]Entry, e.n)
	var all []Entry
	ends := make([]int, e.n)
	for i := range e.n {
		switch {
		case e.out.Permit[i]:
			for _, c := range e.bonds.row(i) {
				all = append(all, Entry{uint16(c.at), c.v.proportion()})
			}
		case !e.permitted(i):
			all = append(all, e.in.Bonds[i]...)
		}
		ends[i] = len(all)
	}
	start := 0
	for i, end := range ends {
		if start < end {
			e.out.Bonds[i] = all[start:end:end]
		}
		start = end
	}
}
