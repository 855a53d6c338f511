package main

import (
	"context"
	"errors"
	"fmt"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/localtest"
	"sn3/chain/local/quorum"
)

// owner is a client of the network's owner.
func (n *network) owner() (*local.Client, error) {
	key, err := localtest.Key(localtest.Owner)
	if err != nil {
		return nil, err
	}
	back, err := quorum.Dial(n.addrs(), nil)
	if err != nil {
		return nil, err
	}
	return local.NewClient(back, local.Signer{Key: key}), nil
}

// shareBeacon has the four make a beacon key that none of them knows, which three of them sign with from a round on. Until then the
// first node's key signs, and while that is away nobody's.
func (n *network) shareBeacon(ctx context.Context) error {
	c, err := n.owner()
	if err != nil {
		return err
	}
	p, err := c.Params(ctx)
	if err != nil {
		return err
	}
	run, err := c.Describe(ctx)
	if err != nil {
		return err
	}
	_, high, err := heights(ctx, n.nodes)
	if err != nil {
		return err
	}
	const making, margin = 2 * 12, 40 // blocks: the two phases; notice, and those until the transaction is included
	at := chain.Round(high + making + margin + run.Tempo*chain.Block(p.RevealPeriod+1))
	if _, err := c.Send(ctx, local.MakeBeacon{At: at}); err != nil {
		return fmt.Errorf("make a shared beacon: %w", err)
	}
	return nil
}

// beacons waits for the signature of every round before a height: those that were late are made up for.
func (n *network) beacons(ctx context.Context, top chain.Block) error {
	c, err := n.nodes[0].client()
	if err != nil {
		return err
	}
	for r := chain.Round(0); r < chain.Round(top); r++ {
		err := n.until(ctx, fmt.Sprintf("round %d is signed", r), func() (bool, error) {
			_, err := c.Beacon(ctx, r)
			if errors.Is(err, chain.ErrPruned) {
				return true, nil
			}
			return err == nil, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// shared is how many rounds were signed by three of four; none while the first node's key signs.
func (n *network) shared(ctx context.Context) (chain.Block, error) {
	c, err := n.nodes[0].client()
	if err != nil {
		return 0, err
	}
	st, err := c.Status(ctx)
	if k := st.Beacon.Signs; err != nil || k.Threshold < 2 || chain.Round(st.Height) < k.From {
		return 0, err
	}
	return st.Height - chain.Block(st.Beacon.Signs.From), nil
}
