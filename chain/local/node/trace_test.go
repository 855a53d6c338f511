package node_test

import (
	"os"
	"path/filepath"
	"testing"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/node"
)

// A folder tells its blocks with the states they are built on, and everything its node signed; reading changes nothing.
func TestInspect(t *testing.T) {
	dir := home(t)
	n, stop := start(t, dir)
	c := dial(t, n.Addr(), "rich")
	if err := reach(within(t), c, 4); err != nil {
		t.Fatal(err)
	}
	heads := map[chain.Block]local.HeadInfo{}
	for b := chain.Block(1); b <= 4; b++ {
		h, err := c.Head(within(t), b)
		if err != nil {
			t.Fatal(err)
		}
		heads[b] = h
	}
	stop()
	before := read(t, dir)
	tr, err := node.Inspect(dir, 1)
	if err != nil || tr.Base != 1 || tr.Height < 4 || len(tr.Blocks) != int(tr.Height)-1 || tr.Evidence != 0 || tr.Torn {
		t.Fatalf("%+v, %v", tr, err)
	}
	for _, b := range tr.Blocks {
		if h, ok := heads[b.Block-1]; ok && h.AppHash != b.AppHash || b.Hash == (chain.Hash{}) {
			t.Errorf("block %+v, head before %+v", b, heads[b.Block-1])
		}
	}
	seen, steps := map[node.Signed]node.Signed{}, map[byte]int{}
	if twice := node.Twice(seen, tr.Signed); len(twice) > 0 {
		t.Errorf("signed twice: %+v", twice)
	}
	for s := range seen {
		steps[s.Step]++
	}
	for _, step := range []byte{node.StepPropose, node.StepPrevote, node.StepPrecommit} {
		if steps[step] < 4 {
			t.Errorf("step %d was signed %d times in %d blocks", step, steps[step], tr.Height)
		}
	}
	other := tr.Signed[0]
	other.Signature += "x"
	if twice := node.Twice(seen, []node.Signed{tr.Signed[0], other}); len(twice) != 2 {
		t.Errorf("a second signature is not seen: %+v", twice)
	}
	if after := read(t, dir); len(after) != len(before) {
		t.Errorf("files before %v, after %v", len(before), len(after))
	} else {
		for name, b := range before {
			if string(after[name]) != string(b) {
				t.Errorf("%s was changed", name)
			}
		}
	}

	shorten(t, dir, "data/cs.wal/wal", 3)
	if torn, err := node.Inspect(dir, tr.Height); err != nil || !torn.Torn || len(torn.Blocks) != 0 || len(torn.Signed) == 0 {
		t.Errorf("a torn log: %+v, %v", torn, err)
	}
	if _, err := node.Inspect(t.TempDir(), 0); err == nil {
		t.Error("an empty folder was read")
	}
}

// A folder that is in use is not read.
func TestInspectRunning(t *testing.T) {
	dir := home(t)
	start(t, dir)
	if _, err := node.Inspect(dir, 0); err == nil {
		t.Error("the folder of a running node was read")
	}
}

func read(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		out[path], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
