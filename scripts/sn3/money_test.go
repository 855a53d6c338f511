package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/localtest"
	"sn3/chain/local/wallet"
	"sn3/internal/proc"
)

// liar is a node whose figures do not add up.
type liar struct{ localtest.Instant }

// Query answers as the node, but for the supply.
func (l liar) Query(ctx context.Context, name, arg string) (json.RawMessage, error) {
	raw, err := l.Instant.Query(ctx, name, arg)
	if name == local.QuerySupply && err == nil {
		raw = []byte(strings.Replace(string(raw), `"burned":0`, `"burned":1`, 1))
	}
	return raw, err
}

// bank is a chain that makes a block for every transaction, and keystores for its actors.
func bank(t *testing.T) (w *town, dev localtest.Instant, keys map[string][]string) {
	t.Helper()
	const coin = chain.RaoPerCoin
	g, secret, err := localtest.Genesis(250, localtest.Actor{Name: "boss", Seat: true, Stake: 300 * coin, Balance: coin}, localtest.Actor{Name: "alice", Balance: 5 * coin})
	if err != nil {
		t.Fatal(err)
	}
	d, err := localtest.NewDevChain(g, secret, time.Unix(1000, 0))
	if err != nil {
		t.Fatal(err)
	}
	dev = localtest.Instant{DevChain: d}
	if err := d.Run(1); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(local.Handler(dev))
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	pass := filepath.Join(dir, "pass")
	if err := os.WriteFile(pass, []byte("open\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys = map[string][]string{}
	for _, name := range []string{"boss", "alice"} {
		key, err := localtest.Key(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := wallet.Create(dir, name, key, "open", true); err != nil {
			t.Fatal(err)
		}
		keys[name] = []string{"--keystore", wallet.Path(dir, name), "--passphrase-file", pass}
	}
	return &town{t: t, addr: strings.TrimPrefix(srv.URL, "http://")}, dev, keys
}

func hexOf(t *testing.T, name string) string {
	t.Helper()
	key, err := localtest.Key(name)
	if err != nil {
		t.Fatal(err)
	}
	return local.AccountOf(&key.PublicKey).String()
}

// What people do with coins: the supply adds up at every height, stakes are put on a hotkey and taken back.
func TestMoney(t *testing.T) {
	w, dev, keys := bank(t)
	by := func(name string, args ...string) []string { return append(args, keys[name]...) }
	w.says("network sn3-test, block 1, in coins", "chain", "supply")
	w.says("308.000000000 issued = 307.000000000 held + 0.000000000 burned + 1.000000000 pending:\nit holds (recomputed by the node from every entry of the state)", "chain", "supply")
	w.fails(chain.ErrNotYet, "chain", "supply", "--at", "100")

	w.says("staked 2.000000000 on", by("alice", "stake", "add", "0", "2")...)
	w.says("staked  2.000000000  on "+hexOf(t, "boss"), "stake", "show", hexOf(t, "alice"))
	w.says("unstaked 0.500000000 from", by("alice", "stake", "remove", "0", "0.5")...)
	w.says("unstaked  0.500000000  paid out at block 1003, in 1000", "stake", "show", hexOf(t, "alice"))
	w.says("unstaked all from", by("alice", "stake", "remove", hexOf(t, "boss"), "all")...)
	w.says("takes 5 % of dividends", by("boss", "stake", "take", "0", "5")...)
	w.says("nothing is staked", "stake", "show", hexOf(t, "boss")[:62]+"00")
	for _, args := range [][]string{by("alice", "stake", "add", "0", "100"), by("alice", "stake", "remove", "0", "1")} {
		w.fails(chain.ErrFunds, args...)
	}
	for want, args := range map[local.Code][]string{local.CodeAmount: by("boss", "stake", "add", "0", "0.000000001"), local.CodeNotOwner: by("alice", "stake", "take", "0", "1"),
		local.CodeTake: by("boss", "stake", "take", "0", "50"), local.CodePrice: by("alice", "register", "--limit", "0.1"), local.CodeNoHotkey: by("boss", "stake", "add", hexOf(t, "alice"), "0.1")} {
		_, err := w.sn3(args...)
		var refused *local.TxError
		if !errors.As(err, &refused) || refused.Code != want || proc.ExitCode(err) != proc.ExitRefused {
			t.Errorf("sn3 %s: %v, want code %d", strings.Join(args[:4], " "), err, want)
		}
	}
	w.says("registered with uid 1", by("alice", "register", "--limit", "1.5")...)
	for _, args := range [][]string{by("boss", "stake", "take", "0", "101"), by("boss", "stake", "add", "0", "many"), by("boss", "stake", "remove", "0", "-1"), {"stake", "show", "00"}} {
		if _, err := w.sn3(args...); proc.ExitCode(err) != proc.ExitUsage {
			t.Errorf("sn3 %s: %v", strings.Join(args, " "), err)
		}
	}
	h, _ := dev.Height()
	if err := dev.Run(h + 50); err != nil {
		t.Fatal(err)
	}
	w.says("it holds", "chain", "supply", "--at", "1")
	w.says("block 20, in coins", "chain", "supply", "--at", "20")
	out, err := w.sn3("chain", "supply", "--at", "20", "--json")
	var sums local.Supply
	if err != nil || json.Unmarshal([]byte(out), &sums) != nil || sums.Block != 20 || !sums.Holds() {
		t.Errorf("%v, printed %q", err, out)
	}
}

// A node that has lost coins, or lies, is not believed.
func TestSupplyThatDoesNotAddUp(t *testing.T) {
	w, dev, _ := bank(t)
	srv := httptest.NewServer(local.Handler(liar{dev}))
	defer srv.Close()
	w.addr = strings.TrimPrefix(srv.URL, "http://")
	for _, args := range [][]string{{"chain", "supply"}, {"chain", "supply", "--json"}} {
		out, err := w.sn3(args...)
		if !errors.Is(err, errSupply) || proc.ExitCode(err) != 1 || strings.Contains(out, "it holds") {
			t.Errorf("%v, printed %q", err, out)
		}
	}
}

// Who interrupts a payment that a node has learns where to look for it, and that is shown.
func TestInterruptedPayment(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	pending := &local.PendingError{Tx: chain.Hash{7}, Err: context.Canceled}
	if err := ending(ctx, fmt.Errorf("pay: %w", pending), nil); !errors.Is(err, pending) || proc.ExitCode(err) != proc.ExitFailure {
		t.Errorf("not interrupted: %v", err)
	}
	cancel(proc.ErrInterrupted)
	if err := ending(ctx, pending, nil); proc.ExitCode(err) != proc.ExitInterrupted || !strings.Contains(err.Error(), "sn3 chain tx 07000000") {
		t.Errorf("interrupted: %v", err)
	}
	if err := ending(ctx, context.Canceled, nil); err != proc.ErrInterrupted {
		t.Errorf("a command without a transaction: %v", err)
	}
}
