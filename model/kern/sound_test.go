package kern

import (
	"math"
	"slices"
	"strings"
	"testing"
)

// Every value that a probe computes counts: one that is wrong, by a bit where the bits are protocol, is found out.
func TestProbes(t *testing.T) {
	for _, p := range probes {
		want := p.run(&Kernels{}, probeRows())
		if len(want) == 0 || slices.ContainsFunc(want, func(x float32) bool { return x != x }) {
			t.Errorf("%s computes %v", p.name, want)
		}
		if err := p.compare(slices.Clone(want), want); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
		for i := range want {
			bad := slices.Clone(want)
			bad[i] += 1e-3 * (1 + float32(math.Abs(float64(bad[i]))))
			nan := slices.Clone(want)
			nan[i] = float32(math.NaN())
			bit := slices.Clone(want)
			bit[i] = math.Float32frombits(math.Float32bits(bit[i]) ^ 1)
			if p.compare(bad, want) == nil || p.compare(nan, want) == nil || p.exact && p.compare(bit, want) == nil {
				t.Errorf("%s: a wrong value %d passes", p.name, i)
			}
		}
		if p.compare(want[1:], want) == nil {
			t.Errorf("%s: a missing value passes", p.name)
		}
	}
	// the strings of codes are long enough for several turns and end at a code that is not there
	for _, lanes := range []int{2, 4} {
		if out := probeGaps(&Kernels{}, probeRows()[:lanes]); out[0] == 0 || len(out) < 4*4*lanes {
			t.Errorf("%d lanes stop at %v after %d values", lanes, out[0], len(out))
		}
	}
}

// The trial names the kernel that computes otherwise.
func TestTrialNamesTheKernel(t *testing.T) {
	i := slices.IndexFunc(probes, func(p probe) bool { return p.name == "Outer" })
	right := probes[i].run
	defer func() { probes[i].run = right }()
	probes[i].run = func(k *Kernels, v [][]float32) []float32 {
		out := right(k, v)
		if k.Name == "broken" {
			out[7]++
		}
		return out
	}
	if err := trialRows(&Kernels{Name: "broken"}); err == nil || !strings.HasPrefix(err.Error(), "Outer: value 7 is ") {
		t.Errorf("%v", err)
	}
}
