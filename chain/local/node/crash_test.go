package node_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"sn3/chain"
	"sn3/chain/chaintest"
	"sn3/chain/local"
	"sn3/chain/local/node"
)

// failIndex makes CometBFT end the process at the n-th of the points between its steps: before and after the block is saved,
// the log's end of height, FinalizeBlock, Commit and the state.
const failIndex = "FAIL_TEST_INDEX"

// A node that dies between any two steps of a block comes back with what it acknowledged, at the same hash as before: its
// state, the block store and the log of consensus agree again, whichever of them is ahead. Two blocks' worth of points.
func TestCrashBetweenSteps(t *testing.T) {
	t.Parallel()
	const points = 18
	dir, to := home(t), chain.Coldkey{42}
	sent := chain.Amount(0)
	for i := range points {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childHome+"="+dir, failIndex+"="+strconv.Itoa(i))
		out, err := cmd.Output()
		if err == nil || !strings.Contains(string(out), fmt.Sprintf("*** fail-test %d ***", i)) {
			t.Fatalf("point %d: the node did not die there: %v, %s", i, err, out)
		}
		n, stop := start(t, dir)
		ctx, c := within(t), dial(t, n.Addr(), chaintest.Rich)
		if err := c.Transfer(ctx, to, 500); err != nil {
			t.Fatalf("point %d: %v", i, err)
		}
		sent++
		if got, err := c.Balance(ctx, to); err != nil || got != 500*sent {
			t.Fatalf("point %d: %d rao arrived of %d transfers, %v", i, got, sent, err)
		}
		stop()
	}
}

// A folder in which something is older, newer or shorter than the rest is repaired by replay or refused with advice; never a
// panic, never another state.
func TestDamagedData(t *testing.T) {
	t.Parallel()
	older, base := grown(t)
	for name, x := range map[string]struct {
		harm func(t *testing.T, dir string)
		says string // "" if the node must start and have the same balance
	}{
		"state of an earlier day": {func(t *testing.T, d string) { copyFile(t, older, d, "sn3.db") }, ""},
		"no state":                {func(t *testing.T, d string) { remove(t, d, "sn3.db") }, ""},
		"no log of consensus":     {func(t *testing.T, d string) { remove(t, d, "data/cs.wal") }, ""},
		"a torn log of consensus": {func(t *testing.T, d string) { shorten(t, d, "data/cs.wal/wal", 37) }, ""},
		"no node key":             {func(t *testing.T, d string) { remove(t, d, "config/node_key.json") }, ""},
		"no block store":          {func(t *testing.T, d string) { remove(t, d, "data/blockstore.db") }, "restore it from a copy"},
		"no consensus state":      {func(t *testing.T, d string) { remove(t, d, "data/state.db") }, "restore it from a copy"},
		"blocks of an earlier day": {func(t *testing.T, d string) {
			remove(t, d, "data")
			copyDir(t, filepath.Join(older, "data"), filepath.Join(d, "data"))
		}, "restore it from a copy"},
		"a block store without entry": {func(t *testing.T, d string) { remove(t, d, "data/blockstore.db/CURRENT") }, "restore it from a copy"},
		"half of the state":           {func(t *testing.T, d string) { shorten(t, d, "sn3.db", 40000) }, "restore it from a copy"},
		"a torn node key":             {func(t *testing.T, d string) { shorten(t, d, "config/node_key.json", 10) }, "for a new one"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "chain")
			copyDir(t, base, dir)
			x.harm(t, dir)
			n, err := node.Start(options(dir))
			if x.says != "" {
				if err == nil {
					t.Fatal(n.Close())
				}
				if !strings.Contains(err.Error(), x.says) {
					t.Errorf("it says %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer n.Close()
			c := dial(t, n.Addr(), chaintest.Rich)
			if err := c.Transfer(within(t), chain.Coldkey{42}, 500); err != nil {
				t.Fatal(err)
			}
			if got, err := c.Balance(within(t), chain.Coldkey{42}); err != nil || got != 3*500 {
				t.Errorf("balance %d, %v", got, err)
			}
		})
	}
}

// grown makes a folder with two transfers in its blocks, and a copy of it from between them.
func grown(t *testing.T) (older, base string) {
	t.Helper()
	base, older = home(t), filepath.Join(t.TempDir(), "older")
	for i := range 2 {
		if i == 1 {
			copyDir(t, base, older)
		}
		n, stop := start(t, base)
		c := dial(t, n.Addr(), chaintest.Rich)
		r, err := c.Send(within(t), local.Transfer{To: chain.Coldkey{42}, Amount: 500})
		if err != nil {
			t.Fatal(err)
		}
		if err := reach(within(t), c, r.Block+4); err != nil {
			t.Fatal(err)
		}
		stop()
	}
	return older, base
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to, name string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(from, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, name), raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

// shorten takes the last n bytes off a file.
func shorten(t *testing.T, dir, name string, n int64) {
	t.Helper()
	path := filepath.Join(dir, name)
	st, err := os.Stat(path)
	if err != nil || st.Size() <= n {
		t.Fatalf("%v, %v", st, err)
	}
	if err := os.Truncate(path, st.Size()-n); err != nil {
		t.Fatal(err)
	}
}
