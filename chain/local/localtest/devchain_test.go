package localtest_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"sn3/chain"
	"sn3/chain/chaintest"
	"sn3/chain/local"
	"sn3/chain/local/localtest"
)

var start = time.Unix(1_700_000_000, 0).UTC()

func actors() []localtest.Actor {
	const coin = chain.RaoPerCoin
	return []localtest.Actor{{Name: chaintest.Boss, Seat: true, Stake: 300 * coin}, {Name: chaintest.Deputy, Seat: true, Stake: 200 * coin},
		{Name: chaintest.Alice, Seat: true, Balance: coin}, {Name: chaintest.Bob, Seat: true}, {Name: chaintest.Rich, Balance: 5 * coin}, {Name: chaintest.Poor, Balance: 3}}
}

func dev(t testing.TB) *localtest.DevChain {
	t.Helper()
	g, secret, err := localtest.Genesis(500, actors()...)
	if err != nil {
		t.Fatal(err)
	}
	d, err := localtest.NewDevChain(g, secret, start)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func client(t testing.TB, b local.Backend, name string) *local.Client {
	t.Helper()
	key, err := localtest.Key(name)
	if err != nil {
		t.Fatal(err)
	}
	return local.NewClient(b, local.Signer{Key: key})
}

// suite makes what chaintest needs of a backend.
func suite(t *testing.T, d *localtest.DevChain, b local.Backend) *chaintest.Chain {
	run, err := chain.ParseRun(d.Genesis().Run)
	if err != nil {
		t.Fatal(err)
	}
	account := func(name string) chaintest.Account {
		key, err := localtest.Key(name)
		if err != nil {
			t.Fatal(err)
		}
		c := client(t, b, name)
		return chaintest.Account{Reader: c, Writer: c, Registrar: c, Describer: c, Selector: c, Hotkey: local.AccountOf(&key.PublicKey)}
	}
	if err := d.Run(1); err != nil {
		t.Fatal(err)
	}
	return &chaintest.Chain{Run: run, Account: account, Advance: d.Run, Ctx: context30,
		Now:   func() (chain.Block, error) { h, _ := d.Height(); return h, nil },
		Funds: map[string]chain.Amount{chaintest.Rich: 5 * chain.RaoPerCoin, chaintest.Poor: 3}}
}

func context30(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestConformanceInProcess(t *testing.T) {
	chaintest.Run(t, func(t *testing.T) *chaintest.Chain {
		d := dev(t)
		return suite(t, d, localtest.Instant{DevChain: d})
	})
}

func TestConformanceOverHTTP(t *testing.T) {
	chaintest.Run(t, func(t *testing.T) *chaintest.Chain {
		d := dev(t)
		s := httptest.NewServer(local.Handler(localtest.Instant{DevChain: d}))
		t.Cleanup(s.Close)
		b, err := local.Dial(strings.TrimPrefix(s.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		return suite(t, d, b)
	})
}

// History ends where the chain says it does, and the errors keep their meaning over HTTP.
func TestPruned(t *testing.T) {
	d := dev(t)
	if err := d.Run(300); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(local.Handler(d))
	defer s.Close()
	b, err := local.Dial(strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	ctx := context30(t)
	for name, c := range map[string]*local.Client{"in process": local.NewClient(d, nil), "over HTTP": local.NewClient(b, nil)} {
		if _, err := c.Snapshot(ctx, 2); !errors.Is(err, chain.ErrPruned) {
			t.Errorf("%s: old snapshot: %v", name, err)
		}
		if old, err := c.Selection(ctx, 0); err != nil || len(old.Winners) != 0 { // nobody ever voted: known to be empty
			t.Errorf("%s: old selection: %+v, %v", name, old, err)
		}
		if _, err := c.BalanceAt(ctx, chain.Coldkey{}, 2); !errors.Is(err, chain.ErrPruned) {
			t.Errorf("%s: old balance: %v", name, err)
		}
		if _, err := c.BalanceAt(ctx, chain.Coldkey{}, 1000); !errors.Is(err, chain.ErrNotYet) {
			t.Errorf("%s: balance to come: %v", name, err)
		}
		if _, err := c.Beacon(ctx, 2); !errors.Is(err, chain.ErrPruned) {
			t.Errorf("%s: old beacon: %v", name, err)
		}
		if _, err := c.Selection(ctx, 1000); !errors.Is(err, chain.ErrNotYet) {
			t.Errorf("%s: selection to come: %v", name, err)
		}
	}
}

// What a client may know of the chain's constants has the names that the chain uses.
func TestParams(t *testing.T) {
	d := dev(t)
	c, want := local.NewClient(d, nil), d.Genesis().Params
	got, err := c.Params(context30(t))
	if err != nil || got != (local.Params{MaxSeats: want.MaxSeats, BlockEmission: want.BlockEmission, Fee: want.Fee,
		WeightsInterval: want.WeightsInterval, CommitReveal: want.CommitReveal, RevealPeriod: want.RevealPeriod, KeepWindows: want.KeepWindows}) || got.KeepWindows == 0 || got.BlockEmission == 0 || got.Fee == 0 {
		t.Errorf("parameters %+v, %v; the genesis has %+v", got, err, want)
	}
	if peers, err := c.Peers(context30(t)); err != nil || len(peers) != 0 {
		t.Errorf("peers %v, %v", peers, err)
	}
}

// The time of a block is handed in, and waiters get a block when it is made.
func TestTick(t *testing.T) {
	d := dev(t)
	var wg sync.WaitGroup
	got := make([]chain.Head, 5)
	for i := range got {
		wg.Go(func() {
			heads, err := d.Heads(context.Background(), 0)
			if err == nil && len(heads) > 0 {
				got[i] = heads[0]
			}
		})
	}
	head, err := d.Tick()
	if err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	for i, h := range got {
		if h != head {
			t.Errorf("waiter %d got %+v, made was %+v", i, h, head)
		}
	}
	if want := start.Add(500 * time.Millisecond); head.Block != 1 || !head.Time.Equal(want) {
		t.Errorf("first block %+v, want time %s", head, want)
	}
}

// Many writers of one key and many keys at once: everybody's transactions are included once.
func TestConcurrentWriters(t *testing.T) {
	d := dev(t)
	b := localtest.Instant{DevChain: d}
	ctx := context30(t)
	rich := client(t, b, chaintest.Rich)
	to := chain.Coldkey{77}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if err := rich.Transfer(ctx, to, 5000); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if err := client(t, b, chaintest.Alice).Transfer(ctx, to, 500); err != nil && !errors.As(err, new(*local.TxError)) {
				t.Error(err) // ten clients of one key may lose the race for a nonce too often, but nothing else
			}
		})
	}
	wg.Wait()
	got, err := rich.Balance(ctx, to)
	if err != nil || got < 50_000 || got > 55_000 {
		t.Errorf("balance %d, %v", got, err)
	}
	_, nonce := 0, uint64(0)
	if a, err := rich.Account(ctx, account(t, chaintest.Rich)); err == nil {
		nonce = a.Nonce
	}
	if nonce != 10 {
		t.Errorf("ten transfers, nonce %d", nonce)
	}
}

func account(t *testing.T, name string) chain.Coldkey {
	t.Helper()
	key, err := localtest.Key(name)
	if err != nil {
		t.Fatal(err)
	}
	return chain.Coldkey(local.AccountOf(&key.PublicKey))
}

// What happened to a hotkey can be asked for, the newest first; malformed questions are refused.
func TestHistory(t *testing.T) {
	d := dev(t)
	b := localtest.Instant{DevChain: d}
	ctx := context30(t)
	if _, err := client(t, b, chaintest.Rich).Register(ctx); err != nil {
		t.Fatal(err)
	}
	c := local.NewClient(d, nil)
	p, err := c.History(ctx, chain.Hotkey(account(t, chaintest.Rich)), 0)
	if err != nil || len(p.Events) != 1 || p.Events[0].Kind != local.EventRegistered || p.Events[0].Amount == 0 || p.From != 1 {
		t.Errorf("history %+v, %v", p, err)
	}
	if p, err = c.History(ctx, chain.Hotkey(account(t, chaintest.Rich)), p.Events[0].Block); err != nil || len(p.Events) != 0 {
		t.Errorf("before it: %+v, %v", p, err)
	}
	for _, arg := range []string{"", "@", "xyz@3", "@-1"} {
		if _, err := d.Query(ctx, local.QueryHistory, arg); err == nil {
			t.Errorf("%q was answered", arg)
		}
	}
}

// Who committed weights that the chain could not take at their reveal can find out why.
func TestDroppedWeights(t *testing.T) {
	d := dev(t)
	b := localtest.Instant{DevChain: d}
	ctx, boss := context30(t), client(t, b, chaintest.Boss)
	one, err := boss.SetWeights(ctx, []chain.Weight{{UID: 2, Value: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client(t, b, localtest.Owner).Send(ctx, local.SetParam{Name: "weights_version", Value: local.WeightsVersion + 1}); err != nil {
		t.Fatal(err)
	}
	if why, err := boss.Dropped(ctx, one.Block); err != nil || why != "" {
		t.Errorf("before the reveal: %q, %v", why, err)
	}
	if err := d.Run(one.Block + 100); err != nil {
		t.Fatal(err)
	}
	if why, err := boss.Dropped(ctx, one.Block); err != nil || !strings.Contains(why, "older than the network demands") {
		t.Errorf("after it: %q, %v", why, err)
	}
	if why, err := boss.Dropped(ctx, one.Block+1); err != nil || why != "" {
		t.Errorf("since a later block: %q, %v", why, err)
	}
	if _, err := local.NewClient(b, nil).Dropped(ctx, 0); !errors.Is(err, local.ErrNoKey) {
		t.Errorf("without a key: %v", err)
	}
}
