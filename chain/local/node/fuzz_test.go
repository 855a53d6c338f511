package node

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	cometproto "github.com/cometbft/cometbft/proto/tendermint/types"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/ledger"
	"sn3/chain/local/localtest"
	"sn3/chain/local/state"
)

// pieces cuts bytes at length prefixes of two bytes: what a fuzzer can make transactions of.
func pieces(b []byte) (out [][]byte) {
	for len(b) >= 2 && len(out) < 64 {
		n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
		out = append(out, b[2:2+n])
		b = b[2+n:]
	}
	return out
}

func joined(list ...[]byte) (b []byte) {
	for _, p := range list {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(p))), p...)
	}
	return b
}

// FuzzABCI gives two applications whatever an engine may bring from strangers: transactions for the mempool, proposals, blocks
// that were decided all the same, queries. Nothing panics, and both have the same state after every block.
func FuzzABCI(f *testing.F) {
	key, err := localtest.Key("me")
	if err != nil {
		f.Fatal(err)
	}
	var seeds [][]byte
	for i, op := range []local.Op{local.Transfer{To: chain.Coldkey{1}, Amount: 500}, local.Publish{Record: chain.Record{Body: []byte{1, 2}}}, local.SetWeights{Weights: []chain.Weight{{UID: 0, Value: 1}}},
		local.AddStake{Hotkey: chain.Hotkey{1}, Amount: 3_000_000}, local.Register{}, local.SetParam{Name: "fee", Value: 1}, local.SetValidator{Key: chain.Hash{1}, Power: 1}, local.Upgrade{Version: 9, At: 100}} {
		tx, err := local.SignTx(localtest.Network, uint64(i), op, local.Signer{Key: key})
		if err != nil {
			f.Fatal(err)
		}
		seeds = append(seeds, tx.Encode())
		f.Add(joined(tx.Encode()), "account", int64(0), int64(1<<20))
	}
	f.Add(joined(seeds...), "snapshot", int64(-1), int64(100))
	f.Add(joined(append([]byte{beaconTx}, make([]byte, beaconTxLen-1)...), seeds[0], seeds[0], nil), "head", int64(1)<<62, int64(-1))
	g, secret, err := localtest.Genesis(100, localtest.Actor{Name: "me", Seat: true, Balance: chain.RaoPerCoin})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte, query string, number, room int64) {
		a, b := fresh(t, g, secret), fresh(t, g, secret)
		txs := pieces(raw)
		run(t, a, b, nil, number)
		for i, tx := range txs {
			r, err := a.CheckTx(ctx, &abci.RequestCheckTx{Tx: tx, Type: abci.CheckTxType(i % 3)})
			if err != nil || local.Code(r.Code).Err() == nil && local.Code(r.Code) != local.CodeOK {
				t.Errorf("transaction %x: %v, %v", tx, r, err)
			}
		}
		if e, err := a.ExtendVote(ctx, &abci.RequestExtendVote{Height: number, Txs: txs}); err != nil || len(e.VoteExtension) == 0 {
			t.Errorf("vote for height %d: %v, %v", number, e, err)
		}
		if r, err := a.VerifyVoteExtension(ctx, &abci.RequestVerifyVoteExtension{Height: number, VoteExtension: raw}); err != nil || r.Status == abci.ResponseVerifyVoteExtension_UNKNOWN {
			t.Errorf("a vote extension: %v, %v", r, err)
		}
		votes := abci.ExtendedCommitInfo{Votes: []abci.ExtendedVoteInfo{{VoteExtension: raw}, {}}}
		p, err := a.PrepareProposal(ctx, &abci.RequestPrepareProposal{LocalLastCommit: votes, Height: number, Txs: txs, MaxTxBytes: room, Time: time.Unix(number, room)})
		if err != nil {
			t.Errorf("proposal of height %d: %v", number, err)
		}
		for _, list := range [][][]byte{txs, p.Txs} {
			if r, err := a.ProcessProposal(ctx, &abci.RequestProcessProposal{Height: number, Txs: list}); err != nil || r.Status == abci.ResponseProcessProposal_UNKNOWN {
				t.Errorf("a proposal: %v, %v", r, err)
			}
		}
		run(t, a, b, txs, number)
		questions(t, a, query, raw)
		slices.Reverse(txs)
		run(t, a, b, txs, number)
	})
}

// fresh is an application in memory: a store would cost more than all the rest.
func fresh(t *testing.T, g *state.Genesis, secret []byte) *app {
	st, err := state.New(g)
	if err != nil {
		t.Fatal(err)
	}
	a := &app{ledger: ledger.New(st, ledger.Past{}, ledger.Hints{}), signer: newSigner(nil, "", slog.New(slog.DiscardHandler)), keep: keepBlocks, signed: map[string]chain.Block{}, newest: state.NewestRules,
		failed: func(err error) { t.Errorf("it ended: %v", err) }}
	a.signer.alone(secret)
	return a
}

// questions asks what a client may ask, with any argument; an error is one that a caller can name or that says what is wrong.
func questions(t *testing.T, a *app, query string, raw []byte) {
	for _, name := range []string{query, local.QueryAccount, local.QuerySnapshot, local.QueryHistory, local.QueryBalance, local.QueryHead, local.QueryTx, local.QueryBeacon, local.QuerySelection} {
		out, err := a.ledger.Query(ctx, name, string(raw))
		if err == nil && len(out) == 0 || err != nil && (err.Error() == "" || errors.Is(err, chain.ErrUnavailable)) {
			t.Errorf("query %q: %q, %v", name, out, err)
		}
	}
	if _, err := a.Query(ctx, &abci.RequestQuery{Path: query, Data: raw, Height: int64(len(raw))}); err != nil {
		t.Errorf("the engine's query: %v", err)
	}
}

// run executes one block on both.
func run(t *testing.T, a, b *app, txs [][]byte, number int64) {
	h, _ := a.ledger.Height()
	r := &abci.RequestFinalizeBlock{Height: int64(h) + 1, Txs: txs, Time: time.Unix(int64(h), number%1e9),
		DecidedLastCommit: abci.CommitInfo{Votes: []abci.VoteInfo{{Validator: abci.Validator{Address: []byte{byte(number)}}, BlockIdFlag: cometproto.BlockIDFlag(number % 5)}, {}}},
		Misbehavior:       []abci.Misbehavior{{Type: abci.MisbehaviorType(number % 3), Height: number}}, ProposerAddress: []byte{byte(number)}}
	var hashes []string
	for _, x := range []*app{a, b} {
		res, err := x.FinalizeBlock(ctx, r)
		if err != nil || len(res.TxResults) != len(txs) {
			t.Fatalf("block %d of %d transactions: %v, %v", r.Height, len(txs), res, err)
		}
		x.ledger.Commit(x.pending)
		hashes = append(hashes, string(res.AppHash))
	}
	if hashes[0] != hashes[1] {
		t.Fatalf("block %d gives %x and %x", r.Height, hashes[0], hashes[1])
	}
}
