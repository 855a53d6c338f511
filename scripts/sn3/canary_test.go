package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"

	"sn3/chain/local/wallet"
)

// canary is a secret in every form in which it could show.
type canary struct {
	what  string
	forms []string
}

func canaryOf(what string, raw []byte, more ...string) canary {
	c := canary{what, append(more, string(raw), hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)))}
	for shift := range 3 { // base64 of it within something longer: whole groups of four are the same wherever it begins
		cut := raw[shift : shift+(len(raw)-shift)/3*3]
		c.forms = append(c.forms, base64.StdEncoding.EncodeToString(cut), base64.URLEncoding.EncodeToString(cut))
	}
	return c
}

// in names the form that a text contains, or "".
func (c canary) in(text []byte) string {
	for _, f := range c.forms {
		if bytes.Contains(text, []byte(f)) {
			return f
		}
	}
	return ""
}

// seat runs the tool as people do, and keeps all that it says.
type seat struct {
	t    *testing.T
	self string
	dir  string
	said map[string][]byte // by command line
}

// run gives the tool secrets at descriptors 3, 4, …; it returns what it printed.
func (s *seat) run(ok bool, line string, secrets ...string) string {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), s.self, strings.Fields(line)...)
	cmd.Dir, cmd.Env = s.dir, append(os.Environ(), "HOME="+s.dir)
	for _, secret := range secrets {
		r, w, err := os.Pipe()
		if err == nil {
			_, err = w.WriteString(secret + "\n")
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			s.t.Fatal(err)
		}
		defer r.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, r)
	}
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); (err == nil) != ok {
		s.t.Fatalf("%s: %v: %s", line, err, problem.String())
	}
	s.said[line], s.said[line+" (errors)"] = out.Bytes(), problem.Bytes()
	return out.String()
}

// After every command, right and wrong, its secrets are where they must be and nowhere else: the words in the output that
// showed them, the key in the export's, the passphrases nowhere.
func TestSecretsStayWhereTheyBelong(t *testing.T) {
	s := &seat{t, program(t), t.TempDir(), map[string][]byte{}}
	const pass, next = "canary-Passphrase-61", "canary-Another-1729"

	made := s.run(true, "wallet new a --light --to-pipe --passphrase-fd 3", pass)
	_, rest, _ := strings.Cut(made, "\n    ")
	words, _, _ := strings.Cut(rest, "\n")
	m, err := wallet.ParseMnemonic(words)
	if err != nil {
		t.Fatal(err)
	}
	key, err := m.Key(0)
	if err != nil {
		t.Fatal(err)
	}
	w := strings.Fields(words)

	s.run(true, "wallet restore b --light --mnemonic-fd 3 --passphrase-fd 4", words, pass)
	s.run(false, "wallet restore b --light --mnemonic-fd 3 --passphrase-fd 4", words, pass)
	s.run(false, "wallet restore c --light --mnemonic-fd 3 --passphrase-fd 4", strings.Join(w[1:], " "), pass)
	s.run(false, "wallet restore c --light --mnemonic-fd 3 --passphrase-fd 4", strings.Join(w, ""), pass)
	s.run(false, "--log-format json wallet restore c --mnemonic-fd 3", strings.Join(append([]string{"zzzzz"}, w[1:]...), " "))
	exported := s.run(true, "wallet export a --private-key --to-pipe --passphrase-fd 3", pass)
	s.run(false, "wallet export a --private-key --to-pipe --passphrase-fd 3", next)
	s.run(false, "wallet export a --private-key --passphrase-fd 3", pass)
	s.run(true, "wallet import d --light --key-fd 3 --passphrase-fd 4", wallet.FormatKey(key), pass)
	s.run(false, "wallet import e --light --key-fd 3 --passphrase-fd 4", wallet.FormatKey(key)+"0", pass)
	s.run(true, "wallet import f --light --from wallets/a.json --passphrase-fd 3 --new-passphrase-fd 4", pass, next)
	s.run(true, "wallet passwd a --light --passphrase-fd 3 --new-passphrase-fd 4", pass, next)
	s.run(false, "wallet passwd a --light --passphrase-fd 3 --new-passphrase-fd 4", pass, next)
	s.run(true, "wallet list")
	s.run(true, "wallet show a")
	s.run(true, "inspect wallets/a.json")
	s.run(false, "--chain 127.0.0.1:1 transfer wallets/b.pub 1 --keystore wallets/a.json --passphrase-fd 3", pass)
	s.run(false, "--log-format json --chain nonsense register --keystore wallets/a.json --passphrase-fd 3", next)

	if strings.TrimSpace(exported) != wallet.FormatKey(key) {
		t.Errorf("the words give the key %s…, the file another one", wallet.FormatKey(key)[:4])
	}
	delete(s.said, "wallet export a --private-key --to-pipe --passphrase-fd 3") // asked for
	canaries := []canary{canaryOf("passphrase", []byte(pass)), canaryOf("new passphrase", []byte(next)), canaryOf("key", crypto.FromECDSA(key)),
		canaryOf("words", []byte(words), strings.Join(w, ""), strings.Join(w[2:5], " "), strings.Join(w[8:11], " "), strings.Join(w, `","`))}
	for line, text := range s.said {
		for _, c := range canaries {
			if form := c.in(text); form != "" && !(c.what == "words" && line == "wallet new a --light --to-pipe --passphrase-fd 3") {
				t.Errorf("sn3 %s shows the %s", line, c.what)
			}
		}
	}
	files := 0
	err = filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		for _, c := range canaries {
			if c.in(read(t, path)) != "" {
				t.Errorf("%s holds the %s", path, c.what)
			}
		}
		return nil
	})
	if err != nil || files != 8 { // four wallets, two files each
		t.Errorf("%d files, %v", files, err)
	}
}

// The search itself finds what it looks for, in every form.
func TestCanaryIsFound(t *testing.T) {
	secret := []byte("canary-Passphrase-61")
	c := canaryOf("it", secret)
	for before := range 4 {
		long := append(bytes.Repeat([]byte("x"), before), append(append([]byte{}, secret...), "yyy"...)...)
		for name, text := range map[string]string{"plain": string(long), "hex": hex.EncodeToString(long), "HEX": strings.ToUpper(hex.EncodeToString(long)),
			"base64": base64.StdEncoding.EncodeToString(long), "base64url": base64.RawURLEncoding.EncodeToString(long)} {
			if c.in([]byte(text)) == "" {
				t.Errorf("%s, %d bytes in: not found", name, before)
			}
		}
	}
	if c.in([]byte("canary-Passphrase-62")) != "" {
		t.Error("another secret is taken for it")
	}
}
