package main

import (
	"strings"
	"testing"

	"sn3/chain"
	"sn3/chain/local"
)

// What status says of the beacon: whose key signs, what this node has of it, and which key comes.
func TestStatusOfTheBeacon(t *testing.T) {
	self := chain.Hash{1}
	node := func(share bool) local.NodeStatus { return local.NodeStatus{Key: self, Beacon: share} }
	among := func(signs bool) []local.ValidatorInfo {
		return []local.ValidatorInfo{{Key: chain.Hash{9}}, {Key: self, Signs: signs}}
	}
	own, shared := local.BeaconKeyInfo{Threshold: 1, Members: 1}, local.BeaconKeyInfo{Threshold: 3, Members: 4, From: 7}
	making := func(phase string) *local.BeaconMaking {
		return &local.BeaconMaking{From: 90, Threshold: 2, Phase: phase, DealUntil: 22, Until: 34,
			Members: []local.BeaconMember{{Key: chain.Hash{1}, Dealt: true}, {Key: chain.Hash{2}}, {Key: chain.Hash{3}, Dealt: true, Guilty: true}}}
	}
	for name, x := range map[string]struct {
		beacon     local.BeaconStatus
		node       local.NodeStatus
		validators []local.ValidatorInfo
		want       []string
	}{
		"its own key":               {local.BeaconStatus{Signs: own}, node(true), among(true), []string{"beacon      this node has the key and makes the rounds"}},
		"its own, no validator":     {local.BeaconStatus{Signs: own}, node(true), nil, []string{"beacon      this node has the key and is no validator: no rounds are made; add it, or import the state into a new network"}},
		"another one's":             {local.BeaconStatus{Signs: own}, node(false), among(false), []string{"beacon      made by another node"}},
		"a member":                  {local.BeaconStatus{Signs: shared}, node(true), among(true), []string{"beacon      3 of 4 members sign, since round 7; this node is one"}},
		"no member":                 {local.BeaconStatus{Signs: shared}, node(false), among(false), []string{"beacon      3 of 4 members sign, since round 7; this node is none"}},
		"a member without a share":  {local.BeaconStatus{Signs: shared}, node(false), among(true), []string{"beacon      3 of 4 members sign, since round 7; this node is one and has no share: it signs none. Its log says what to do (chaind start)"}},
		"a member, no validator":    {local.BeaconStatus{Signs: shared}, node(true), nil, []string{"beacon      3 of 4 members sign, since round 7; this node is one, and no validator: its part reaches nobody"}},
		"a key of one that is made": {local.BeaconStatus{Signs: local.BeaconKeyInfo{Threshold: 1, Members: 1, From: 9}}, node(true), among(true), []string{"beacon      1 of 1 members sign, since round 9; this node is one"}},
		"dealing": {local.BeaconStatus{Signs: own, Making: making(local.PhaseDealing)}, node(false), among(false), []string{"beacon      made by another node",
			"  making    a key of 2 of 3 members from round 90 on; dealing until block 22; until then those above",
			"    01000000 has dealt", "    02000000 has not dealt", "    03000000 has dealt a bad share and is out"}},
		"complaints, after another key": {local.BeaconStatus{Signs: shared, Making: making(local.PhaseComplaints), Last: "block 5: too few"}, node(true), among(true),
			[]string{"beacon      3 of 4 members sign, since round 7; this node is one", "  making    a key of 2 of 3 members from round 90 on; complaints until block 34; until then those above",
				"    01000000 has dealt", "    02000000 has not dealt", "    03000000 has dealt a bad share and is out", "  last      block 5: too few"}},
		"the next one": {local.BeaconStatus{Signs: own, Next: &local.BeaconKeyInfo{Threshold: 3, Members: 4, From: 80}, Last: "block 34: made"}, node(true), among(true),
			[]string{"beacon      this node has the key and makes the rounds", "  next key  3 of 4 members, from round 80 on; until then those above", "  last      block 34: made"}},
	} {
		r := report{Chain: local.Status{Beacon: x.beacon}, Node: x.node, Validators: x.validators}
		if got, want := r.beacon(), strings.Join(x.want, "\n")+"\n"; got != want {
			t.Errorf("%s:\n%swant:\n%s", name, got, want)
		}
	}
}
