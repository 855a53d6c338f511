package kern

import (
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// Everything that is offered can be measured, and what is faster by construction is not listed without what it builds on.
func TestPeak(t *testing.T) {
	names := Peaks()
	for _, name := range names {
		for _, threads := range []int{1, 2} {
			var v float64
			var err error
			if name == "copy" || name == "read" {
				v = peakMemory(name, threads, 1<<20) // the real size takes long under the race detector
			} else {
				v, err = Peak(name, threads)
			}
			if err != nil || !(v > 0) || math.IsInf(v, 0) {
				t.Errorf("%s on %d threads: %v, %v", name, threads, v, err)
			}
		}
	}
	for _, name := range []string{"copy", "read"} { // more threads than pieces of memory
		if slices.Contains(names, name) && !(peakMemory(name, 100, 3<<16) > 0) {
			t.Errorf("%s on 100 threads", name)
		}
	}
	if !slices.Contains(names, "copy") {
		t.Errorf("%v lacks copy, which every platform has", names)
	}
	if runtime.GOARCH == "amd64" && slices.Contains(names, "avx512bf16") && !slices.Contains(names, "avx512") {
		t.Errorf("%v", names)
	}
	if _, err := Peak("sse", 1); err == nil || !strings.Contains(err.Error(), "copy") {
		t.Errorf("an unknown name: %v", err)
	}
}

// All threads of a round do their part, whatever their number.
func TestPeakRoundRunsEveryThread(t *testing.T) {
	for _, n := range []int{1, 3, 8} {
		did := make([]int, n)
		if d := peakRound(n, func(i int) { did[i]++ }); d <= 0 {
			t.Errorf("%d threads took %v", n, d)
		}
		for i, k := range did {
			if k != 1 {
				t.Errorf("thread %d of %d ran %d times", i, n, k)
			}
		}
	}
}
