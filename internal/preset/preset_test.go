package preset

import (
	"math"
	"strings"
	"testing"

	"sn3/chain"
)

// Every preset becomes a valid run with what only a network knows, whatever the number of windows; its schedule is legal, its
// k and learning rate are defined for every window, and encoding gives it back.
func TestPresets(t *testing.T) {
	for _, name := range Names() {
		for _, windows := range []int{-1, 0, 1, 23, 24, 67, 1000} {
			r, err := Run(name, windows)
			if err != nil {
				t.Fatal(err)
			}
			r.Network, r.Dataset = "n", chain.DatasetSpec{Locator: []byte{1, 'd'}, Manifest: chain.Hash{1}, Root: chain.Hash{2}}
			if err := r.Validate(); err != nil {
				t.Errorf("%s, %d windows: %v", name, windows, err)
			}
			if err := r.Schedule.Validate(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if want := max(windows, 0); want == 0 && r.Train.Total != 670 || want > 0 && r.Train.Total != max(want, LeastWindows)*r.Train.InnerSteps {
				t.Errorf("%s, %d windows: learning rate planned for %d steps", name, windows, r.Train.Total)
			}
			if r.Tempo != 2*r.Schedule.Length {
				t.Errorf("%s: tempo %d, window %d blocks", name, r.Tempo, r.Schedule.Length)
			}
			for w := range chain.Window(100) {
				if k := r.Payload.At(w); k < 1 || k > 4096 {
					t.Errorf("%s: k %d in window %d", name, k, w)
				}
			}
			back, err := chain.ParseRun(r.Encode())
			if err != nil || back.Hash() != r.Hash() {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// The figures that the notes and the README give.
func TestFigures(t *testing.T) {
	local, err := Run("local", 24)
	if err != nil {
		t.Fatal(err)
	}
	wire, err := Run("wire", 24)
	if err != nil {
		t.Fatal(err)
	}
	if m := local.Model; m.Vocab != 256 || m.Width != 128 || m.Layers != 4 || m.Heads != 4 || m.FFN != 384 || m.Seq != 128 || !m.Tied {
		t.Errorf("local: %+v", m)
	}
	if k := wire.Payload.At(0); k != 64 || wire.Payload.At(66) != 64 {
		t.Errorf("wire: k %d", k)
	}
	if wire.Model != local.Model {
		t.Error("wire trains another model than local")
	}
	if a, b := local.Outer.Alpha, wire.Outer.Alpha; math.Abs(a-1) > 0 || math.Abs(b-2) > 0 {
		t.Errorf("alpha %v, %v; the rule needs 1 at k 1024 and 2 at k 64", a, b)
	}
	if _, err := Run("huge", 24); err == nil || !strings.Contains(err.Error(), "[local wire]") {
		t.Errorf("unknown preset: %v", err)
	}
}
