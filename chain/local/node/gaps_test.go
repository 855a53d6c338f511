package node

import (
	"path/filepath"
	"slices"
	"testing"

	abci "github.com/cometbft/cometbft/abci/types"

	"sn3/chain/local"
)

// A transaction with a gap before its nonce costs no block any room; it runs when the gap is closed, and goes from the mempool
// when that takes too long.
func TestGaps(t *testing.T) {
	a := bare(t, filepath.Join(t.TempDir(), "a"))
	early := transfer(t, 2)
	waits := func() bool {
		t.Helper()
		r, err := a.CheckTx(ctx, &abci.RequestCheckTx{Tx: early, Type: abci.CheckTxType_Recheck})
		if err != nil {
			t.Fatal(err)
		}
		return local.Code(r.Code) == local.CodeOK
	}
	for i := range gapBlocks {
		if f, _ := block(t, a, early); len(f.TxResults) != 1 { // the beacon
			t.Fatalf("block %d ran it: %v", i, f.TxResults)
		}
		if !waits() {
			t.Fatalf("it went after %d blocks", i)
		}
	}
	block(t, a, early)
	if waits() {
		t.Error("it stays for good")
	}
	if f, _ := block(t, a, early, transfer(t, 1), transfer(t, 0)); len(f.TxResults) != 4 || slices.ContainsFunc(f.TxResults, func(r *abci.ExecTxResult) bool { return r.Code != 0 }) {
		t.Errorf("in any order: %v", f.TxResults)
	}
	early = transfer(t, 4) // another one has its own time, from the first time that it is seen
	for i := range gapBlocks - 1 {
		if block(t, a); !waits() {
			t.Fatalf("the second went after %d blocks", i)
		}
	}
	for range gapBlocks { // one that nobody looked at has left the mempool
		block(t, a)
	}
	r, err := a.CheckTx(ctx, &abci.RequestCheckTx{Tx: transfer(t, 5), Type: abci.CheckTxType_Recheck})
	if err != nil || local.Code(r.Code) != local.CodeOK {
		t.Errorf("a third one: %v, %v", r, err)
	}
	if block(t, a); !waits() {
		t.Error("when it comes again its time begins anew")
	}
}
