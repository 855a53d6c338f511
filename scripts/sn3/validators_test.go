package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon/dkg"
	"sn3/chain/local/ceremony"
	"sn3/chain/local/localtest"
	"sn3/chain/local/state"
	"sn3/chain/local/wallet"
	"sn3/internal/proc"
)

// seen is a chain with what a node of it says of itself and its peers.
type seen struct {
	localtest.Instant
	says *local.NodeStatus
}

// Query answers as the chain, and as the node.
func (s seen) Query(ctx context.Context, name, arg string) (json.RawMessage, error) {
	if name == local.QueryNode {
		return json.Marshal(s.says)
	}
	return s.Instant.Query(ctx, name, arg)
}

func (s seen) serve(t *testing.T) string {
	srv := httptest.NewServer(local.Handler(s))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

// nominee is the line of a node by number.
func nominee(t *testing.T, i byte, network string) local.Candidate {
	t.Helper()
	key := ed25519.NewKeyFromSeed(append(make([]byte, 31), i))
	c := local.Candidate{Node: strings.Repeat("0", 39) + string('a'+rune(i)), Key: [32]byte(key.Public().(ed25519.PublicKey))}
	copy(c.Proof[:], ed25519.Sign(key, local.ValidatorClaim(network, c.Key, nil)))
	if got, err := local.ParseCandidate(c.String(), network); err != nil || got.Key != c.Key || got.Proof != c.Proof || got.Node != c.Node {
		t.Fatalf("line %s: %v", c, err)
	}
	return c
}

func ownerKeys(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	pass := filepath.Join(dir, "pass")
	if err := os.WriteFile(pass, []byte("open\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := localtest.Key(localtest.Owner)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wallet.Create(dir, "owner", key, "open", true); err != nil {
		t.Fatal(err)
	}
	return []string{"--keystore", wallet.Path(dir, "owner"), "--passphrase-file", pass}
}

// A node is added when it follows and enough others sign, and removed when enough are left; else the command says why not and
// changes nothing, unless it is forced.
func TestValidators(t *testing.T) {
	w, dev, keys := bank(t)
	if err := dev.Run(100); err != nil {
		t.Fatal(err)
	}
	c := nominee(t, 1, localtest.Network)
	self := local.VoterInfo{Key: chain.Hash{9}, Signed: 99}
	says := &local.NodeStatus{ID: "this", Voters: []local.VoterInfo{self}}
	w.addr = seen{dev, says}.serve(t)
	owner := ownerKeys(t)
	add := append([]string{"chain", "validator", "add", c.String()}, owner...)
	refused := func(why string, args ...string) {
		t.Helper()
		before, _ := dev.Height()
		if _, err := w.sn3(args...); proc.ExitCode(err) != proc.ExitRefused || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), "--force") {
			t.Errorf("%s: %v", why, err)
		}
		if h, _ := dev.Height(); h != before {
			t.Errorf("%s: something was changed", why)
		}
	}
	peer := func(h chain.Block) {
		says.Peers = []local.PeerInfo{{ID: "other", Height: 100}, {ID: c.Node, Height: h}}
	}

	refused("has no connection with that node", add...)
	peer(0)
	refused("still catching up; with it 2 of 2 validators must sign every block", add...)
	peer(90)
	refused("at block 90, the chain at 100", add...)
	peer(99)
	says.Voters = append(says.Voters, local.VoterInfo{Key: chain.Hash{8}, Signed: 50}, local.VoterInfo{Key: chain.Hash{7}})
	refused("blocks would need 3 of 4 validators, and only 2 of them sign now", add...)
	w.says("1 of 3 sign; blocks need 3", "chain", "validators")
	w.says("50, away", "chain", "validators")
	w.says(`"signed": 50`, "chain", "validators", "--json")
	says.Paused = true
	w.says("this node is paused and sees nobody sign; blocks need 3 of 3", "chain", "validators")
	says.Paused = false
	refused("blocks would need 2 of 2 validators, and only 1 of them sign now", append([]string{"chain", "validator", "remove", chain.Hash{8}.String()}, owner...)...)
	says.Voters = says.Voters[:1]
	w.says("it votes from block", add...)
	if raw, err := dev.Query(t.Context(), local.QueryValidators, ""); err != nil || !strings.Contains(string(raw), chain.Hash(c.Key).String()) {
		t.Errorf("validators %s, %v", raw, err)
	}

	for _, args := range [][]string{append([]string{"chain", "validator", "add", "nonsense"}, owner...), append([]string{"chain", "validator", "remove", "12"}, owner...),
		append([]string{"chain", "validator", "add", nominee(t, 2, "elsewhere").String()}, owner...)} {
		if _, err := w.sn3(args...); proc.ExitCode(err) != proc.ExitUsage {
			t.Errorf("sn3 %s: %v", strings.Join(args[:4], " "), err)
		}
	}
	if _, err := w.sn3(append([]string{"chain", "validator", "add", c.String(), "--force"}, keys["boss"]...)...); err == nil || !strings.Contains(err.Error(), "only the subnet's owner") {
		t.Errorf("by somebody else: %v", err)
	}
	if err := dev.Run(120); err != nil {
		t.Fatal(err)
	}
	second := nominee(t, 3, localtest.Network)
	refused("no connection", append([]string{"chain", "validator", "add", second.String()}, owner...)...)
	w.says("it votes from block", append([]string{"chain", "validator", "add", second.String(), "--force"}, owner...)...)
	if err := dev.Run(140); err != nil {
		t.Fatal(err)
	}
	w.says("its votes no longer count from block", append([]string{"chain", "validator", "remove", chain.Hash(second.Key).String(), "--force"}, owner...)...)
}

// Who has the beacon's key is not removed by the way.
func TestFounderStays(t *testing.T) {
	w, _, _ := bank(t)
	g, secret, err := localtest.Genesis(250, localtest.Actor{Name: "boss", Seat: true, Stake: 1})
	if err != nil {
		t.Fatal(err)
	}
	founder, other := chain.Hash(nominee(t, 1, localtest.Network).Key), chain.Hash(nominee(t, 2, localtest.Network).Key)
	g.Validators = []state.Validator{{Key: founder}, {Key: other}}
	d, err := localtest.NewDevChain(g, secret, time.Unix(1000, 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Run(20); err != nil {
		t.Fatal(err)
	}
	w.addr = seen{localtest.Instant{DevChain: d}, &local.NodeStatus{Voters: []local.VoterInfo{{Key: founder, Signed: 19}, {Key: other, Signed: 19}}}}.serve(t)
	remove := func(key chain.Hash) []string {
		return append([]string{"chain", "validator", "remove", key.String()}, ownerKeys(t)...)
	}
	if _, err := w.sn3(remove(founder)...); proc.ExitCode(err) != proc.ExitRefused || !strings.Contains(err.Error(), "has the beacon's key") {
		t.Errorf("the founder: %v", err)
	}
	w.says("its votes no longer count", remove(other)...)
}

// council is a chain with a beacon key that n validators share from the beginning, and a node's view of it in which all sign.
func council(t *testing.T, n int) (g *state.Genesis, says *local.NodeStatus) {
	t.Helper()
	g, _, err := localtest.Genesis(250, localtest.Actor{Name: "boss", Seat: true, Stake: 1})
	if err != nil {
		t.Fatal(err)
	}
	g.BeaconKey, g.Time, says = nil, time.Unix(1000, 0), &local.NodeStatus{}
	var who []*dkg.Member
	for i := range n {
		m, err := dkg.Generate(rand.NewChaCha8([32]byte{byte(i)}))
		if err != nil {
			t.Fatal(err)
		}
		key := chain.Hash{byte(i + 1)}
		who = append(who, m)
		g.Validators = append(g.Validators, state.Validator{Key: key, Beacon: m.Card(state.MemberContext(g.Network, key))})
		says.Voters = append(says.Voters, local.VoterInfo{Key: key, Signed: 19})
	}
	c, err := ceremony.Draft(g)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []func(*dkg.Member) ([]byte, error){c.Deal, c.Answer} {
		for _, m := range who {
			raw, err := step(m)
			if err = errors.Join(err, c.Add(raw)); err != nil {
				t.Fatal(err)
			}
		}
	}
	res, err := c.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return res.Genesis, says
}

// begun is a chain at height 20.
func begun(t *testing.T, g *state.Genesis) localtest.Instant {
	t.Helper()
	d, err := localtest.NewDevChain(g, append(make([]byte, 31), 7), time.Unix(1000, 0)) // a key that signs none of its rounds
	if err == nil {
		err = d.Run(20)
	}
	if err != nil {
		t.Fatal(err)
	}
	return localtest.Instant{DevChain: d}
}

// A member of the beacon's key is removed only if enough of the others sign: as many as the threshold of each key, be it the
// signing one or one on its way.
func TestMembersStay(t *testing.T) {
	w, _, _ := bank(t)
	owner := ownerKeys(t)
	key := func(i int) chain.Hash { return chain.Hash{byte(i + 1)} }
	remove := func(i int) []string {
		return append([]string{"chain", "validator", "remove", key(i).String()}, owner...)
	}
	for name, x := range map[string]struct {
		n, who int
		change func(*state.Genesis, *local.NodeStatus)
		why    string // "": it is removed
	}{
		"one of four":       {n: 4},
		"one of three":      {n: 3, why: "this validator is a member of the beacon's key, whose rounds need 3 members, and only 2 of the others are validators that sign now"},
		"of five, one away": {n: 5, change: func(_ *state.Genesis, s *local.NodeStatus) { s.Voters[4].Signed = 2 }, why: "need 4 members, and only 3 of the others"},
		"no member": {n: 4, who: 4, change: func(g *state.Genesis, s *local.NodeStatus) {
			g.Validators = append(g.Validators, state.Validator{Key: key(4)})
			s.Voters = append(s.Voters, local.VoterInfo{Key: key(4), Signed: 19})
		}},
		"no member, of whom too few sign": {n: 4, who: 4, change: func(g *state.Genesis, s *local.NodeStatus) {
			for i := range 6 {
				g.Validators = append(g.Validators, state.Validator{Key: key(4 + i)})
				s.Voters = append(s.Voters, local.VoterInfo{Key: key(4 + i), Signed: 19})
			}
			s.Voters[0].Signed, s.Voters[1].Signed = 2, 2
		}},
	} {
		g, says := council(t, x.n)
		if x.change != nil {
			x.change(g, says)
		}
		dev := begun(t, g)
		w.addr = seen{dev, says}.serve(t)
		if x.why == "" {
			w.says("its votes no longer count", remove(x.who)...)
			continue
		}
		_, err := w.sn3(remove(x.who)...)
		if proc.ExitCode(err) != proc.ExitRefused || !strings.Contains(err.Error(), x.why) || !strings.Contains(err.Error(), "--force") {
			t.Errorf("%s: %v", name, err)
		}
		if h, _ := dev.Height(); h != 20 {
			t.Errorf("%s: something was changed", name)
		}
		w.says("its votes no longer count", append(remove(x.who), "--force")...)
	}

	// four members; a key of three of them, without the first, is on its way
	g, says := council(t, 4)
	g.Validators[0].Beacon = nil
	dev := begun(t, g)
	w.addr = seen{dev, says}.serve(t)
	w.says("announced in block", append([]string{"chain", "validator", "beacon", "400"}, owner...)...)
	if _, err := w.sn3(remove(1)...); proc.ExitCode(err) != proc.ExitRefused || !strings.Contains(err.Error(), "of the key that is being made, whose rounds need 3 members, and only 2 of the others") || !strings.Contains(err.Error(), "wait until block 45 and look again") {
		t.Errorf("a member of the next key: %v", err)
	}
}

// A key of which nobody says when it is to sign does so as soon as it can, and some blocks more.
func TestBeaconSoon(t *testing.T) {
	w, _, _ := bank(t)
	owner := ownerKeys(t)
	g, says := council(t, 3)
	dev := begun(t, g)
	w.addr = seen{dev, says}.serve(t)
	st, err := local.NewClient(dev, nil).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	soon := append([]string{"chain", "validator", "beacon"}, owner...)
	if _, err := w.sn3(append(soon, "400", "401")...); proc.ExitCode(err) != proc.ExitUsage {
		t.Errorf("two rounds: %v", err)
	}
	w.says(fmt.Sprintf("a key that signs from round %d on", st.Beacon.Earliest+margin), soon...)
	if st, err = local.NewClient(dev, nil).Status(t.Context()); err != nil || st.Beacon.Making == nil {
		t.Errorf("%+v, %v", st.Beacon, err)
	}
	if _, err := w.sn3(soon...); proc.ExitCode(err) != proc.ExitRefused || !strings.Contains(err.Error(), "is being made") {
		t.Errorf("a second one: %v", err)
	}
}

// told is a chain with another beacon than it has.
type told struct {
	seen
	beacon     local.BeaconStatus
	validators []local.ValidatorInfo
}

// Query tells it.
func (x told) Query(ctx context.Context, name, arg string) (json.RawMessage, error) {
	raw, err := x.seen.Query(ctx, name, arg)
	switch {
	case err == nil && name == local.QueryValidators:
		return json.Marshal(x.validators)
	case err == nil && name == local.QueryStatus:
		var st local.Status
		if err := json.Unmarshal(raw, &st); err != nil {
			return nil, err
		}
		st.Beacon = x.beacon
		return json.Marshal(st)
	}
	return raw, err
}

// A member of the announced key stays, too.
func TestMembersOfTheNextKeyStay(t *testing.T) {
	w, _, _ := bank(t)
	g, says := council(t, 4)
	owner := ownerKeys(t)
	x := told{seen: seen{begun(t, g), says}}
	for i, v := range says.Voters {
		x.validators = append(x.validators, local.ValidatorInfo{Key: v.Key, Signs: i > 0, Next: i < 3})
	}
	x.beacon = local.BeaconStatus{Signs: local.BeaconKeyInfo{From: 1, Threshold: 2, Members: 3}, Next: &local.BeaconKeyInfo{From: 90, Threshold: 3, Members: 3}}
	srv := httptest.NewServer(local.Handler(x))
	t.Cleanup(srv.Close)
	w.addr = strings.TrimPrefix(srv.URL, "http://")
	_, err := w.sn3(append([]string{"chain", "validator", "remove", says.Voters[0].Key.String()}, owner...)...)
	if proc.ExitCode(err) != proc.ExitRefused || !strings.Contains(err.Error(), "a member of the key that signs from round 90 on, whose rounds need 3 members, and only 2 of the others") {
		t.Errorf("%v", err)
	}
	w.says("its votes no longer count", append([]string{"chain", "validator", "remove", says.Voters[3].Key.String()}, owner...)...)
}

// What validators have to do with the beacon, of which the list tells.
func TestPart(t *testing.T) {
	b := local.BeaconStatus{Next: &local.BeaconKeyInfo{From: 90}}
	for want, v := range map[string]local.ValidatorInfo{
		"no card": {}, "no share": {Beacon: []byte{1}}, "signs": {Signs: true},
		"from 90 on": {Beacon: []byte{1}, Next: true}, "signs, from 90 on": {Beacon: []byte{1}, Signs: true, Next: true},
	} {
		if got := part(v, b); got != want {
			t.Errorf("%+v: %q, want %q", v, got, want)
		}
	}
}

// The candidate itself may be asked: it must be of this network, have the line's key, and follow.
func TestCandidateIsAsked(t *testing.T) {
	w, dev, _ := bank(t)
	if err := dev.Run(100); err != nil {
		t.Fatal(err)
	}
	c := nominee(t, 1, localtest.Network)
	w.addr = seen{dev, &local.NodeStatus{Voters: []local.VoterInfo{{Key: chain.Hash{9}, Signed: 99}}}}.serve(t)
	g, secret, err := localtest.Genesis(250, localtest.Actor{Name: "boss", Seat: true, Stake: 1})
	if err != nil {
		t.Fatal(err)
	}
	d, err := localtest.NewDevChain(g, secret, time.Unix(1000, 0))
	if err != nil {
		t.Fatal(err)
	}
	other := localtest.Instant{DevChain: d}
	add := append([]string{"chain", "validator", "add", c.String()}, ownerKeys(t)...)
	for _, x := range []struct {
		name string
		node seen
		want string
	}{
		{"of another network", seen{other, &local.NodeStatus{Key: c.Key}}, "is of another network"},
		{"another node", seen{dev, &local.NodeStatus{Key: chain.Hash{5}}}, "has the key 05"},
		{"catching up", seen{dev, &local.NodeStatus{Key: c.Key, CatchingUp: true}}, "wait until it has caught up"},
		{"paused", seen{dev, &local.NodeStatus{Key: c.Key, Paused: true}}, "wait until it has caught up"},
	} {
		if _, err := w.sn3(append(add, "--node", x.node.serve(t))...); proc.ExitCode(err) != proc.ExitRefused || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v", x.name, err)
		}
	}
	w.says("it votes from block", append(add, "--node", seen{dev, &local.NodeStatus{Key: c.Key}}.serve(t))...)
}
