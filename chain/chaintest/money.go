package chaintest

import (
	"testing"

	"sn3/chain"
)

func register(t *testing.T, c *Chain) {
	ctx := c.Ctx(t)
	one := must[chain.UID](t)(c.Account(Rich).Register(ctx))
	paid := newest(t, c)
	two := must[chain.UID](t)(c.Account(Rich).Register(ctx))
	if one != two {
		t.Errorf("uid %d, then %d", one, two)
	}
	s := newest(t, c)
	n, found := s.ByHotkey(c.Account(Rich).Hotkey)
	if !found || n.UID != one || int(one) != len(s.Neurons)-1 || n.Permit || n.RegisteredAt == 0 {
		t.Errorf("seat %+v of %d, want uid %d", n, len(s.Neurons), one)
	}
	before, _ := paid.ByHotkey(n.Hotkey)
	if n.Balance != before.Balance || n.Balance >= c.Funds[Rich] {
		t.Errorf("balance %s after one registration, %s after the second, %s before both", before.Balance, n.Balance, c.Funds[Rich])
	}
	alice := must[chain.UID](t)(c.Account(Alice).Register(ctx))
	if a, _ := s.ByHotkey(c.Account(Alice).Hotkey); a.UID != alice {
		t.Errorf("alice sits in %d, register says %d", a.UID, alice)
	}
}

// maxFee is the most that the suite expects a transfer to cost, in rao.
const maxFee = 1_000_000

func transfer(t *testing.T, c *Chain) {
	alice, rich := c.Account(Alice).Hotkey, c.Account(Rich).Hotkey
	before := newest(t, c)
	ok(t, c.Account(Rich).Transfer(c.Ctx(t), chain.Coldkey(alice), 12345))
	after := newest(t, c)
	moved := func(h chain.Hotkey) int64 {
		a, _ := before.ByHotkey(h)
		b, _ := after.ByHotkey(h)
		return int64(b.Balance-b.Earned) - int64(a.Balance-a.Earned) // an epoch may have paid in between
	}
	if got, paid := moved(alice), -moved(rich); got != 12345 || paid < 12345 || paid > 12345+maxFee {
		t.Errorf("alice got %d, rich paid %d", got, paid)
	}
	if c.Account(Rich).Transfer(c.Ctx(t), chain.Coldkey(alice), 0) == nil {
		t.Error("a transfer of nothing was accepted")
	}
}

func funds(t *testing.T, c *Chain) {
	_, err := c.Account(Poor).Register(c.Ctx(t))
	want(t, "register", err, chain.ErrFunds)
	err = c.Account(Poor).Transfer(c.Ctx(t), chain.Coldkey(c.Account(Alice).Hotkey), 1<<62)
	want(t, "transfer", err, chain.ErrFunds)
	if _, seated := newest(t, c).ByHotkey(c.Account(Poor).Hotkey); seated {
		t.Error("poor has a seat")
	}
}

// weights: only a permitted hotkey may set them; after the epoch they are incentive of whom they rate, and nobody else's.
func weights(t *testing.T, c *Chain) {
	ctx := c.Ctx(t)
	s := newest(t, c)
	alice, _ := s.ByHotkey(c.Account(Alice).Hotkey)
	bob, _ := s.ByHotkey(c.Account(Bob).Hotkey)
	if _, err := c.Account(Alice).SetWeights(ctx, []chain.Weight{{UID: bob.UID, Value: 65535}}); err == nil {
		t.Error("a hotkey without a permit set weights")
	}
	if _, err := c.Account(Boss).SetWeights(ctx, []chain.Weight{{UID: 60000, Value: 1}}); err == nil {
		t.Error("weights for a seat that does not exist were accepted")
	}
	row := []chain.Weight{{UID: alice.UID, Value: 65535}}
	var set chain.Block
	for _, name := range []string{Boss, Deputy} {
		set = must[chain.Receipt](t)(c.Account(name).SetWeights(ctx, row)).Block
	}
	epoch := (set/c.Run.Tempo + 1) * c.Run.Tempo
	ok(t, c.Advance(epoch))
	after := newest(t, c)
	a, _ := after.ByHotkey(alice.Hotkey)
	b, _ := after.ByHotkey(bob.Hotkey)
	if a.Incentive != 65535 || a.Emission == 0 || a.Earned == 0 || a.Balance <= alice.Balance {
		t.Errorf("rated, and incentive %d, emission %s, earned %s, balance %s", a.Incentive, a.Emission, a.Earned, a.Balance)
	}
	if b.Incentive != 0 || b.Earned != bob.Earned {
		t.Errorf("not rated, and incentive %d, earned %s", b.Incentive, b.Earned)
	}
	boss, _ := after.ByHotkey(c.Account(Boss).Hotkey)
	deputy, _ := after.ByHotkey(c.Account(Deputy).Hotkey)
	if boss.LastUpdate == 0 || boss.Dividends <= deputy.Dividends || deputy.Dividends == 0 {
		t.Errorf("dividends %d and %d with stakes %s and %s", boss.Dividends, deputy.Dividends, boss.Stake, deputy.Stake)
	}
}

// selection: what the chain computed is what package chain computes from the snapshots, a record published after the
// deadline does not count, and before its block a selection does not exist.
func selection(t *testing.T, c *Chain) {
	ctx := c.Ctx(t)
	sched := must[chain.Schedule](t)(chain.NewSchedule(c.Run.Schedule))
	_, err := c.Account(Boss).Selection(ctx, 1_000_000)
	want(t, "before its block", err, chain.ErrNotYet)
	s := newest(t, c)
	alice, _ := s.ByHotkey(c.Account(Alice).Hotkey)
	bob, _ := s.ByHotkey(c.Account(Bob).Hotkey)

	w, submission, vote := inTime(t, c, sched, []chain.Score{{UID: alice.UID, Value: 9000}, {UID: bob.UID, Value: 9100}})
	ok(t, c.Advance(sched.At(w, chain.PhaseDeadline)))
	late := must[chain.Receipt](t)(c.Account(Bob).Publish(ctx, submission))
	ok(t, c.Advance(sched.At(w, chain.PhaseSelect)))

	got := must[chain.Selection](t)(c.Account(Boss).Selection(ctx, w))
	deadline := must[*chain.Snapshot](t)(c.Account(Boss).Snapshot(ctx, sched.At(w, chain.PhaseDeadline)))
	scoreBy := must[*chain.Snapshot](t)(c.Account(Boss).Snapshot(ctx, sched.At(w, chain.PhaseScoreBy)))
	own := chain.Select(chain.NewView(w, deadline, scoreBy), c.Run.Rules)
	if len(got.Winners) != 1 || len(own.Winners) != 1 || got.Winners[0].Hotkey != alice.Hotkey || got.Winners[0].Score != 9000 ||
		got.Root != own.Root || got.Root != vote.Root || got.Winners[0].Digest != submission.Digest {
		t.Errorf("the chain selected %+v, package chain %+v", got, own)
	}
	if p, _ := deadline.Record(bob.Hotkey); p.Record.Equal(submission) {
		t.Errorf("a record of block %d counts at deadline %d", late.Block, deadline.Block)
	}
}

// inTime publishes Alice's submission and both votes before the deadline of one window, which it returns. On a slow machine
// blocks may overtake it: then it takes a later window.
func inTime(t *testing.T, c *Chain, sched chain.Schedule, scores []chain.Score) (chain.Window, chain.Record, chain.Vote) {
	t.Helper()
	for margin := chain.Block(6); margin < 200; margin *= 2 {
		now := must[chain.Block](t)(c.Now())
		w := chain.Window(0)
		for sched.At(w, chain.PhaseDeadline) < now+margin {
			w++
		}
		submission := chain.Record{Locator: []byte("x"), Digest: chain.Hash{9}, Body: chain.SubmissionBody{Window: w}.Encode()}
		vote := chain.Vote{Window: w, Root: chain.Hash{5}, Scores: scores}
		body := must[[]byte](t)(vote.Encode())
		last := chain.Block(0)
		for name, r := range map[string]chain.Record{Alice: submission, Boss: {Digest: chain.Hash{7}, Body: body}, Deputy: {Digest: chain.Hash{8}, Body: body}} {
			last = max(last, must[chain.Receipt](t)(c.Account(name).Publish(c.Ctx(t), r)).Block)
		}
		if last <= sched.At(w, chain.PhaseDeadline) {
			return w, submission, vote
		}
		t.Logf("block %d is after the deadline of window %d: taking a later one", last, w)
	}
	t.Fatal("no window is long enough for three records")
	return 0, chain.Record{}, chain.Vote{}
}
