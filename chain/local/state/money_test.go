package state

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
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

// history makes random blocks: operations of all kinds by a few accounts, most of them possible, many not.
type history struct {
	pick    func(n int) int // below n
	s       *State
	nonce   map[int]uint64
	ops     int
	codes   map[local.Code]int
	applied map[string]int // operations that were done, by kind
}

const people = 12 // of a history; more than have money

func (h *history) amount() chain.Amount {
	switch h.pick(8) {
	case 0:
		return chain.Amount(h.pick(3))
	case 1:
		return ^chain.Amount(0) >> h.pick(64)
	case 2:
		return h.s.params.MinStake + chain.Amount(h.pick(3)) - 1
	}
	return chain.Amount(h.pick(1 << 31))
}

func (h *history) who() chain.Hotkey { return account0(h.pick(people)) }

// op is any operation.
func (h *history) op() local.Op {
	switch h.pick(16) {
	case 0, 1:
		return local.Transfer{To: chain.Coldkey(h.who()), Amount: h.amount()}
	case 2, 3:
		limit := chain.Amount(0)
		if h.pick(4) == 0 {
			limit = h.amount()
		}
		o := local.Register{Limit: limit}
		if h.pick(3) == 0 {
			o.Coldkey = chain.Coldkey(h.who())
		}
		return o
	case 4, 5, 6:
		return local.AddStake{Hotkey: h.who(), Amount: h.amount()}
	case 7, 8, 9:
		o := local.RemoveStake{Hotkey: h.who(), Amount: h.amount()}
		if h.pick(4) == 0 {
			o.Amount = local.WholeStake
		}
		return o
	case 10:
		return local.SetTake{Hotkey: h.who(), Take: uint16(h.pick(14000))}
	case 11:
		return h.parameter()
	case 12:
		return local.Publish{Record: chain.Record{Body: chain.SubmissionBody{Window: chain.Window(h.pick(4))}.Encode()}}
	case 13:
		return local.Upgrade{Version: min(h.s.meta.Rules+1, NewestRules), At: h.s.Height() + upgradeNotice + chain.Block(h.pick(5))}
	}
	var row []chain.Weight
	for u := range chain.UID(7) {
		if h.pick(2) == 0 {
			row = append(row, chain.Weight{UID: u, Value: uint16(h.pick(65536))})
		}
	}
	return local.SetWeights{Weights: row}
}

// parameter changes what money depends on, within reason: else nothing would happen any more.
func (h *history) parameter() local.Op {
	x := []struct {
		name  string
		value int
	}{{"unstake_delay", 1 + h.pick(40)}, {"min_stake", 1 + h.pick(1<<20)}, {"fee", h.pick(2000)}, {"account_cost", h.pick(1 << 20)}, {"subnet_owner_cut", h.pick(65536)},
		{"max_take", h.pick(12000)}, {"min_burn", h.pick(1 << 20)}, {"burn_half_life", 1 + h.pick(50)}, {"block_emission", h.pick(1 << 31)}, {"immunity_period", h.pick(60)},
		{"take_rate_limit", h.pick(30)}, {"min_non_immune_uids", h.pick(4)}, {"max_seats", 4 + h.pick(6)}, {"nonsense", 1}}[h.pick(14)]
	return local.SetParam{Name: x.name, Value: uint64(x.value)}
}

// block makes the next block of up to n operations.
func (h *history) block(t testing.TB, n int) [][]byte {
	var txs [][]byte
	clear(h.nonce)
	for range h.pick(n + 1) {
		who := h.pick(people)
		op := h.op()
		switch op.(type) {
		case local.SetParam, local.Upgrade:
			if h.pick(4) > 0 {
				who = 0 // the owner
			}
		}
		if _, ok := h.nonce[who]; !ok {
			_, h.nonce[who] = h.s.Account(chain.Coldkey(account0(who)))
		}
		if h.pick(30) == 0 {
			h.nonce[who] += uint64(h.pick(3)) // wrong, unless it is 0
		}
		txs = append(txs, tx(t, who, h.nonce[who], op))
		h.nonce[who]++
	}
	h.ops += len(txs)
	return txs
}

// run makes one block and checks what must hold after each.
func (h *history) run(t testing.TB, txs [][]byte) Result {
	t.Helper()
	before := h.s.Supply()
	r := next(h.s, txs...)
	audit(t, h.s)
	after := h.s.Supply()
	if after.Emitted < before.Emitted || after.Emitted-before.Emitted > h.s.params.BlockEmission || after.Burned < before.Burned || after.Genesis != before.Genesis {
		t.Fatalf("block %d: %+v after %+v", h.s.Height(), after, before)
	}
	for i, c := range r.Codes {
		h.codes[c]++
		if x, err := local.ParseTx(txs[i]); err == nil && c == local.CodeOK {
			h.applied[fmt.Sprintf("%T", x.Op)]++
		}
	}
	for i, x := range h.s.seats { // of the epoch: stake may be removed until the next one
		if h.s.Height()%h.s.run.Tempo == 0 && x.Stake == 0 && x.Permit && i != h.s.ownerUID() {
			t.Fatalf("block %d: uid %d has a permit without stake", h.s.Height(), x.UID)
		}
	}
	return r
}

func newHistory(t testing.TB, rules uint64, pick func(int) int, change ...func(*Genesis)) *history {
	g := genesis(t)
	for _, f := range change {
		f(g)
	}
	g.Rules, g.Params.ImmunityPeriod, g.Params.UnstakeDelay, g.Params.MaxSeats = rules, 20, 7, 7
	s, err := New(g)
	if err != nil {
		t.Fatal(err)
	}
	return &history{pick: pick, s: s, nonce: map[int]uint64{}, codes: map[local.Code]int{}, applied: map[string]int{}}
}

// Money is conserved at every height of random histories, from either version of the rules, and a node that is stopped on the
// way goes on with the same state.
func TestConserved(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := rand.New(rand.NewPCG(6, rapid.Uint64().Draw(rt, "seed")))
		h := newHistory(t, rapid.Uint64Range(1, NewestRules).Draw(rt, "rules"), r.IntN)
		stored := disk{}
		for range rapid.IntRange(1, 30).Draw(rt, "blocks") {
			stored.keep(t, h.run(t, h.block(t, 6)))
		}
		again, err := stored.restore(h.s.gen)
		if err != nil {
			rt.Fatal(err)
		}
		same(t, h.s, again)
	})
}

// One long history: 10,000 operations of all kinds through epochs, the upgrade and restores, checked after every block.
func TestLongHistory(t *testing.T) {
	operations := 10_000
	r := rand.New(rand.NewPCG(6, 25))
	h := newHistory(t, 1, r.IntN)
	stored := disk{}
	for h.ops < operations {
		stored.keep(t, h.run(t, h.block(t, 12)))
		if h.s.Height()%100 == 99 {
			again, err := stored.restore(h.s.gen)
			if err != nil {
				t.Fatal(err)
			}
			same(t, h.s, again)
			again.recent = h.s.recent // a convenience of readers, not kept
			h.s = again
		}
	}
	t.Logf("%d operations in %d blocks, rules %d, supply %+v", h.ops, h.s.Height(), h.s.meta.Rules, h.s.Supply())
	t.Logf("codes %v, done %v", h.codes, h.applied)
	if h.s.meta.Rules != NewestRules {
		t.Errorf("the history ended by rules of version %d", h.s.meta.Rules)
	}
	for _, op := range []local.Op{local.Transfer{}, local.Register{}, local.AddStake{}, local.RemoveStake{}, local.SetTake{}, local.SetParam{}, local.Publish{}, local.SetWeights{}, local.Upgrade{}} {
		if n := h.applied[fmt.Sprintf("%T", op)]; n == 0 {
			t.Errorf("no %T was done", op)
		}
	}
	for _, c := range []local.Code{local.CodeNonce, local.CodeFunds, local.CodeNotRegistered, local.CodeRateLimited, local.CodePrice, local.CodeAmount, local.CodeStake, local.CodeTake,
		local.CodeNotOwner, local.CodeNotSubnetOwner, local.CodeParam} {
		if h.codes[c] == 0 {
			t.Errorf("no operation was refused with %v", c.Err())
		}
	}
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
