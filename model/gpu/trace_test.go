package gpu

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"sn3/model"
	"sn3/model/gpu/standin"
)

// A trace has every launch that the driver saw, in times that are not negative, and makes the same bits; graphs are left alone meanwhile, and nothing stays.
func TestTraced(t *testing.T) {
	standin.Only(t, "counts of launches")
	card, c := standin.Load(t), shapes["tied"]
	x, twin := trainerOn(t, card, c), trainerOn(t, card, c)
	step := func(x *Trainer, i uint64) error {
		_, err := x.Train(t.Context(), endless{batch(1, c, 2, c.Seq)}, model.Budget{First: i, Steps: 1})
		return err
	}
	for i := range uint64(3) { // a graph would exist by now
		if err := errors.Join(step(x, i), step(twin, i)); err != nil {
			t.Fatal(err)
		}
	}
	before := card.Report(t)
	list, err := x.Traced(func() error { return step(x, 3) })
	if err != nil {
		t.Fatal(err)
	}
	after := card.Report(t)
	counts := map[string]int64{}
	for _, l := range list {
		counts[l.Kernel]++
		if l.Took < 0 || l.Grid[0] < 1 || l.Grid[1] < 1 || l.Grid[2] < 1 {
			t.Errorf("%+v", l)
		}
	}
	for name, n := range after.Launches {
		if n -= before.Launches[name]; n != counts[name] {
			t.Errorf("%s: %d launches in the trace, %d on the card", name, counts[name], n)
		}
	}
	for _, call := range []string{"cuStreamBeginCapture_v2", "cuGraphLaunch"} {
		if after.Calls[call] != before.Calls[call] {
			t.Errorf("%d calls of %s while it was traced", after.Calls[call]-before.Calls[call], call)
		}
	}
	if after.Left() != before.Left() {
		t.Errorf("on the card are %s, before there were %s", after.Left(), before.Left())
	}
	// of the embedding the grid has its rows, the arguments its columns
	if i := slices.IndexFunc(list, func(l Launch) bool { return l.Kernel == "embed" }); i < 0 || list[i].Grid != [3]int{2 * c.Seq, 1, 1} || list[i].Args != [16]int64{3: int64(c.Width)} {
		t.Errorf("embed is launch %d of %v", i, list)
	}
	if err := step(twin, 3); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(2) { // and afterwards all is as before
		if err := errors.Join(step(x, 4+i), step(twin, 4+i)); err != nil {
			t.Fatal(err)
		}
	}
	var a, b bytes.Buffer
	if err := errors.Join(x.Save(&a), twin.Save(&b)); err != nil || !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Errorf("what was traced has other bits (%v)", err)
	}
	if err := errors.Join(x.Close(), twin.Close()); err != nil {
		t.Error(err)
	}
}

// More launches than may wait for their times, and an error in the middle.
func TestTracedLong(t *testing.T) {
	card, c := standin.Load(t), shapes["tied"]
	x := trainerOn(t, card, c)
	list, err := x.Traced(func() error {
		return x.net.do(func(q *queue) {
			for range pending + 5 {
				q.clear(x.net.scalars, 4)
			}
		})
	})
	if err != nil || len(list) != pending+5 {
		t.Fatalf("%d launches (%v)", len(list), err)
	}
	for _, l := range list {
		if l.Kernel != "memset" || l.Args[0] != 4 || l.Took <= 0 {
			t.Fatalf("%+v", l)
		}
	}
	wrong := errors.New("wrong")
	if _, err := x.Traced(func() error {
		return x.net.do(func(q *queue) {
			q.clear(x.net.scalars, 4)
			q.err = wrong
		})
	}); !errors.Is(err, wrong) {
		t.Errorf("%v", err)
	}
	if err := x.Close(); err != nil {
		t.Error(err)
	}
	if standin.Real() {
		return
	}
	if left := card.Report(t).Left(); left != "" {
		t.Errorf("left on the card: %s", left)
	}
}

// A launch makes no more garbage for being traceable.
func TestUntracedIsFree(t *testing.T) {
	card, c := standin.Load(t), shapes["tied"]
	x := trainerOn(t, card, c)
	var allocs float64
	if err := x.net.do(func(q *queue) {
		allocs = testing.AllocsPerRun(100, func() { q.begin("embed", 1, 1, 1, x.net.w, 100000, int64(1<<40)); q.end() })
	}); err != nil || allocs != 0 {
		t.Errorf("%v allocations (%v)", allocs, err)
	}
	if err := x.Close(); err != nil {
		t.Error(err)
	}
}
