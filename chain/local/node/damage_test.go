package node

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"unsafe"

	abci "github.com/cometbft/cometbft/abci/types"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/ledger"
	"sn3/chain/local/localtest"
	"sn3/chain/local/state"
)

// sum is one of the sums of money in the memory of a node.
func sum(l *ledger.Ledger, name string) *chain.Amount {
	m := reflect.ValueOf(l).Elem().FieldByName("st").Elem().FieldByName("meta").FieldByName("Money")
	return (*chain.Amount)(unsafe.Pointer(m.FieldByName(name).UnsafeAddr()))
}

// Whatever makes coins or loses them in a node's memory, the node executes no block more, saves nothing of it and says what to do.
func TestDamagedSums(t *testing.T) {
	for name, flip := range map[string]func(*ledger.Ledger){
		"a coin more is burned":     func(l *ledger.Ledger) { *sum(l, "Burned")++ },
		"a bit of what was emitted": func(l *ledger.Ledger) { *sum(l, "Emitted") ^= 1 << 20 },
		"moved between two sums":    func(l *ledger.Ledger) { *sum(l, "Balances")--; *sum(l, "Pending")++ },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a")
			a := bare(t, path)
			block(t, a, transfer(t, 0))
			good := hashOf(a)
			var failed error
			a.failed = func(err error) { failed = err }
			flip(a.ledger)
			_, err := a.FinalizeBlock(ctx, &abci.RequestFinalizeBlock{Height: 2})
			if !errors.Is(err, ErrDamage) || !errors.Is(failed, ErrDamage) || !strings.Contains(err.Error(), "start the node again") {
				t.Errorf("%v, %v", err, failed)
			}
			if _, err := a.Commit(ctx, &abci.RequestCommit{}); !errors.Is(err, errNothingToCommit) {
				t.Errorf("it was committed: %v", err)
			}
			if err := a.store.close(); err != nil {
				t.Fatal(err)
			}
			if a = bare(t, path); hashOf(a) != good {
				t.Error("the store holds another state")
			}
			block(t, a, transfer(t, 1))
		})
	}
}

// A node whose memory is damaged ends by itself, and goes on from the block before when it is started again.
func TestDamagedNodeEnds(t *testing.T) {
	t.Parallel()
	home := founder(t)
	m := begin(t, home)
	m.until(t, 3)
	mu := (*sync.Mutex)(unsafe.Pointer(reflect.ValueOf(m.Ledger).Elem().FieldByName("mu").UnsafeAddr()))
	mu.Lock()
	*sum(m.Ledger, "Burned") += 5
	mu.Unlock()
	m.stops(t, ErrDamage)
	at := m.Newest().Block
	again := begin(t, home)
	again.until(t, at+2)
	if s, err := local.NewClient(again.Node, nil).Supply(ctx, at+1); err != nil || !s.Holds() || !s.Audited {
		t.Errorf("%+v, %v", s, err)
	}
}

// A program that is too old for blocks which the folder already holds, its state set back, does not stand still while it starts.
func TestReplayIntoUnknownRules(t *testing.T) {
	t.Parallel()
	homes, g := quartet(t)
	g.Validators = g.Validators[:1]
	home := homes[0]
	if err := Init(home, g, DefaultNet()); err != nil {
		t.Fatal(err)
	}
	key, err := localtest.Key(localtest.Owner)
	if err != nil {
		t.Fatal(err)
	}
	m := begin(t, home)
	m.until(t, 2)
	h, _ := m.Height()
	at := h + 20
	if _, err := local.NewClient(m.Node, local.Signer{Key: key}).Send(deadline(t), local.Upgrade{Version: 2, At: at}); err != nil {
		t.Fatal(err)
	}
	m.stop()
	file := filepath.Join(home, stateFile)
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m = begin(t, home)
	m.until(t, at+1)
	m.stop()
	if err := os.WriteFile(file, before, 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := Start(Options{Home: home, Listen: "127.0.0.1:0", NewestRules: 1, Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, ErrRules) || strings.Contains(err.Error(), "disk") {
		t.Errorf("it starts: %v, %v", n, err)
	}
}

// Of a state that is too large to be audited after every block, the sums are held against each other all the same.
func TestDamagedSumsOfALargeState(t *testing.T) {
	a := bareOf(t, filepath.Join(t.TempDir(), "a"), func(g *state.Genesis) {
		for i := range 20_100 {
			g.Accounts = append(g.Accounts, state.Account{Coldkey: chain.Coldkey{1, byte(i), byte(i >> 8)}, Balance: 500})
		}
	})
	block(t, a, transfer(t, 0))
	block(t, a)
	if s, err := local.NewClient(backendOf{a.ledger}, nil).Supply(ctx, 1); err != nil || s.Audited {
		t.Fatalf("block 1 was audited: %+v, %v", s, err)
	}
	a.failed = func(error) {}
	*sum(a.ledger, "Burned")++
	if _, err := a.FinalizeBlock(ctx, &abci.RequestFinalizeBlock{Height: 3}); !errors.Is(err, ErrDamage) {
		t.Error(err)
	}
}
