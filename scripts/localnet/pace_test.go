package main

import (
	"fmt"
	"testing"
	"time"

	"sn3/chain"
	"sn3/internal/preset"
)

// A fresh network that takes long to its first window is not stuck; one whose window is late by stuckBlocks is, once per
// stuckBlocks; a chain without blocks is, whatever the window.
func TestPace(t *testing.T) {
	r, err := preset.Run("local", 24)
	if err != nil {
		t.Fatal(err)
	}
	sched, err := chain.NewSchedule(schedule(r, 300, 2, 20, 2)) // a slow machine: long windows
	if err != nil {
		t.Fatal(err)
	}
	first := sched.At(0, chain.PhaseApply)
	if first < 2*stuckBlocks {
		t.Fatalf("the first window is applied at block %d already: the test proves nothing", first)
	}
	const block = 250 * time.Millisecond
	start := time.Unix(1000, 0)
	at := func(h chain.Block) time.Time { return start.Add(time.Duration(h) * block) }

	var p pace
	for h := chain.Block(0); h < first+stuckBlocks; h++ {
		if got := p.look(at(h), h, first, block); got != nothing {
			t.Fatalf("block %d, first window due at %d: %d", h, first, got)
		}
	}
	var late []chain.Block
	for h := first + stuckBlocks; h < first+4*stuckBlocks; h++ {
		if p.look(at(h), h, first, block) == theWindows {
			late = append(late, h)
		}
	}
	if len(late) != 3 || late[0] != first+stuckBlocks || late[1] != first+2*stuckBlocks {
		t.Errorf("late windows told at %v, due was %d", late, first)
	}
	next := sched.At(5, chain.PhaseApply) // windows move again
	if got := p.look(at(next), next, next, block); got != nothing {
		t.Errorf("a window that is due now: %d", got)
	}

	var told []int
	for i := range 3*stuckBlocks + 1 { // the chain does not answer, then answers with its old height
		h := chain.Block(0)
		if i > stuckBlocks {
			h = next
		}
		if p.look(at(next).Add(time.Duration(i)*block), h, next+1000, block) == theChain {
			told = append(told, i)
		}
	}
	if len(told) != 3 || told[0] != stuckBlocks {
		t.Errorf("a standing chain told at %v", told)
	}
	if s, want := p.stopped(at(next+3*stuckBlocks)), fmt.Sprintf("the chain, which has made no block after %d for 30s", next); s != want {
		t.Errorf("%q, want %q", s, want)
	}
	if got := p.look(at(next).Add(time.Hour), next+1, next+1000, block); got != nothing {
		t.Errorf("a chain that came back: %d", got)
	}

	p = pace{}
	for i := range stuckBlocks {
		if got := p.look(at(chain.Block(i)), 0, first, block); got != nothing {
			t.Fatalf("not answered for %d block times: %d", i, got)
		}
	}
	if got := p.look(at(stuckBlocks), 0, first, block); got != theChain {
		t.Errorf("never answered: %d", got)
	}
	if s := p.stopped(at(stuckBlocks)); s != "the chain, which has not answered for 10s" {
		t.Error(s)
	}
}
