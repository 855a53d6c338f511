package main

import (
	"context"
	"fmt"
	"time"

	"sn3/chain"
)

// scenario is one way to hurt a network. What must hold afterwards is the same for all: see play.
type scenario struct {
	name        string
	what        string
	full, short int // rounds
	run         func(ctx context.Context, n *network, rounds int) error
	rules       uint64 // that the network begins with; 0: the newest
}

func scenarios() []scenario {
	return []scenario{
		{"kill", "kill -9 of one node after the other, in random order, at random moments", 200, 6, killOne, 0},
		{"kill-all", "kill -9 of all nodes at once", 20, 2, killAll, 0},
		{"torn", "the end of a file is cut off or changed while its node is down", 28, 7, torn, 0},
		{"false-state", "one balance is changed in the state of a node that is down", 4, 1, falseState, 0},
		{"full-disk", "a node's disk fills up, then has room again", 4, 1, fullDisk, 0},
		{"read-only", "a node is started on a folder that it cannot write", 2, 1, readOnly, 0},
		{"split-3-1", "one node is cut off: the others go on, it does not", 6, 1, splitOne, 0},
		{"split-2-2", "two nodes are cut off from the others: nobody goes on", 6, 1, splitHalf, 0},
		{"away", "a node comes back after many blocks (1,000; in the short run 40)", 1, 1, away, 0},
		{"join", "new nodes begin with a snapshot, killed on their way", 10, 1, joins, 0},
		{"upgrade", "the rules change, and one node's program does not know the new ones", 1, 0, upgrade, 1},
		{"liar", "a node runs a program with another rule", 4, 0, liar, 0},
		{"clock", "clocks of one node, then of all, jump by ten minutes, forwards and backwards, while they run", 3, 0, clock, 0},
	}
}

// pause lets a random time pass, at most d.
func (n *network) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(time.Duration(n.rng.Int64N(int64(d))))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// any is a node by chance.
func (n *network) any() *member { return n.nodes[n.rng.IntN(size)] }

// down kills a node and looks into its folder; it gives the height of the others then.
func (n *network) down(ctx context.Context, m *member) (chain.Block, error) {
	if err := m.kill(); err != nil {
		return 0, err
	}
	n.faults++
	if err := n.inspect(m); err != nil {
		return 0, err
	}
	_, high, err := heights(ctx, n.running())
	return high, err
}

func killOne(ctx context.Context, n *network, rounds int) error {
	var order []int
	for range rounds {
		if len(order) == 0 {
			order = n.rng.Perm(size)
		}
		m := n.nodes[order[0]]
		order = order[1:]
		if err := n.pause(ctx, 1500*time.Millisecond); err != nil {
			return err
		}
		at, err := n.down(ctx, m)
		if err != nil {
			return err
		}
		if err := n.pause(ctx, time.Second); err != nil {
			return err
		}
		if err := m.start(ctx); err != nil {
			return err
		}
		if err := n.recovered(ctx, at, m); err != nil {
			return err
		}
	}
	return nil
}

func killAll(ctx context.Context, n *network, rounds int) error {
	for range rounds {
		if err := n.pause(ctx, 1500*time.Millisecond); err != nil {
			return err
		}
		_, at, err := heights(ctx, n.nodes)
		if err != nil {
			return err
		}
		for _, m := range n.nodes { // the signals first, then the waiting
			if err := m.cmd.Process.Kill(); err != nil {
				return err
			}
		}
		for _, i := range n.rng.Perm(size) {
			m := n.nodes[i]
			<-m.ended
			m.wanted = false
			n.faults++
			if err := n.inspect(m); err != nil {
				return err
			}
		}
		if err := n.start(ctx, n.nodes...); err != nil {
			return err
		}
		if err := n.recovered(ctx, at, n.nodes...); err != nil {
			return err
		}
	}
	return nil
}

// goOn waits for some blocks more on some nodes.
func (n *network) goOn(ctx context.Context, blocks chain.Block, list ...*member) error {
	_, high, err := heights(ctx, list)
	if err != nil {
		return err
	}
	return n.reach(ctx, high+blocks, list...)
}

func splitOne(ctx context.Context, n *network, rounds int) error {
	for range rounds {
		m := n.any()
		if err := n.split(map[int]bool{m.id: true}, n.rng.IntN(2) == 0); err != nil {
			return err
		}
		if err := n.goOn(ctx, 10, n.without(m)...); err != nil {
			return fmt.Errorf("three of four: %w", err)
		}
		cut, err := m.height(ctx)
		if err != nil {
			return err
		}
		if err := n.goOn(ctx, 10, n.without(m)...); err != nil {
			return fmt.Errorf("three of four: %w", err)
		}
		if still, err := m.height(ctx); err != nil || still > cut {
			n.violated("%s alone went from block %d to %d, %v", m.name(), cut, still, err)
		}
		if err := n.heal(); err != nil {
			return err
		}
		_, at, err := heights(ctx, n.nodes)
		if err != nil {
			return err
		}
		if err := n.recovered(ctx, at, m); err != nil {
			return err
		}
	}
	return nil
}

func splitHalf(ctx context.Context, n *network, rounds int) error {
	for range rounds {
		p := n.rng.Perm(size)
		if err := n.split(map[int]bool{p[0]: true, p[1]: true}, n.rng.IntN(2) == 0); err != nil {
			return err
		}
		// what was on its way may still arrive; then a time in which a network that works makes tens of blocks
		_, last, err := heights(ctx, n.nodes)
		if err != nil {
			return err
		}
		if err := rest(ctx, 4*time.Second); err != nil {
			return err
		}
		if _, high, err := heights(ctx, n.nodes); err != nil || high > last+2 {
			n.violated("two of four went from block %d to %d, %v", last, high, err)
		}
		if err := n.heal(); err != nil {
			return err
		}
		if err := n.recovered(ctx, last+2, n.nodes...); err != nil {
			return err
		}
	}
	return nil
}

func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// away ends a node as an operator would, or kills it, and starts it again when the others have moved on.
func away(ctx context.Context, n *network, rounds int) error {
	blocks := chain.Block(1000)
	if n.short {
		blocks = 40
	}
	for range rounds {
		m := n.any()
		at, err := n.down(ctx, m)
		if err != nil {
			return err
		}
		for b := chain.Block(0); b < blocks; b += 20 { // in steps: each has the patience of one
			if err := n.reach(ctx, at+b, n.without(m)...); err != nil {
				return err
			}
		}
		if _, at, err = heights(ctx, n.running()); err != nil {
			return err
		}
		if err := m.start(ctx); err != nil {
			return err
		}
		if err := n.recovered(ctx, at, m); err != nil {
			return err
		}
	}
	return nil
}
