package mining

import (
	"slices"

	"sn3/chain"
)

// Constants of the pace: this miner's business, not protocol.
const (
	paceMemory = 4   // windows, steps and submissions that are remembered
	paceSpare  = 0.7 // share of the rest of a window that steps are planned into
)

// pace decides whether an inner step is made: never one that is expected to end too late for the window's submission, and in Gap
// Auto before θ_{w-1} is there only one for which the time between θ's arrival and the end of the window would not suffice: a step
// on the proxy is worth a little less than one on θ (LOG.md, 2026-11-26: 4 % with half of the steps). It counts in blocks, the
// only clock that the window's boundaries know: what it decides follows from the heights seen.
type pace struct {
	steps    []float64     // of the newest windows: blocks of an inner step with its wait for a core, mean of a window
	lasted   []chain.Block // of the newest steps, at most of two windows: blocks, without the wait for a core
	arrivals []chain.Block // of the newest windows: blocks from Start(w) until θ_{w-1} was there
	tails    []chain.Block // of the newest submissions that counted: blocks from the last step to the record
	guess    chain.Block   // of a tail, after a submission that came too late; 0 = none
	trial    bool          // the next step is begun in any case if it is the first of its window
	spent    chain.Block   // on steps of the newest window
	made     int           // steps of the newest window
}

// begin notes the start of a window.
func (p *pace) begin() {
	if p.made > 0 {
		p.lasted = p.lasted[len(p.lasted)-min(p.made, len(p.lasted)):]
		p.steps = remember(p.steps, float64(p.spent)/float64(p.made))
	}
	p.spent, p.made = 0, 0
}

// stepped notes how long an inner step took from the wait for a core on, and on the core.
func (p *pace) stepped(all, core chain.Block) {
	p.spent, p.made = p.spent+all, p.made+1
	if p.trial {
		p.trial, p.lasted = false, nil
	}
	p.lasted = remember(p.lasted, core)
}

// arrived notes how many blocks after the start of its window θ came.
func (p *pace) arrived(blocks chain.Block) { p.arrivals = remember(p.arrivals, blocks) }

// sent notes how many blocks a submission took that counted. More than the time to the deadline is believed only of who missed one
// before: a submission that is done early may wait for a bucket that is away, and none of the training would be lost with it.
func (p *pace) sent(blocks chain.Block, s chain.ScheduleParams) {
	p.tails, p.guess = remember(p.tails, min(blocks, max(s.Deadline, p.tail(s)))), 0
}

// missed notes that a submission came too late, whether by a slow upload or by a bucket that was away: the next gets twice the time,
// up to half a window. One that counts ends the guess.
func (p *pace) missed(s chain.ScheduleParams) {
	p.guess = min(2*p.tail(s), max(s.Deadline+s.Length/2, 1))
}

// retry is called when a window had no room for its first step: the next begins one whatever was measured, since nothing else would
// show that the machine or its way to the bucket has become faster.
func (p *pace) retry() { p.trial, p.tails, p.guess = true, nil, 0 }

// longest is what a step is feared to take, 0 while nothing is known. A height hides up to a block, hence the longest of some.
func (p *pace) longest() chain.Block {
	if len(p.lasted) == 0 {
		return 0
	}
	return slices.Max(p.lasted)
}

// shortest is what a step is hoped to take, 0 while nothing is known.
func (p *pace) shortest() chain.Block {
	if len(p.lasted) == 0 {
		return 0
	}
	return slices.Min(p.lasted)
}

// tail is what compression, upload and inclusion are expected to take; half of the time to the deadline while nothing is known.
func (p *pace) tail(s chain.ScheduleParams) chain.Block {
	if len(p.tails) == 0 {
		return max(p.guess, s.Deadline/2, 1)
	}
	return max(p.guess, slices.Max(p.tails), 1)
}

// fits says whether a step is begun at block now. With steps made that would be lost with it, it must be sure to end by latest, so as
// long as the longest it has a block to spare; the first of a window has nothing to lose, and is begun if the shortest would do.
func (p *pace) fits(now, latest chain.Block, made int) bool {
	if made == 0 {
		return p.trial || now+p.shortest() <= latest
	}
	return now+p.longest()+1 <= latest
}

func remember[T any](all []T, x T) []T {
	all = append(all, x)
	return all[max(0, len(all)-paceMemory):]
}

// expected is how many blocks after the start of a window θ is expected: the latest of the newest windows, or what the
// schedule allows while nothing is known.
func (p *pace) expected(schedule chain.Block) chain.Block {
	if len(p.arrivals) == 0 {
		return schedule
	}
	return slices.Max(p.arrivals)
}

// late says, for steps as slow as in the slowest of the newest windows, whether at block now, with θ expected at arrival, so
// little will be left of the window that ends at end that a step must be made at once for all of left to fit. A θ that is overdue
// is expected any moment.
func (p *pace) late(now, arrival, end chain.Block, left int) bool {
	if len(p.steps) == 0 {
		return false
	}
	from := max(now, arrival)
	if from >= end {
		return true
	}
	return float64(left)*slices.Max(p.steps) > paceSpare*float64(end-from)
}
