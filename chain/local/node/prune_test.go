package node_test

import (
	"slices"
	"testing"

	"sn3/chain/local/localtest"
	"sn3/chain/local/node"
)

// What a database holds can be counted when its node is stopped, and pruning takes nothing of it.
func TestContents(t *testing.T) {
	t.Parallel()
	dir := home(t)
	n, stop := start(t, dir)
	if err := reach(within(t), dial(t, n.Addr(), localtest.Owner), 5); err != nil {
		t.Fatal(err)
	}
	if _, err := node.Contents(dir); err == nil {
		t.Error("the contents of a folder whose node runs")
	}
	stop()
	height, _ := n.Height()
	before, err := node.Contents(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]node.Stored{}
	for _, x := range before {
		found[x.Name] = x
	}
	if x := found["head"]; x.Entries != int(height) || x.Bytes != int64(height)*(8+8+32) {
		t.Errorf("%+v of %d blocks", x, height)
	}
	if x := found["state s"]; x.Entries != 4 || x.Bytes == 0 {
		t.Errorf("%+v of four seats", x)
	}
	if _, err := node.Prune(dir); err != nil {
		t.Fatal(err)
	}
	after, err := node.Contents(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(before, after) {
		t.Errorf("before pruning %+v, after it %+v", before, after)
	}
	start(t, dir)
}
