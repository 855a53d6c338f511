package quorum

import (
	"fmt"
	"slices"
	"time"

	"sn3/chain"
)

// Times and distances of the rules, the same for every chain.
const (
	hedge    = 1500 * time.Millisecond // others are asked too when the first has not answered by then, or are not waited for after it
	attempt  = 10 * time.Second        // for any answer
	limit    = 1500 * time.Millisecond // for a state hash
	moment   = 100 * time.Millisecond  // for the rest, when a majority says the same
	quiet    = 1500 * time.Millisecond // without a head: have others one?
	grace    = time.Second             // for the followed node to show the head that others have
	patience = 1500 * time.Millisecond // for nodes that are a block behind
	again    = 200 * time.Millisecond  // between two looks at them
	every    = 5 * time.Second         // between two comparisons of state hashes
	fresh    = 2 * time.Second         // how old a comparison may be when something is signed
	retry    = time.Second             // between two looks at what is disputed

	firstPause = time.Second      // for a node that failed, doubled with each failure
	lastPause  = 64 * time.Second // and not above this
	calm       = time.Minute      // without a failure takes one off the count
	firstAside = time.Minute      // for a node that contradicted the majority, doubled each time
	lastAside  = 64 * time.Minute
	stuck      = 10 * time.Second // without a new block while others have one: stale
	age        = 30 * time.Second // of the newest block of a node that is far behind: stale, it is still catching up

	settled chain.Block = 2  // blocks below the newest that are compared: the others have them too
	lag     chain.Block = 20 // blocks behind the majority: stale; ahead of it: not believed
	reach   chain.Block = 40 // blocks above the last comparison that are handed out
)

// peer is what is known of one node.
type peer struct {
	name string

	faults int       // failures, less one for each calm minute
	fault  time.Time // the last one
	until  time.Time // not asked before
	why    string    // the last one's reason

	aside  bool      // it contradicted the majority: it has no voice and is not read from
	trials int       // how often
	trial  time.Time // when it is listened to again

	height  chain.Block // the newest it is known to have
	known   bool
	rises   int
	lagging time.Time // since when it stands while others have more
	stale   bool
}

// book is the knowledge and the rules. It does no I/O; the time is handed in.
type book struct {
	peers    []peer
	followed int
	checked  chain.Block // the newest block on whose state they agree; each block is judged once at most
	compared time.Time
	whole    time.Time // of the last comparison with everyone
	disputes []dispute
	notes    []Notice

	accepted func(chain.Block, string) // of tests
}

// majority is how many voices decide against others: more than half of all nodes, away or not.
func (b *book) majority() int { return len(b.peers)/2 + 1 }

// faulted notes that a node did not answer.
func (b *book) faulted(i int, now time.Time, why string) {
	p := &b.peers[i]
	p.faults = p.recent(now) + 1
	p.fault, p.why = now, why
	p.until = now.Add(min(firstPause<<min(p.faults-1, 10), lastPause))
}

// recent is the number of failures that still count.
func (p *peer) recent(now time.Time) int { return max(0, p.faults-int(now.Sub(p.fault)/calm)) }

// answered notes that a node is there, and leaves a followed one that is not. A node's failures fade with time only: who
// comes and goes is left alone ever longer.
func (b *book) answered(i int, now time.Time) {
	b.peers[i].until = time.Time{}
	if f := &b.peers[b.followed]; now.Before(f.until) {
		b.choose(now, f.why)
	}
}

// setAside takes a node's voice away for a while.
func (b *book) setAside(i int, now time.Time, why string) {
	p := &b.peers[i]
	p.trials++
	p.aside, p.trial = true, now.Add(min(firstAside<<min(p.trials-1, 10), lastAside))
	b.note(Aside, p.name, why)
	b.choose(now, why)
}

// choose follows the best node: one that is not set aside before one that is, then who answers, who is not behind, who is
// followed already, who failed less, who comes first in the list.
func (b *book) choose(now time.Time, why string) {
	best := b.followed
	for i := range b.peers {
		if less(b.rank(i, now), b.rank(best, now)) {
			best = i
		}
	}
	if best == b.followed {
		return
	}
	b.follow(best, why)
}

func (b *book) follow(i int, why string) {
	from := b.peers[b.followed].name
	b.followed = i
	b.note(Followed, b.peers[i].name, fmt.Sprintf("%s: %s", from, why))
}

// leave follows a node that has what another one does not show.
func (b *book) leave(i, to int, now time.Time, why string) {
	b.faulted(i, now, why)
	b.peers[to].until = time.Time{}
	if b.followed == i && !b.peers[to].aside {
		b.follow(to, why)
	}
}

func (b *book) rank(i int, now time.Time) [6]int {
	p := &b.peers[i]
	return [6]int{bit(p.aside), bit(now.Before(p.until)), bit(p.stale), bit(i != b.followed), p.recent(now), i}
}

func bit(x bool) int {
	if x {
		return 1
	}
	return 0
}

func less(a, b [6]int) bool {
	for i := range a {
		if a[i] != b[i] {
			return a[i] < b[i]
		}
	}
	return false
}

// order is whom to ask: the followed node, then the others, best first; nobody who is set aside.
func (b *book) order(now time.Time) []int {
	var out []int
	for i := range b.peers {
		if b.peers[i].aside {
			continue
		}
		at := len(out)
		for at > 0 && less(b.rank(i, now), b.rank(out[at-1], now)) {
			at--
		}
		out = append(out[:at], append([]int{i}, out[at:]...)...)
	}
	return out
}

// present is the order without who failed a moment ago; the order, if nobody is left.
func (b *book) present(now time.Time) []int {
	order := b.order(now)
	here := slices.DeleteFunc(slices.Clone(order), func(i int) bool { return now.Before(b.peers[i].until) })
	if len(here) == 0 {
		return order
	}
	return here
}

// panel is who takes part in a comparison now: not who failed a moment ago, unless everyone counts, and who is set aside only
// when its time is over.
func (b *book) panel(now time.Time, everyone bool) []int {
	var out []int
	for i := range b.peers {
		p := &b.peers[i]
		if now.Before(p.until) && !everyone || p.aside && now.Before(p.trial) {
			continue
		}
		out = append(out, i)
	}
	return out
}

// has notes the newest block that a node is known to have; most is the newest that any has.
func (b *book) has(i int, h, most chain.Block, now time.Time) {
	p := &b.peers[i]
	if !p.known || h > p.height {
		p.rises += bit(p.known)
		p.height, p.known, p.lagging = h, true, time.Time{}
	}
	if p.height < most && p.lagging.IsZero() {
		p.lagging = now
	}
}

// reached is the block that more than half of the nodes have.
func (b *book) reached() chain.Block {
	var heights []chain.Block
	for i := range b.peers {
		if p := &b.peers[i]; p.known && !p.aside {
			heights = append(heights, p.height)
		}
	}
	slices.Sort(heights)
	if len(heights) < b.majority() {
		return 0
	}
	return heights[len(heights)-b.majority()]
}

// stand says who is stale, of those who were asked for a block and do not have it.
func (b *book) stand(block chain.Block, words []word, now time.Time) {
	for _, w := range words {
		p := &b.peers[w.from]
		switch {
		case w.kind == said && p.stale:
			p.stale = false
			b.note(Caught, p.name, fmt.Sprintf("has caught up, at block %d", p.height))
		case w.kind == late && !p.stale && (p.height+lag < b.reached() || w.old && p.height+lag < block || !p.lagging.IsZero() && now.Sub(p.lagging) > stuck):
			p.stale = true
			b.note(Stale, p.name, fmt.Sprintf("is behind: it stands at block %d", p.height))
		}
	}
	if f := &b.peers[b.followed]; f.stale {
		b.choose(now, fmt.Sprintf("it stands at block %d", f.height))
	}
}

func (b *book) note(k Kind, who, why string) {
	b.notes = append(b.notes, Notice{Kind: k, Endpoint: who, Reason: why})
}
