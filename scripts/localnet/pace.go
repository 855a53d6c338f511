package main

import (
	"fmt"
	"time"

	"sn3/chain"
)

// stuckBlocks without progress are worth a message.
const stuckBlocks = 40

// pace notices that nothing moves: windows by the chain's height, the chain itself by the clock. It tells each standstill
// again only after as long.
type pace struct {
	height chain.Block // newest seen
	rose   time.Time   // when it was first seen, or its standstill was last told
	since  time.Time   // when it was first seen
	told   chain.Block // height at which a late window was last told
}

// stillness says what stands still.
type stillness int

const (
	nothing    stillness = iota
	theChain             // no block for stuckBlocks block times
	theWindows           // the next window is stuckBlocks late
)

// look enters the height as of now; due is the block by which the next window should have been applied. A height of 0 is
// one that could not be asked for.
func (p *pace) look(now time.Time, height, due chain.Block, blockTime time.Duration) stillness {
	if p.rose.IsZero() || height > p.height {
		p.height, p.rose, p.since = max(height, p.height), now, now
	}
	if now.Sub(p.rose) >= stuckBlocks*blockTime {
		p.rose = now
		return theChain
	}
	if p.height >= due+stuckBlocks && p.height >= p.told+stuckBlocks {
		p.told = p.height
		return theWindows
	}
	return nothing
}

// stopped describes a chain that stands still.
func (p *pace) stopped(now time.Time) string {
	if p.height == 0 {
		return fmt.Sprintf("the chain, which has not answered for %s", now.Sub(p.since).Round(time.Second))
	}
	return fmt.Sprintf("the chain, which has made no block after %d for %s", p.height, now.Sub(p.since).Round(time.Second))
}
