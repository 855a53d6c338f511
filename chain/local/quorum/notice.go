package quorum

import (
	"fmt"
	"slices"
	"strings"

	"sn3/chain"
)

// Kind says what an operator is told.
type Kind string

// The kinds of notices.
const (
	Followed Kind = "followed" // another node is followed from now on; the reason names the one before
	Aside    Kind = "aside"    // a node contradicts the majority: what it says does not count
	Back     Kind = "back"     // it agrees again, and counts
	Stale    Kind = "stale"    // a node is behind
	Caught   Kind = "caught"   // it has caught up
	Disputed Kind = "disputed" // nodes contradict each other and no majority decides: nothing is signed
	Settled  Kind = "settled"  // they agree again
)

// Notice is told once for each change.
type Notice struct {
	Kind     Kind
	Endpoint string // "" where it concerns several
	Reason   string
}

// String is one line for a log.
func (n Notice) String() string {
	switch n.Kind {
	case Followed:
		return fmt.Sprintf("following chain node %s instead of %s", n.Endpoint, n.Reason)
	case Aside:
		return fmt.Sprintf("chain node %s is set aside: %s", n.Endpoint, n.Reason)
	case Back:
		return fmt.Sprintf("chain node %s counts again: %s", n.Endpoint, n.Reason)
	case Stale, Caught:
		return fmt.Sprintf("chain node %s %s", n.Endpoint, n.Reason)
	}
	return n.Reason
}

// Bad says whether the operator should look into it.
func (n Notice) Bad() bool { return n.Kind != Back && n.Kind != Caught && n.Kind != Settled }

// DisputedError says who contradicts whom. It is chain.ErrDisputed, and chain.ErrUnavailable for callers that wait for the
// chain.
type DisputedError struct {
	Subject string
	Sides   []Side
}

// Side is a group of nodes that say the same.
type Side struct {
	Says  string // short
	Nodes []string
}

// Error names the nodes and what to do.
func (e *DisputedError) Error() string {
	var sides []string
	for _, s := range e.Sides {
		sides = append(sides, fmt.Sprintf("%s from %s", s.Says, strings.Join(s.Nodes, ", ")))
	}
	return fmt.Sprintf("chain nodes disagree on %s (%s): nothing is signed until they agree; take the wrong one out of --chain, or add nodes that decide",
		e.Subject, strings.Join(sides, "; "))
}

// Is makes it chain.ErrDisputed and chain.ErrUnavailable.
func (e *DisputedError) Is(target error) bool {
	return target == chain.ErrDisputed || target == chain.ErrUnavailable
}

// sides groups nodes by what they say, the larger groups first.
func sides(names func(int) string, words map[int]string) []Side {
	by := map[string][]string{}
	for i, v := range words {
		by[v] = append(by[v], names(i))
	}
	var out []Side
	for v, nodes := range by {
		slices.Sort(nodes)
		out = append(out, Side{v[:min(len(v), 8)], nodes})
	}
	slices.SortFunc(out, func(a, b Side) int {
		if len(a.Nodes) != len(b.Nodes) {
			return len(b.Nodes) - len(a.Nodes)
		}
		return strings.Compare(a.Nodes[0], b.Nodes[0])
	})
	return out
}
