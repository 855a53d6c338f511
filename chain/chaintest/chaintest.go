// Package chaintest is the contract of a chain driver as code: whatever implements the interfaces of package chain passes
// Run, against any kind of node. It knows no driver.
package chaintest

import (
	"context"
	"errors"
	"testing"
	"time"

	"sn3/chain"
)

// Account is one account's access to the chain under test.
type Account struct {
	chain.Reader
	chain.Writer
	chain.Registrar
	chain.Describer
	chain.Selector
	Hotkey chain.Hotkey
}

// Chain is a fresh chain with the actors that the suite needs.
type Chain struct {
	Run     *chain.Run                         // what it was started with: short windows, tempo a few windows
	Account func(name string) Account          // one of the actors below; the same client every time or a new one
	Advance func(b chain.Block) error          // returns when block b is final
	Now     func() (chain.Block, error)        // the newest final block
	Funds   map[string]chain.Amount            // what Rich and Poor hold
	Ctx     func(t *testing.T) context.Context // ends before the test's own deadline
}

// The actors, in the order of their seats. Boss and Deputy have permits and stakes 3:2; Alice and Bob have seats; Rich has
// none but can pay for one; Poor cannot.
const (
	Boss   = "boss"
	Deputy = "deputy"
	Alice  = "alice"
	Bob    = "bob"
	Rich   = "rich"
	Poor   = "poor"
)

// Run runs the suite. The cases share one chain and run in order: each leaves it in a state that the next can use.
func Run(t *testing.T, start func(t *testing.T) *Chain) {
	c := start(t)
	for _, x := range []struct {
		name string
		run  func(*testing.T, *Chain)
	}{
		{"describe", describe},
		{"heads are contiguous", heads},
		{"beacon", beacon},
		{"snapshots are as of a block", asOf},
		{"publish overwrites", overwrite},
		{"publish is idempotent", idempotent},
		{"publish without a seat", unseated},
		{"register", register},
		{"transfer", transfer},
		{"funds", funds},
		{"selection", selection},
		{"weights become incentive", weights},
		{"a write ends with its context", cancelled},
	} {
		t.Run(x.name, func(t *testing.T) { x.run(t, c) })
	}
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, what string, err, is error) {
	t.Helper()
	if !errors.Is(err, is) {
		t.Errorf("%s: error %v, want one that is %v", what, err, is)
	}
}

// newest reads the snapshot of the newest block.
func newest(t *testing.T, c *Chain) *chain.Snapshot {
	t.Helper()
	b := must[chain.Block](t)(c.Now())
	return must[*chain.Snapshot](t)(c.Account(Boss).Snapshot(c.Ctx(t), b))
}

func describe(t *testing.T, c *Chain) {
	run := must[*chain.Run](t)(c.Account(Rich).Describe(c.Ctx(t)))
	if run.Hash() != c.Run.Hash() {
		t.Errorf("descriptor %s, want %s", run.Hash().Short(), c.Run.Hash().Short())
	}
}

// heads: two readers see the same blocks without a gap, and their channels close with their contexts.
func heads(t *testing.T, c *Chain) {
	ctx, cancel := context.WithCancel(c.Ctx(t))
	defer cancel()
	from := must[chain.Block](t)(c.Now())
	a := must[<-chan chain.Head](t)(c.Account(Alice).Heads(ctx))
	b := must[<-chan chain.Head](t)(c.Account(Bob).Heads(ctx))
	ok(t, c.Advance(from+8))
	times := map[chain.Block]time.Time{}
	read := func(name string, ch <-chan chain.Head) {
		for last := chain.Block(0); last < from+8; {
			h, open := <-ch
			switch {
			case !open:
				t.Fatalf("%s: the channel closed at block %d", name, last)
			case last == 0 && h.Block < from, last > 0 && h.Block != last+1:
				t.Fatalf("%s: block %d follows %d", name, h.Block, last)
			case !times[h.Block].IsZero() && !times[h.Block].Equal(h.Time):
				t.Errorf("block %d has two times", h.Block)
			case !times[h.Block-1].IsZero() && h.Time.Before(times[h.Block-1]):
				t.Errorf("the time of block %d is before the one of %d", h.Block, h.Block-1)
			}
			last, times[h.Block] = h.Block, h.Time
		}
	}
	read("a", a)
	read("b", b)
	cancel()
	for range a {
	}
	for range b {
	}
}

// beacon: one value per round, another one for every round, none before its time.
func beacon(t *testing.T, c *Chain) {
	b := must[chain.Block](t)(c.Now())
	ok(t, c.Advance(b+3))
	ctx := c.Ctx(t)
	seen := map[string]chain.Round{}
	for r := chain.Round(b); r < chain.Round(b+3); r++ {
		v := must[[]byte](t)(c.Account(Alice).Beacon(ctx, r))
		again := must[[]byte](t)(c.Account(Bob).Beacon(ctx, r))
		if len(v) < 16 || string(v) != string(again) {
			t.Errorf("round %d: %x and %x", r, v, again)
		}
		if other, dup := seen[string(v)]; dup {
			t.Errorf("rounds %d and %d have the same value", other, r)
		}
		seen[string(v)] = r
	}
	_, err := c.Account(Alice).Beacon(ctx, chain.Round(b+1_000_000))
	want(t, "a round to come", err, chain.ErrNotYet)
}
