package node_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"sn3/chain"
	"sn3/chain/chaintest"
	"sn3/chain/local"
	"sn3/chain/local/localtest"
	"sn3/chain/local/node"
	"sn3/chain/local/state"
)

const (
	spammers = 64 // accounts with some coins but no seat
	perKey   = 16 // transactions of one account that may wait at once
)

// crowded makes a node's folder with many accounts without a seat.
func crowded(t *testing.T, blockTimeMS int64) string {
	t.Helper()
	p := state.DefaultParams()
	all := actors()
	for i := range spammers {
		all = append(all, localtest.Actor{Name: fmt.Sprint("spam", i), Balance: perKey * (p.Fee + 500)})
	}
	all = append(all, localtest.Actor{Name: "two fees", Balance: 2*p.Fee + 500}, localtest.Actor{Name: "no fee", Balance: p.Fee - 1},
		localtest.Actor{Name: "no new account", Balance: p.Fee + p.AccountCost + 499})
	g, _, err := localtest.Genesis(blockTimeMS, all...)
	if err != nil {
		t.Fatal(err)
	}
	g.BeaconKey = nil
	dir := filepath.Join(t.TempDir(), "chain")
	if err := node.Init(dir, g, node.DefaultNet()); err != nil {
		t.Fatal(err)
	}
	return dir
}

func signed(t *testing.T, network, name string, nonce uint64, op local.Op) []byte {
	t.Helper()
	key, err := localtest.Key(name)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := local.SignTx(network, nonce, op, local.Signer{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return tx.Encode()
}

// Strangers fill at most half of the mempool, one account a small part of it; junk never enters. A hotkey with a seat is
// heard all the same, and its record is in the next block.
func TestSpam(t *testing.T) {
	n, _ := start(t, crowded(t, 2500)) // nothing leaves the mempool while it is filled
	ctx, alice := within(t), dial(t, n.Addr(), chaintest.Alice)
	if err := reach(ctx, alice, 1); err != nil {
		t.Fatal(err)
	}
	rich, err := localtest.Key(chaintest.Rich)
	if err != nil {
		t.Fatal(err)
	}
	to := chain.Coldkey(local.AccountOf(&rich.PublicKey))
	pay := local.Transfer{To: to, Amount: 500}
	for name, x := range map[string]struct {
		raw  []byte
		want local.Code
	}{
		"nothing":         {nil, local.CodeMalformed},
		"garbage":         {make([]byte, local.MaxTx), local.CodeMalformed},
		"too long":        {make([]byte, local.MaxTx+1), local.CodeMalformed},
		"another network": {signed(t, "elsewhere", chaintest.Rich, 0, pay), local.CodeNetwork},
		"a broken signature": {func() []byte {
			raw := signed(t, localtest.Network, chaintest.Rich, 0, pay)
			raw[len(raw)-1] = 7
			return raw
		}(), local.CodeSignature},
		"an account without a coin": {signed(t, localtest.Network, "nobody", 0, pay), local.CodeFunds},
		"a seat without a coin":     {signed(t, localtest.Network, "nobody", 0, local.Register{}), local.CodeFunds},
		"a record without a seat":   {signed(t, localtest.Network, "nobody", 0, local.Publish{}), local.CodeNotRegistered},
		"all but the fee":           {signed(t, localtest.Network, "no fee", 0, local.RemoveStake{}), local.CodeFunds},
		"more than fee and amount":  {signed(t, localtest.Network, "two fees", 0, local.Transfer{To: to, Amount: state.DefaultParams().Fee + 501}), local.CodeFunds},
		"a third with two fees":     {signed(t, localtest.Network, "two fees", 2, pay), local.CodeFunds},
		"all but the new account":   {signed(t, localtest.Network, "no new account", 0, local.Transfer{To: chain.Coldkey{9}, Amount: 500}), local.CodeFunds},
		"far ahead":                 {signed(t, localtest.Network, "spam0", perKey, pay), local.CodeNonce},
	} {
		if code, err := n.Submit(ctx, x.raw); err != nil || code != x.want {
			t.Errorf("%s: code %d, %v; want %d", name, code, err, x.want)
		}
	}

	before, _ := n.Height()
	taken, refused := 0, 0
	for i := range spammers * perKey {
		code, err := n.Submit(ctx, signed(t, localtest.Network, fmt.Sprint("spam", i/perKey), uint64(i%perKey), pay))
		switch {
		case err == nil && code == local.CodeOK:
			taken++
		case errors.Is(err, chain.ErrUnavailable):
			refused++
		default:
			t.Fatalf("transaction %d: code %d, %v", i, code, err)
		}
	}
	if h, _ := n.Height(); h == before && (taken != 1000 || refused != spammers*perKey-1000) {
		t.Errorf("%d transactions of strangers wait, %d were refused", taken, refused)
	}
	r, err := alice.Publish(ctx, chain.Record{Locator: []byte("here"), Digest: chain.Hash{1}})
	if err != nil || r.Block > before+2 {
		t.Errorf("alice's record is in block %d, submitted at %d: %v", r.Block, before, err)
	}
}
