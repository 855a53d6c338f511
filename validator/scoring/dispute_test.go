package scoring_test

import (
	"strings"
	"testing"

	"sn3/chain"
	"sn3/internal/events"
	"sn3/internal/simnet"
)

// While a validator's chain nodes disagree it signs neither votes nor weights, follows and judges every window, and votes and
// weighs again by itself when they agree; the network goes on by the others' votes.
func TestDisputeStopsVotesOnly(t *testing.T) {
	const from, until, last = 2, 5, 9
	for _, fails := range []bool{false, true} {
		d := &simnet.Dispute{Fails: fails}
		n := simnet.New(t, simnet.Options{Validators: []chain.Amount{300, 200}, Miners: 2})
		n.StartValidator(simnet.ValidatorName(1), simnet.NodeOptions{})
		v := n.StartValidator(simnet.ValidatorName(2), simnet.NodeOptions{Dispute: d})
		for i := range 2 {
			n.StartMiner(simnet.MinerName(i+1), simnet.NodeOptions{})
		}
		n.To(from - 1)
		d.Open.Store(true)
		signed, judged := d.Signed.Load(), len(v.Events(events.Eval))
		n.To(until)
		if ended, why := v.Ended(); ended || d.Signed.Load() != signed {
			t.Fatalf("ended %v (%v), %d signatures", ended, why, d.Signed.Load()-signed)
		}
		if got := len(v.Events(events.Eval)) - judged; got < until-from {
			t.Errorf("%d windows were judged in a dispute of %d", got, until-from+1)
		}
		d.Open.Store(false)
		n.To(last)
		applied, voted, weighed := 0, map[chain.Window]bool{}, 0
		for _, e := range v.Events(events.Applied) {
			if applied++; e.Window > 0 && len(e.Winners) == 0 {
				t.Errorf("window %d: nobody was selected", e.Window)
			}
		}
		for _, e := range v.Events(events.Scored) {
			voted[e.Window] = true
		}
		for _, e := range v.Events(events.Weights) {
			if e.Window > until {
				weighed++
			}
		}
		if applied != last+1 || weighed == 0 {
			t.Errorf("%d windows applied, weights set %d times after the dispute", applied, weighed)
		}
		for w := chain.Window(0); w <= last-1; w++ {
			if voted[w] != (w < from || w > until) && w != until && w != from { // whose vote was open when it began or ended may have gone out
				t.Errorf("window %d: voted %v", w, voted[w])
			}
		}
		for _, e := range v.Events(events.Skipped) {
			if !strings.Contains(e.Reason, chain.ErrDisputed.Error()) {
				t.Errorf("window %d: %s", e.Window, e.Reason)
			}
		}
		if len(v.Events(events.Skipped)) > until-from+2 {
			t.Errorf("told %d times", len(v.Events(events.Skipped)))
		}
	}
}
