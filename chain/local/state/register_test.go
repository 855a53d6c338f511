package state

import (
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/yuma"
)

// full makes a network whose seats are all taken and whose registrations cost next to nothing.
func full(t testing.TB, change func(*Genesis)) *State {
	t.Helper()
	g := genesis(t)
	g.Params.MaxSeats, g.Params.Burn, g.Params.MinBurn, g.Params.MaxBurn, g.Params.ImmunityPeriod, g.Params.CommitReveal = 4, 100, 100, 100, 10, false
	if change != nil {
		change(g)
	}
	s, err := New(g)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The weakest goes: the lowest emission, then the longest registered, then the lowest uid; the immune are spared while enough
// others are there, and the owner's seat always.
func TestWeakest(t *testing.T) {
	type seats = [4]struct {
		emission chain.Amount
		at       chain.Block
	}
	for name, c := range map[string]struct {
		seats  seats
		spared int
		owner  int
		want   int
	}{
		"lowest emission":             {seats{{9, 0}, {3, 0}, {2, 0}, {5, 0}}, 0, -1, 2},
		"then longest registered":     {seats{{2, 7}, {2, 6}, {2, 5}, {2, 6}}, 0, -1, 2},
		"then lowest uid":             {seats{{2, 5}, {2, 5}, {1, 5}, {1, 5}}, 0, -1, 2},
		"not the owner's":             {seats{{9, 0}, {3, 0}, {2, 0}, {5, 0}}, 0, 2, 1},
		"not an immune one":           {seats{{9, 0}, {3, 0}, {2, 95}, {5, 0}}, 0, -1, 1},
		"at the end of immunity":      {seats{{9, 0}, {3, 0}, {2, 90}, {5, 0}}, 0, -1, 2},
		"the last before the end":     {seats{{9, 0}, {3, 0}, {2, 91}, {5, 0}}, 0, -1, 1},
		"only immune ones":            {seats{{9, 95}, {3, 96}, {2, 97}, {5, 98}}, 10, -1, 2},
		"one other, which is spared":  {seats{{1, 0}, {3, 96}, {4, 97}, {5, 98}}, 10, -1, 1},
		"one other, none to be":       {seats{{1, 0}, {3, 96}, {4, 97}, {5, 98}}, 0, -1, 0},
		"two others, one to be":       {seats{{1, 0}, {3, 0}, {0, 97}, {5, 98}}, 10, -1, 0},
		"the owner's is no other":     {seats{{1, 0}, {3, 0}, {4, 97}, {5, 98}}, 10, 0, 2},
		"no immune one to spare them": {seats{{1, 0}, {3, 0}, {4, 0}, {5, 0}}, 4, -1, 0},
	} {
		s := full(t, func(g *Genesis) {
			g.Params.MinNonImmune, g.Owner = c.spared, chain.Coldkey{}
			if c.owner >= 0 {
				g.Owner = chain.Coldkey(account0(c.owner))
			}
		})
		s.meta.Height = 100
		for i, x := range c.seats {
			s.seats[i].Emission, s.seats[i].RegisteredAt = x.emission, x.at
		}
		if got := s.weakest(); got != c.want {
			t.Errorf("%s: seat %d, want %d", name, got, c.want)
		}
	}
	one := full(t, func(g *Genesis) { g.Params.MaxSeats, g.Seats = 1, g.Seats[:1] })
	if got := one.weakest(); got != -1 {
		t.Errorf("of the owner's seat alone: %d", got)
	}
	if code, _ := one.execute(tx(t, 5, 0, register())); code != local.CodeNoSeat {
		t.Errorf("code %d", code)
	}
}

// The checks of a registration in Subtensor's order: the price's limit, the funds, the owner, a seat.
func TestRegisterChecks(t *testing.T) {
	type change func(*State)
	once := func(s *State) { s.hotkeys[account0(5)] = hotkey{Owner: chain.Coldkey(account0(5))} } // it had a seat
	alone := func(s *State) { once(s); s.seats, s.params.MaxSeats = s.seats[:1], 1 }
	other := chain.Coldkey(account0(4))
	for name, c := range map[string]struct {
		change change
		op     local.Register
		want   local.Code
	}{
		"fine":                 {once, local.Register{Limit: 100}, local.CodeOK},
		"all is wrong":         {func(s *State) { alone(s); s.accounts[chain.Coldkey(account0(5))] = account{s.params.Fee, 0} }, local.Register{Coldkey: other, Limit: 99}, local.CodePrice},
		"all but the limit":    {func(s *State) { alone(s); s.accounts[chain.Coldkey(account0(5))] = account{s.params.Fee, 0} }, local.Register{Coldkey: other}, local.CodeFunds},
		"an owner and no seat": {alone, local.Register{Coldkey: other}, local.CodeNotOwner},
		"no seat":              {alone, local.Register{}, local.CodeNoSeat},
	} {
		s := full(t, nil)
		c.change(s)
		if got, _ := s.execute(tx(t, 5, 0, c.op)); got != c.want {
			t.Errorf("%s: code %d, want %d", name, got, c.want)
		}
	}
}

// A replaced hotkey loses seat, record, commitments and everybody's weights and bonds; its stake, owner and earnings stay, and it
// may come back.
func TestReplace(t *testing.T) {
	s := full(t, nil)
	until(s, 9)
	rec := local.Publish{Record: chain.Record{Body: chain.SubmissionBody{Window: 1}.Encode()}}
	row := []yuma.Entry{{UID: 1, Value: 5}, {UID: 2, Value: 6}}
	cold := chain.Coldkey{8}
	next(s, tx(t, 2, 0, rec), tx(t, 3, 0, rec), tx(t, 5, 0, local.AddStake{Hotkey: account0(2), Amount: chain.RaoPerCoin}))
	for i := range s.seats {
		s.seats[i].Weights, s.seats[i].Bonds = row, row
	}
	s.commits[account0(2)] = []commit{{at: s.Height()}}
	s.seats[1].Emission, s.seats[3].Emission = 5, 5 // uid 0 is the owner's
	x := s.hotkeys[account0(2)]
	x.Earned = 77
	s.hotkeys[account0(2)] = x

	r := next(s, tx(t, 5, 1, local.Register{Coldkey: cold}))
	audit(t, s)
	h := s.Height()
	want := chain.Neuron{UID: 2, Hotkey: account0(5), Coldkey: cold, RegisteredAt: h, LastUpdate: h}
	if r.Codes[0] != local.CodeOK || s.seats[2].Neuron != want || s.seats[2].Weights != nil || s.seats[2].Bonds != nil || s.byHotkey[account0(5)] != 2 {
		t.Errorf("code %d, seat %+v", r.Codes[0], s.seats[2])
	}
	if len(r.Events) != 2 || r.Events[0].Kind != local.EventReplaced || r.Events[0].Hotkey != account0(2) || r.Events[0].Other != account0(5) || r.Events[0].UID != 2 || r.Events[1].Kind != local.EventRegistered {
		t.Errorf("events %+v", r.Events)
	}
	for _, i := range []int{0, 1, 3} {
		if !reflect.DeepEqual(s.seats[i].Weights, row[:1]) || !reflect.DeepEqual(s.seats[i].Bonds, row[:1]) {
			t.Errorf("uid %d still says %v, %v about the slot", i, s.seats[i].Weights, s.seats[i].Bonds)
		}
	}
	old := s.hotkeys[account0(2)]
	if s.Seated(account0(2)) || old.Earned != 77 || old.Stake != chain.RaoPerCoin || old.Times != 1 || old.Owner != chain.Coldkey(account0(2)) || len(s.commits) != 0 {
		t.Errorf("what is left of the replaced hotkey: %+v, commitments %v", old, s.commits)
	}
	if _, kept := s.records[account0(2)]; kept || s.records[account0(3)].At == 0 {
		t.Errorf("records %v", s.records)
	}
	if code, _ := do(t, s, 5, local.RemoveStake{Hotkey: account0(2), Amount: local.WholeStake}); code != local.CodeOK {
		t.Errorf("unstaking from a hotkey without a seat: code %d", code)
	}

	if code, _ := do(t, s, 2, local.Register{Coldkey: cold}); code != local.CodeNotOwner {
		t.Errorf("with another owner: code %d", code)
	}
	s.seats[2].Emission = 9
	s.seats[1].RegisteredAt = 1
	if code, _ := do(t, s, 2, register()); code != local.CodeOK {
		t.Fatalf("back again: code %d", code)
	}
	if x, n := s.hotkeys[account0(2)], s.seats[3]; x.Times != 2 || x.First != 0 || x.Earned != 77 || n.Hotkey != account0(2) || n.Earned != 0 {
		t.Errorf("%+v in %+v", x, n.Neuron)
	}
}

// What enters the mempool can pay: the fee, the amount, and the fees of what waits before it.
func TestMempoolCountsFees(t *testing.T) {
	s := machine(t)
	fee := s.params.Fee
	to := chain.Coldkey(account0(0))
	s.setAccount(chain.Coldkey(account0(6)), account{Balance: 3*fee + 5})
	for i, c := range []struct {
		nonce  uint64
		amount chain.Amount
		want   local.Code
	}{{0, 5, local.CodeOK}, {0, 2*fee + 5, local.CodeOK}, {0, 2*fee + 6, local.CodeFunds}, {2, 5, local.CodeOK}, {3, 5, local.CodeFunds}, {15, 5, local.CodeFunds}} {
		if code := s.CheckTx(tx(t, 6, c.nonce, local.Transfer{To: to, Amount: c.amount})); code != c.want {
			t.Errorf("case %d: code %d, want %d", i, code, c.want)
		}
	}
	s.setAccount(chain.Coldkey(account0(8)), account{Balance: fee - 1})
	for _, code := range []local.Code{s.CheckTx(tx(t, 8, 0, register())), codeOf(s.execute(tx(t, 8, 0, register())))} {
		if b, nonce := s.Account(chain.Coldkey(account0(8))); code != local.CodeFunds || b != fee-1 || nonce != 0 {
			t.Errorf("a rao less than the fee: code %d, %d left, nonce %d", code, b, nonce)
		}
	}
	publish := local.Publish{Record: chain.Record{Body: []byte{1}}}
	for nonce, want := range map[uint64]local.Code{0: local.CodeOK, freeWindow - 1: local.CodeOK, freeWindow: local.CodeNonce} {
		if code := s.CheckTx(tx(t, 3, nonce, publish)); code != want {
			t.Errorf("a seat's record with %d before it: code %d, want %d", nonce, code, want)
		}
	}
	for _, op := range []local.Op{publish, local.SetWeights{}, local.CommitWeights{Commit: []byte{1}}, local.Transfer{To: to, Amount: 1}, register(), local.SetTake{}} {
		if code, spent := s.execute(tx(t, 7, 0, op)); code == local.CodeOK || spent || len(s.accounts) != 8 {
			t.Errorf("%T of nobody: code %d, %d accounts", op, code, len(s.accounts))
		}
	}
}

// Whatever is sent for nothing changes nothing: no account, no nonce, no byte of the state.
func TestFreeRefusalsLeaveNoTrace(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := machine(t)
		s.hash()
		before, size := s.AppHash(), s.Size()
		nobody := 20 + rapid.IntRange(0, 5).Draw(rt, "who")
		b := rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(rt, "operation")
		if code, spent := s.execute(tx(t, nobody, rapid.Uint64Range(0, 2).Draw(rt, "nonce"), opOf(b))); code == local.CodeOK || spent {
			rt.Fatal("done for nothing")
		}
		if s.hash(); s.AppHash() != before || s.Size() != size {
			rt.Fatal("a trace of what was refused")
		}
	})
}
