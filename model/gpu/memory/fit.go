package memory

import (
	"fmt"
	"slices"
	"strings"
)

// TooLarge: a request does not fit into the memory that the engine may take of a card.
type TooLarge struct {
	Request Request
	Need    int64    // of each card
	Have    int64    // of each card, what is allowed of it
	Change  *Request // the smallest change that fits; nil if none does
}

// Error implements error. It says what to change.
func (e *TooLarge) Error() string {
	return fmt.Sprintf("each card needs %.1f GB, %.1f GB may be taken: %s", float64(e.Need)/1e9, float64(e.Have)/1e9, e.Advice())
}

// Advice says what to change.
func (e *TooLarge) Advice() string {
	if e.Change == nil {
		return fmt.Sprintf("no setting makes it fit, not even on %d such cards: train a smaller model", max(advisedRanks, e.Request.Ranks))
	}
	return "it fits with " + difference(e.Request, *e.Change)
}

// Check refuses with *TooLarge a request that takes more than have bytes of each card. The change that it names is the first that
// fits in the order of what it costs: a smaller micro-batch (some speed), recomputation (5 to 30 % of the time), another plan (precision
// of the moments, then the host's time), more cards.
func (r Request) Check(have int64) error {
	need := r.size()
	if need <= have {
		return nil
	}
	e := &TooLarge{Request: r, Need: need, Have: have}
	for _, c := range r.changes() {
		if c.MicroBatch = 1; c.size() > have {
			continue
		}
		c.MicroBatch = c.largest(have, r.MicroBatch)
		e.Change = &c
		break
	}
	return e
}

// advisedRanks is the most cards that are advised: what one machine holds.
const advisedRanks = 16

// changes lists what may be tried instead, cheapest first, each with any micro-batch.
func (r Request) changes() (out []Request) {
	plans, recomputes := []Plan{r.Plan}, []Recompute{r.Recompute}
	if !r.Judge {
		plans = Plans()[slices.Index(Plans(), r.Plan):]
		recomputes = Recomputes()[slices.Index(Recomputes(), r.Recompute):]
	}
	for n := r.Ranks; n == r.Ranks || n <= advisedRanks; n *= 2 {
		for _, p := range plans {
			for _, again := range recomputes {
				c := r
				c.Ranks, c.Plan, c.Recompute = n, p, again
				out = append(out, c)
			}
		}
	}
	return out
}

// largest is the first of halves(most) that fits as a micro-batch; 0 if none does.
func (r Request) largest(have int64, most int) int {
	for _, r.MicroBatch = range halves(most) {
		if r.size() <= have {
			return r.MicroBatch
		}
	}
	return 0
}

// halves are n and the powers of two below it, descending.
func halves(n int) []int {
	out := []int{n}
	p := 1
	for p*2 < n {
		p *= 2
	}
	for ; p >= 1 && p < n; p /= 2 {
		out = append(out, p)
	}
	return out
}

// difference names the flags that make b of a.
func difference(a, b Request) string {
	var out []string
	if a.MicroBatch != b.MicroBatch {
		out = append(out, fmt.Sprintf("--micro-batch %d", b.MicroBatch))
	}
	if a.Recompute != b.Recompute {
		out = append(out, fmt.Sprintf("--recompute %s", b.Recompute))
	}
	if a.Plan != b.Plan {
		out = append(out, fmt.Sprintf("--gpu-plan %s", b.Plan))
	}
	if a.Ranks != b.Ranks {
		out = append(out, fmt.Sprintf("%d such cards", b.Ranks))
	}
	return strings.Join(out, " and ")
}

// Choose fills in what a request leaves open, "" or 0: the first plan, and the least recomputation, with the largest micro-batch
// among most and the powers of two below it with which it fits. Exactness comes before speed: classic with everything recomputed before lean. If nothing fits it is
// the smallest there is, and ok is false.
func (r Request) Choose(have int64, most int) (_ Request, ok bool) {
	plans, recomputes, micro := Plans(), Recomputes(), r.MicroBatch
	if r.Plan != "" {
		plans = []Plan{r.Plan}
	}
	if r.Recompute != "" {
		recomputes = []Recompute{r.Recompute}
	}
	if r.Judge {
		plans, recomputes = plans[:1], recomputes[:1]
	}
	for _, r.Plan = range plans {
		for _, r.Recompute = range recomputes {
			if r.MicroBatch = max(1, micro); r.size() > have {
				continue
			}
			if micro == 0 {
				r.MicroBatch = r.largest(have, max(1, most))
			}
			return r, true
		}
	}
	r.MicroBatch = max(1, micro)
	return r, false
}

// FullCard is how many tokens at once fill a card: a larger micro-batch is not chosen, only taken.
const FullCard = 16384
