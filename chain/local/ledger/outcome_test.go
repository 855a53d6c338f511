package ledger_test

import (
	"errors"
	"testing"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/ledger"
	"sn3/chain/local/localtest"
	"sn3/chain/local/state"
)

// Whatever a proposer puts into a block, only what used up a nonce is remembered, so that nobody fills disks for nothing.
func TestOutcomesUseUpNonces(t *testing.T) {
	d := devchain(t)
	rich, err := localtest.Key("rich")
	if err != nil {
		t.Fatal(err)
	}
	poor, err := localtest.Key("poor")
	if err != nil {
		t.Fatal(err)
	}
	sign := func(network string, nonce uint64, op local.Op, k local.Signer) *local.Tx {
		tx, err := local.SignTx(network, nonce, op, k)
		if err != nil {
			t.Fatal(err)
		}
		return tx
	}
	by, nobody := local.Signer{Key: rich}, local.Signer{Key: poor}
	pay := local.Transfer{To: chain.Coldkey{9}, Amount: 500}
	good, again, dear := sign(localtest.Network, 0, pay, by), sign(localtest.Network, 0, local.Transfer{To: chain.Coldkey{8}, Amount: 500}, by),
		sign(localtest.Network, 1, local.Transfer{To: chain.Coldkey{9}, Amount: 1 << 62}, by)
	forged := sign(localtest.Network, 7, pay, by)
	forged.Sig = [65]byte{1}
	list := []*local.Tx{sign(localtest.Network, 3, pay, by), good, good, again, forged, dear, sign("another", 2, pay, by),
		sign(localtest.Network, 0, local.SetWeights{}, nobody), sign(localtest.Network, 0, local.CommitWeights{}, nobody), sign(localtest.Network, 0, pay, nobody)}
	var txs [][]byte
	for _, tx := range list {
		txs = append(txs, tx.Encode())
	}
	for b := chain.Block(1); b <= 2; b++ { // the second time all of it is old
		d.Commit(d.Execute(chain.Head{Block: b}, nil, nil, txs))
		for i, tx := range list {
			raw, err := d.Query(t.Context(), local.QueryTx, tx.Hash().String())
			switch want := map[*local.Tx]string{good: `{"block":1,"code":0}`, dear: `{"block":1,"code":5}`}[tx]; {
			case want == "" && !errors.Is(err, chain.ErrNotFound):
				t.Errorf("block %d: transaction %d, which nobody paid for, is remembered: %s, %v", b, i, raw, err)
			case want != "" && string(raw) != want:
				t.Errorf("block %d: transaction %d: %s, %v, want %s", b, i, raw, err, want)
			}
		}
	}
}

// A node that does not know all blocks since one does not say that a transaction is in none of them.
func TestNotSince(t *testing.T) {
	d := devchain(t)
	if err := d.Run(5); err != nil {
		t.Fatal(err)
	}
	hash := chain.Hash{7}.String()
	ask := func(since string) error {
		_, err := d.Query(t.Context(), local.QueryTx, hash+"@"+since)
		return err
	}
	for _, since := range []string{"0", "3", "9"} {
		if err := ask(since); !errors.Is(err, chain.ErrNotFound) {
			t.Errorf("since %s: %v", since, err)
		}
	}
	for _, bad := range []string{"", "x", "-1"} {
		if err := ask(bad); !errors.Is(err, ledger.ErrQuery) {
			t.Errorf("since %q: %v", bad, err)
		}
	}
	st, err := state.New(d.Genesis())
	if err != nil {
		t.Fatal(err)
	}
	d.Replace(st, ledger.Past{Heads: []local.HeadInfo{{Block: 4}}}) // as by a snapshot
	for since, want := range map[string]error{"0": chain.ErrPruned, "3": chain.ErrPruned, "4": chain.ErrNotFound} {
		if err := ask(since); !errors.Is(err, want) {
			t.Errorf("joined at block 4, since %s: %v", since, err)
		}
	}
	d.Replace(st, ledger.Past{})
	if err := ask("0"); !errors.Is(err, chain.ErrPruned) {
		t.Errorf("nothing is known: %v", err)
	}
}
