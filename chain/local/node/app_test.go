package node

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/ethereum/go-ethereum/crypto"
	bolt "go.etcd.io/bbolt"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/ledger"
	"sn3/chain/local/localtest"
	"sn3/chain/local/state"
)

var ctx = context.Background()

// bare is an app on a store that does not sync, without consensus.
func bare(t testing.TB, path string) *app {
	t.Helper()
	return bareOf(t, path, func(*state.Genesis) {})
}

// bareOf is bare with a change of the genesis.
func bareOf(t testing.TB, path string, change func(*state.Genesis)) *app {
	t.Helper()
	g, secret, err := localtest.Genesis(100, localtest.Actor{Name: "me", Seat: true, Balance: chain.RaoPerCoin}, localtest.Actor{Name: "stranger", Balance: chain.RaoPerCoin})
	if err != nil {
		t.Fatal(err)
	}
	change(g)
	st, err := openStore(path)
	if err != nil {
		t.Fatal(err)
	}
	st.db.NoSync = true
	machine, past, err := st.restore(g)
	if err != nil {
		t.Fatal(err)
	}
	a := &app{ledger: ledger.New(machine, past, ledger.Hints{}), store: st, signer: newSigner(nil, "", slog.New(slog.DiscardHandler)), keep: keepBlocks, shots: &shots{}, newest: state.NewestRules, log: slog.New(slog.DiscardHandler),
		failed: func(err error) { t.Errorf("failed: %v", err) }}
	a.signer.alone(secret)
	t.Cleanup(func() { _ = st.close() })
	return a
}

// block proposes, checks, runs and commits one block.
func block(t testing.TB, a *app, txs ...[]byte) (*abci.ResponseFinalizeBlock, *abci.ResponseCommit) {
	t.Helper()
	b, _ := a.ledger.Height()
	h := int64(b) + 1
	p, err := a.PrepareProposal(ctx, &abci.RequestPrepareProposal{Height: h, Txs: txs, MaxTxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	ok, err := a.ProcessProposal(ctx, &abci.RequestProcessProposal{Height: h, Txs: p.Txs})
	if err != nil || ok.Status != abci.ResponseProcessProposal_ACCEPT {
		t.Fatalf("own proposal: %v, %v", ok, err)
	}
	f, err := a.FinalizeBlock(ctx, &abci.RequestFinalizeBlock{Height: h, Txs: p.Txs, Time: time.Unix(h, 0)})
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.Commit(ctx, &abci.RequestCommit{})
	if err != nil {
		t.Fatal(err)
	}
	return f, c
}

func transfer(t testing.TB, nonce uint64) []byte {
	t.Helper()
	key, err := localtest.Key("me")
	if err != nil {
		t.Fatal(err)
	}
	tx, err := local.SignTx(localtest.Network, nonce, local.Transfer{To: chain.Coldkey{1}, Amount: 500}, local.Signer{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return tx.Encode()
}

// crowd are transactions that parse, each another one; their signatures are nobody's.
func crowd(t testing.TB, n int) (txs [][]byte) {
	t.Helper()
	one, err := local.ParseTx(transfer(t, 0))
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		one.Nonce = uint64(i)
		txs = append(txs, one.Encode())
	}
	return txs
}

// A store closed and opened again after any block gives the same hash, and so do the blocks after it.
func TestRestoreEveryBlock(t *testing.T) {
	dir := t.TempDir()
	a, b := bare(t, filepath.Join(dir, "a")), bare(t, filepath.Join(dir, "b"))
	for i := range 45 { // beyond two epochs and several windows
		var txs [][]byte
		if i%3 == 0 {
			txs = append(txs, transfer(t, uint64(i/3)))
		}
		fa, _ := block(t, a, txs...)
		fb, _ := block(t, b, txs...)
		if string(fa.AppHash) != string(fb.AppHash) || len(fa.TxResults) != 1+len(txs) || fa.TxResults[len(txs)].Code != 0 {
			t.Fatalf("block %d: %x and %x", i+1, fa.AppHash, fb.AppHash)
		}
		if err := b.store.close(); err != nil {
			t.Fatal(err)
		}
		b = bare(t, filepath.Join(dir, "b"))
		info, err := b.Info(ctx, &abci.RequestInfo{})
		if err != nil || info.LastBlockHeight != int64(i+1) || string(info.LastBlockAppHash) != string(fa.AppHash) {
			t.Fatalf("block %d: %+v, %v", i+1, info, err)
		}
	}
}

func TestProposals(t *testing.T) {
	a := bare(t, filepath.Join(t.TempDir(), "a"))
	p, err := a.PrepareProposal(ctx, &abci.RequestPrepareProposal{Height: 1, Txs: [][]byte{transfer(t, 0), transfer(t, 1)}, MaxTxBytes: 300})
	if err != nil || len(p.Txs) != 2 {
		t.Fatalf("%d transactions fit into 300 bytes, %v", len(p.Txs), err)
	}
	var many [][]byte
	for i := range maxPending + 1 {
		many = append(many, transfer(t, uint64(i)))
	}
	if full, err := a.PrepareProposal(ctx, &abci.RequestPrepareProposal{Height: 1, Txs: many, MaxTxBytes: maxBlock}); err != nil || len(full.Txs) != 1+maxPending {
		t.Errorf("a proposal of %d transactions, %v", len(full.Txs), err)
	}
	good := p.Txs[0]
	bad := append([]byte(nil), good...)
	bad[20] ^= 1
	for name, x := range map[string]struct {
		height int64
		txs    [][]byte
		want   abci.ResponseProcessProposal_ProposalStatus
	}{
		"good":                  {1, [][]byte{good, transfer(t, 0)}, abci.ResponseProcessProposal_ACCEPT},
		"without transaction":   {1, [][]byte{good}, abci.ResponseProcessProposal_ACCEPT},
		"empty":                 {1, nil, abci.ResponseProcessProposal_ACCEPT}, // its proposer may lack the beacon's key
		"no beacon":             {1, [][]byte{transfer(t, 0)}, abci.ResponseProcessProposal_ACCEPT},
		"a beacon too short":    {1, [][]byte{good[:beaconTxLen-1]}, abci.ResponseProcessProposal_REJECT},
		"a beacon too long":     {1, [][]byte{append(good[:beaconTxLen:beaconTxLen], 0)}, abci.ResponseProcessProposal_REJECT},
		"wrong beacon":          {1, [][]byte{bad}, abci.ResponseProcessProposal_REJECT},
		"of a late round":       {2, [][]byte{good}, abci.ResponseProcessProposal_ACCEPT},
		"of a round to come":    {1, [][]byte{encodeBeacon(state.Beacon{Round: 1, Signature: good[9:]})}, abci.ResponseProcessProposal_REJECT},
		"beacon behind":         {1, [][]byte{transfer(t, 0), good}, abci.ResponseProcessProposal_REJECT},
		"two beacons":           {1, [][]byte{good, good}, abci.ResponseProcessProposal_REJECT},
		"garbage":               {1, [][]byte{good, []byte("garbage")}, abci.ResponseProcessProposal_REJECT},
		"a transaction twice":   {1, [][]byte{good, transfer(t, 0), transfer(t, 0)}, abci.ResponseProcessProposal_REJECT},
		"all there is room for": {1, append([][]byte{good}, crowd(t, maxPending)...), abci.ResponseProcessProposal_ACCEPT},
		"one more":              {1, append([][]byte{good}, crowd(t, maxPending+1)...), abci.ResponseProcessProposal_REJECT},
	} {
		got, err := a.ProcessProposal(ctx, &abci.RequestProcessProposal{Height: x.height, Txs: x.txs})
		if err != nil || got.Status != x.want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// FinalizeBlock gives a result for whatever other validators agreed on.
func TestFinalizeGarbage(t *testing.T) {
	a := bare(t, filepath.Join(t.TempDir(), "a"))
	for i, txs := range [][][]byte{nil, {nil}, {{}, {0xB1}, {1}}, {make([]byte, 49)}, {append([]byte{0xB1}, make([]byte, 56)...), append([]byte{0xB1}, make([]byte, 56)...)}, {transfer(t, 7), transfer(t, 0), transfer(t, 0)}} {
		f, err := a.FinalizeBlock(ctx, &abci.RequestFinalizeBlock{Height: int64(i + 1), Txs: txs})
		if err != nil || len(f.TxResults) != len(txs) {
			t.Errorf("block %d: %v", i+1, err)
		}
		if _, err := a.Commit(ctx, &abci.RequestCommit{}); err != nil {
			t.Error(err)
		}
	}
	tx, err := local.ParseTx(transfer(t, 0))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := a.ledger.Query(ctx, local.QueryTx, tx.Hash().String())
	if err != nil || !strings.Contains(string(raw), `"code":0`) {
		t.Errorf("the second copy hides the first one's success: %s, %v", raw, err)
	}
}

// A block that cannot be saved, or a panic, ends the node instead of letting it go on.
func TestFailures(t *testing.T) {
	a := bare(t, filepath.Join(t.TempDir(), "a"))
	var failed error
	a.failed = func(err error) { failed = err }
	if _, err := a.Commit(ctx, &abci.RequestCommit{}); !errors.Is(err, errNothingToCommit) || failed != nil {
		t.Errorf("commit without a block: %v, %v", err, failed)
	}
	whole := a.ledger
	a.ledger = nil
	if _, err := a.FinalizeBlock(ctx, &abci.RequestFinalizeBlock{Height: 1}); err == nil || failed == nil || !strings.Contains(err.Error(), "execute block 1: panic") {
		t.Errorf("a panic became %v, %v", err, failed)
	}
	a.ledger, failed = whole, nil
	if err := a.store.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.FinalizeBlock(ctx, &abci.RequestFinalizeBlock{Height: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Commit(ctx, &abci.RequestCommit{}); err == nil || !errors.Is(failed, err) && failed.Error() != err.Error() || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("a lost block became %v, %v", err, failed)
	}
	if raw, err := a.ledger.Query(ctx, local.QueryStatus, ""); err != nil || !strings.Contains(string(raw), `"height":0`) {
		t.Errorf("a block that was not saved is announced: %s, %v", raw, err)
	}
}

// The whole node ends, and can be closed, when its disk fails.
func TestNodeEndsWhenItsDiskFails(t *testing.T) {
	g, _, err := localtest.Genesis(100)
	if err != nil {
		t.Fatal(err)
	}
	g.BeaconKey = nil
	dir := filepath.Join(t.TempDir(), "chain")
	if err := Init(dir, g, DefaultNet()); err != nil {
		t.Fatal(err)
	}
	n, err := Start(Options{Home: dir, Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.app.store.close(); err != nil { // commits fail from here on
		t.Fatal(err)
	}
	wait, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := n.Wait(wait); err == nil || !strings.Contains(err.Error(), "save block") {
		t.Errorf("the node says %v", err)
	}
	if err := n.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// Old blocks, heads and outcomes go: what a node holds does not grow with the height.
func TestDiskIsBounded(t *testing.T) {
	a := bare(t, filepath.Join(t.TempDir(), "a"))
	const blocks = ledger.Keep + 300
	retained, first := int64(0), transfer(t, 0)
	for h := int64(1); h <= blocks; h++ {
		req := &abci.RequestFinalizeBlock{Height: h, Time: time.Unix(h, 0)}
		if h == 1 {
			req.Txs = [][]byte{first}
		}
		if _, err := a.FinalizeBlock(ctx, req); err != nil {
			t.Fatal(err)
		}
		c, err := a.Commit(ctx, &abci.RequestCommit{})
		if err != nil {
			t.Fatal(err)
		}
		retained = max(retained, c.RetainHeight)
	}
	if retained < blocks-keepBlocks-pruneEvery || retained > blocks-keepBlocks {
		t.Errorf("CometBFT may drop what is below %d at height %d", retained, blocks)
	}
	count := map[string]int{}
	err := a.store.db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			count[string(name)] = b.Stats().KeyN
			return nil
		})
	})
	if err != nil || count["head"] != ledger.Keep || count["tx"] != 0 || count["state"] > 2000 || count["undo"] > 2*state.RecentBlocks {
		t.Errorf("entries %v, %v", count, err)
	}
	tx, err := local.ParseTx(first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.ledger.Query(ctx, local.QueryTx, tx.Hash().String()); !errors.Is(err, chain.ErrNotFound) {
		t.Errorf("an outcome is kept for good: %v", err)
	}
	heads, err := a.ledger.Heads(ctx, 0)
	if err != nil || heads[0].Block != blocks-ledger.Keep+1 {
		t.Errorf("oldest head %+v, %v", heads[0], err)
	}
	for b, want := range map[string]error{"0": chain.ErrPruned, strconv.Itoa(blocks - ledger.Keep): chain.ErrPruned,
		strconv.Itoa(blocks - ledger.Keep + 1): nil, strconv.Itoa(blocks): nil, strconv.Itoa(blocks + 1): chain.ErrNotYet} {
		if _, err := a.ledger.Query(ctx, local.QueryHead, b); !errors.Is(err, want) {
			t.Errorf("head %s: error %v, want %v", b, err, want)
		}
	}
	if h, err := local.NewClient(backendOf{a.ledger}, nil).Head(ctx, blocks); err != nil || h.Block != blocks || h.Time.Unix() != blocks ||
		h.AppHash != hashOf(a) {
		t.Errorf("newest head %+v, %v", h, err)
	}
}

// backendOf is a ledger without a mempool.
type backendOf struct{ *ledger.Ledger }

// Submit takes nothing.
func (backendOf) Submit(context.Context, []byte) (local.Code, error) {
	return local.CodeUnavailable, nil
}

func hashOf(a *app) chain.Hash {
	_, x := a.ledger.Height()
	return x
}

// supplies are those of the first blocks.
func supplies(t *testing.T, a *app, blocks int) (out []local.Supply) {
	t.Helper()
	for b := range blocks {
		s, err := local.NewClient(backendOf{a.ledger}, nil).Supply(ctx, chain.Block(b+1))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}

// A restarted node knows hash and supply of every block that it lists; heads in another form are another version's.
func TestHeadsOnDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	a := bare(t, path)
	var want []local.HeadInfo
	for i := range 5 {
		block(t, a)
		h, x := a.ledger.Height()
		want = append(want, local.HeadInfo{Block: h, Time: time.Unix(int64(i+1), 0).UTC(), AppHash: x})
	}
	sums := supplies(t, a, 5)
	if err := a.store.close(); err != nil {
		t.Fatal(err)
	}
	a = bare(t, path)
	if again := supplies(t, a, 5); !slices.Equal(sums, again) || !sums[4].Holds() || !sums[4].Audited || sums[4].Emitted != 5*chain.RaoPerCoin {
		t.Errorf("supplies %+v, before the restart %+v", again, sums)
	}
	for i, w := range want {
		got, err := local.NewClient(backendOf{a.ledger}, nil).Head(ctx, w.Block)
		if err != nil || got != w || i > 0 && got.AppHash == want[i-1].AppHash {
			t.Errorf("head %+v, %v; before the restart %+v", got, err, w)
		}
	}
	if err := a.store.db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketHead).Put(make([]byte, 8), make([]byte, 8))
	}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.store.restore(a.ledger.Genesis()); !errors.Is(err, state.ErrVersion) {
		t.Errorf("a head without a hash: %v", err)
	}
}

func FuzzBlock(f *testing.F) {
	sum := sha256.Sum256([]byte("fuzz"))
	key, err := crypto.ToECDSA(sum[:])
	if err != nil {
		f.Fatal(err)
	}
	tx, err := local.SignTx(localtest.Network, 0, local.Register{}, local.Signer{Key: key})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(tx.Encode(), []byte{beaconTx})
	f.Add([]byte{}, make([]byte, 49))
	a := bare(f, filepath.Join(f.TempDir(), "a"))
	f.Fuzz(func(t *testing.T, x, y []byte) {
		h, _ := a.ledger.Height()
		if _, err := a.CheckTx(ctx, &abci.RequestCheckTx{Tx: x}); err != nil {
			t.Fatal(err)
		}
		if _, err := a.ProcessProposal(ctx, &abci.RequestProcessProposal{Height: int64(h) + 1, Txs: [][]byte{y, x}}); err != nil {
			t.Fatal(err)
		}
		if r, err := a.FinalizeBlock(ctx, &abci.RequestFinalizeBlock{Height: int64(h) + 1, Txs: [][]byte{y, x, y}}); err != nil || len(r.TxResults) != 3 {
			t.Fatalf("%v, %v", r, err)
		}
		if _, err := a.Commit(ctx, &abci.RequestCommit{}); err != nil {
			t.Fatal(err)
		}
	})
}
