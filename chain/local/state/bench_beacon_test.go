package state

import "testing"

// The most that a proposer makes others verify.
func BenchmarkBeacons(b *testing.B) {
	s := machine(b)
	until(s, 40)
	list := sigs(b, s.Missing(41)...)
	for b.Loop() {
		if err := s.CheckBeacons(41, list); err != nil {
			b.Fatal(err)
		}
	}
}
