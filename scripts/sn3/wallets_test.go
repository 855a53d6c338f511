package main

import (
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/localtest"
	"sn3/chain/local/state"
	"sn3/chain/local/wallet"
	"sn3/internal/proc"
)

// docs/WALLET.md: the coldkey pays at home; the mining machine, where it never was, gives it the seat.
func TestColdkeyStaysAtHome(t *testing.T) {
	home, rig := t.TempDir(), t.TempDir()
	pass := filepath.Join(home, "pass")
	if err := os.WriteFile(pass, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	accounts := map[string]chain.Hotkey{}
	for _, name := range []string{"cold", "hot", "other"} {
		key, err := crypto.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		p, err := wallet.Create(home, name, key, "secret", true)
		if err != nil {
			t.Fatal(err)
		}
		accounts[name] = p.Account
	}
	for _, name := range []string{"cold.pub", "hot.json"} {
		if err := os.WriteFile(filepath.Join(rig, name), read(t, filepath.Join(home, name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g, secret, err := localtest.Genesis(250, localtest.Actor{Name: "boss", Seat: true, Stake: 300 * chain.RaoPerCoin})
	if err != nil {
		t.Fatal(err)
	}
	g.Accounts = append(g.Accounts, state.Account{Coldkey: chain.Coldkey(accounts["cold"]), Balance: 100 * chain.RaoPerCoin})
	dev, err := localtest.NewDevChain(g, secret, time.Unix(1000, 0))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(local.Handler(localtest.Instant{DevChain: dev}))
	t.Cleanup(srv.Close)
	sn3 := func(args ...string) error {
		return run(append([]string{"sn3", "--chain", strings.TrimPrefix(srv.URL, "http://")}, append(args, "--passphrase-file", pass)...))
	}
	if err := sn3("transfer", filepath.Join(home, "hot.pub"), "20", "--keystore", filepath.Join(home, "cold.json")); err != nil {
		t.Fatal(err)
	}
	register := func(coldkey string) error {
		return sn3("register", "--keystore", filepath.Join(rig, "hot.json"), "--coldkey", coldkey)
	}
	for range 2 { // again it changes nothing
		if err := register(filepath.Join(rig, "cold.pub")); err != nil {
			t.Fatal(err)
		}
	}
	if err := register(accounts["other"].String()); proc.ExitCode(err) != proc.ExitRefused || !strings.Contains(err.Error(), accounts["cold"].String()) {
		t.Errorf("another owner for the same seat: %v", err)
	}
	if err := register(filepath.Join(rig, "none.pub")); !errors.Is(err, wallet.ErrAccount) {
		t.Errorf("no such owner: %v", err)
	}
	s, err := local.NewClient(dev, nil).Newest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if x, ok := s.ByHotkey(accounts["hot"]); !ok || x.Coldkey != chain.Coldkey(accounts["cold"]) {
		t.Errorf("the seat is %+v", x)
	}
}
