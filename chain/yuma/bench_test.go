package yuma

import (
	"fmt"
	"runtime"
	"testing"
)

// denseInput is a subnet in which every validator weighs, and has bonds with, every other neuron.
func denseInput(n, validators int) Input {
	in := idle(n)
	in.Params = Params{Tempo: 360, Kappa: 32767, BondsMovingAverage: 900_000, BondsPenalty: u16Full, AlphaLow: 45875, AlphaHigh: 58982,
		SigmoidSteepness: 1000, ActivityCutoff: 5000, MaxValidators: validators, Owner: -1, Emission: 1e12}
	in.Block = 10_000
	x := uint64(1)
	next := func() uint64 { // xorshift: the same numbers on every machine
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		return x
	}
	quality := make([]uint64, n)
	for j := range quality {
		quality[j] = 2000 + next()%40_000
	}
	for i := range validators {
		in.LastUpdate[i], in.AlphaStake[i], in.Permit[i] = 9900, 1e12+next()%1e13, true
		for j := range n {
			if j != i {
				in.Weights[i] = append(in.Weights[i], Entry{uint16(j), uint16(quality[j] + next()%20_000)})
				in.Bonds[i] = append(in.Bonds[i], Entry{uint16(j), uint16(1 + next()%u16Full)})
			}
		}
	}
	return in
}

var modes = []struct {
	name          string
	yuma3, liquid bool
}{{"yuma2", false, false}, {"yuma3", true, false}, {"liquid", true, true}}

// go test -bench Epoch ./chain/yuma: the budget is 5 ms for 256x64; see LOG.md.
func BenchmarkEpoch(b *testing.B) {
	for _, size := range [][2]int{{64, 16}, {64, 64}, {128, 64}, {256, 64}, {512, 64}, {1024, 64}, {2048, 64}, {4096, 64},
		{1024, 16}, {1024, 256}, {1024, 1024}} {
		for _, m := range modes {
			in := denseInput(size[0], size[1])
			in.Yuma3, in.LiquidAlpha = m.yuma3, m.liquid
			b.Run(fmt.Sprintf("%dx%d/%s", size[0], size[1], m.name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := Epoch(in); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// The dense twin with the same arithmetic, for what the sparse form is worth.
func BenchmarkDenseTwin(b *testing.B) {
	k := kit[fixed]{whole: func(n int64) fixed { return fixed(clampSlow(slowKit().whole(n).big())) }, exp: exp, u16: fixed.proportion, part: fixed.of}
	k.stake = func(in Input) []fixed {
		e := &epoch{in: in, n: len(in.RegisteredAt)}
		e.stake()
		return e.s
	}
	for _, n := range []int{64, 256, 1024} {
		for _, m := range modes {
			in := denseInput(n, 64)
			in.Yuma3, in.LiquidAlpha = m.yuma3, m.liquid
			b.Run(fmt.Sprintf("%dx64/%s", n, m.name), func(b *testing.B) {
				for b.Loop() {
					twin(in, k)
				}
			})
		}
	}
}

// Memory grows with the entries: what every uid needs is a few vectors, not a row of all the others.
func TestMemory(t *testing.T) {
	in := denseInput(256, 64)
	small := idle(maxNeurons)
	for _, m := range modes {
		for what, x := range map[string]struct {
			in    Input
			bound uint64
		}{"256x64": {in, 4 << 20}, "65,536 without weights": {small, 32 << 20}} {
			x.in.Yuma3, x.in.LiquidAlpha = m.yuma3, m.liquid
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := Epoch(x.in); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			if used := after.TotalAlloc - before.TotalAlloc; used > x.bound {
				t.Errorf("%s, %s: %d bytes, bound %d", what, m.name, used, x.bound)
			}
		}
	}
}
