package chaintest

import (
	"context"
	"errors"
	"testing"
	"time"

	"sn3/chain"
)

func record(text string) chain.Record {
	return chain.Record{Locator: []byte("locator of " + text), Digest: chain.Hash{1, byte(len(text))}, Body: []byte(text)}
}

// holds says what a snapshot has for a hotkey.
func holds(t *testing.T, s *chain.Snapshot, h chain.Hotkey, r chain.Record, at chain.Block) {
	t.Helper()
	p, found := s.Record(h)
	if !found || !p.Record.Equal(r) || p.At != at {
		t.Errorf("as of block %d: record %q of block %d (found: %v), want %q of block %d", s.Block, p.Record.Body, p.At, found, r.Body, at)
	}
}

func asOf(t *testing.T, c *Chain) {
	ctx, alice := c.Ctx(t), c.Account(Alice)
	one := must[chain.Receipt](t)(alice.Publish(ctx, record("first")))
	ok(t, c.Advance(one.Block+1))
	two := must[chain.Receipt](t)(alice.Publish(ctx, record("second")))
	if two.Block <= one.Block {
		t.Fatalf("blocks %d, then %d", one.Block, two.Block)
	}
	ok(t, c.Advance(two.Block))
	holds(t, must[*chain.Snapshot](t)(alice.Snapshot(ctx, one.Block)), alice.Hotkey, record("first"), one.Block)
	holds(t, must[*chain.Snapshot](t)(alice.Snapshot(ctx, two.Block-1)), alice.Hotkey, record("first"), one.Block)
	holds(t, must[*chain.Snapshot](t)(alice.Snapshot(ctx, two.Block)), alice.Hotkey, record("second"), two.Block)
	s := newest(t, c)
	for i, n := range s.Neurons {
		if int(n.UID) != i {
			t.Errorf("neuron %d has uid %d", i, n.UID)
		}
	}
	if len(s.Neurons) < 4 || !s.Neurons[0].Permit || !s.Neurons[1].Permit || s.Neurons[2].Permit || s.Neurons[0].Stake <= s.Neurons[1].Stake {
		t.Errorf("seats %+v", s.Neurons)
	}
	_, err := alice.Snapshot(ctx, s.Block+1_000_000)
	want(t, "a block to come", err, chain.ErrNotYet)
}

func overwrite(t *testing.T, c *Chain) {
	ctx, alice := c.Ctx(t), c.Account(Alice)
	for _, text := range []string{"third", "fourth"} {
		got := must[chain.Receipt](t)(alice.Publish(ctx, record(text)))
		s := must[*chain.Snapshot](t)(alice.Snapshot(ctx, got.Block))
		holds(t, s, alice.Hotkey, record(text), got.Block)
		n := 0
		for _, p := range s.Records {
			if p.Hotkey == alice.Hotkey {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%d records of one hotkey", n)
		}
	}
	too := chain.Record{Body: make([]byte, chain.MaxBody+1)}
	if _, err := alice.Publish(ctx, too); err == nil {
		t.Error("a record above the limit was published")
	}
	if p, _ := newest(t, c).Record(alice.Hotkey); !p.Record.Equal(record("fourth")) {
		t.Errorf("a refused record changed the published one to %q", p.Record.Body)
	}
}

func idempotent(t *testing.T, c *Chain) {
	ctx, bob := c.Ctx(t), c.Account(Bob)
	one := must[chain.Receipt](t)(bob.Publish(ctx, record("same")))
	ok(t, c.Advance(one.Block+2))
	two := must[chain.Receipt](t)(c.Account(Bob).Publish(ctx, record("same")))
	if two.Block != one.Block {
		t.Errorf("published in block %d, again in %d", one.Block, two.Block)
	}
	holds(t, newest(t, c), bob.Hotkey, record("same"), one.Block)
}

func unseated(t *testing.T, c *Chain) {
	_, err := c.Account(Rich).Publish(c.Ctx(t), record("nobody"))
	want(t, "publish", err, chain.ErrNotRegistered)
	_, err = c.Account(Rich).SetWeights(c.Ctx(t), []chain.Weight{{UID: 2, Value: 1}})
	want(t, "set weights", err, chain.ErrNotRegistered)
}

// cancelled: a write that cannot end returns when its context does.
func cancelled(t *testing.T, c *Chain) {
	ctx, cancel := context.WithCancel(c.Ctx(t))
	cancel()
	done := make(chan error, 1)
	go func() {
		_, err := c.Account(Alice).Publish(ctx, record("never"))
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("still waiting")
	}
}
