package mining_test

import (
	"strings"
	"testing"

	"sn3/chain"
	"sn3/internal/events"
	"sn3/internal/simnet"
	"sn3/miner/mining"
)

// uploaded is how many payloads lie in a node's bucket.
func uploaded(t *testing.T, n *simnet.Net, x *simnet.Node) int {
	t.Helper()
	list, err := n.Mem.Driver(x.Name, false).List(t.Context(), "payload/", "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// While a miner's chain nodes disagree it signs nothing, and goes on training and uploading in every window; when they agree it
// is selected again by itself, in the next window that it can still submit.
func TestDisputeStopsNoTraining(t *testing.T) {
	const from, until, last = 2, 5, 8
	for _, gap := range mining.Gaps() {
		for _, fails := range []bool{false, true} {
			d := &simnet.Dispute{Fails: fails}
			n, x := network(t, simnet.NodeOptions{Gap: gap, Dispute: d})
			n.To(from - 1)
			uploads := uploaded(t, n, x)
			d.Open.Store(true)
			signed := d.Signed.Load()
			n.To(until)
			if ended, why := x.Ended(); ended || d.Signed.Load() != signed {
				t.Fatalf("gap %s: ended %v (%v), %d signatures", gap, ended, why, d.Signed.Load()-signed)
			}
			if got := uploaded(t, n, x) - uploads; got < until-from {
				t.Errorf("gap %s: %d uploads in %d windows of a dispute", gap, got, until-from+1)
			}
			d.Open.Store(false)
			n.To(last)
			trained, told := map[chain.Window]bool{}, map[chain.Window]int{}
			for _, e := range x.Events(events.Train) {
				trained[e.Window] = e.Steps > 0
			}
			for _, e := range x.Events(events.Waiting) {
				if told[e.Window]++; !strings.Contains(e.Reason, chain.ErrDisputed.Error()) || told[e.Window] > 1 {
					t.Errorf("gap %s: window %d, told %d times: %s", gap, e.Window, told[e.Window], e.Reason)
				}
			}
			for w := chain.Window(0); w <= last; w++ {
				if !trained[w] {
					t.Errorf("gap %s, fails %v: window %d was not trained", gap, fails, w)
				}
			}
			if got := history(x, until+2, last); strings.Count(got, "+") != last-until-1 {
				t.Errorf("gap %s, fails %v: after the dispute %s; %v", gap, fails, got, x.Events(events.Skipped))
			}
			if !fails && len(told) > 0 {
				t.Errorf("gap %s: a write that waits was told of: %v", gap, told)
			}
			if err := n.Stop(x); err != nil {
				t.Error(err)
			}
		}
	}
}
