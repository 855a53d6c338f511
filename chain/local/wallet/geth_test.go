package wallet

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ethereum/go-ethereum/accounts"
	"github.com/ethereum/go-ethereum/accounts/keystore"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// geth lists and opens our wallets, each as one account, and its cost of a guess is ours; we open geth's.
func TestGeth(t *testing.T) {
	dir := t.TempDir()
	want := map[string]Public{}
	for name, light := range map[string]bool{"me": false, "you": true} {
		key, err := crypto.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		if want[name], err = Create(dir, name, key, "größe", light); err != nil {
			t.Fatal(err)
		}
		var s sealed
		raw, err := os.ReadFile(Path(dir, name))
		if err := errors.Join(err, json.Unmarshal(raw, &s)); err != nil {
			t.Fatal(err)
		}
		if p := s.Crypto.KDFParams; !light && (p.N != keystore.StandardScryptN || p.P != keystore.StandardScryptP || p.R != 8) {
			t.Errorf("%s: scrypt with %+v", name, p)
		}
		again, err := keystore.DecryptKey(raw, "größe")
		if err != nil || !again.PrivateKey.Equal(key) || again.Address.Hex() != want[name].Address {
			t.Errorf("%s: geth opens %v", name, err)
		}
	}
	store := keystore.NewKeyStore(dir, keystore.LightScryptN, keystore.LightScryptP)
	if n := len(store.Accounts()); n != 2 {
		t.Errorf("geth lists %d accounts of 2 wallets: %v", n, store.Accounts())
	}
	for name, p := range want {
		if a, err := store.Find(accounts.Account{Address: common.HexToAddress(p.Address)}); err != nil || filepath.Base(a.URL.Path) != name+KeyFile {
			t.Errorf("%s: geth finds %v, %v", name, a, err)
		}
	}
	made, err := store.NewAccount("of geth")
	if err != nil {
		t.Fatal(err)
	}
	if key, err := Open(made.URL.Path, "of geth"); err != nil || crypto.PubkeyToAddress(key.PublicKey) != made.Address {
		t.Errorf("geth's own: %v", err)
	}
}

// Of many who write one file one does, and nothing else stays; also where a file cannot have two names.
func TestOneWrites(t *testing.T) {
	for name, f := range map[string]func(string, string) error{"links": os.Link, "no links": func(string, string) error { return errors.New("operation not supported") }} {
		link = f
		t.Cleanup(func() { link = os.Link })
		dir := t.TempDir()
		path := filepath.Join(dir, "x")
		won := make(chan string, 20)
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				text := strings.Repeat(string(rune('a'+i)), 1000)
				switch err := WriteNew(path, []byte(text)); {
				case err == nil:
					won <- text
				case !errors.Is(err, ErrExists):
					t.Error(err)
				}
			})
		}
		all.Wait()
		got, err := os.ReadFile(path)
		if err != nil || len(won) != 1 || string(got) != <-won {
			t.Errorf("%s: %d wrote it, %v", name, len(won), err)
		}
		st, err := os.Stat(path)
		if left, e := os.ReadDir(dir); err != nil || e != nil || len(left) != 1 || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v, %v, %v", name, left, st.Mode(), err, e)
		}
		if err := WriteNew(filepath.Join(dir, "none", "x"), nil); err == nil || errors.Is(err, ErrExists) {
			t.Errorf("%s: a folder that is not there: %v", name, err)
		}
	}
}

// The passphrase of a wallet behind a link is changed where the wallet lies: what the link leads to does not keep the old one.
func TestChangePassphraseBehindALink(t *testing.T) {
	dir, home := t.TempDir(), t.TempDir()
	path, _ := make1(t, home, "me")
	behind := filepath.Join(dir, "me.json")
	if err := os.Symlink(path, behind); err != nil {
		t.Fatal(err)
	}
	key, err := Open(behind, "secret")
	if err != nil {
		t.Fatal(err)
	}
	if err := ChangePassphrase(behind, key, "another", true); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, behind} {
		if _, err := Open(p, "secret"); !errors.Is(err, ErrPassphrase) {
			t.Errorf("%s opens with the old one: %v", p, err)
		}
		if _, err := Open(p, "another"); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
}
