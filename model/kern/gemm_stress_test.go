//go:build unix

package kern

import (
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"testing"
)

// Goroutine switches, garbage collection and signals while products run must not change a bit.
func TestMulUnderStress(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(5))
	stop := make(chan struct{})
	var noise, work sync.WaitGroup
	noise.Add(1)
	go func() {
		defer noise.Done()
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
				if err := syscall.Kill(os.Getpid(), syscall.SIGURG); err != nil { // the runtime's own preemption signal
					t.Error(err)
				}
			}
		}
	}()
	for name, way := range ways() {
		if name == "amx, emulated" {
			continue
		}
		p := randomProduct(rand.New(rand.NewPCG(9, 10)), 50, 70, 300)
		want := p.check(t, name, func(c []float32) { way(&Mul{Threads: 1}, p, c) })
		for g := range 4 {
			work.Add(1)
			go func() {
				defer work.Done()
				x := &Mul{Threads: 1 + g%3}
				for range 15 {
					c := slices.Clone(p.c0)
					if way(x, p, c); !slices.Equal(c, want) {
						t.Errorf("%s: other bits under stress", name)
						return
					}
				}
			}()
		}
	}
	work.Wait()
	close(stop)
	noise.Wait()
}
