package simnet

import (
	"runtime"
	"testing"

	"sn3/chain"
	"sn3/internal/events"
)

// A miner or validator ends at a named point, its goroutine on the spot, its other loop a moment later; only its folder
// stays. Started again it settles what was pending, catches up, has everybody's root, and works on.
func TestCrashAtNamedPoints(t *testing.T) {
	for _, c := range []struct {
		point string
		node  string
	}{
		{"pending", MinerName(1)},         // payload and manifest on disk, nothing uploaded
		{"uploaded", MinerName(1)},        // objects in the bucket, no record
		{"recorded", MinerName(1)},        // record final, feedback not confirmed
		{"step", MinerName(1)},            // in the middle of the outer step
		{"step", ValidatorName(2)},        // the same in a validator
		{"queued", ValidatorName(1)},      // window file queued, θ not saved
		{"saved", ValidatorName(1)},       // θ saved, a checkpoint due and not queued
		{"saved", MinerName(1)},           // the same in a miner
		{"evidence", ValidatorName(2)},    // evidence queued, no vote
		{"voted", ValidatorName(2)},       // vote final
		{"book", ValidatorName(2)},        // ratings saved, vote not sent
		{"uploaded", MinerName(2) + "/2"}, // twice in a row
	} {
		if testing.Short() && c.point != "recorded" && c.point != "step" {
			continue
		}
		t.Run(c.point+" of "+c.node, func(t *testing.T) {
			twice := len(c.node) > 2 && c.node[len(c.node)-2:] == "/2"
			name := c.node
			if twice {
				name = name[:len(name)-2]
			}
			crash(t, c.point, name, twice)
		})
	}
}

func crash(t *testing.T, point, name string, twice bool) {
	n := New(t, Options{Validators: []chain.Amount{300, 200}, Miners: 2})
	dir := n.Dir()
	all := map[string]*Node{}
	launch := func(who string, o NodeOptions) {
		if who == ValidatorName(1) || who == ValidatorName(2) {
			all[who] = n.StartValidator(who, o)
		} else {
			all[who] = n.StartMiner(who, o)
		}
	}
	for _, who := range []string{ValidatorName(1), ValidatorName(2), MinerName(1), MinerName(2)} {
		if who == name {
			launch(who, NodeOptions{Dir: dir, Failpoint: n.killAt(name, point, 4)})
		} else {
			launch(who, NodeOptions{})
		}
	}
	lives := 1
	if twice {
		lives = 2
	}
	for life := range lives {
		for !n.ended(all[name]) {
			n.Tick()
			if n.Chain.Height() > 200 {
				t.Fatalf("it never came to %q", point)
			}
		}
		if err := n.Stop(all[name]); err != nil {
			t.Fatalf("it ended with %v", err)
		}
		o := NodeOptions{Dir: dir}
		if life+1 < lives {
			o.Failpoint = n.killAt(name, point, 1)
		}
		launch(name, o)
	}
	other := ValidatorName(1)
	if name == other {
		other = ValidatorName(2)
	}
	w, _ := all[other].Replica.Applied()
	last := w + 5
	n.To(last)
	var nodes []*Node
	for _, x := range all {
		nodes = append(nodes, x)
	}
	agree(t, last, nodes...)
	for w := range last {
		n.sameFiles(t, w, []*Node{all[ValidatorName(1)], all[ValidatorName(2)]})
	}
	works := false
	for _, k := range []events.Kind{events.Submit, events.Scored} {
		for _, e := range all[name].Events(k) {
			works = works || e.Window > w
		}
	}
	if !works {
		t.Error("it does not work on")
	}
}

// killAt ends a node the count-th time it comes to a point.
func (n *Net) killAt(name, point string, count int) func(string) {
	return func(at string) {
		if at != point {
			return
		}
		if count--; count == 0 {
			n.mu.Lock()
			x := n.nodes[name]
			n.mu.Unlock()
			<-x.started
			x.cancel()
			runtime.Goexit()
		}
	}
}

func (n *Net) ended(x *Node) bool {
	n.Load.Idle()
	select {
	case <-x.done:
		return true
	default:
		return false
	}
}
