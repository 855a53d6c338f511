package node

import (
	"path/filepath"
	"strconv"
	"testing"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/ledger"
	"sn3/chain/local/localtest"
	"sn3/chain/local/quorum"
	"sn3/chain/local/state"
)

// A node that was restarted answers like one that ran on: clients which compare the two find no contradiction.
func TestRestartedNodeAgrees(t *testing.T) {
	a := bare(t, filepath.Join(t.TempDir(), "a"))
	key, err := localtest.Key("me")
	if err != nil {
		t.Fatal(err)
	}
	record := func(nonce uint64, r chain.Record) []byte {
		tx, err := local.SignTx(localtest.Network, nonce, local.Publish{Record: r}, local.Signer{Key: key})
		if err != nil {
			t.Fatal(err)
		}
		return tx.Encode()
	}
	block(t, a, transfer(t, 0))
	block(t, a, record(1, chain.Record{}))
	for range 30 {
		block(t, a)
	}
	block(t, a, record(2, chain.Record{Body: []byte("x")}))
	for range 22 {
		block(t, a)
	}
	for i, txs := range [][][]byte{{record(3, chain.Record{Body: []byte("y")})}, {transfer(t, 4)}, nil, {record(5, chain.Record{Body: []byte("z")}), transfer(t, 6)}, nil, nil, nil, nil} {
		if f, _ := block(t, a, txs...); len(f.TxResults) != 1+len(txs) || len(txs) > 0 && f.TxResults[len(txs)].Code != 0 {
			t.Fatalf("block %d: %v", i, f.TxResults)
		}
	}
	machine, past, err := a.store.restore(a.ledger.Genesis())
	if err != nil {
		t.Fatal(err)
	}
	again := ledger.New(machine, past, ledger.Hints{})
	q := quorum.New([]quorum.Endpoint{{Name: "ran on", Node: backendOf{a.ledger}}, {Name: "restarted", Node: backendOf{again}}},
		func(n quorum.Notice) { t.Errorf("told: %s", n) })
	compared := 0
	for _, name := range []string{local.QueryStatus, local.QueryRun, local.QueryGenesis} {
		if _, err := q.Query(ctx, name, ""); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for b := range 64 {
		for _, name := range []string{local.QuerySnapshot, local.QuerySelection, local.QueryBeacon, local.QueryKey} {
			arg := strconv.Itoa(b)
			_, err := again.Query(ctx, name, arg)
			if name == local.QuerySnapshot && 63-b < state.RecentBlocks && b <= 63 && err != nil {
				t.Errorf("block %d, one of the newest: %v", b, err)
			}
			if err != nil {
				continue // not kept, or not yet
			}
			if _, err := q.Query(ctx, name, arg); err != nil {
				t.Errorf("%s %s: %v", name, arg, err)
			}
			compared++
		}
	}
	for _, raw := range [][]byte{transfer(t, 0), record(1, chain.Record{}), record(2, chain.Record{Body: []byte("x")})} {
		tx, err := local.ParseTx(raw)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := q.Query(ctx, local.QueryTx, tx.Hash().String()); err != nil {
			t.Error(err)
		}
	}
	if err := q.Steady(ctx); err != nil || compared < 60 {
		t.Errorf("%v after %d comparisons", err, compared)
	}
}
