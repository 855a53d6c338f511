package state

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"

	"sn3/chain"
)

// crowd gives a machine n accounts more.
func crowd(s *State, n int) {
	for i := range n {
		k := chain.Coldkey{0xc0}
		binary.BigEndian.PutUint64(k[8:], uint64(i))
		s.credit(k, 1000)
		s.meta.Money.Genesis += 1000
	}
}

// An empty block beside many accounts, none of which moves, and what an account takes in memory.
func BenchmarkAccounts(b *testing.B) {
	for _, n := range []int{1e3, 1e5, 1e6} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, err := New(benchGenesis(b, 256))
			if err != nil {
				b.Fatal(err)
			}
			before := heap()
			crowd(s, n)
			next(s)
			until(s, 400) // what is kept of history is over
			taken := heap() - before
			for b.Loop() {
				next(s)
			}
			b.ReportMetric(float64(taken)/float64(n), "B/account")
		})
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A block in which so many accounts are paid, in every block of what is kept of history.
func BenchmarkChanges(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, err := New(benchGenesis(b, 256))
			if err != nil {
				b.Fatal(err)
			}
			for range 330 {
				crowd(s, n)
				next(s)
			}
			for b.Loop() {
				crowd(s, n)
				next(s)
			}
		})
	}
}
