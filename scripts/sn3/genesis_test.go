package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sn3/chain"
	"sn3/chain/local/node"
	"sn3/chain/local/state"
	"sn3/internal/proc"
)

// packed makes a small dataset in a folder.
func packed(t *testing.T, dir string) string {
	t.Helper()
	text, data := filepath.Join(dir, "text"), filepath.Join(dir, "data")
	if err := os.Mkdir(text, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		body := strings.Repeat(fmt.Sprintf("some text of file %d ", i), 300)
		if err := os.WriteFile(filepath.Join(text, fmt.Sprintf("%d.txt", i)), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := run([]string{"sn3", "data", "pack", text, "-o", data, "--held-out", "1/4"}); err != nil {
		t.Fatal(err)
	}
	return data
}

// What sn3 genesis writes starts a chain; what it could not start is refused with the flag's name, and nothing is written.
func TestGenesis(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "genesis.json")
	data := packed(t, dir)
	flags := map[string]string{"--network": "mine", "--preset": "local", "--data": data, "--data-at": "local:data", "--owner": strings.Repeat("01", 32), "--out": out,
		"--seat": strings.Repeat("02", 32) + ":1000:" + strings.Repeat("03", 32), "--account": strings.Repeat("01", 32) + ":5", "--block-time": "500"}
	line := func(change map[string]string, more ...string) []string {
		args := []string{"sn3", "genesis"}
		for k, v := range flags {
			if x, ok := change[k]; ok {
				v = x
			}
			if v != "" {
				args = append(args, k, v)
			}
		}
		return append(args, more...)
	}
	for name, c := range map[string]struct {
		change map[string]string
		says   string
	}{
		"no owner":    {map[string]string{"--owner": ""}, "--owner"},
		"bad owner":   {map[string]string{"--owner": "me"}, "--owner"},
		"no stake":    {map[string]string{"--seat": strings.Repeat("02", 32)}, "stake"},
		"bad seat":    {map[string]string{"--seat": "x:1"}, "--seat"},
		"bad account": {map[string]string{"--account": "x:1"}, "account"},
		"bad data":    {map[string]string{"--data": dir}, "--data"},
		"bad place":   {map[string]string{"--data-at": "nowhere"}, "--data-at"},
		"bad preset":  {map[string]string{"--preset": "huge"}, "preset"},
		"too quick":   {map[string]string{"--block-time": "1"}, "block time"},
		"a long name": {map[string]string{"--network": strings.Repeat("x", 65)}, "network"},
	} {
		err := run(line(c.change))
		if proc.ExitCode(err) != proc.ExitUsage || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(out); err == nil {
			t.Fatalf("%s: a file was written", name)
		}
	}
	if err := run(line(nil, "--seat", strings.Repeat("04", 32))); err != nil {
		t.Fatal(err)
	}
	if err := run(line(nil)); proc.ExitCode(err) != proc.ExitUsage {
		t.Errorf("a file was overwritten: %v", err)
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	g, err := state.ParseGenesis(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Init(filepath.Join(dir, "node"), g, node.DefaultNet()); err != nil {
		t.Fatal(err)
	}
	s, err := state.New(g)
	if err != nil {
		t.Fatal(err)
	}
	snap, err := s.Snapshot(0)
	if err != nil || len(snap.Neurons) != 2 || !snap.Neurons[0].Permit || snap.Neurons[0].Stake != 1000*chain.RaoPerCoin || snap.Neurons[0].Coldkey[0] != 3 || snap.Neurons[1].Permit {
		t.Errorf("seats %+v, %v", snap, err)
	}
	if b, _ := s.Account(chain.Coldkey([]byte(strings.Repeat("\x01", 32)))); b != 5*chain.RaoPerCoin || g.Owner[0] != 1 || !s.Run().Loopback {
		t.Errorf("balance %s, owner %s, loopback %v", b, g.Owner, s.Run().Loopback)
	}
}
