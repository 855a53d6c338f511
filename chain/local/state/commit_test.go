package state

import (
	"bytes"
	"crypto/rand"
	"testing"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/timelock"
	"sn3/chain/yuma"
)

// sealing is a machine on which weights are committed.
func sealing(t testing.TB, change func(*Params)) *State {
	t.Helper()
	g := genesis(t)
	g.Params.CommitReveal = true
	if change != nil {
		change(&g.Params)
	}
	s, err := New(g)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sealed is a commitment of who for the next block; its round is the first of the reveal epoch plus later.
func sealed(t testing.TB, s *State, who int, later chain.Round, row ...chain.Weight) local.CommitWeights {
	t.Helper()
	round, _ := local.RevealRounds(s.Height()+1, s.run.Tempo, s.params.RevealPeriod)
	key, err := s.BeaconKey(round + later)
	if err != nil {
		t.Fatal(err)
	}
	op, err := local.Seal(account0(who), row, key, round+later, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return op
}

func nonceOf(s *State, who int) uint64 {
	_, n := s.Account(chain.Coldkey(account0(who)))
	return n
}

// send puts operations into the next block, which must take them all.
func send(t testing.TB, s *State, who int, ops ...local.Op) Result {
	t.Helper()
	var txs [][]byte
	for i, op := range ops {
		txs = append(txs, tx(t, who, nonceOf(s, who)+uint64(i), op))
	}
	r := next(s, txs...)
	for i, code := range r.Codes {
		if code != local.CodeOK {
			t.Fatalf("block %d: operation %d: %v", s.Height(), i, code.Err())
		}
	}
	return r
}

// lit makes the next block with the beacon of the one before.
func lit(t testing.TB, s *State) Result {
	t.Helper()
	return s.Finalize(Block{Height: s.Height() + 1, Beacons: lightOf(t, chain.Round(s.Height()))})
}

func kindsOf(r Result) (out []string) {
	for _, e := range r.Events {
		out = append(out, e.Kind+" "+e.Reason)
	}
	return out
}

// A commitment is revealed by the chain in the first block of the next epoch, before Yuma runs there; until then the row is
// the old one. The commitment is the update, the reveal is none.
func TestCommitIsRevealed(t *testing.T) {
	s := sealing(t, nil)
	until(s, 10)
	send(t, s, 0, sealed(t, s, 0, 0, chain.Weight{UID: 2, Value: 10}, chain.Weight{UID: 3, Value: 20}))
	at := s.Height()
	until(s, s.run.Tempo-1)
	if x := s.seats[0]; len(x.Weights) != 0 || x.LastUpdate != at || len(s.commits) != 1 {
		t.Fatalf("before: weights %v, last update %d, want none and %d", x.Weights, x.LastUpdate, at)
	}
	r := lit(t, s)
	x := s.seats[0]
	if len(x.Weights) != 2 || x.Weights[0] != (yuma.Entry{UID: 2, Value: 32768}) || x.Weights[1] != (yuma.Entry{UID: 3, Value: 65535}) {
		t.Errorf("after: weights %v (events %v)", x.Weights, kindsOf(r))
	}
	if x.LastUpdate != at || len(s.commits) != 0 || s.seats[3].Incentive <= s.seats[2].Incentive || s.seats[2].Incentive == 0 {
		t.Errorf("last update %d, commits left %d, incentives %d %d", x.LastUpdate, len(s.commits), s.seats[2].Incentive, s.seats[3].Incentive)
	}
}

// Whatever is wrong with what was sealed, the old row stays and the reason is told.
func TestBadCommitsAreDropped(t *testing.T) {
	random := func(op local.CommitWeights) local.CommitWeights {
		op.Commit = bytes.Repeat([]byte{7}, 300)
		return op
	}
	other := func(p timelock.WeightsPayload) func(*State) local.CommitWeights {
		return func(s *State) local.CommitWeights {
			round, _ := local.RevealRounds(s.Height()+1, s.run.Tempo, s.params.RevealPeriod)
			b, err := timelock.Seal(s.gen.BeaconKey, uint64(round), p.Encode(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			return local.CommitWeights{Round: round, Version: local.TimelockVersion, Commit: b}
		}
	}
	for name, c := range map[string]struct {
		op  func(*State) local.CommitWeights
		why string
	}{
		"noise":           {func(s *State) local.CommitWeights { return random(sealed(t, s, 1, 0, rowOf(2)...)) }, "it does not open with the beacon of its round"},
		"another round":   {func(s *State) local.CommitWeights { op := sealed(t, s, 1, 1, rowOf(2)...); op.Round--; return op }, "it does not open with the beacon of its round"},
		"somebody's copy": {func(s *State) local.CommitWeights { return sealed(t, s, 0, 0, rowOf(2)...) }, "it holds the row of another hotkey: a copy"},
		"unequal lists":   {other(timelock.WeightsPayload{Hotkey: account0(1), UIDs: []uint16{2, 3}, Values: []uint16{1}}), "what it holds is no weight row"},
		"an old version":  {other(timelock.WeightsPayload{Hotkey: account0(1), UIDs: []uint16{2}, Values: []uint16{1}, VersionKey: 4}), local.CodeVersionKey.Err().Error()},
		"twice":           {other(timelock.WeightsPayload{Hotkey: account0(1), UIDs: []uint16{2, 2}, Values: []uint16{1, 2}, VersionKey: 5}), local.CodeDuplicate.Err().Error()},
		"a seat too high": {other(timelock.WeightsPayload{Hotkey: account0(1), UIDs: []uint16{2, 9}, Values: []uint16{1, 2}, VersionKey: 5}), local.CodeWeights.Err().Error()},
		"not ascending":   {other(timelock.WeightsPayload{Hotkey: account0(1), UIDs: []uint16{3, 2}, Values: []uint16{1, 2}, VersionKey: 5}), local.CodeWeights.Err().Error()},
	} {
		s := sealing(t, func(p *Params) { p.WeightsVersion = 5 })
		s.seats[1].Weights = []yuma.Entry{{UID: 3, Value: 65535}}
		send(t, s, 1, c.op(s))
		until(s, s.run.Tempo-1)
		r := lit(t, s)
		var why string
		for _, e := range r.Events {
			if e.Kind == local.EventDropped {
				why = e.Reason
			}
		}
		if len(s.seats[1].Weights) != 1 || s.seats[1].Weights[0].UID != 3 || len(s.commits) != 0 || why != c.why {
			t.Errorf("%s: weights %v, %d commits left, dropped because %q", name, s.seats[1].Weights, len(s.commits), why)
		}
	}
}

// A commitment waits for a late beacon as long as its reveal epoch lasts, then it is dropped; the newest of several counts.
func TestCommitsWaitForTheirBeacon(t *testing.T) {
	s := sealing(t, nil)
	tempo := s.run.Tempo
	send(t, s, 0, sealed(t, s, 0, 0, rowOf(2)...))
	send(t, s, 0, sealed(t, s, 0, 0, rowOf(3)...))
	send(t, s, 1, sealed(t, s, 1, 5, rowOf(3)...))
	until(s, tempo) // without the beacon of tempo-1
	until(s, tempo+5)
	if len(s.seats[0].Weights)+len(s.seats[1].Weights) != 0 || len(s.commits[account0(0)]) != 2 {
		t.Fatal("revealed without a beacon")
	}
	s.Finalize(Block{Height: tempo + 6, Beacons: lightOf(t, chain.Round(tempo+5))})
	if len(s.seats[1].Weights) != 0 { // its round is tempo-1+5
		t.Error("opened with the beacon of another round")
	}
	s.beacons[chain.Round(tempo-1)] = mustSign(t, chain.Round(tempo-1)) // a round that came late
	r := next(s)
	if w := s.seats[0].Weights; len(w) != 1 || w[0].UID != 3 {
		t.Errorf("weights %v, events %v", w, kindsOf(r))
	}
	until(s, 2*tempo-1)
	if len(s.commits) != 1 {
		t.Errorf("%d commitments wait", len(s.commits))
	}
	if r := next(s); len(s.commits) != 0 || len(s.seats[1].Weights) != 0 {
		t.Errorf("after the reveal epoch: %v", kindsOf(r))
	}
}

// The checks of a commitment in their order.
func TestCommitChecks(t *testing.T) {
	for name, c := range map[string]struct {
		params func(*Params)
		who    int
		change func(*local.CommitWeights)
		want   local.Code
	}{
		"fine":            {nil, 1, nil, local.CodeOK},
		"not wanted":      {func(p *Params) { p.CommitReveal = false }, 1, nil, local.CodeNoCommitReveal},
		"another form":    {nil, 5, func(o *local.CommitWeights) { o.Version = 3 }, local.CodeCommitVersion},
		"no seat":         {nil, 5, nil, local.CodeNotRegistered},
		"too little":      {func(p *Params) { p.StakeThreshold = 250 * chain.RaoPerCoin }, 1, nil, local.CodeMinStake},
		"no permit":       {nil, 2, nil, local.CodeNoPermit},
		"a round before":  {nil, 1, func(o *local.CommitWeights) { o.Round-- }, local.CodeRound},
		"a round after":   {nil, 1, func(o *local.CommitWeights) { o.Round += 1000 }, local.CodeRound},
		"nothing sealed":  {nil, 1, func(o *local.CommitWeights) { o.Commit = make([]byte, timelock.Overhead) }, local.CodeCommit},
		"the last round":  {nil, 1, func(o *local.CommitWeights) { _, o.Round = local.RevealRounds(5, tempoOf(t), 1) }, local.CodeOK},
		"the round after": {nil, 1, func(o *local.CommitWeights) { _, o.Round = local.RevealRounds(5, tempoOf(t), 1); o.Round++ }, local.CodeRound},
	} {
		s := sealing(t, c.params)
		s.meta.Height = 5
		op := sealed(t, s, c.who, 0, rowOf(2)...)
		if c.change != nil {
			c.change(&op)
		}
		if got, _ := s.execute(tx(t, c.who, 0, op)); got != c.want {
			t.Errorf("%s: code %d, want %d", name, got, c.want)
		}
	}
	s := sealing(t, nil)
	for i := range maxCommits + 1 {
		r := next(s, tx(t, 1, uint64(i), sealed(t, s, 1, 0, rowOf(2)...)))
		if want := map[bool]local.Code{true: local.CodeOK, false: local.CodeCommits}[i < maxCommits]; r.Codes[0] != want {
			t.Errorf("commitment %d: code %d, want %d", i+1, r.Codes[0], want)
		}
	}
	s = sealing(t, func(p *Params) { p.WeightsInterval = 3 })
	for i, want := range []local.Code{local.CodeOK, local.CodeRateLimited, local.CodeRateLimited, local.CodeOK} {
		if r := next(s, tx(t, 1, uint64(i), sealed(t, s, 1, 0, rowOf(2)...))); r.Codes[0] != want {
			t.Errorf("block %d: code %d, want %d", s.Height(), r.Codes[0], want)
		}
	}
}

func tempoOf(t testing.TB) chain.Block { return machine(t).run.Tempo }

// With commitments waiting, weights on what registered after the oldest of them do not count (the rules of spec 425).
func TestWaitingCommitMasksNewcomers(t *testing.T) {
	s := sealing(t, func(p *Params) { p.RevealPeriod = 3 })
	row := []yuma.Entry{{UID: 2, Value: 65535}, {UID: 3, Value: 65535}}
	s.seats[0].Weights, s.seats[1].Weights = row, row
	send(t, s, 0, sealed(t, s, 0, 0, rowOf(2)...))
	send(t, s, 1, sealed(t, s, 1, 0, rowOf(2)...))
	s.seats[3].RegisteredAt = 2 // after the first validator's commitment, not after the second one's
	s.seats[0].LastUpdate, s.seats[1].LastUpdate = 5, 5
	until(s, s.run.Tempo)
	if a, b := s.seats[2].Incentive, s.seats[3].Incentive; a != 65535 || b != 0 {
		t.Errorf("incentives %d and %d: the newcomer has the weight of the larger validator", a, b)
	}
}

func TestCommitsAreStored(t *testing.T) {
	s, stored := sealing(t, nil), disk{}
	send := func(who int, op local.Op) { stored.keep(t, next(s, tx(t, who, nonceOf(s, who), op))) }
	send(0, sealed(t, s, 0, 0, rowOf(2)...))
	send(0, sealed(t, s, 0, 0, rowOf(3)...))
	send(1, sealed(t, s, 1, 0, rowOf(3)...))
	g := genesis(t)
	g.Params.CommitReveal = true
	b, err := stored.restore(g)
	if err != nil {
		t.Fatal(err)
	}
	same(t, s, b)
	for s.Height() < s.run.Tempo-1 {
		next(s)
		next(b)
	}
	if ra, rb := lit(t, s), lit(t, b); ra.AppHash != rb.AppHash || len(s.seats[0].Weights) != 1 || s.seats[0].Weights[0].UID != 3 {
		t.Errorf("hashes %s and %s, weights %v", ra.AppHash.Short(), rb.AppHash.Short(), s.seats[0].Weights)
	}
}

func lightOf(t testing.TB, r chain.Round) []Beacon { return []Beacon{{r, mustSign(t, r)}} }

// A row weighs whom its author saw: who takes a seat between a commitment and its reveal gets nothing of it, not even if the
// author has committed again since.
func TestRevealSparesNewcomers(t *testing.T) {
	s := sealing(t, nil)
	until(s, 4)
	send(t, s, 0, sealed(t, s, 0, 0, rowOf(2, 3)...))
	seen := s.Height()
	s.seats[3].RegisteredAt, s.seats[2].RegisteredAt = seen, seen-1
	until(s, s.run.Tempo-1)
	lit(t, s)
	if w := s.seats[0].Weights; len(w) != 1 || w[0] != (yuma.Entry{UID: 2, Value: 65535}) {
		t.Errorf("weights %v", w)
	}
	send(t, s, 0, sealed(t, s, 0, 0, rowOf(2)...))
	s.seats[2].RegisteredAt = s.Height()
	until(s, 2*s.run.Tempo-1)
	if lit(t, s); s.seats[0].Weights != nil { // as it is after a restart
		t.Errorf("weights %v", s.seats[0].Weights)
	}
}

// What is committed is not revealed over a row that was set in the open since.
func TestOpenRowOvertakesCommits(t *testing.T) {
	s := sealing(t, nil)
	send(t, s, 1, sealed(t, s, 1, 0, rowOf(2)...))
	send(t, s, 1, sealed(t, s, 1, 0, rowOf(2)...))
	send(t, s, 0, local.SetParam{Name: "commit_reveal_weights_enabled", Value: 0})
	send(t, s, 0, local.SetWeights{Weights: rowOf(2)})
	r := send(t, s, 1, local.SetWeights{Weights: rowOf(3)})
	if k := kindsOf(r); len(s.commits) != 0 || len(k) != 3 || k[0] != "dropped a newer row was set in the open" {
		t.Errorf("%d accounts have commitments, events %v", len(s.commits), k)
	}
	until(s, s.run.Tempo-1)
	if lit(t, s); len(s.seats[1].Weights) != 1 || s.seats[1].Weights[0].UID != 3 {
		t.Errorf("weights %v", s.seats[1].Weights)
	}
}

// Of a hotkey that lost its seat nothing is revealed, not even into a seat that it takes again.
func TestNothingIsRevealedIntoAnotherSeat(t *testing.T) {
	s := sealing(t, func(p *Params) { p.ImmunityPeriod, p.MaxSeats = 1, 4 })
	send(t, s, 1, sealed(t, s, 1, 0, rowOf(2)...))
	s.seats[0].Emission, s.seats[2].Emission, s.seats[3].Emission = 5, 5, 5
	send(t, s, 4, register()) // takes 1
	s.seats[1].Emission = 9
	send(t, s, 1, register()) // takes 2
	if s.byHotkey[account0(4)] != 1 || s.byHotkey[account0(1)] != 2 {
		t.Fatalf("seats %v", s.byHotkey)
	}
	until(s, s.run.Tempo-1)
	if lit(t, s); len(s.seats[1].Weights)+len(s.seats[2].Weights) != 0 || len(s.commits) != 0 {
		t.Errorf("weights %v %v", s.seats[1].Weights, s.seats[2].Weights)
	}
}

// A shorter reveal period drops what has missed its epoch by it, a longer one keeps it closed for longer; both on Subtensor, too.
func TestRevealPeriodChangesWhileCommitsWait(t *testing.T) {
	for period, want := range map[uint64]struct{ before, at, after int }{1: {0, 0, 0}, 2: {0, 1, 1}, 3: {0, 0, 1}} {
		s := sealing(t, func(p *Params) { p.RevealPeriod = 2 })
		tempo := s.run.Tempo
		send(t, s, 1, sealed(t, s, 1, 0, rowOf(2)...))
		until(s, tempo+1) // epoch 1: by a period of 1 its reveal began with it
		send(t, s, 0, local.SetParam{Name: "commit_reveal_period", Value: period})
		until(s, 2*tempo-1)
		before := len(s.seats[1].Weights)
		lit(t, s)
		at := len(s.seats[1].Weights)
		until(s, 3*tempo)
		if after := len(s.seats[1].Weights); before != want.before || at != want.at || after != want.after || len(s.commits) != 0 {
			t.Errorf("period %d: weights before, at and after the epoch it was sealed to %d %d %d, want %v; %d commitments wait", period, before, at, after, want, len(s.commits))
		}
	}
}

// With an epoch in every block there is one round to seal to.
func TestCommitWithTempoOne(t *testing.T) {
	g := genesis(t)
	g.Params.CommitReveal = true
	r, err := chain.ParseRun(g.Run)
	if err != nil {
		t.Fatal(err)
	}
	r.Tempo = 1
	g.Run = r.Encode()
	s, err := New(g)
	if err != nil {
		t.Fatal(err)
	}
	until(s, 3)
	if first, last := local.RevealRounds(4, 1, 1); first != 4 || last != 4 {
		t.Fatalf("rounds %d to %d", first, last)
	}
	send(t, s, 1, sealed(t, s, 1, 0, rowOf(2)...))
	if lit(t, s); len(s.seats[1].Weights) != 1 {
		t.Errorf("weights %v", s.seats[1].Weights)
	}
	send(t, s, 1, sealed(t, s, 1, 0, rowOf(3)...))
	next(s) // no beacon: its only chance
	if next(s); len(s.commits) != 0 || s.seats[1].Weights[0].UID != 2 {
		t.Errorf("%d commitments wait, weights %v", len(s.commits), s.seats[1].Weights)
	}
}
