package state

import (
	"errors"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
	"sn3/chain/local"
)

// audit checks the invariants of money against every entry.
func audit(t interface {
	Helper()
	Fatalf(string, ...any)
}, s *State) {
	t.Helper()
	if err := s.Audit(); err != nil {
		t.Fatalf("block %d: %v", s.Height(), err)
	}
}

// Money is conserved at every height of random histories, from either version of the rules, and a node that is stopped on the
// way goes on with the same state.
func TestConserved(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := rand.New(rand.NewPCG(6, rapid.Uint64().Draw(rt, "seed")))
		w := newWorld(t, rapid.Uint64Range(1, NewestRules).Draw(rt, "rules"), r.IntN, nil)
		stored := disk{}
		for range rapid.IntRange(1, 30).Draw(rt, "blocks") {
			stored.keep(t, w.run(w.block(6)))
		}
		again, err := stored.restore(w.s.gen)
		if err != nil {
			rt.Fatal(err)
		}
		same(t, w.s, again)
	})
}

// situations are what a long history must have been through, besides every operation and every refusal.
var situations = []string{
	"replaced: settled", "replaced: immune", "replaced: commitments waited", "replaced: a withdrawal waited", "replaced: had stake",
	"take: raised", "take: lowered", "validator: added", "validator: changed", "validator: removed", "rules", "epoch",
	"beacon: the key was made", "beacon: a shared key signs", "said: a dealer is out", "beacon: " + outcomes[madeTooFew], "beacon: " + outcomes[madeLate],
	"weights", "committed", "dropped: " + local.Superseded, "dropped: a newer row was set in the open", "dropped: it does not open with the beacon of its round",
	"dropped: it holds the row of another hotkey: a copy", "dropped: the beacon of its round did not come in its reveal epoch", "scored: " + local.Unscored,
}

// One long history: 10,000 operations of all kinds through epochs, the upgrade, beacon keys made and restores, checked after
// every block. It goes on until it has reached every operation, every refusal and what is hard to come by; a change of the rules
// may take it another way, so it has three times as many to get there.
func TestLongHistory(t *testing.T) {
	operations := 10_000
	r := rand.New(rand.NewPCG(6, 25))
	alone := newWorld(t, 1, r.IntN, func(g *Genesis) { g.Params.MaxSeats, g.Seats = 1, g.Seats[:1] }) // the owner's seat, which stays
	for range 3 {
		clear(alone.nonce)
		alone.run(Block{Height: alone.s.Height() + 1, Txs: [][]byte{alone.act(4, register()), alone.act(5, register())}})
	}
	w := newWorld(t, 1, r.IntN, nil)
	stored := disk{}
	for w.ops < operations || w.ops < 3*operations && len(w.missing(alone)) > 0 {
		stored.keep(t, w.run(w.block(12)))
		if w.s.Height()%100 == 99 {
			again, err := stored.restore(w.s.gen)
			if err != nil {
				t.Fatal(err)
			}
			same(t, w.s, again)
			again.recent = w.s.recent // a convenience of readers, not kept
			w.s = again
		}
	}
	t.Logf("%d operations in %d blocks, rules %d, supply %+v", w.ops, w.s.Height(), w.s.meta.Rules, w.s.Supply())
	for _, kind := range slices.Sorted(maps.Keys(w.codes)) {
		t.Log(kind, w.codes[kind])
	}
	for _, what := range slices.Sorted(maps.Keys(w.seen)) {
		t.Log(w.seen[what], what)
	}
	for _, what := range w.missing(alone) {
		t.Errorf("too few: %s", what)
	}
}

// missing is what a long history, and another one, have seen too little of.
func (w *world) missing(other *world) (out []string) {
	total := map[local.Code]int{}
	for _, x := range []*world{w, other} {
		for _, codes := range x.codes { // any order: a sum
			for c, n := range codes {
				total[c] += n
			}
		}
	}
	for _, op := range []local.Op{local.Transfer{}, local.Register{}, local.Publish{}, local.SetWeights{}, local.CommitWeights{}, local.AddStake{}, local.RemoveStake{},
		local.SetTake{}, local.SetParam{}, local.SetValidator{}, local.MakeBeacon{}, local.Upgrade{}} {
		if kind := kindOf(op); w.codes[kind][local.CodeOK] < 5 {
			out = append(out, kind)
		}
	}
	for c := local.CodeMalformed; !strings.Contains((&local.TxError{Code: c}).Error(), "with code"); c++ {
		if total[c] < 3 {
			out = append(out, c.Err().Error())
		}
	}
	for _, what := range situations {
		if w.seen[what] == 0 {
			out = append(out, what)
		}
	}
	return out
}

// A transfer to an account that is new burns account_cost besides, of the sender's, once; the receiver gets the whole amount, and
// nothing is spent where it does not suffice.
func TestAccountCost(t *testing.T) {
	s := machine(t)
	p := s.params
	all := balanceOf(s, 5)
	send := func(who, nonce int, to chain.Coldkey, amount chain.Amount) local.Code {
		before := s.Supply().Burned
		code := next(s, tx(t, who, uint64(nonce), local.Transfer{To: to, Amount: amount})).Codes[0]
		audit(t, s)
		all -= p.Fee
		if extra := s.Supply().Burned - before - p.Fee; extra != 0 && extra != p.AccountCost || extra > 0 && code != local.CodeOK {
			t.Errorf("%s burned beside the fee, code %d", extra, code)
		} else {
			all -= extra
		}
		return code
	}
	to, other := chain.Coldkey{7}, chain.Coldkey{8}
	if code := send(5, 0, to, all-p.Fee-p.AccountCost+1); code != local.CodeFunds || s.accounts[to] != (account{}) {
		t.Errorf("a rao more than it has: code %d", code)
	}
	if code := send(5, 1, to, 1); code != local.CodeOK || s.accounts[to].Balance != 1 || all != 5*chain.RaoPerCoin-2*p.Fee-p.AccountCost {
		t.Errorf("code %d, %s are left", code, all)
	}
	if code := send(5, 2, to, 1); code != local.CodeOK || all != 5*chain.RaoPerCoin-3*p.Fee-p.AccountCost {
		t.Errorf("to one that is there: code %d, %s are left", code, all)
	}
	if code := send(5, 3, other, all-2-p.Fee-p.AccountCost); code != local.CodeOK || balanceOf(s, 5) != 0 {
		t.Errorf("all it has: code %d, %s are left", code, balanceOf(s, 5))
	}
	all = balanceOf(s, 4)
	if code := send(4, 0, chain.Coldkey(account0(5)), 1); code != local.CodeOK || balanceOf(s, 4) != 5*chain.RaoPerCoin-p.Fee-1 {
		t.Errorf("to one that holds nothing but has signed: code %d, %s are left", code, balanceOf(s, 4))
	}
}

// An account that holds nothing and never signed anything is not kept, wherever it comes from; one that signed is.
func TestEmptyAccountsAreNotKept(t *testing.T) {
	g := genesis(t)
	g.Accounts = append(g.Accounts, Account{chain.Coldkey{7}, 0})
	s, err := New(g)
	if err != nil {
		t.Fatal(err)
	}
	_, kept := s.accounts[chain.Coldkey{7}]
	s.credit(chain.Coldkey{8}, 0)
	s.credit(chain.Coldkey{9}, 5)
	s.debit(chain.Coldkey{9}, 5)
	if kept || len(s.accounts) != 6 || s.value(accountKey(chain.Coldkey{9})) != nil {
		t.Errorf("%d accounts are kept", len(s.accounts))
	}
	all := balanceOf(s, 5) - s.params.Fee
	next(s, tx(t, 5, 0, local.Transfer{To: chain.Coldkey(account0(4)), Amount: all}))
	if x, kept := s.accounts[chain.Coldkey(account0(5))]; !kept || x != (account{0, 1}) {
		t.Errorf("an account that paid all it had: %+v, kept %v", x, kept)
	}
}

// The audit sees a rao too many or too few anywhere.
func TestAuditSees(t *testing.T) {
	k, hot := chain.Coldkey(account0(3)), account0(0)
	for name, wrong := range map[string]func(*State){
		"a balance":           func(s *State) { s.accounts[k] = account{1, 0} },
		"an empty account":    func(s *State) { s.accounts[chain.Coldkey{9}] = account{} },
		"a pool":              func(s *State) { x := s.hotkeys[hot]; x.Stake++; s.hotkeys[hot] = x },
		"a pool and its seat": func(s *State) { x := s.hotkeys[hot]; x.Stake++; s.hotkeys[hot] = x; s.seats[0].Stake++ },
		"shares":              func(s *State) { s.shares[chain.Coldkey(hot)][hot]++ },
		"shares of nobody":    func(s *State) { s.shares[k] = map[chain.Hotkey]uint64{{9}: 1} },
		"a withdrawal":        func(s *State) { s.unbonding[k] = []due{{9, 1}} },
		"emission":            func(s *State) { s.meta.Money.Emitted++ },
		"burned":              func(s *State) { s.meta.Money.Burned-- },
		"a cut":               func(s *State) { s.meta.Money.Cut = s.meta.Money.Pending + 1 },
		"another owner":       func(s *State) { s.seats[0].Coldkey = chain.Coldkey{5} },
	} {
		s := machine(t)
		next(s, tx(t, 5, 0, register()))
		audit(t, s)
		if wrong(s); !errors.Is(s.Audit(), errAudit) {
			t.Errorf("%s: %v", name, s.Audit())
		}
	}
}

// Stored entries whose hash is right but whose sums are not are damaged, too.
func TestRestoreAudits(t *testing.T) {
	s, stored := machine(t), disk{}
	stored.keep(t, next(s))
	for name, c := range map[string]struct {
		key   string
		value []byte
		want  error
	}{"less in an account": {accountKey(chain.Coldkey(account0(3))), encodeAccount(account{1, 0}), errAudit}, "parameters of other rules": {paramsKey, encodeParams(s.params, 1), ErrDamaged}} {
		d := maps.Clone(stored)
		d[c.key] = c.value
		d.rehash()
		if _, err := d.restore(genesis(t)); !errors.Is(err, ErrDamaged) || !errors.Is(err, c.want) {
			t.Errorf("%s: restored with %v", name, err)
		}
	}
}

// Parameters of later rules are no part of what a genesis is: a later program, which has more of them, names it the same.
func TestGenesisHash(t *testing.T) {
	hash := func(change func(*Genesis)) chain.Hash {
		g := genesis(t)
		g.Rules = 1
		change(g)
		h, err := g.Hash()
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	first := hash(func(*Genesis) {})
	if later := hash(func(g *Genesis) { g.Params.MaxSupply = 0 }); later != first {
		t.Error("a parameter of later rules changes the hash")
	}
	for name, f := range map[string]func(*Genesis){"a parameter": func(g *Genesis) { g.Params.Fee++ }, "the rules": func(g *Genesis) { g.Rules = 2 }, "an account": func(g *Genesis) { g.Accounts[0].Balance++ }} {
		if hash(f) == first {
			t.Errorf("%s does not change the hash", name)
		}
	}
}

// A chain that began with the first rules: no delegation, no take, no halving; after the announced upgrade all of them, with
// everything that was before.
func TestUpgradeBringsDelegation(t *testing.T) {
	g := genesis(t)
	g.Rules, g.Params.MaxSupply, g.Params.MaxTake = 1, 1, 1 // not of these rules: nobody sees them
	s, err := New(g)
	if err != nil {
		t.Fatal(err)
	}
	stored := disk{}
	stored.keep(t, next(s))
	delegate, take := local.AddStake{Hotkey: account0(1), Amount: chain.RaoPerCoin}, local.SetTake{Hotkey: account0(1), Take: 5}
	r := next(s, tx(t, 5, 0, delegate), tx(t, 1, 0, delegate), tx(t, 1, 1, take), tx(t, 0, 0, local.SetParam{Name: "max_supply", Value: 1 << 60}), tx(t, 0, 1, local.Upgrade{Version: 2, At: 20}))
	if want := []local.Code{local.CodeNotOwner, local.CodeOK, local.CodeKind, local.CodeParam, local.CodeOK}; !reflect.DeepEqual(r.Codes, want) {
		t.Errorf("by the first rules: codes %v, want %v", r.Codes, want)
	}
	stored.keep(t, r)
	for s.Height() < 20 {
		stored.keep(t, next(s))
		again, err := stored.restore(g)
		if err != nil {
			t.Fatal(err)
		}
		same(t, s, again)
	}
	if x := s.hotkeys[account0(1)]; x.Shares != uint64(201*chain.RaoPerCoin) || x.Stake <= 201*chain.RaoPerCoin {
		t.Errorf("dividends without a take made shares: %+v", x)
	}
	if p := s.Params(); s.meta.Rules != 2 || p.MaxSupply != DefaultParams().MaxSupply || p.MaxTake != DefaultParams().MaxTake {
		t.Errorf("rules %d, %+v", s.meta.Rules, p)
	}
	r = next(s, tx(t, 5, 1, delegate), tx(t, 1, 2, take), tx(t, 0, 2, local.SetParam{Name: "max_supply", Value: 1 << 60}))
	if want := []local.Code{local.CodeOK, local.CodeOK, local.CodeOK}; !reflect.DeepEqual(r.Codes, want) {
		t.Errorf("by the second rules: codes %v, want %v", r.Codes, want)
	}
	audit(t, s)
}

// The sums recomputed from as many entries as a node recomputes in every block.
func BenchmarkAudit(b *testing.B) {
	s := machine(b)
	for i := range 20_000 {
		s.credit(chain.Coldkey{byte(i), byte(i >> 8), 1}, 1)
		s.meta.Money.Emitted++
	}
	for b.Loop() {
		audit(b, s)
	}
}
