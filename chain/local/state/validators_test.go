package state

import (
	"bytes"
	"crypto/ed25519"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
	"sn3/chain/local"
)

// node is a consensus key by number.
func node(i int) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = byte(i)
	return ed25519.NewKeyFromSeed(seed)
}

func nodeKey(i int) chain.Hash { return chain.Hash(node(i).Public().(ed25519.PublicKey)) }

// joined is a proven operation that adds a node.
func joined(i int, network string, beacon []byte) local.SetValidator {
	o := local.SetValidator{Key: nodeKey(i), Beacon: beacon, Power: 1}
	copy(o.Proof[:], ed25519.Sign(node(i), local.ValidatorClaim(network, o.Key, beacon)))
	return o
}

// card is that of member m for node i.
func card(m, i int, network string) []byte {
	return circleMembers[m].Card(MemberContext(network, nodeKey(i)))
}

func left(i int) local.SetValidator { return local.SetValidator{Key: nodeKey(i)} }

// founded is a machine whose only validator is node 0.
func founded(t testing.TB) *State {
	t.Helper()
	g := genesis(t)
	g.Validators = []Validator{{Key: nodeKey(0)}}
	s, err := New(g)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The owner changes the set, one change at a time; a key that did not sign for this network and this beacon member stays out,
// and somebody is always left.
func TestValidators(t *testing.T) {
	s := founded(t)
	wrong := joined(1, "test", nil)
	wrong.Beacon = []byte("other")
	damaged := card(2, 2, "test")
	damaged[len(damaged)-1] ^= 1
	twice := joined(1, "test", nil)
	twice.Power = 2
	for i, c := range []struct {
		name  string
		who   int
		op    local.SetValidator
		wait  chain.Block // blocks before it
		want  local.Code
		power int64 // that the engine is told, -1: nothing
	}{
		{"not the owner", 1, joined(1, "test", nil), 0, local.CodeNotSubnetOwner, -1},
		{"no proof", 0, local.SetValidator{Key: nodeKey(1), Power: 1}, 0, local.CodeValidator, -1},
		{"a proof for another network", 0, joined(1, "elsewhere", nil), 0, local.CodeValidator, -1},
		{"a proof for another member", 0, wrong, 0, local.CodeValidator, -1},
		{"more power than others", 0, twice, 0, local.CodeValidator, -1},
		{"the last one", 0, left(0), 0, local.CodeValidator, -1},
		{"an unknown one", 0, left(1), 0, local.CodeValidator, -1},
		{"add", 0, joined(1, "test", nil), 0, local.CodeOK, 1},
		{"again", 0, joined(1, "test", nil), 0, local.CodeValidator, -1},
		{"too soon", 0, joined(2, "test", nil), validatorGap - 3, local.CodeRateLimited, -1},
		{"in time", 0, joined(2, "test", nil), 0, local.CodeOK, 1},
		{"a card that is none", 0, joined(2, "test", []byte("member")), validatorGap, local.CodeMember, -1},
		{"a damaged card", 0, joined(2, "test", damaged), 0, local.CodeMember, -1},
		{"another one's card", 0, joined(2, "test", card(1, 1, "test")), 0, local.CodeMember, -1},
		{"a card for another network", 0, joined(2, "test", card(2, 2, "elsewhere")), 0, local.CodeMember, -1},
		{"another member", 0, joined(2, "test", card(2, 2, "test")), 0, local.CodeOK, -1},
		{"the member of another validator", 0, joined(1, "test", card(2, 1, "test")), 0, local.CodeMember, -1},
		{"too soon to remove", 0, left(0), 0, local.CodeRateLimited, -1},
		{"remove", 0, left(0), validatorGap, local.CodeOK, 0},
		{"back again", 0, joined(0, "test", nil), validatorGap, local.CodeOK, 1},
	} {
		for range c.wait {
			next(s)
		}
		_, nonce := s.Account(chain.Coldkey(account0(c.who)))
		r := next(s, tx(t, c.who, nonce, c.op))
		if r.Codes[0] != c.want {
			t.Fatalf("%d, %s: code %d, want %d", i, c.name, r.Codes[0], c.want)
		}
		var want []ValidatorUpdate
		if c.power >= 0 {
			want = []ValidatorUpdate{{c.op.Key, c.power}}
		}
		if !reflect.DeepEqual(r.Validators, want) || (c.want == local.CodeOK) != (len(r.Events) == 1) {
			t.Errorf("%s: the engine is told %v, events %v", c.name, r.Validators, r.Events)
		}
	}
	got := s.Validators()
	if len(got) != 3 || s.Height() == 0 {
		t.Fatalf("validators %+v", got)
	}
	for i, v := range got {
		if i > 0 && !less(got[i-1].Key[:], v.Key[:]) {
			t.Error("validators are not sorted")
		}
		if v.Key == nodeKey(2) && !bytes.Equal(v.Beacon, card(2, 2, "test")) {
			t.Errorf("beacon member %q", v.Beacon)
		}
	}
}

// Rules of version 1 let in whatever is signed: it takes no part in making keys.
func TestCardsOfOldRules(t *testing.T) {
	g := genesis(t)
	g.Rules, g.Validators = 1, []Validator{{Key: nodeKey(0), Beacon: []byte("none")}}
	s, err := New(g)
	if err != nil {
		t.Fatal(err)
	}
	if r := next(s, tx(t, 0, 0, joined(1, "test", []byte("none")))); r.Codes[0] != local.CodeOK || len(membersOf("test", s.validators)) != 0 {
		t.Errorf("code %d, members %v", r.Codes[0], membersOf("test", s.validators))
	}
}

// Two changes in one block: the second is refused.
func TestOneChangePerBlock(t *testing.T) {
	s := founded(t)
	r := next(s, tx(t, 0, 0, joined(1, "test", nil)), tx(t, 0, 1, joined(2, "test", nil)))
	if r.Codes[0] != local.CodeOK || r.Codes[1] != local.CodeRateLimited || len(r.Validators) != 1 {
		t.Errorf("codes %v, updates %v", r.Codes, r.Validators)
	}
	if r := next(s); len(r.Validators) != 0 {
		t.Errorf("the next block repeats %v", r.Validators)
	}
}

// Whatever the owner tries, the set stays between 1 and its bound, changes once in validatorGap blocks, is what the engine was
// told, and is the same after a restart.
func TestValidatorHistory(t *testing.T) {
	var cards [5][]byte
	for i := range cards {
		cards[i] = card(i, i, "test")
	}
	rapid.Check(t, func(rt *rapid.T) {
		s, stored := founded(t), disk{}
		engine := map[[32]byte]bool{nodeKey(0): true}
		lastChange, nonce := chain.Block(0), uint64(0)
		for range 40 {
			op := left(rapid.IntRange(0, 4).Draw(rt, "who"))
			if rapid.Bool().Draw(rt, "add") {
				i := rapid.IntRange(0, 4).Draw(rt, "who")
				op = joined(i, "test", rapid.SampledFrom([][]byte{nil, {1}, cards[i], cards[(i+1)%5]}).Draw(rt, "member"))
			}
			r := next(s, tx(t, 0, nonce, op))
			nonce++
			stored.keep(t, r)
			if r.Codes[0] == local.CodeOK {
				if lastChange > 0 && s.Height()-lastChange < validatorGap {
					rt.Fatalf("changed at %d and at %d", lastChange, s.Height())
				}
				lastChange = s.Height()
			}
			for _, u := range r.Validators {
				if engine[u.Key] == (u.Power == 1) {
					rt.Fatalf("the engine is told again: %v", u)
				}
				engine[u.Key] = u.Power == 1
				if u.Power == 0 {
					delete(engine, u.Key)
				}
			}
			for _, v := range s.Validators() {
				if len(v.Beacon) > 0 && !slices.ContainsFunc(cards[:], func(c []byte) bool { return bytes.Equal(c, v.Beacon) }) {
					rt.Fatalf("a card that is none came in: %x", v.Beacon)
				}
			}
			if len(engine) == 0 || len(engine) != len(s.Validators()) {
				rt.Fatalf("the engine has %d, the state %d", len(engine), len(s.Validators()))
			}
		}
		again, err := stored.restore(s.gen)
		if err != nil || !reflect.DeepEqual(again.Validators(), s.Validators()) || again.validatorsAt != s.validatorsAt {
			rt.Fatalf("restored %+v, %v", again, err)
		}
	})
}

func TestGenesisValidators(t *testing.T) {
	many := make([]Validator, maxValidators+1)
	for i := range many {
		many[i].Key = nodeKey(i + 1)
	}
	for name, x := range map[string]struct {
		list []Validator
		ok   bool
	}{
		"none":         {nil, true},
		"the most":     {many[:maxValidators], true},
		"too many":     {many, false},
		"twice":        {[]Validator{many[0], many[1], many[0]}, false},
		"no key":       {[]Validator{{}}, false},
		"a member":     {[]Validator{{Key: nodeKey(1), Beacon: card(1, 1, "test")}, many[4]}, true},
		"no card":      {[]Validator{{Key: nodeKey(1), Beacon: []byte("card")}}, false},
		"another's":    {[]Validator{{Key: nodeKey(1), Beacon: card(2, 2, "test")}}, false},
		"one for two":  {[]Validator{{Key: nodeKey(1), Beacon: card(1, 1, "test")}, {Key: nodeKey(2), Beacon: card(1, 2, "test")}}, false},
		"a big member": {[]Validator{{Key: nodeKey(1), Beacon: make([]byte, local.MaxMember+1)}}, false},
	} {
		g := genesis(t)
		g.Validators = x.list
		if _, err := g.Validate(); (err == nil) != x.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	g := genesis(t)
	g.Validators = many[:maxValidators]
	s, err := New(g)
	if err != nil {
		t.Fatal(err)
	}
	if code, _ := s.execute(tx(t, 0, 0, joined(200, "test", nil))); code != local.CodeValidator {
		t.Errorf("one more than there can be: code %d", code)
	}
	h, err := genesis(t).Hash()
	if other, oerr := g.Hash(); err != nil || oerr != nil || h == other {
		t.Errorf("the hash does not tell validators apart: %v, %v", err, oerr)
	}
}
