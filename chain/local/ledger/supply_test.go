package ledger_test

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"testing"
	"time"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/ledger"
	"sn3/chain/local/localtest"
	"sn3/chain/local/state"
)

const coin = chain.RaoPerCoin

func devchain(t *testing.T) *localtest.DevChain {
	t.Helper()
	g, secret, err := localtest.Genesis(500, localtest.Actor{Name: "boss", Seat: true, Stake: 300 * coin}, localtest.Actor{Name: "rich", Balance: 5 * coin})
	if err != nil {
		t.Fatal(err)
	}
	d, err := localtest.NewDevChain(g, secret, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func supply(t *testing.T, d *localtest.DevChain, arg string) (s local.Supply, err error) {
	t.Helper()
	raw, err := d.Query(t.Context(), local.QuerySupply, arg)
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	return s, err
}

// The supply of every kept block adds up and is what it was then; of others it is not known.
func TestSupplyByHeight(t *testing.T) {
	d := devchain(t)
	if s, err := supply(t, d, ""); err != nil || !s.Holds() || !s.Audited || s.Issued != 306*coin || s.Emitted != 0 {
		t.Errorf("genesis: %+v, %v", s, err)
	}
	if err := d.Run(30); err != nil {
		t.Fatal(err)
	}
	for b := range chain.Block(31) {
		s, err := supply(t, d, strconv.Itoa(int(b)))
		if err != nil || !s.Holds() || !s.Audited || s.Block != b || s.Emitted != chain.Amount(b)*coin {
			t.Errorf("block %d: %+v, %v", b, s, err)
		}
	}
	for arg, want := range map[string]error{"31": chain.ErrNotYet, "18446744073709551615": chain.ErrNotYet, "x": ledger.ErrQuery, "-1": ledger.ErrQuery} {
		if _, err := supply(t, d, arg); !errors.Is(err, want) {
			t.Errorf("supply of %s: %v, want %v", arg, err, want)
		}
	}
	for b := chain.Block(31); b <= ledger.Keep+1; b++ { // without beacons, which cost a signature each
		d.Commit(d.Execute(chain.Head{Block: b}, nil, nil, nil))
	}
	for _, arg := range []string{"0", "1"} {
		if _, err := supply(t, d, arg); !errors.Is(err, chain.ErrPruned) {
			t.Errorf("supply of %s: %v", arg, err)
		}
	}
}

// A transaction that was refused before its account paid for it is not settled: when the account can pay, the same bytes are
// executed, and the first outcome is not taken for theirs.
func TestRefusedForNothingMayComeAgain(t *testing.T) {
	d := devchain(t)
	poor, err := localtest.Key("poor")
	if err != nil {
		t.Fatal(err)
	}
	rich, err := localtest.Key("rich")
	if err != nil {
		t.Fatal(err)
	}
	account := chain.Coldkey(local.AccountOf(&poor.PublicKey))
	tx, err := local.SignTx(localtest.Network, 0, local.Transfer{To: chain.Coldkey{9}, Amount: 500}, local.Signer{Key: poor})
	if err != nil {
		t.Fatal(err)
	}
	e := d.Execute(chain.Head{Block: 1}, nil, nil, [][]byte{tx.Encode()}) // a proposer may put anything into a block
	d.Commit(e)
	if e.State.Codes[0] != local.CodeFunds {
		t.Fatalf("code %d", e.State.Codes[0])
	}
	if _, err := d.Query(t.Context(), local.QueryTx, tx.Hash().String()); !errors.Is(err, chain.ErrNotFound) {
		t.Errorf("its outcome is settled: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	b := localtest.Instant{DevChain: d}
	if err := local.NewClient(b, local.Signer{Key: rich}).Transfer(ctx, account, coin); err != nil {
		t.Fatal(err)
	}
	if err := local.NewClient(b, local.Signer{Key: poor}).Transfer(ctx, chain.Coldkey{9}, 500); err != nil {
		t.Fatal(err)
	}
	raw, err := d.Query(ctx, local.QueryTx, tx.Hash().String())
	if err != nil || string(raw) != `{"block":3,"code":0}` {
		t.Errorf("%s, %v", raw, err)
	}
}

// A large state is audited for who asks, but not again and again.
func TestAuditsOfALargeState(t *testing.T) {
	g, secret, err := localtest.Genesis(500, localtest.Actor{Name: "boss", Seat: true, Stake: 300 * coin})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40_100 { // every third block is audited
		g.Accounts = append(g.Accounts, state.Account{Coldkey: chain.Coldkey{1, byte(i), byte(i >> 8)}, Balance: coin})
	}
	d, err := localtest.NewDevChain(g, secret, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	for b := chain.Block(1); b <= 10; b++ {
		d.Commit(d.Execute(chain.Head{Block: b}, nil, nil, nil))
		want := b%3 == 0 || b == 4 || b == 7 || b == 10
		for range 2 {
			if s, err := supply(t, d, ""); err != nil || s.Audited != want {
				t.Errorf("block %d: audited %v, %v", b, s.Audited, err)
			}
		}
	}
}
