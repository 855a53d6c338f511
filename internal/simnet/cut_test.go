package simnet

import (
	"testing"

	"sn3/chain"
	"sn3/internal/events"
)

// All buckets are cut for three windows: nobody ends, nobody goes on without the winners' payloads, everybody who needs a
// bucket says so; when they are back all catch up to one root and submissions are selected again.
func TestBucketsCut(t *testing.T) {
	n, nodes := start(t, Options{Miners: 2}, plain)
	n.To(2)
	n.Cut(true)
	n.To(5)
	for _, x := range nodes {
		select {
		case <-x.done:
			t.Fatalf("%s ended: %v", x.Name, x.err)
		default:
		}
	}
	n.Cut(false)
	n.To(9)
	agree(t, 9, nodes...)
	for _, x := range nodes[2:] {
		said := len(x.Events(events.Waiting)) + len(x.Events(events.Skipped))
		if said == 0 {
			t.Errorf("%s said nothing", x.Name)
		}
	}
	var last []chain.Hotkey
	for _, e := range nodes[0].Events(events.Applied) {
		if e.Window == 9 {
			last = e.Winners
		}
	}
	if len(last) != 2 {
		t.Errorf("window 9 has %d winners", len(last))
	}
}
