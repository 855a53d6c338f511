package ledger_test

import (
	"errors"
	"testing"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/localtest"
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
