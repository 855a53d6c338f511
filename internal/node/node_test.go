package node

import (
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/urfave/cli/v2"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/wallet"
	"sn3/internal/proc"
)

// parse runs a node's command line up to its action and returns what the action sees of a flag.
func parse(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	var got string
	app := App("node", "", "", Flags(), nil, func(c *cli.Context) error { got = c.String(name); return nil })
	app.Writer, app.ErrWriter = io.Discard, io.Discard
	return got, app.Run(append([]string{"node"}, args...))
}

var enough = []string{"--chain", "127.0.0.1:1", "--keystore", "k", "--bucket", "local:me", "--s3-access-key", "a", "--dir", "d"}

// Every flag but the launcher's own and the crash tests' has an environment variable SN3_<NAME>, help, and a group.
func TestFlags(t *testing.T) {
	app := App("node", "", "", Flags(), nil, func(*cli.Context) error { return nil })
	for _, f := range app.Flags {
		name := f.Names()[0]
		d, ok := f.(cli.DocGenerationFlag)
		if !ok {
			t.Fatalf("%s: no documentation", name)
		}
		if v, ok := f.(cli.VisibleFlag); ok && !v.IsVisible() {
			continue
		}
		want := "SN3_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		if env := d.GetEnvVars(); len(env) != 1 || env[0] != want {
			t.Errorf("--%s: environment %v, want %s", name, env, want)
		}
		if d.GetUsage() == "" {
			t.Errorf("--%s has no help", name)
		}
		if c, ok := f.(cli.CategorizableFlag); !ok || c.GetCategory() == "" {
			t.Errorf("--%s is in no group", name)
		}
	}
}

// Flags win over the environment, the environment over defaults; numbers and names are checked before anything is opened.
func TestPrecedence(t *testing.T) {
	if got, err := parse(t, "engine", enough...); err != nil || got != "cpu" {
		t.Errorf("default: %q, %v", got, err)
	}
	t.Setenv("SN3_ENGINE", "gorgonia")
	if got, err := parse(t, "engine", enough...); err != nil || got != "gorgonia" {
		t.Errorf("environment: %q, %v", got, err)
	}
	if got, err := parse(t, "engine", append([]string{"--engine", "other"}, enough...)...); err != nil || got != "other" {
		t.Errorf("flag: %q, %v", got, err)
	}
	t.Setenv("SN3_THREADS", "-3")
	if _, err := parse(t, "engine", enough...); proc.ExitCode(err) != proc.ExitUsage {
		t.Errorf("threads from the environment: %v", err)
	}
}

func TestRefusedFlags(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"", "missing: --chain, --keystore, --bucket, --s3-access-key"},
		{"--chain x --dir d", "missing: --keystore, --bucket, --s3-access-key"},
		{"--threads 0", "--threads 0: at least 1"},
		{"--threads few", `invalid value "few"`},
		{"--data-cache 0 --plan --chain x", "--data-cache 0: want 1"},
		{"--data-cache -1", "--data-cache -1: want 1"},
		{"--data-cache 8796093022208", "--data-cache 8796093022208: want 1"},
		{"--micro-batch -2", "--micro-batch -2: want at least 1"},
		{"--kernels abacus", "--kernels: unknown kernels"},
		{"--log-format xml", "use text or json"},
		{"--buckte x", "did you mean --bucket"},
		{"run", `unexpected argument "run"`},
	} {
		_, err := parse(t, "dir", strings.Fields(c.args)...)
		if err == nil || !strings.Contains(err.Error(), c.want) || proc.ExitCode(err) != proc.ExitUsage {
			t.Errorf("%q: %v, want %s", c.args, err, c.want)
		}
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Which mistake with keys and passphrases has which exit code.
func TestKey(t *testing.T) {
	dir := t.TempDir()
	path, account, err := wallet.New(dir, "me", "open sesame", true)
	if err != nil {
		t.Fatal(err)
	}
	for _, ending := range []string{"", "\n", "\r\n"} {
		key, err := Key(path, FileSecret(write(t, "open sesame"+ending)))
		if err != nil || local.AccountOf(&key.PublicKey) != account {
			t.Errorf("ending %q: %v", ending, err)
		}
	}
	for _, c := range []struct {
		name, path, pass string
		code             int
	}{
		{"no keystore", filepath.Join(dir, "none"), write(t, "open sesame"), proc.ExitUsage},
		{"no passphrase file", path, filepath.Join(dir, "none"), proc.ExitUsage},
		{"wrong passphrase", path, write(t, "open barley"), proc.ExitRefused},
		{"not a keystore", write(t, "open sesame"), write(t, "open sesame"), proc.ExitRefused},
	} {
		if _, err := Key(c.path, FileSecret(c.pass)); proc.ExitCode(err) != c.code {
			t.Errorf("%s: exit code %d (%v), want %d", c.name, proc.ExitCode(err), err, c.code)
		}
	}
	if _, err := FileSecret(write(t, "\n")).ReadNew(); proc.ExitCode(err) != proc.ExitUsage {
		t.Errorf("an empty passphrase: %v", err)
	}
}

// The bucket's secret comes from a file or the environment, the file first, and is in no error.
func TestOwnBucket(t *testing.T) {
	const secret = "0123456789abcdef"
	open := func(bucket, access, file string) error {
		set := flag.NewFlagSet("x", flag.ContinueOnError)
		for k, v := range map[string]string{"bucket": bucket, "s3-access-key": access, "s3-secret-file": file} {
			set.String(k, v, "")
		}
		_, _, err := ownBucket(cli.NewContext(nil, set, nil))
		return err
	}
	if err := open("local:mine", "key", write(t, secret+"\n")); err != nil {
		t.Error(err)
	}
	for _, c := range []struct{ name, bucket, access, file string }{
		{"a URL", "http://example.com/mine", "key", write(t, secret)},
		{"no secret", "local:mine", "key", ""},
		{"an empty file", "local:mine", "key", write(t, "\n")},
		{"no file", "local:mine", "key", filepath.Join(t.TempDir(), "none")},
		{"no access key", "local:mine", "", write(t, secret)},
	} {
		if err := open(c.bucket, c.access, c.file); proc.ExitCode(err) != proc.ExitUsage || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	t.Setenv("SN3_S3_SECRET", secret)
	if err := open("local:mine", "key", ""); err != nil {
		t.Error(err)
	}
}

// One process at a time uses a folder.
func TestLockFolder(t *testing.T) {
	dir := t.TempDir()
	free, err := lockFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockFolder(dir); proc.ExitCode(err) != proc.ExitRefused || !strings.Contains(err.Error(), "choose another --dir") {
		t.Errorf("a second process: %v", err)
	}
	if err := free(); err != nil {
		t.Fatal(err)
	}
	free, err = lockFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := free(); err != nil {
		t.Error(err)
	}
}

func TestCoresPer(t *testing.T) {
	n := runtime.NumCPU()
	for threads, want := range map[int]int{1: n, n: 1, 10 * n: 1, 0: n} {
		if got := coresPer(threads); got != want {
			t.Errorf("%d threads: %d processes, want %d", threads, got, want)
		}
	}
}

// moving is a chain that makes blocks between two questions.
type moving struct {
	height chain.Block
	misses int // snapshots that come too late
	err    error
	asked  int
}

func (m *moving) Status(context.Context) (local.Status, error) {
	m.asked++
	return local.Status{Height: m.height}, m.err
}

func (m *moving) Snapshot(_ context.Context, b chain.Block) (*chain.Snapshot, error) {
	if m.misses > 0 {
		m.misses--
		m.height++
		return nil, chain.ErrPruned
	}
	return &chain.Snapshot{Block: b, Neurons: []chain.Neuron{{Hotkey: chain.Hotkey{1}}}}, nil
}

// The head is found although the chain moves, and not looked for without end.
func TestHead(t *testing.T) {
	for _, c := range []struct {
		m    moving
		want error
	}{
		{moving{height: 5}, nil},
		{moving{height: 5, misses: 3}, nil},
		{moving{height: 5, misses: 1000}, chain.ErrPruned},
		{moving{height: 5, err: chain.ErrUnavailable}, chain.ErrUnavailable},
	} {
		s, err := Head(t.Context(), &c.m)
		if !errors.Is(err, c.want) || err == nil && s.Block != c.m.height {
			t.Errorf("%+v: %v, %v", c.m, s, err)
		}
	}
}

// Who has a seat is asked once in a while, also when the chain does not answer: strangers' announcements must not become a
// flood of questions.
func TestRegistered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &moving{err: chain.ErrUnavailable}
		r := registered{client: m}
		for range 100 {
			if r.has(chain.Hotkey{1}) {
				t.Fatal("known without an answer")
			}
		}
		if m.asked != 1 {
			t.Errorf("asked %d times", m.asked)
		}
		m.err = nil
		<-time.After(6 * time.Second)
		if !r.has(chain.Hotkey{1}) || r.has(chain.Hotkey{2}) || m.asked != 2 {
			t.Errorf("asked %d times", m.asked)
		}
	})
}

func TestKillAt(t *testing.T) {
	killAt("")("upload")
	killAt("record")("upload") // this process lives: the names differ
}
