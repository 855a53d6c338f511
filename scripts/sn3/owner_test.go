package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"sn3/chain/local"
	"sn3/internal/proc"
)

// Every parameter can be set to what it is, but those that only genesis sets; a change is told in its unit, and who is not the owner
// changes nothing.
func TestSet(t *testing.T) {
	w, dev, keys := bank(t)
	owner := ownerKeys(t)
	set := func(args ...string) []string { return append(append([]string{"chain", "set"}, args...), owner...) }
	all, err := local.NewClient(dev, nil).AllParams(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range all {
		h, _ := dev.Height()
		_, err := w.sn3(set(name, string(raw))...)
		if fixed := paramWords[name].fixed; fixed != (err != nil) || fixed && proc.ExitCode(err) != proc.ExitRefused {
			t.Errorf("%s: %v", name, err)
		}
		if now, _ := dev.Height(); (now == h) != paramWords[name].fixed {
			t.Errorf("%s: a block was made: %v", name, now != h)
		}
	}
	w.says("immunity_period was 4096 (4096 blocks, 17m4s), is 100 (100 blocks, 25s) since block", set("immunity_period", "100")...)
	w.says("yuma3 was false, is true since block", set("yuma3", "true")...)
	w.says("immunity_period is 100 (100 blocks, 25s)", "chain", "log")
	w.says("100  100 blocks, 25s: for which a new seat is spared", "chain", "params")
	for _, args := range [][]string{set("speed", "1"), set("kappa", "half"), set("kappa", "-1"), set("kappa", "0.5"), set("kappa")} {
		if _, err := w.sn3(args...); proc.ExitCode(err) != proc.ExitUsage {
			t.Errorf("sn3 %s: %v", strings.Join(args[:4], " "), err)
		}
	}
	for code, args := range map[local.Code][]string{local.CodeParam: set("kappa", "65536"), local.CodeNotSubnetOwner: append([]string{"chain", "set", "kappa", "1"}, keys["alice"]...)} {
		var refused *local.TxError
		if _, err := w.sn3(args...); !errors.As(err, &refused) || refused.Code != code || proc.ExitCode(err) != proc.ExitRefused {
			t.Errorf("sn3 %s: %v, want code %d", strings.Join(args[:4], " "), err, code)
		}
	}
}

// Rules are announced for a block ahead and called off; those that the node's program does not know only by force.
func TestUpgrade(t *testing.T) {
	w, dev, keys := bank(t)
	st, err := local.NewClient(dev, nil).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.addr = seen{dev, &local.NodeStatus{KnownRules: st.Rules}}.serve(t)
	upgrade := func(version uint64, at string, more ...string) []string {
		return append(append([]string{"chain", "upgrade", fmt.Sprint(version), at}, more...), ownerKeys(t)...)
	}
	announced := func() uint64 {
		st, err := local.NewClient(dev, nil).Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return st.NextRules
	}
	for why, args := range map[string][]string{"does not know rules version": upgrade(st.Rules+1, "400"), "counts already": upgrade(st.Rules, "400"),
		"a block far enough ahead": upgrade(st.Rules+1, "3", "--force")} {
		if _, err := w.sn3(args...); proc.ExitCode(err) != proc.ExitRefused || !strings.Contains(err.Error(), why) || announced() != 0 {
			t.Errorf("%s: %v", why, err)
		}
	}
	for _, args := range [][]string{{"two", "400"}, {"2", "soon"}, {"2"}} {
		if _, err := w.sn3(append(append([]string{"chain", "upgrade"}, args...), keys["boss"]...)...); proc.ExitCode(err) != proc.ExitUsage {
			t.Errorf("%v: %v", args, err)
		}
	}
	w.says(fmt.Sprintf("rules version %d from block 400 on, about 1m", st.Rules+1), upgrade(st.Rules+1, "400", "--force")...)
	if announced() != st.Rules+1 {
		t.Errorf("announced are rules %d", announced())
	}
	w.says("called off in block", upgrade(st.Rules, "400")...)
	if announced() != 0 {
		t.Errorf("announced are still rules %d", announced())
	}
}
