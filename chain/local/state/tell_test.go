package state

import (
	"testing"

	"sn3/chain"
	"sn3/chain/local"
)

// Every submission of a window has an event that says how it was scored and what became of it.
func TestScoresAreTold(t *testing.T) {
	s := machine(t)
	s.run.Rules.Gather = 1
	vote := func(scores ...chain.Score) *chain.Vote { return &chain.Vote{Window: 5, Scores: scores} }
	v := chain.View{Window: 5, Ballots: []chain.Ballot{
		{Validator: account0(0), Stake: 300, Vote: vote(chain.Score{UID: 2, Value: 9000}, chain.Score{UID: 3, Value: 8000}, chain.Score{UID: 4})},
		{Validator: account0(1), Stake: 200, Vote: vote(chain.Score{UID: 2, Value: 9001}, chain.Score{UID: 3, Value: 8001}, chain.Score{UID: 4, Value: 7000}, chain.Score{UID: 5, Value: 9999})}}}
	for uid := 2; uid < 6; uid++ {
		v.Candidates = append(v.Candidates, chain.Candidate{UID: chain.UID(uid), Hotkey: account0(uid)})
	}
	s.tell(v, chain.Select(v, s.run.Rules))
	want := map[chain.UID]local.Event{2: {Score: 9000, Reason: local.Selected}, 3: {Score: 8000, Reason: local.NotSelected}, 4: {Reason: local.Rejected}, 5: {Reason: local.Unscored}}
	if len(s.events) != len(want) {
		t.Fatalf("%d events for %d submissions", len(s.events), len(want))
	}
	for _, e := range s.events {
		if w := want[e.UID]; e.Kind != local.EventScored || e.Hotkey != account0(int(e.UID)) || e.Window != 5 || e.Score != w.Score || e.Reason != w.Reason {
			t.Errorf("uid %d: %+v, want %d, %s", e.UID, e, w.Score, w.Reason)
		}
	}
}

// An upgrade may be announced for the block that is just far enough ahead, and for none before.
func TestUpgradeNotice(t *testing.T) {
	s := machine(t)
	s.meta.Height = 50
	for at, want := range map[chain.Block]local.Code{50 + upgradeNotice: local.CodeOK, 50 + upgradeNotice - 1: local.CodeUpgrade} {
		if got := s.checkUpgrade(local.Upgrade{Version: s.meta.Rules + 1, At: at}, account0(0)); got != want {
			t.Errorf("for block %d at 50: code %d, want %d", at, got, want)
		}
	}
}
