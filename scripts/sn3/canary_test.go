package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"

	"sn3/chain/local/wallet"
	"sn3/internal/canary"
)

// said is what a command printed.
type said struct{ line, out, problem string }

// seat runs the tool as people do, and keeps all that it says.
type seat struct {
	t    *testing.T
	self string
	dir  string
	said []said
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
	s.said = append(s.said, said{line, out.String(), problem.String()})
	return out.String()
}

// asked takes out of the newest output what the command was told to print.
func (s *seat) asked(text string) {
	s.t.Helper()
	last := &s.said[len(s.said)-1]
	before, after, ok := strings.Cut(last.out, text)
	if !ok {
		s.t.Errorf("sn3 %s does not print what it should", last.line)
	}
	last.out = before + after
}

// After every command, right and wrong, its secrets are where they must be and nowhere else: the words in the output that
// showed them, the key in the export's, the passphrases nowhere.
func TestSecretsStayWhereTheyBelong(t *testing.T) {
	s := &seat{t: t, self: program(t), dir: t.TempDir()}
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
	s.asked(words)

	s.run(true, "wallet restore b --light --mnemonic-fd 3 --passphrase-fd 4", words, pass)
	s.run(false, "wallet restore b --light --mnemonic-fd 3 --passphrase-fd 4", words, pass)
	s.run(false, "wallet restore c --light --mnemonic-fd 3 --passphrase-fd 4", strings.Join(w[1:], " "), pass)
	s.run(false, "wallet restore c --light --mnemonic-fd 3 --passphrase-fd 4", strings.Join(w, ""), pass)
	s.run(false, "--log-format json wallet restore c --mnemonic-fd 3", strings.Join(append([]string{"zzzzz"}, w[1:]...), " "))
	s.run(true, "wallet export a --private-key --to-pipe --passphrase-fd 3", pass)
	s.asked(wallet.FormatKey(key))
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

	secrets := []canary.Secret{canary.Of("the passphrase", []byte(pass)), canary.Of("the new passphrase", []byte(next)), canary.Of("the key", crypto.FromECDSA(key)),
		canary.Of("the words", []byte(words), strings.Join(w, ""), strings.Join(w[2:5], " "), strings.Join(w[8:11], " "), strings.Join(w, `","`))}
	for _, x := range s.said {
		for _, c := range secrets {
			if c.In([]byte(x.out)) || c.In([]byte(x.problem)) {
				t.Errorf("sn3 %s shows %s", x.line, c.What)
			}
		}
	}
	found, files, err := canary.Folder(s.dir, secrets, func(string) bool { return false })
	if err != nil || files != 8 || len(found) > 0 { // four wallets, two files each
		t.Errorf("%q, %d files, %v", found, files, err)
	}
}
