package node

import (
	"sync"

	"sn3/chain"
)

// gapBlocks is for how many blocks a transaction stays in the mempool for want of those before it. A proposer leaves it out, so
// nothing else would ever take it away, and nobody pays for it.
const gapBlocks = 10

// gaps knows since when transactions lack the one before them.
type gaps struct {
	mu         sync.Mutex
	at         chain.Block
	older, now map[chain.Hash]chain.Block // since when; as seen after the block before, and after this one
}

// old says whether a transaction that is looked at after every block has waited for too long.
func (g *gaps) old(tx chain.Hash, at chain.Block) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if at != g.at {
		g.at, g.older, g.now = at, g.now, map[chain.Hash]chain.Block{}
	}
	since, known := g.older[tx]
	if !known {
		since = at
	}
	g.now[tx] = since
	return at-since >= gapBlocks
}
