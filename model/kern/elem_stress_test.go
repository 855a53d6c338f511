//go:build unix

package kern

import (
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// Signals, preemption and collections in the middle of a kernel change no bit of its result. Many more goroutines than cores run
// kernels on fresh slices, while one collects garbage and one sends the process the signal by which the runtime preempts.
func TestElemUnderStress(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 5
	}
	for _, k := range levels(t) {
		var stop atomic.Bool
		var noise, work sync.WaitGroup
		for _, f := range []func(){runtime.GC, func() { _ = syscall.Kill(os.Getpid(), syscall.SIGURG) }, runtime.Gosched} {
			noise.Go(func() {
				for !stop.Load() {
					f()
				}
			})
		}
		for i := range elemCases {
			work.Go(func() {
				c := &elemCases[i]
				const n = 4001
				_, from, _ := c.fill(rand.New(rand.NewPCG(uint64(i), 3)), n, func() int { return i })
				once := func() []uint32 {
					var v [][]float32
					for _, x := range from {
						v = append(v, slices.Clone(x))
					}
					return bitsOf(v, c.run(k, v))
				}
				first := once()
				for range rounds {
					if !slices.Equal(first, once()) {
						t.Errorf("%s %s: the bits changed", k.Name, c.name)
						return
					}
				}
			})
		}
		work.Wait()
		stop.Store(true)
		noise.Wait()
	}
}
