package gpu

import (
	"slices"
	"testing"

	"sn3/model"
	"sn3/model/gpu/memory"
)

// A step that is a graph has the bits of one that is launched kernel by kernel, also for a shape that comes again after the memory for its
// activations has moved, and for more shapes than there are graphs.
func TestGraphsAreLaunches(t *testing.T) {
	c := shapes["tied"]
	for _, p := range memory.Plans() {
		g, launched := planned(t, c, Settings{Plan: p}, model.Options{Precision: model.BF16}), planned(t, c, Settings{Plan: p}, model.Options{Precision: model.BF16})
		var batches []model.Batch
		for _, T := range []int{3, 3, 3, c.Seq, 3, 3, 3} {
			batches = append(batches, batch(uint64(len(batches)), c, 1, T))
		}
		many := 0
		if p == memory.Classic {
			many = mostGraphs
		}
		for n := range many {
			batches = append(batches, batch(uint64(n), c, 1, 1+n), batch(uint64(n+50), c, 1, 1+n))
		}
		for i, b := range batches {
			budget := model.Budget{First: uint64(i), Steps: 1}
			if _, err := g.Train(t.Context(), endless{b}, budget); err != nil {
				t.Fatalf("%s, batch %d: %v", p, i, err)
			}
			if _, err := launched.Traced(func() error { _, err := launched.Train(t.Context(), endless{b}, budget); return err }); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(flat(t, g.Trained()), flat(t, launched.Trained())) {
			t.Errorf("%s: graphs have other bits than launches", p)
		}
		if n := len(g.net.graphs); n > mostGraphs || many > 0 && n < mostGraphs {
			t.Errorf("%s: %d graphs are held", p, n)
		}
	}
}
