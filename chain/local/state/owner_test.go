package state

import (
	"testing"

	"sn3/chain"
	"sn3/chain/local"
)

// The owner, and nobody else, changes parameters within their bounds; what genesis fixes stays.
func TestOwnerSetsParameters(t *testing.T) {
	s := machine(t)
	for i, c := range []struct {
		who  int
		op   local.SetParam
		want local.Code
	}{
		{1, local.SetParam{Name: "kappa", Value: 1}, local.CodeNotSubnetOwner},
		{0, local.SetParam{Name: "kappa", Value: 1}, local.CodeOK},
		{0, local.SetParam{Name: "kappa", Value: 65536}, local.CodeParam},
		{0, local.SetParam{Name: "Kappa", Value: 1}, local.CodeParam},
		{0, local.SetParam{Name: "keep_windows", Value: 20}, local.CodeParam},
		{0, local.SetParam{Name: "max_seats", Value: 3}, local.CodeParam},
		{0, local.SetParam{Name: "max_seats", Value: 4}, local.CodeOK},
	} {
		_, nonce := s.Account(chain.Coldkey(account0(c.who)))
		if r := next(s, tx(t, c.who, nonce, c.op)); r.Codes[0] != c.want || len(r.Events) != map[bool]int{true: 1}[c.want == local.CodeOK] {
			t.Errorf("case %d: code %d, events %v, want code %d", i, r.Codes[0], r.Events, c.want)
		}
	}
	if p := s.Params(); p.Kappa != 1 || p.MaxSeats != 4 {
		t.Errorf("parameters %+v", p)
	}
	g := genesis(t)
	g.Owner = chain.Coldkey{}
	nobody, err := New(g)
	if err != nil {
		t.Fatal(err)
	}
	if code, _ := nobody.execute(tx(t, 0, 0, local.SetParam{Name: "kappa", Value: 1})); code != local.CodeNotSubnetOwner {
		t.Errorf("a chain without an owner: code %d", code)
	}
}

// Every parameter has its own name in the JSON and survives storing.
func TestParameterTable(t *testing.T) {
	seen := map[string]bool{}
	for i, x := range paramTable {
		if seen[x.name] || len(x.name) > local.MaxParam {
			t.Errorf("name %q", x.name)
		}
		seen[x.name] = true
		p := DefaultParams()
		v := x.least
		if x.get(&p) == v {
			v++
		}
		x.set(&p, v)
		for j, y := range paramTable {
			if d := DefaultParams(); i != j && y.get(&p) != y.get(&d) {
				t.Errorf("%s and %s share a field", x.name, y.name)
			}
		}
		if got, err := decodeParams(encodeParams(p, NewestRules)); err != nil || got != p || x.get(&got) != v {
			t.Errorf("%+v came back as %+v, %v", p, got, err)
		}
	}
	if bad := DefaultParams().check(); bad != nil {
		t.Errorf("the default of %s is beyond its bounds", bad.name)
	}
}

// An upgrade needs the owner, the next version and notice; it can be called off, and happens at its block.
func TestUpgradeIsAnnounced(t *testing.T) {
	s := machine(t)
	for i, c := range []struct {
		who  int
		op   local.Upgrade
		want local.Code
	}{
		{1, local.Upgrade{Version: s.meta.Rules + 1, At: 100}, local.CodeNotSubnetOwner},
		{0, local.Upgrade{Version: s.meta.Rules + 2, At: 100}, local.CodeUpgrade},
		{0, local.Upgrade{Version: s.meta.Rules - 1, At: 100}, local.CodeUpgrade},
		{0, local.Upgrade{Version: s.meta.Rules + 1, At: upgradeNotice}, local.CodeUpgrade},
		{0, local.Upgrade{Version: s.meta.Rules + 1, At: 30}, local.CodeOK},
		{0, local.Upgrade{Version: s.meta.Rules, At: 30}, local.CodeOK},
	} {
		_, nonce := s.Account(chain.Coldkey(account0(c.who)))
		if r := next(s, tx(t, c.who, nonce, c.op)); r.Codes[0] != c.want {
			t.Errorf("case %d: code %d, want %d", i, r.Codes[0], c.want)
		}
	}
	until(s, 40)
	now, to, _ := s.Rules()
	if now != s.gen.Rules || to != 0 {
		t.Fatalf("called off, and rules %d, next %d", now, to)
	}
	_, nonce := s.Account(chain.Coldkey(account0(0)))
	next(s, tx(t, 0, nonce, local.Upgrade{Version: now + 1, At: 60}))
	until(s, 59)
	if v, to, at := s.Rules(); v != now || to != now+1 || at != 60 {
		t.Errorf("before: rules %d, then %d at %d", v, to, at)
	}
	r := next(s)
	if v, to, _ := s.Rules(); v != now+1 || to != 0 || len(r.Events) != 1 || r.Events[0].Kind != local.EventRules {
		t.Errorf("after: rules %d, next %d, events %v", v, to, r.Events)
	}
}
