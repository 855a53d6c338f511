package state

import (
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
	"sn3/chain/local"
)

// do runs one operation in a block of its own.
func do(t testing.TB, s *State, who int, op local.Op) (local.Code, []local.Event) {
	t.Helper()
	_, nonce := s.Account(chain.Coldkey(account0(who)))
	r := next(s, tx(t, who, nonce, op))
	audit(t, s)
	return r.Codes[0], r.Events
}

func balanceOf(s *State, who int) chain.Amount {
	b, _ := s.Account(chain.Coldkey(account0(who)))
	return b
}

func staked(s *State, who int, on chain.Hotkey) chain.Amount {
	for _, x := range s.Stakes(chain.Coldkey(account0(who))).Staked {
		if x.Hotkey == on {
			return x.Amount
		}
	}
	return 0
}

func TestStakeCodes(t *testing.T) {
	s := machine(t)
	next(s)
	const coin = chain.RaoPerCoin
	hot := account0(1) // 200 coins, its own
	for i, c := range []struct {
		who  int
		op   local.Op
		want local.Code
	}{
		{5, local.AddStake{Hotkey: chain.Hotkey{9}, Amount: coin}, local.CodeNoHotkey},
		{5, local.AddStake{Hotkey: chain.Hotkey{9}, Amount: 9 * coin}, local.CodeFunds}, // Subtensor's order: the amount, the funds, the hotkey
		{5, local.AddStake{Hotkey: chain.Hotkey{9}, Amount: 1}, local.CodeAmount},
		{5, local.AddStake{Hotkey: hot, Amount: s.params.MinStake - 1}, local.CodeAmount},
		{5, local.AddStake{Hotkey: hot, Amount: 5 * coin}, local.CodeFunds},                    // all but what the fees so far took
		{5, local.AddStake{Hotkey: hot, Amount: 5*coin - 6*s.params.Fee - 1}, local.CodeFunds}, // too little would be left for unstaking
		{5, local.RemoveStake{Hotkey: hot, Amount: 1}, local.CodeStake},
		{5, local.RemoveStake{Hotkey: hot, Amount: 0}, local.CodeAmount},
		{5, local.RemoveStake{Hotkey: hot, Amount: local.WholeStake}, local.CodeStake},
		{5, local.AddStake{Hotkey: hot, Amount: 2 * coin}, local.CodeOK},
		{5, local.RemoveStake{Hotkey: hot, Amount: 2*coin + 1}, local.CodeStake},
		{5, local.RemoveStake{Hotkey: hot, Amount: s.params.MinStake - 1}, local.CodeAmount},
		{5, local.RemoveStake{Hotkey: hot, Amount: 2*coin - s.params.MinStake + 1}, local.CodeAmount}, // too little would stay
		{5, local.RemoveStake{Hotkey: hot, Amount: coin}, local.CodeOK},
		{5, local.RemoveStake{Hotkey: hot, Amount: local.WholeStake}, local.CodeOK},
		{5, local.RemoveStake{Hotkey: hot, Amount: local.WholeStake}, local.CodeStake},
		{4, local.SetTake{Hotkey: hot, Take: 1}, local.CodeNotOwner},
		{1, local.SetTake{Hotkey: hot, Take: s.params.MaxTake + 1}, local.CodeTake},
		{1, local.SetTake{Hotkey: chain.Hotkey{9}, Take: 1}, local.CodeNoHotkey},
		{1, local.SetTake{Hotkey: hot, Take: 1}, local.CodeOK},
		{1, local.SetTake{Hotkey: hot, Take: 3}, local.CodeRateLimited},
		{1, local.SetTake{Hotkey: hot, Take: 0}, local.CodeOK},
	} {
		before := s.Supply()
		code, _ := do(t, s, c.who, c.op)
		if code != c.want {
			t.Errorf("case %d: code %d, want %d (%v)", i, code, c.want, c.want.Err())
		}
		quiet := s.Height()%s.run.Tempo != 0 // else there are dividends
		if after := s.Supply(); quiet && (after.Burned != before.Burned+s.params.Fee || code != local.CodeOK && after.Staked != before.Staked) {
			t.Errorf("case %d: %+v after %+v", i, after, before)
		}
	}
}

// What is unstaked is paid out at its block, not before, in one sum for each block; and so many withdrawals can wait.
func TestUnstakingTakesTime(t *testing.T) {
	s := machine(t)
	const coin = chain.RaoPerCoin
	hot := account0(0)
	if code, events := do(t, s, 4, local.AddStake{Hotkey: hot, Amount: 4 * coin}); code != local.CodeOK || events[0].Kind != local.EventStaked || events[0].Amount != 4*coin || s.seats[0].Stake != 304*coin {
		t.Fatalf("code %d, %+v, stake %s", code, events, s.seats[0].Stake)
	}
	code, events := do(t, s, 4, local.RemoveStake{Hotkey: hot, Amount: coin})
	at := s.Height() + s.params.UnstakeDelay
	if code != local.CodeOK || events[0].Kind != local.EventUnstaked || events[0].Amount != coin || events[0].At != at || s.seats[0].Stake != 303*coin {
		t.Fatalf("code %d, %+v, stake %s", code, events, s.seats[0].Stake)
	}
	_, nonce := s.Account(chain.Coldkey(account0(4)))
	remove := local.RemoveStake{Hotkey: hot, Amount: coin / 10}
	next(s, tx(t, 4, nonce, remove), tx(t, 4, nonce+1, remove)) // of one block: one entry
	for i := 2; i < maxUnbonding; i++ {
		if code, _ := do(t, s, 4, remove); code != local.CodeOK {
			t.Fatalf("withdrawal %d: code %d", i, code)
		}
	}
	s.meta.Height-- // as if in the block of the last one, to which it is added
	if code := s.checkRemoveStake(remove, chain.Coldkey(account0(4))); code != local.CodeOK {
		t.Errorf("one more in the block of the last: code %d", code)
	}
	s.meta.Height++
	if code, _ := do(t, s, 4, remove); code != local.CodeUnbonding {
		t.Errorf("one more: code %d", code)
	}
	if x := s.Stakes(chain.Coldkey(account0(4))); len(x.Unbonding) != maxUnbonding || x.Unbonding[1].Amount != 2*(coin/10) || x.Unbonding[0] != (local.Withdrawal{At: at, Amount: coin}) {
		t.Errorf("%+v", x)
	}
	if code, _ := do(t, s, 0, local.SetParam{Name: "unstake_delay", Value: 5}); code != local.CodeOK { // what waits, waits as long as before
		t.Fatal(code)
	}
	before := balanceOf(s, 4)
	until(s, at-1)
	if got := balanceOf(s, 4); got != before {
		t.Errorf("paid %s too early", got-before)
	}
	next(s)
	if got := balanceOf(s, 4); got != before+coin {
		t.Errorf("paid %s, want %s", got-before, coin)
	}
	if code, _ := do(t, s, 4, remove); code != local.CodeOK { // overtakes what was unstaked before it
		t.Errorf("after one was paid: code %d", code)
	}
	until(s, at+maxUnbonding+10)
	audit(t, s)
	if x := s.Stakes(chain.Coldkey(account0(4))); len(x.Unbonding) != 0 || len(s.paydays) != 0 || s.Supply().Unbonding != 0 {
		t.Errorf("%+v, %v", x, s.paydays)
	}
}

// A dividend raises what everybody has on a hotkey pro rata; the owner's take comes first, as stake.
func TestDelegation(t *testing.T) {
	s := machine(t)
	const coin = chain.RaoPerCoin
	hot := account0(1) // 200 coins of its own
	if code, _ := do(t, s, 5, local.AddStake{Hotkey: hot, Amount: 4 * coin}); code != local.CodeOK {
		t.Fatal(code)
	}
	s.meta.Money.Pending += 51 * coin // as if emitted
	s.meta.Money.Emitted += 51 * coin
	s.reward(hot, s.spend(uint64(51*coin)))
	audit(t, s)
	take := share(51*coin, 11796)
	rest := 51*coin - take
	near := func(what string, got, want chain.Amount) {
		t.Helper()
		if got > want+2 || got+2 < want {
			t.Errorf("%s has %s, want %s", what, got, want)
		}
	}
	near("the delegator", staked(s, 5, hot), 4*coin+scaled(rest, 4, 204))
	near("the owner", staked(s, 1, hot), 200*coin+scaled(rest, 200, 204)+take)
	if code, _ := do(t, s, 0, local.SetParam{Name: "max_take", Value: 0}); code != local.CodeOK { // holds for those who have more
		t.Fatal(code)
	}
	before, pool := staked(s, 5, hot), s.hotkeys[hot].Stake
	s.meta.Money.Pending += coin
	s.meta.Money.Emitted += coin
	s.reward(hot, s.spend(uint64(coin)))
	near("the delegator", staked(s, 5, hot), before+scaled(coin, uint64(before), uint64(pool)))
	audit(t, s)
}

// Through a whole epoch: validators are paid by all that is staked on them, delegators share it, and a hotkey's earnings are the
// dividends of all of them.
func TestDelegatorsEarn(t *testing.T) {
	s := machine(t)
	const coin = chain.RaoPerCoin
	hot, row := account0(1), local.SetWeights{Weights: []chain.Weight{{UID: 2, Value: 9}}}
	next(s)
	next(s, tx(t, 5, 0, local.AddStake{Hotkey: hot, Amount: 4 * coin}), tx(t, 1, 0, local.SetTake{Hotkey: hot, Take: 0}), tx(t, 0, 0, row), tx(t, 1, 1, row))
	until(s, s.run.Tempo)
	audit(t, s)
	x := s.seats[1]
	if x.Stake != 204*coin+x.Earned || s.hotkeys[hot].Earned != x.Earned || x.Earned == 0 {
		t.Fatalf("%+v", x.Neuron)
	}
	E := s.Supply().Emitted - chain.Amount(s.Height())*share(coin, s.params.OwnerCut)
	if want := scaled(E/2, 204, 504); x.Earned > want+20 || x.Earned+20 < want { // half of all is dividends, by stake
		t.Errorf("earned %s, want %s", x.Earned, want)
	}
	if got, want := staked(s, 5, hot), 4*coin+scaled(x.Earned, 4, 204); got > want || got+2 < want {
		t.Errorf("the delegator has %s, want %s", got, want)
	}
	if s.seats[2].Stake != 0 || s.seats[2].Earned == 0 {
		t.Errorf("the miner %+v", s.seats[2].Neuron)
	}
}

// Where a share is dear, whole shares are bought for what they are worth, or none at all, and as many are sold as pay at least what
// was asked for.
func TestDearShares(t *testing.T) {
	s := machine(t)
	hot, k := account0(0), chain.Coldkey(account0(0))
	const dear = 150_000_000 // rao a share
	s.hotkeys[hot] = hotkey{Owner: k, Stake: 300 * chain.RaoPerCoin, Shares: 2000}
	s.shares[k][hot] = 2000
	if code, _ := do(t, s, 4, local.AddStake{Hotkey: hot, Amount: dear - 1}); code != local.CodeAmount || staked(s, 4, hot) != 0 {
		t.Errorf("less than a share: code %d", code)
	}
	if code, events := do(t, s, 4, local.AddStake{Hotkey: hot, Amount: 4*dear - 1}); code != local.CodeOK || staked(s, 4, hot) != 3*dear || events[0].Amount != 3*dear {
		t.Errorf("a rao less than four shares: code %d, %d", code, staked(s, 4, hot))
	}
	if b := balanceOf(s, 4); b != 5*chain.RaoPerCoin-2*s.params.Fee-3*dear {
		t.Errorf("%s are left", b)
	}
	if code, events := do(t, s, 4, local.RemoveStake{Hotkey: hot, Amount: dear + 1}); code != local.CodeOK || events[0].Amount != 2*dear || staked(s, 4, hot) != dear {
		t.Errorf("a rao more than a share: code %d, %+v", code, events)
	}
	if code, events := do(t, s, 4, local.RemoveStake{Hotkey: hot, Amount: local.WholeStake}); code != local.CodeOK || events[0].Amount != dear {
		t.Errorf("all: code %d, %+v", code, events)
	}
}

// Bonds outlive the stake that made them: who has unstaked all is still paid what they earn, as a new stake of its owner.
func TestRewardWithoutStake(t *testing.T) {
	s := machine(t)
	hot := account0(0)
	if code, _ := do(t, s, 0, local.RemoveStake{Hotkey: hot, Amount: local.WholeStake}); code != local.CodeOK || s.hotkeys[hot].Shares != 0 || s.hotkeys[hot].Stake != 0 {
		t.Fatalf("code %d, %+v", code, s.hotkeys[hot])
	}
	s.reward(hot, s.spend(7))
	if got := staked(s, 0, hot); got != 7 {
		t.Errorf("staked %d", got)
	}
	audit(t, s)
}

// No sequence of staking and unstaking gains those who do it a rao, alone or together, whatever the pool looks like; nobody
// else loses one, because a share is never worth less than before. What an operation loses to rounding is below a rao.
func TestStakingGainsNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := machine(t)
		s.params.MinStake = 1
		hot, a, b := account0(0), chain.Coldkey(account0(4)), chain.Coldkey(account0(5))
		stake := rapid.Uint64Range(1, 1<<40).Draw(rt, "stake")
		shares := rapid.Uint64Range(1, stake).Draw(rt, "shares")
		pool := s.hotkeys[hot]
		s.meta.Money.Emitted += chain.Amount(stake) - pool.Stake // may wrap, as the sums do
		pool.Stake, pool.Shares = chain.Amount(stake), shares
		s.setHotkey(hot, pool)
		s.setShares(chain.Coldkey(hot), hot, shares)
		for _, k := range []chain.Coldkey{a, b} {
			s.meta.Money.Emitted += 1 << 41
			s.credit(k, 1<<41)
		}
		has := func(k chain.Coldkey) chain.Amount {
			x := s.hotkeys[hot]
			w := worth(s.shares[k][hot], max(x.Shares, 1), x.Stake)
			for _, d := range s.unbonding[k] {
				w += d.Amount
			}
			return w + s.accounts[k].Balance
		}
		start := map[chain.Coldkey]chain.Amount{a: has(a), b: has(b), chain.Coldkey(hot): has(chain.Coldkey(hot))}
		who := rapid.SampledFrom([][]chain.Coldkey{{a}, {a, b}}).Draw(rt, "who")
		ops := rapid.IntRange(1, 12).Draw(rt, "operations")
		for range ops {
			k := rapid.SampledFrom(who).Draw(rt, "account")
			before := s.hotkeys[hot]
			amount := chain.Amount(rapid.Uint64Range(1, 1<<40).Draw(rt, "amount"))
			if rapid.Bool().Draw(rt, "add") {
				if op := (local.AddStake{Hotkey: hot, Amount: amount}); s.checkAddStake(op, chain.Hotkey(k), s.accounts[k].Balance) == local.CodeOK {
					s.addStake(op, k)
				}
			} else if op := (local.RemoveStake{Hotkey: hot, Amount: amount}); s.checkRemoveStake(op, k) == local.CodeOK {
				s.removeStake(op, k)
			}
			now := s.hotkeys[hot]
			if now.Shares > 0 && scaled(now.Stake, before.Shares, now.Shares) < before.Stake {
				rt.Fatalf("a share was worth %d/%d and is worth %d/%d", before.Stake, before.Shares, now.Stake, now.Shares)
			}
			audit(rt, s)
		}
		var was, now chain.Amount
		for _, k := range who {
			was, now = was+start[k], now+has(k)
		}
		if now > was || now+chain.Amount(ops)+2 < was {
			rt.Fatalf("they had %d and have %d", was, now)
		}
		if k := chain.Coldkey(hot); has(k) < start[k] {
			rt.Fatalf("who did nothing had %d and has %d", start[k], has(k))
		}
	})
}

// A take that its owner never changed may be raised at once.
func TestFirstTakeIsFree(t *testing.T) {
	s := machine(t)
	s.params.MaxTake = 20_000
	next(s)
	for _, want := range []local.Code{local.CodeOK, local.CodeRateLimited} {
		if code, _ := do(t, s, 1, local.SetTake{Hotkey: account0(1), Take: s.hotkeys[account0(1)].Take + 1}); code != want {
			t.Errorf("code %d, want %d", code, want)
		}
	}
}

// A take that was lowered stays low for as long as one that was raised: stakers who come for it are safe from the next block.
func TestTakeIsNoLure(t *testing.T) {
	s := machine(t)
	s.params.TakeInterval = 5
	hot := account0(1)
	high := s.hotkeys[hot].Take
	for _, c := range []struct {
		at   chain.Block
		take uint16
		want local.Code
	}{{1, 0, local.CodeOK}, {2, high, local.CodeRateLimited}, {5, 1, local.CodeRateLimited}, {6, 9, local.CodeOK}, {7, 9, local.CodeOK}, {8, 10, local.CodeRateLimited},
		{9, 8, local.CodeOK}, {13, 9, local.CodeRateLimited}, {14, high, local.CodeOK}} {
		until(s, c.at-1)
		if code, _ := do(t, s, 1, local.SetTake{Hotkey: hot, Take: c.take}); code != c.want {
			t.Errorf("block %d, take %d: code %d, want %d", c.at, c.take, code, c.want)
		}
	}
}
