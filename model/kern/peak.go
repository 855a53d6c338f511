package kern

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	peakBytes  = 256 << 20 // what is copied or read: more than the caches hold
	peakRounds = 15
	peakTime   = 8 * time.Millisecond // of a round, at least
)

// peakLoop is one loop that can be timed: run makes loops turns of it, each of which is work (operations or bytes).
type peakLoop struct {
	name string
	work float64
	run  func(loops int)
}

// Peaks lists what Peak can measure on this machine: the multiply-adds of "avx2", "avx512", "avx512bf16" and "amx" as far as
// the CPU has them, then "copy" and "read".
func Peaks() []string {
	var out []string
	for _, l := range peakLoops() {
		out = append(out, l.name)
	}
	out = append(out, "copy")
	if peakReader() != nil {
		out = append(out, "read")
	}
	return out
}

// Peak measures the most that threads threads of this machine reach together: multiply-adds on registers in GFLOP/s, or memory
// in GB/s ("copy" counts what is read and what is written). It is the best of some short rounds, so other processes can only
// lower it. A name that is not in Peaks is an error.
func Peak(name string, threads int) (float64, error) {
	threads = max(1, threads)
	if name == "copy" || name == "read" && peakReader() != nil {
		return peakMemory(name, threads, peakBytes), nil
	}
	all := peakLoops()
	i := slices.IndexFunc(all, func(l peakLoop) bool { return l.name == name })
	if i < 0 {
		return 0, fmt.Errorf("peak %q cannot be measured here; there are %v", name, Peaks())
	}
	l, loops := all[i], 1<<10
	for peakRound(1, func(int) { l.run(loops) }) < peakTime {
		loops *= 2
	}
	return peakBest(l.work*float64(loops*threads), threads, func(int) { l.run(loops) }), nil
}

// peakMemory moves size bytes, each thread its part, which is at least 64 KiB.
func peakMemory(name string, threads, size int) float64 {
	threads = min(threads, size>>16)
	src, part := Alloc[byte](size), size/threads&^0xffff
	for i := 0; i < len(src); i += 4096 {
		src[i] = 1 // a page that was never written is the zero page
	}
	bytes := float64(part * threads)
	if read := peakReader(); name == "read" {
		return peakBest(bytes, threads, func(t int) { read(part, &src[t*part]) })
	}
	dst := Alloc[byte](size)
	copy(dst, src)
	return peakBest(2*bytes, threads, func(t int) { copy(dst[t*part:(t+1)*part], src[t*part:]) })
}

// peakBest is work per nanosecond in the best round.
func peakBest(work float64, threads int, f func(thread int)) float64 {
	best := 0.0
	for range peakRounds {
		best = max(best, work/float64(peakRound(threads, f)))
	}
	return best
}

// peakRound runs f on threads threads that start together, and says how long all of it took.
func peakRound(threads int, f func(thread int)) time.Duration {
	var ready atomic.Int64
	var wg sync.WaitGroup
	from, to := make([]time.Time, threads), make([]time.Time, threads)
	for t := range threads {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for ready.Add(1); ready.Load() < int64(threads); {
				runtime.Gosched()
			}
			from[t] = time.Now()
			f(t)
			to[t] = time.Now()
		})
	}
	wg.Wait()
	return max(1, slices.MaxFunc(to, time.Time.Compare).Sub(slices.MinFunc(from, time.Time.Compare)))
}
