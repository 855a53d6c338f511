package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/localtest"
	"sn3/chain/local/state"
	"sn3/internal/proc"
)

// What the chain knows is shown: blocks, seats, weights, parameters, and a hotkey's history from its registration on.
func TestChainViews(t *testing.T) {
	w, dev, keys := bank(t)
	by := func(name string, args ...string) []string { return append(args, keys[name]...) }
	w.says("no weights yet", "chain", "weights")
	w.says("nothing has been changed", "chain", "log")
	w.says("registered with uid 1", by("alice", "register")...)
	w.says("staked", by("boss", "stake", "add", "0", "0.5")...)
	w.says("transactions", "chain", "blocks", "-n", "3")
	h, _ := dev.Height()
	out, err := w.sn3("chain", "blocks", "-n", "1000", "--json")
	var list []local.BlockInfo
	if err != nil || json.Unmarshal([]byte(out), &list) != nil || len(list) != int(h) || list[0].Block != h || list[h-1].Block != 1 {
		t.Fatalf("%d blocks of %d, %v", len(list), h, err)
	}
	done := 0
	for _, b := range list {
		done += len(b.Txs) - refused(b)
		for _, tx := range b.Txs {
			w.says(tx.Hash.String(), "chain", "block", fmt.Sprint(b.Block))
			w.says(fmt.Sprintf("block %d: done", b.Block), "chain", "tx", tx.Hash.String())
		}
	}
	if done != 2 {
		t.Errorf("%d transactions were done, want 2", done)
	}
	w.fails(chain.ErrNotFound, "chain", "tx", strings.Repeat("0", 64))
	w.says("no transactions", "chain", "block", "1")
	w.fails(chain.ErrNotYet, "chain", "block", "99999")
	w.says("true  weights are sealed", "chain", "params")
	w.says("2 seats", "chain", "metagraph", "--sort", "stake")
	w.fails(chain.ErrNotYet, "chain", "metagraph", "--at", "99999")
	w.says("never", "chain", "metagraph")
	w.says("of the last epoch", "chain", "metagraph")
	w.says("first registered in block", "chain", "hotkey", "1")
	w.says("uid 1, ", "chain", "hotkey", hexOf(t, "alice"))
	w.says("staked", "chain", "hotkey", "0")
	for _, args := range [][]string{{"chain", "hotkey", strings.Repeat("0", 64)}, {"chain", "hotkey", "nobody"}, {"chain", "metagraph", "--sort", "size"}, {"chain", "blocks", "-n", "0"},
		{"chain", "block", "x"}, {"chain", "tx", "x"}, {"chain", "hotkey", "0", "--events", "-1"}, {"chain", "log", "-n", "-1"}} {
		if _, err := w.sn3(args...); proc.ExitCode(err) != proc.ExitUsage {
			t.Errorf("sn3 %s: %v", strings.Join(args, " "), err)
		}
	}
}

// An epoch's weights and emission are in the history of whom they concern, and long histories are read page by page.
func TestHotkeyHistory(t *testing.T) {
	w, dev, keys := bank(t)
	w.says("registered with uid 1", append([]string{"register"}, keys["alice"]...)...)
	key, err := localtest.Key("boss")
	if err != nil {
		t.Fatal(err)
	}
	run, err := chain.ParseRun(dev.Genesis().Run)
	if err != nil {
		t.Fatal(err)
	}
	boss, tempo := local.NewClient(dev, local.Signer{Key: key}), run.Tempo
	for range 3 {
		if _, err := boss.SetWeights(t.Context(), []chain.Weight{{UID: 1, Value: 7}}); err != nil {
			t.Fatal(err)
		}
		h, _ := dev.Height()
		if err := dev.Run((h/tempo + 1) * tempo); err != nil {
			t.Fatal(err)
		}
	}
	w.says("weight   1.0000 from", "chain", "hotkey", "1")
	w.says("uid 1", "chain", "weights")
	out, err := w.sn3("chain", "hotkey", "1", "--json", "--events", "0")
	var x life
	if err != nil || json.Unmarshal([]byte(out), &x) != nil {
		t.Fatal(err, out)
	}
	paid := chain.Amount(0)
	for i, e := range x.Events {
		if e.Kind == local.EventEpoch {
			paid += e.Amount
		}
		if i > 0 && e.Block > x.Events[i-1].Block {
			t.Errorf("event %d is newer than the one before it", i)
		}
	}
	if paid == 0 || paid != x.Earned || x.Seat == nil || x.Seat.Incentive != 65535 || x.Events[len(x.Events)-1].Kind != local.EventRegistered {
		t.Errorf("earned %s, the epochs' events sum to %s; %+v", x.Earned, paid, x.Events)
	}
	out, err = w.sn3("chain", "hotkey", "0", "--json", "--events", "0")
	var y life
	if err != nil || json.Unmarshal([]byte(out), &y) != nil {
		t.Fatal(err, out)
	}
	kinds := map[string]int{}
	for _, e := range y.Events {
		kinds[e.Kind]++
	}
	if kinds[local.EventCommitted] != 3 || kinds[local.EventWeights] != 3 || kinds[local.EventDropped] != 0 {
		t.Errorf("the validator's events: %v", kinds)
	}
	h, _ := dev.Height()
	if err := dev.Run(h + 300); err != nil {
		t.Fatal(err)
	}
	sched, err := chain.NewSchedule(run.Schedule)
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[chain.Block]string{1: fmt.Sprintf("The first boundary is --at %d (seed of window 0)", sched.At(0, chain.PhaseSeed)),
		sched.At(1, chain.PhaseApply) + 1: "The boundary before this block is --at "} {
		if _, err := w.sn3("chain", "metagraph", "--at", fmt.Sprint(at)); !errors.Is(err, chain.ErrPruned) || !strings.Contains(err.Error(), want) {
			t.Errorf("an old metagraph, of block %d: %v", at, err)
		}
	}
	if out, err := w.sn3("chain", "hotkey", "1", "--events", "1"); err != nil || strings.Contains(out, "registered\t") {
		t.Errorf("one event: %q, %v", out, err)
	}
}

// Tables keep to their columns, and figures to nine characters.
func TestGrid(t *testing.T) {
	g := grid{right: "r r"}
	g.add("uid", "name", "stake")
	g.add(7, "über", short(1_234_567_890_123))
	g.add()
	g.add(10, "", "")
	var b strings.Builder
	if err := g.print(&b); err != nil || b.String() != "uid  name    stake\n  7  über  1234.56\n\n 10\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
	for a, want := range map[chain.Amount]string{0: "0", 99_999: "<0.0001", 100_000: "0.0001", 999_999_999_999: "999.9999", 1_000 * chain.RaoPerCoin: "1000.00",
		1_000_000*chain.RaoPerCoin - 1: "999999.99", 21_000_000 * chain.RaoPerCoin: "21000000"} {
		if got := short(a); got != want {
			t.Errorf("%s is %q, want %q", a, got, want)
		}
	}
	for x, want := range map[uint16]string{0: "0", 1: "0.0000", 32767: "0.5000", 65535: "1.0000"} {
		if got := ratio(x); got != want {
			t.Errorf("%d is %q, want %q", x, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "0s", 1: "250ms", 360: "1m30s", 1 << 20: "3.0 days", math.MaxUint64: "more than ten years"} {
		if got := lasts(n, 250); got != want {
			t.Errorf("%d blocks last %q, want %q", n, got, want)
		}
	}
}

// Every parameter of the chain is explained, none that it lacks, and amounts, shares and blocks are told in their unit.
func TestParamWords(t *testing.T) {
	raw, err := json.Marshal(state.DefaultParams())
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	for name := range all {
		if paramWords[name].what == "" {
			t.Errorf("%s is not explained", name)
		}
	}
	if len(paramWords) != len(all) {
		t.Errorf("%d parameters are explained, the chain has %d", len(paramWords), len(all))
	}
	for _, c := range []struct {
		u         unit
		raw, want string
	}{{rao, "1500000000", "1.500000000 coins"}, {blocks, "1", "1 block, 500ms"}, {blocks, "4096", "4096 blocks, 34m8s"}, {share, "11796", "18.00 %"}, {million, "900000", "90.00 %"}, {plain, "7", ""}, {rao, "true", ""}} {
		if got := c.u.says(c.raw, 500); got != c.want {
			t.Errorf("%s is %q, want %q", c.raw, got, c.want)
		}
	}
}
