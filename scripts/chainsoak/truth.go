package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/node"
)

// truth is what nodes have shown so far: of every height one block, of every signature one form.
type truth struct {
	heads  map[chain.Block]local.HeadInfo
	blocks map[chain.Block]node.BlockTrace
	signed map[node.Signed]node.Signed
	read   map[int]chain.Block // blocks of a node's folder that were read
	asked  map[int]chain.Block // heads of a node that were read

	mu         sync.Mutex
	violations []string
}

func newTruth() truth {
	return truth{heads: map[chain.Block]local.HeadInfo{}, blocks: map[chain.Block]node.BlockTrace{}, signed: map[node.Signed]node.Signed{}, read: map[int]chain.Block{}, asked: map[int]chain.Block{}}
}

// violated notes what must never happen.
func (n *network) violated(format string, args ...any) {
	n.truth.mu.Lock()
	defer n.truth.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	n.log.Error("VIOLATION", "what", text)
	n.truth.violations = append(n.truth.violations, text)
}

// compare holds the state's hash at every height of every running node against the others'.
func (n *network) compare(ctx context.Context) error { return n.compareAll(ctx, n.running()) }

func (n *network) compareAll(ctx context.Context, list []*member) error {
	for _, m := range list {
		c, err := m.client()
		if err != nil {
			return err
		}
		top, err := m.height(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name(), err)
		}
		for h := n.truth.asked[m.id] + 1; h <= top; h++ {
			got, err := c.Head(ctx, h)
			if errors.Is(err, chain.ErrPruned) {
				continue
			}
			if err != nil {
				return fmt.Errorf("%s, block %d: %w", m.name(), h, err)
			}
			if old, ok := n.truth.heads[h]; ok && (old.AppHash != got.AppHash || !old.Time.Equal(got.Time)) {
				n.violated("block %d: %s has %s, another node %s", h, m.name(), got.AppHash, old.AppHash)
			}
			n.truth.heads[h] = got
			n.truth.asked[m.id] = h
		}
	}
	return nil
}

// inspect reads the folder of a node that does not run: its blocks are everybody's, nobody has signed twice.
func (n *network) inspect(m *member) error {
	t, err := node.Inspect(m.home, n.truth.read[m.id])
	if err != nil {
		return fmt.Errorf("%s: %w", m.name(), err)
	}
	for _, b := range t.Blocks {
		if old, ok := n.truth.blocks[b.Block]; ok && old != b {
			n.violated("block %d: %s has %s on state %s, another folder %s on state %s", b.Block, m.name(), b.Hash, b.AppHash, old.Hash, old.AppHash)
		}
		n.truth.blocks[b.Block] = b
		if head, ok := n.truth.heads[b.Block-1]; ok && head.AppHash != b.AppHash {
			n.violated("block %d of %s is built on state %s, the API said %s", b.Block, m.name(), b.AppHash, head.AppHash)
		}
	}
	n.truth.read[m.id] = max(n.truth.read[m.id], t.Height)
	for _, s := range node.Twice(n.truth.signed, t.Signed) {
		n.violated("two signatures at one height, round and step: %+v", s)
	}
	if t.Evidence > 0 {
		n.violated("%s holds %d proofs of double signatures", m.name(), t.Evidence)
	}
	return nil
}

// heights are those of nodes; one that does not answer is an error.
func heights(ctx context.Context, list []*member) (low, high chain.Block, err error) {
	for i, m := range list {
		h, err := m.height(ctx)
		if err != nil {
			return 0, 0, fmt.Errorf("%s: %w", m.name(), err)
		}
		if i == 0 || h < low {
			low = h
		}
		high = max(high, h)
	}
	return low, high, nil
}

// reach waits until nodes have a block.
func (n *network) reach(ctx context.Context, b chain.Block, list ...*member) error {
	return n.until(ctx, fmt.Sprintf("all have block %d", b), func() (bool, error) {
		low, _, err := heights(ctx, list)
		return low >= b, err
	})
}

// patience is how long anything may take that must happen in the end, on a busy machine.
const patience = 3 * time.Minute

// until looks again and again until something holds. A node that does not answer is asked again, one that ended by itself is an error.
func (n *network) until(ctx context.Context, what string, holds func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := holds()
		if ok && err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w (%v)", what, ctx.Err(), err)
		case <-tick.C:
		}
		for _, m := range n.nodes {
			if m.wanted && !m.runs() {
				return fmt.Errorf("waiting until %s: %s %w: %s", what, m.name(), errEnded, m.said)
			}
		}
	}
}

// recovered waits until a node, or several, have what the others have, and remembers how many blocks that took since a height.
func (n *network) recovered(ctx context.Context, since chain.Block, list ...*member) error {
	err := n.until(ctx, "the node has caught up", func() (bool, error) {
		low, _, err := heights(ctx, list)
		if err != nil {
			return false, err
		}
		_, high, err := heights(ctx, n.running())
		if err == nil && low > since && low+1 >= high {
			n.worst = max(n.worst, high-min(high, since))
			return true, nil
		}
		return false, err
	})
	if err != nil {
		return err
	}
	return n.compare(ctx)
}
