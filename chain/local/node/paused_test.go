package node_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"sn3/chain"
	"sn3/chain/chaintest"
	"sn3/chain/local"
	"sn3/chain/local/localtest"
	"sn3/chain/local/node"
)

// A paused node answers as of the last block, takes no transaction and makes no block, however often it is started; a real
// start goes on from there.
func TestPaused(t *testing.T) {
	dir := home(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n, stop := start(t, dir)
	c := dial(t, n.Addr(), chaintest.Rich)
	poor, err := localtest.Key(chaintest.Poor)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Transfer(ctx, chain.Coldkey(local.AccountOf(&poor.PublicKey)), coin); err != nil {
		t.Fatal(err)
	}
	stop()
	last, hash := n.Height()

	o := options(dir)
	o.Paused = true
	for range 2 {
		p, err := node.Start(o)
		if err != nil {
			t.Fatal(err)
		}
		c := dial(t, p.Addr(), chaintest.Rich)
		st, err := c.Status(ctx)
		if err != nil || st.Height != last || st.AppHash != hash {
			t.Errorf("height %d, app hash %s, %v; the node stopped at %d, %s", st.Height, st.AppHash.Short(), err, last, hash.Short())
		}
		if s, err := c.Snapshot(ctx, last); err != nil || len(s.Neurons) == 0 {
			t.Errorf("snapshot: %v", err)
		}
		if _, err := p.Submit(ctx, []byte("anything")); !errors.Is(err, chain.ErrUnavailable) {
			t.Errorf("a transaction: %v", err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}

	again, _ := start(t, dir)
	heads, err := dial(t, again.Addr(), chaintest.Rich).Heads(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for h := range heads {
		if h.Block > last {
			return
		}
	}
	t.Error("no more blocks")
}
