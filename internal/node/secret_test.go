package node

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/urfave/cli/v2"

	"sn3/internal/proc"
)

// secret parses flags as a program does.
func secret(t *testing.T, args ...string) Secret {
	t.Helper()
	set := flag.NewFlagSet("x", flag.ContinueOnError)
	for _, f := range PassphraseFlags("") {
		if err := f.Apply(set); err != nil {
			t.Fatal(err)
		}
	}
	if err := set.Parse(args); err != nil {
		t.Fatal(err)
	}
	return Passphrase(cli.NewContext(nil, set, nil), "wallets/me.json")
}

// descriptor opens a file as a number that a child would inherit; reading it closes it.
func descriptor(t *testing.T, path string) string {
	t.Helper()
	fd, err := syscall.Open(path, syscall.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(fd)
}

// Where a passphrase comes from, and what is refused.
func TestPassphrase(t *testing.T) {
	file, other := write(t, "open sesame\r\n"), write(t, "open barley")
	credentials := t.TempDir()
	for name, text := range map[string]string{credentialName: "of the service\n", "mine": "of mine"} {
		if err := os.WriteFile(filepath.Join(credentials, name), []byte(text), 0o440); err != nil { // systemd's modes
			t.Fatal(err)
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err = w.WriteString("through a pipe\n"); errors.Join(err, w.Close()) != nil {
		t.Fatal(err)
	}
	piped, err := syscall.Dup(int(r.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	open := write(t, "open sesame")
	if err := os.Chmod(open, 0o604); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, dir  string
		args       []string
		want, fail string
	}{
		{"file", "", []string{"--passphrase-file", file}, "open sesame", ""},
		{"file, before a credential", credentials, []string{"--passphrase-file", file}, "open sesame", ""},
		{"descriptor", "", []string{"--passphrase-fd", descriptor(t, file)}, "open sesame", ""},
		{"descriptor of a pipe", "", []string{"--passphrase-fd", strconv.Itoa(piped)}, "through a pipe", ""},
		{"credential by itself", credentials, nil, "of the service", ""},
		{"credential by name", credentials, []string{"--passphrase-credential", "mine"}, "of mine", ""},
		{"file that others read", "", []string{"--passphrase-file", open}, "", "chmod 600"},
		{"no file", "", []string{"--passphrase-file", file + "x"}, "", "no such file"},
		{"no descriptor", "", []string{"--passphrase-fd", "1000"}, "", "bad file descriptor"},
		{"negative descriptor", "", []string{"--passphrase-fd", "-1"}, "", "bad file descriptor"},
		{"folder as descriptor", "", []string{"--passphrase-fd", descriptor(t, credentials)}, "", "nothing to read"},
		{"terminal or device", "", []string{"--passphrase-fd", descriptor(t, "/dev/null")}, "", "nothing to read"},
		{"output", "", []string{"--passphrase-fd", "2"}, "", "is for output"},
		{"two sources", "", []string{"--passphrase-file", file, "--passphrase-fd", "0"}, "", "more than one source"},
		{"two others", credentials, []string{"--passphrase-file", file, "--passphrase-credential", "mine"}, "", "more than one source"},
		{"and two more", credentials, []string{"--passphrase-fd", "0", "--passphrase-credential", "mine"}, "", "more than one source"},
		{"no credential", credentials, []string{"--passphrase-credential", "none"}, "", "no such file"},
		{"credential elsewhere", credentials, []string{"--passphrase-credential", "../" + filepath.Base(filepath.Dir(other))}, "", "there is no systemd credential"},
		{"no service", "", []string{"--passphrase-credential", "mine"}, "", "LoadCredential=mine:FILE"},
		{"too long", "", []string{"--passphrase-file", write(t, strings.Repeat("x", maxSecret+1))}, "", "more than 4096 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv(credentialDir, c.dir)
			got, err := secret(t, c.args...).Read()
			if c.fail == "" && (err != nil || got != c.want) {
				t.Errorf("%q, %v", got, err)
			}
			if c.fail != "" && (proc.ExitCode(err) != proc.ExitUsage || !strings.Contains(err.Error(), c.fail) || got != "") {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// A descriptor is closed when it has been read: no child inherits it.
func TestDescriptorIsClosed(t *testing.T) {
	fd := descriptor(t, write(t, "secret"))
	if _, err := secret(t, "--passphrase-fd", fd).Read(); err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(fd)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Fstat(n, &syscall.Stat_t{}); !errors.Is(err, syscall.EBADF) {
		t.Errorf("descriptor %d is still there: %v", n, err)
	}
}

func TestDistinct(t *testing.T) {
	a, b := secret(t, "--passphrase-fd", "3"), secret(t, "--passphrase-fd", "4")
	for _, err := range []error{Distinct(a, b), Distinct(a, FileSecret("x")), Distinct(FileSecret("x"), FileSecret("x")), Distinct(Secret{}, Secret{})} {
		if err != nil {
			t.Error(err)
		}
	}
	if err := Distinct(a, a); proc.ExitCode(err) != proc.ExitUsage {
		t.Errorf("the same descriptor: %v", err)
	}
}
