package wallet

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"

	"sn3/chain"
	"sn3/chain/local"
)

func make1(t testing.TB, dir, name string) (path string, account chain.Hotkey) {
	t.Helper()
	path, account, err := New(dir, name, "secret", true)
	if err != nil {
		t.Fatal(err)
	}
	return path, account
}

func TestWallet(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "wallets")
	path, account := make1(t, dir, "me")
	for p, want := range map[string]os.FileMode{dir: 0o700, path: 0o600} {
		if st, err := os.Stat(p); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v", p, st.Mode(), err)
		}
	}
	key, err := Open(path, "secret")
	if err != nil || local.AccountOf(&key.PublicKey) != account {
		t.Fatalf("opened %v", err)
	}
	pub := filepath.Join(dir, "me.pub")
	p, err := ReadPublic(pub)
	if err != nil || p.Account != account || p != PublicOf(&key.PublicKey) {
		t.Errorf("public %v, %v", p, err)
	}
	for _, arg := range []string{path, pub, account.String(), p.Address, strings.ToLower(p.Address), "0x" + strings.ToUpper(p.Address[2:])} {
		if got, err := ReadAccount(arg); err != nil || got != account {
			t.Errorf("%s: account %s, %v", arg, got, err)
		}
	}
	if _, err := Open(path, "wrong"); !errors.Is(err, ErrPassphrase) {
		t.Errorf("wrong passphrase: %v", err)
	}
	if err := Remove(dir, "me"); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// Nothing is overwritten: no key, and no public file but one's own.
func TestNothingIsOverwritten(t *testing.T) {
	dir := t.TempDir()
	path, _ := make1(t, dir, "me")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := New(dir, "me", "other", true); !errors.Is(err, ErrExists) {
		t.Errorf("an existing wallet: %v", err)
	}
	if err := WriteNew(path, []byte("x")); !errors.Is(err, ErrExists) {
		t.Errorf("an existing file: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the wallet changed: %v", err)
	}
	key, err := Open(path, "secret")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, _, err := New(dir, "me", "other", true); !errors.Is(err, ErrExists) {
		t.Errorf("another account's public file: %v", err)
	}
	if _, err := Create(dir, "me", key, "other", true); err != nil {
		t.Errorf("beside its own public file: %v", err)
	}
	if err := os.Symlink(filepath.Join(dir, "nowhere"), filepath.Join(dir, "link.pub")); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(dir, "link", key, "other", true); err == nil {
		t.Error("a wallet without its public file was made")
	}
	if _, err := os.Lstat(Path(dir, "link")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a wallet is there: %v", err)
	}
	for _, name := range []string{"", "a/b", "..", ".hidden", "-x", "a\nb", strings.Repeat("x", 65), `a\b`} {
		if _, _, err := New(dir, name, "x", true); !errors.Is(err, ErrName) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 3 {
		t.Errorf("files %q, %v", left, err)
	}
}

func TestChangePassphrase(t *testing.T) {
	dir := t.TempDir()
	path, account := make1(t, dir, "me")
	key, err := Open(path, "secret")
	if err != nil {
		t.Fatal(err)
	}
	before := filepath.Join(t.TempDir(), "before.json")
	if err := os.Link(path, before); err != nil {
		t.Fatal(err)
	}
	if err := ChangePassphrase(path, key, "another", true); err != nil {
		t.Fatal(err)
	}
	if again, err := Open(before, "secret"); err != nil || !again.Equal(key) {
		t.Errorf("the old file was written to, not replaced: %v", err)
	}
	if _, err := Open(path, "secret"); !errors.Is(err, ErrPassphrase) {
		t.Errorf("the old passphrase: %v", err)
	}
	if again, err := Open(path, "another"); err != nil || !again.Equal(key) {
		t.Errorf("the new passphrase: %v", err)
	}
	if got, err := AccountInFile(path); err != nil || got != account {
		t.Errorf("account %s, %v", got, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("files %v, %v", left, err)
	}
	if err := ChangePassphrase(filepath.Join(dir, "none", "x.json"), key, "x", true); err == nil {
		t.Error("a folder that is not there was written to")
	}
}

// The published vectors of keystore v3: both derivations, and keys whose leading zeros were left out.
func TestKeystoreVectors(t *testing.T) {
	var vectors map[string]struct {
		JSON            json.RawMessage
		Passphrase, Key string
	}
	load(t, "keystore.json", &vectors)
	if len(vectors) != 4 {
		t.Fatalf("%d vectors", len(vectors))
	}
	for name, v := range vectors {
		path := filepath.Join(t.TempDir(), "UTC--"+name)
		if err := os.WriteFile(path, v.JSON, 0o600); err != nil {
			t.Fatal(err)
		}
		key, err := Open(path, v.Passphrase)
		if err != nil || strings.TrimLeft(FormatKey(key), "0") != v.Key {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := AccountInFile(path); !errors.Is(err, ErrKeystore) { // they have no address
			t.Errorf("%s: account without an address: %v", name, err)
		}
	}
}

const small = `{"address":"d333f5e8a6c7f14b1b84880498a97ad36ae3c6bb","crypto":{"cipher":"aes-128-ctr","ciphertext":"20b22515609ba888f9fae65cf9e16edbf1eaa4c0dd1eae1dfc160f450a7b5763","cipherparams":{"iv":"eaad7b36c0b4434ce60437340e55e9d9"},"kdf":"scrypt","kdfparams":{"dklen":32,"n":4096,"p":6,"r":8,"salt":"934d80d24e7343703f67186120ae628c1c6df46891585e60f0836c4a774d0ad7"},"mac":"83938b0a56b0bf81688bf951e413d84769abfe5f65fec37dcdeecd725b117eca"},"id":"a2455368-7907-470e-933f-a167ac9bcd1b","version":3}`

// What a hostile file asks for is refused before anything is computed: geth's code would panic or allocate.
func TestHostileKeystores(t *testing.T) {
	if s, err := parse([]byte(small)); err != nil {
		t.Fatal(err)
	} else if _, err := s.open("secret"); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"2^40 memory":       {`"n":4096`, `"n":1099511627776`},
		"2 GiB":             {`"n":4096,"p":6,"r":8`, `"n":16777216,"p":1,"r":1`},
		"r too large":       {`"r":8`, `"r":1073741824`},
		"p too large":       {`"p":6`, `"p":1073741824`},
		"overflow":          {`"r":8`, `"r":9223372036854775807`},
		"n no power of two": {`"n":4096`, `"n":4095`},
		"n of 1":            {`"n":4096`, `"n":1`},
		"negative p":        {`"p":6`, `"p":-6`},
		"no r":              {`,"r":8`, ``},
		"n twice":           {`"n":4096`, `"n":4096,"N":1099511627776`},
		"no salt":           {`"salt":"934d`, `"salz":"934d`},
		"salt no hex":       {`"salt":"934d`, `"salt":"x34d`},
		"short key":         {`"dklen":32`, `"dklen":16`},
		"no parameters":     {`"kdfparams":{"dklen":32,`, `"x":{"dklen":32,`},
		"short iv":          {`"iv":"eaad`, `"iv":"`},
		"no cipher":         {`"aes-128-ctr"`, `"none"`},
		"long text":         {`"ciphertext":"20`, `"ciphertext":"2020`},
		"no text":           {`"ciphertext":"20b22515609ba888f9fae65cf9e16edbf1eaa4c0dd1eae1dfc160f450a7b5763"`, `"ciphertext":""`},
		"another kdf":       {`"kdf":"scrypt"`, `"kdf":"argon2"`},
		"pbkdf2 for ever":   {`"kdf":"scrypt","kdfparams":{`, `"kdf":"pbkdf2","kdfparams":{"prf":"hmac-sha256","c":100000000000,`},
		"pbkdf2 of nothing": {`"kdf":"scrypt","kdfparams":{`, `"kdf":"pbkdf2","kdfparams":{"prf":"hmac-sha256",`},
		"another prf":       {`"kdf":"scrypt","kdfparams":{`, `"kdf":"pbkdf2","kdfparams":{"prf":"md5","c":10,`},
		"version 1":         {`"version":3`, `"version":1`},
		"version as text":   {`"version":3`, `"version":"1"`},
		"address":           {`"d333f5e8`, `"d333f5`},
		"text behind":       {`"version":3}`, `"version":3}}`},
		"a mac too short":   {`"mac":"8393`, `"mac":"`},
	} {
		raw := strings.Replace(small, change[0], change[1], 1)
		if raw == small {
			t.Errorf("%s changes nothing", name)
		}
		s, err := parse([]byte(raw))
		if name == "no salt" && err == nil { // an empty salt is one, and opens nothing
			_, err = s.open("secret")
			if errors.Is(err, ErrPassphrase) {
				continue
			}
		}
		if !errors.Is(err, ErrKeystore) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, err := parse([]byte(strings.Replace(small, `"d333f5e8`, `"d333f5e9`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.open("secret"); !errors.Is(err, ErrKeystore) {
		t.Errorf("another's address: %v", err)
	}
	long := filepath.Join(t.TempDir(), "long")
	if err := os.WriteFile(long, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range []func(string) error{func(p string) error { _, err := Open(p, "x"); return err }, func(p string) error { _, err := ReadAccount(p); return err }} {
		if err := f(long); !errors.Is(err, ErrKeystore) {
			t.Errorf("a long file: %v", err)
		}
		if err := f(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("no file: %v", err)
		}
	}
}

func TestPublic(t *testing.T) {
	key, err := crypto.ToECDSA(unhex(t, "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"))
	if err != nil {
		t.Fatal(err)
	}
	p := PublicOf(&key.PublicKey)
	const want = `{"account":"c4518fa0ed143e016e4a1410193704924b890de8f854b94c7a6037651ec65dd0","evm":"0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"}` + "\n"
	if string(p.encode()) != want {
		t.Errorf("file %s", p.encode())
	}
	if got, err := ParsePublic([]byte(want)); err != nil || got != p {
		t.Errorf("read %v, %v", got, err)
	}
	for i := range want {
		b := []byte(want)
		b[i] ^= 1
		if got, err := ParsePublic(b); err == nil {
			t.Errorf("byte %d changed: %v", i, got)
		}
	}
	for _, arg := range []string{"", "0x", "0xf39fd6e51aad88F6F4ce6aB8827279cffFb92266", "f39Fd6e51aad88F6F4ce6aB8827279cffFb92266", p.Account.String()[1:], filepath.Join(t.TempDir(), "none")} {
		if _, err := ReadAccount(arg); !errors.Is(err, ErrAccount) {
			t.Errorf("%q: %v", arg, err)
		}
	}
}

// A wrong key is named in no error.
func TestParseKey(t *testing.T) {
	const right = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
	for _, s := range []string{right, "0x" + right, " " + strings.ToUpper(right) + "\n"} {
		if key, err := ParseKey([]byte(s)); err != nil || FormatKey(key) != right {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", right[1:], right + "0", "g" + right[1:], strings.Repeat("0", 64), strings.Repeat("f", 64)} {
		if _, err := ParseKey([]byte(s)); err == nil || len(s) > 3 && strings.Contains(err.Error(), s[:4]) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func FuzzKeystore(f *testing.F) {
	f.Add([]byte(small))
	f.Add([]byte(strings.Replace(small, `"kdf":"scrypt","kdfparams":{`, `"kdf":"pbkdf2","kdfparams":{"prf":"hmac-sha256","c":10,`, 1)))
	f.Add([]byte(`{"crypto":{"kdf":"scrypt"},"version":3}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parse(b)
		if err != nil {
			return
		}
		p := s.Crypto.KDFParams
		if p.N*p.R*p.P > 1<<12 || p.C > 1<<12 {
			return // right, but slow
		}
		if _, err := s.open("secret"); err != nil && !errors.Is(err, ErrPassphrase) && !errors.Is(err, ErrKeystore) {
			t.Fatal(err)
		}
	})
}

func FuzzPublic(f *testing.F) {
	f.Add([]byte(`{"account":"c4518fa0ed143e016e4a1410193704924b890de8f854b94c7a6037651ec65dd0","evm":"0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"}` + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := ParsePublic(b); err == nil && string(p.encode()) != string(b) {
			t.Fatalf("%q is written as %q", b, p.encode())
		}
	})
}
