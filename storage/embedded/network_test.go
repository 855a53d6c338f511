package embedded_test

import (
	"fmt"
	"strings"
	"testing"

	"sn3/chain"
	"sn3/internal/events"
	"sn3/internal/simnet"
	"sn3/storage"
)

// A whole network over this server, through a proxy: nodes, votes, payloads, mirrors, checkpoints and the training data all
// travel as S3 requests. The line is cut for a window and a half: every node waits and says for what, none ends, no model
// moves without its winners' payloads. When the line is back all catch up to one root and everybody is selected again.
func TestNetworkOverCutLine(t *testing.T) {
	line := newNetwork(t)
	secrets := map[string]string{}
	for _, name := range []string{"data", simnet.ValidatorName(1), simnet.ValidatorName(2), simnet.MinerName(1), simnet.MinerName(2)} {
		secrets[name] = "secret-of-" + name
		if err := server.AddBucket(name, "key-"+name, secrets[name]); err != nil {
			t.Fatal(err)
		}
	}
	n := simnet.New(t, simnet.Options{Validators: []chain.Amount{300, 200}, Miners: 2,
		Bucket: func(name string, writable bool) (*storage.Bucket, error) {
			var c *storage.Credential
			if writable {
				c = credential("key-"+name, secrets[name])
			}
			return open(t, name, c, line.port), nil
		}})
	nodes := []*simnet.Node{n.StartValidator(simnet.ValidatorName(1), simnet.NodeOptions{}), n.StartValidator(simnet.ValidatorName(2), simnet.NodeOptions{}),
		n.StartMiner(simnet.MinerName(1), simnet.NodeOptions{}), n.StartMiner(simnet.MinerName(2), simnet.NodeOptions{})}
	n.To(1)
	before := winners(t, nodes, 1)
	if before != 2 {
		t.Fatalf("window 1 has %d winners", before)
	}

	line.proxy.Stop()
	for range 12 {
		n.Tick()
	}
	for _, x := range nodes {
		if ended, why := x.Ended(); ended {
			t.Fatalf("%s ended: %v", x.Name, why)
		}
		said := fmt.Sprint(reasons(x, events.Waiting), reasons(x, events.Skipped))
		if !strings.Contains(said, "bucket") && !strings.Contains(said, "payload") && !strings.Contains(said, "upload") {
			t.Errorf("%s said %s", x.Name, said)
		}
	}

	if err := line.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	const last = 7
	n.To(last)
	if got := winners(t, nodes, last); got != 2 {
		t.Errorf("window %d has %d winners", last, got)
	}
	for _, x := range nodes[1:] {
		for w := range chain.Window(last + 1) {
			if x.Roots()[w] != nodes[0].Roots()[w] {
				t.Errorf("%s: another root of window %d than %s", x.Name, w, nodes[0].Name)
			}
		}
	}
}

func reasons(x *simnet.Node, kind events.Kind) (out []string) {
	for _, e := range x.Events(kind) {
		out = append(out, e.Reason)
	}
	return out
}

// winners is how many winners a window had, the same on all nodes.
func winners(t *testing.T, nodes []*simnet.Node, w chain.Window) int {
	t.Helper()
	counts := map[int]bool{}
	got := -1
	for _, x := range nodes {
		for _, e := range x.Events(events.Applied) {
			if e.Window == w {
				got = len(e.Winners)
				counts[got] = true
			}
		}
	}
	if len(counts) != 1 {
		t.Fatalf("window %d: %v", w, counts)
	}
	return got
}
