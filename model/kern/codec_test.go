package kern

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"unsafe"
)

// codecSets are the sets with different code for compression.
func codecSets(t testing.TB) []*Kernels {
	t.Helper()
	return sets(t, "avx2", "avx512")
}

// kinds are vectors that selection could stumble over.
var kinds = map[string]func(r *rand.Rand, v []float32){
	"normal": func(r *rand.Rand, v []float32) {
		for i := range v {
			v[i] = float32(r.NormFloat64())
		}
	},
	"tied": func(r *rand.Rand, v []float32) {
		for i := range v {
			v[i] = float32(r.IntN(7)-3) / 8
		}
	},
	"constant": func(r *rand.Rand, v []float32) {
		for i := range v {
			v[i] = -0.25
		}
	},
	"zero": func(r *rand.Rand, v []float32) { clear(v) },
	"extreme": func(r *rand.Rand, v []float32) {
		for i := range v {
			v[i] = math.Float32frombits(r.Uint32()&^(0xff<<23) | r.Uint32N(255)<<23) // any finite float, subnormals too
		}
	},
	"one": func(r *rand.Rand, v []float32) { clear(v); v[r.IntN(len(v))] = 1 },
}

var codecLengths = []int{1, 5, 15, 16, 17, 64, 255, 256, 257, 320, 1000, 4095, 4096}

func equalBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: value %d of %d is %v (%08x), want %v (%08x)", what, i, len(want), got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]))
		}
	}
}

func vectors(r *rand.Rand, fill func(*rand.Rand, []float32), n, count int) [][]float32 {
	var out [][]float32
	for range count {
		off := r.IntN(4) // any alignment, and no reading before or behind
		v := make([]float32, off+n)[off:]
		fill(r, v)
		out = append(out, v)
	}
	return out
}

func TestFeedbackBits(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	var portable Kernels
	for _, k := range codecSets(t) {
		for kind, fill := range kinds {
			for _, n := range codecLengths {
				v := vectors(r, fill, n, 3)
				got, want := make([]float32, n), make([]float32, n)
				var top, wantTop [Groups]float32
				fill(r, top[:]) // what was there before does not count
				most := k.Feedback(got, v[0], v[1], v[2], 0.95, &top)
				if m := portable.Feedback(want, v[0], v[1], v[2], 0.95, &wantTop); m != most {
					t.Fatalf("%s %s %d: largest %08x, want %08x", k.Name, kind, n, most, m)
				}
				equalBits(t, k.Name+" feedback "+kind, got, want)
				equalBits(t, k.Name+" groups "+kind, top[:], wantTop[:])
				if most >= 0x7f800000 {
					continue // overflowed to infinity: the codec stops there
				}
				m := k.Tops(got, &top)
				equalBits(t, k.Name+" tops "+kind, top[:], wantTop[:])
				if m != most {
					t.Fatalf("%s %s %d: tops says %08x, feedback %08x", k.Name, kind, n, m, most)
				}
			}
		}
	}
}

// A NaN or an infinity anywhere is seen.
func TestFeedbackSeesWhatIsNotFinite(t *testing.T) {
	for _, k := range append(codecSets(t), &Kernels{Name: "portable"}) {
		for _, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			for _, n := range []int{1, 255, 256, 4096} {
				for at := range n {
					if n == 4096 && at%61 != 0 {
						continue
					}
					zero, v, dst := make([]float32, n), make([]float32, n), make([]float32, n)
					v[at] = float32(x)
					var top [Groups]float32
					if most := k.Feedback(dst, zero, v, zero, 0.95, &top); most < 0x7f800000 {
						t.Fatalf("%s: %v at %d of %d passes as %08x", k.Name, x, at, n, most)
					}
					if most := k.Tops(v, &top); most < 0x7f800000 {
						t.Fatalf("%s: tops: %v at %d of %d passes as %08x", k.Name, x, at, n, most)
					}
				}
			}
		}
	}
}

// Rank against the sorted magnitudes, and every set against the portable one.
func TestRank(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 9))
	for _, k := range append(codecSets(t), &Kernels{Name: "portable"}) {
		for kind, fill := range kinds {
			for _, n := range codecLengths {
				x := make([]float32, (n+15)/16*16)
				fill(r, x[:n])
				bits := []uint32{}
				for _, v := range x {
					bits = append(bits, magnitude(v))
				}
				slices.Sort(bits)
				slices.Reverse(bits)
				for range 10 {
					want, lo := 1+r.IntN(n), uint32(1)
					if r.IntN(2) == 0 {
						lo = 0x31000000
					}
					most := want + r.IntN(3)*want/8
					limit, count := k.Rank(x, want, most, lo, bits[0]+1)
					checkRank(t, k.Name+" "+kind, bits, want, most, lo, limit, count)
					if twin, c := (&Kernels{}).Rank(x, want, most, lo, bits[0]+1); twin != limit || c != count {
						t.Fatalf("%s %s: limit %08x with %d, portable %08x with %d", k.Name, kind, limit, count, twin, c)
					}
				}
			}
		}
	}
}

func checkRank(t *testing.T, what string, bits []uint32, want, most int, lo, limit uint32, count int) {
	t.Helper()
	reached := 0
	for _, b := range bits {
		if b >= limit {
			reached++
		}
	}
	nth := bits[want-1]
	switch {
	case count != reached || limit < lo:
		t.Fatalf("%s: limit %08x says %d, %d reach it (from %08x on)", what, limit, count, reached, lo)
	case nth < lo && limit != lo:
		t.Fatalf("%s: limit %08x, although fewer than %d reach %08x", what, limit, want, lo)
	case nth >= lo && count < want, nth >= lo && count > most && limit != nth:
		t.Fatalf("%s: limit %08x is reached by %d, wanted %d to %d", what, limit, count, want, most)
	}
}

func TestAbove(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 9))
	for _, k := range append(codecSets(t), &Kernels{Name: "portable"}) {
		for kind, fill := range kinds {
			for _, n := range codecLengths {
				x := make([]float32, (n+15)/16*16)
				fill(r, x[:n])
				for _, limit := range []uint32{1, 0x31000000, magnitude(x[r.IntN(n)]) | 1, max(1, magnitude(x[r.IntN(n)])), 0x7f7fffff} {
					idx := make([]uint32, len(x)+16)
					got := idx[:k.Above(idx, x, limit)]
					var want []uint32
					for i, v := range x {
						if magnitude(v) >= limit {
							want = append(want, uint32(i))
						}
					}
					if !slices.Equal(got, want) {
						t.Fatalf("%s %s %d above %08x: %v, want %v", k.Name, kind, n, limit, got, want)
					}
				}
			}
		}
	}
}

func TestOuterBits(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 9))
	for _, k := range codecSets(t) {
		for kind, fill := range kinds {
			for _, n := range codecLengths {
				v := vectors(r, fill, n, 2)
				sum, again := v[1], append([]float32(nil), v[1]...)
				got, want := make([]float32, n), make([]float32, n)
				k.Outer(got, v[0], sum, 1.7, 3)
				(&Kernels{}).Outer(want, v[0], again, 1.7, 3)
				equalBits(t, k.Name+" outer "+kind, got, want)
				for i := range sum {
					if sum[i] != 0 || again[i] != 0 {
						t.Fatalf("%s: sum %d is left at %v, %v", k.Name, i, sum[i], again[i])
					}
				}
				fill(r, sum)
				copy(again, sum)
				k.Outer(got, got, sum, 1.7, 3)
				(&Kernels{}).Outer(want, want, again, 1.7, 3)
				equalBits(t, k.Name+" outer in place "+kind, got, want)
			}
		}
	}
}

func TestStream(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 9))
	for _, k := range append(codecSets(t), &Kernels{Name: "portable"}) {
		for _, n := range append([]int{0}, codecLengths...) {
			for off := range 17 {
				buf, src := make([]float32, n+off+1), make([]float32, n)
				kinds["normal"](r, src)
				buf[len(buf)-1] = 7
				k.Stream(buf[off:off+n], src)
				equalBits(t, k.Name+" stream", buf[off:off+n], src)
				if buf[len(buf)-1] != 7 {
					t.Fatalf("%s: %d values from %d on: wrote behind the end", k.Name, n, off)
				}
			}
		}
	}
}

// The kernels keep no pointer and need no stack of their own: a collector that runs all the time changes nothing.
func TestCodecKernelsUnderGC(t *testing.T) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	}()
	r := rand.New(rand.NewPCG(6, 9))
	for _, k := range codecSets(t) {
		for range 200 {
			v := vectors(r, kinds["normal"], 4096, 3)
			got, want := make([]float32, 4096), make([]float32, 4096)
			var top, wantTop [Groups]float32
			most := k.Feedback(got, v[0], v[1], v[2], 0.95, &top)
			(&Kernels{}).Feedback(want, v[0], v[1], v[2], 0.95, &wantTop)
			equalBits(t, k.Name, got, want)
			limit, _ := k.Rank(top[:], 64, 72, 1, most+1)
			idx := make([]uint32, 4096+16)
			if n := k.Above(idx, got, limit); n < 64 {
				t.Fatalf("%s: %d values", k.Name, n)
			}
		}
	}
	close(stop)
	<-done
}

// A vector that is too short is refused before the assembly sees it.
func TestCodecKernelsCheckLengths(t *testing.T) {
	v, short := make([]float32, 512), make([]float32, 511)
	var top [Groups]float32
	idx := make([]uint32, 512)
	for _, k := range append(codecSets(t), &Kernels{Name: "portable"}) {
		for name, call := range map[string]func(){
			"feedback": func() { k.Feedback(v, short[:len(short):len(short)], v, v, 1, &top) },
			"outer":    func() { k.Outer(v, v, short[:len(short):len(short)], 1, 1) },
			"above":    func() { k.Above(idx, v, 1) },
			"gaps": func() {
				k.GapLanes(new(GapCodes), []Gaps{{Bytes: make([]byte, 8), Out: make([]uint16, 4)}, {Bytes: make([]byte, 8), End: 8, Out: make([]uint16, 4)}})
			},
			"stream": func() { k.Stream(v, short[:len(short):len(short)]) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s: %s took a short slice", k.Name, name)
					}
				}()
				call()
			}()
		}
	}
}

// The assembly reads what portable Go reads, of any bits and any table, and stops where that stops.
func TestGapLanes(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 9))
	for _, k := range codecSets(t) {
		for range 3000 {
			var codes GapCodes
			unknown := r.IntN(3) * 200 // of 8192
			for i := range codes {
				if r.IntN(len(codes)) >= unknown {
					codes[i] = uint16(1+r.IntN(1023))<<6 | uint16(1+r.IntN(GapBits))
				}
			}
			got := make([]Gaps, r.IntN(5))
			want := make([]Gaps, len(got))
			for i := range got {
				got[i] = drawGaps(r)
				want[i] = got[i]
				want[i].Out = make([]uint16, len(got[i].Out))
			}
			before, twin := slices.Clone(got), slices.Clone(want)
			stopped, w := k.GapLanes(&codes, got), (&Kernels{}).GapLanes(&codes, want)
			if stopped != w {
				t.Fatalf("%s: stopped at lane %d of %d, portable at %d", k.Name, stopped, len(got), w)
			}
			for i, g := range got {
				if g.Pos != want[i].Pos || g.Last != want[i].Last || len(g.Out) != len(want[i].Out) {
					t.Fatalf("%s: lane %d stands at %d after %d, portable at %d after %d", k.Name, i, g.Pos, g.Last, want[i].Pos, want[i].Last)
				}
				read := len(before[i].Out) - len(g.Out)
				if !slices.Equal(before[i].Out[:read], twin[i].Out[:read]) {
					t.Fatalf("%s: lane %d has other indices than portable Go", k.Name, i)
				}
				for j, x := range g.Out[min(4, len(g.Out)):] {
					if x != 0 {
						t.Fatalf("%s: lane %d wrote %d places beyond what it read", k.Name, i, j+4)
					}
				}
			}
		}
	}
}

// drawGaps are random bits, read from anywhere.
func drawGaps(r *rand.Rand) Gaps {
	b := make([]byte, 8+r.IntN(120))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	end := uint64(8 * (len(b) - 8))
	return Gaps{Bytes: b, Pos: r.Uint64N(end + 9), End: end, Last: uint64(int64(r.IntN(4097)-1) << 6), Out: make([]uint16, r.IntN(70))}
}

func BenchmarkCodecKernels(b *testing.B) {
	r := rand.New(rand.NewPCG(7, 9))
	v := vectors(r, kinds["normal"], 4096, 4)
	x := unsafe.Slice(&v[0][0], 4096)
	for _, k := range append(codecSets(b), &Kernels{Name: "portable"}) {
		var top [Groups]float32
		idx := make([]uint32, 4096+16)
		most := k.Tops(x, &top)
		limit, _ := k.Rank(top[:], 64, 72, 1, most+1)
		for name, call := range map[string]func(){
			"feedback": func() { k.Feedback(v[3], x, v[1], v[2], 0.95, &top) },
			"rank":     func() { k.Rank(top[:], 64, 72, 1, most+1) },
			"above":    func() { k.Above(idx, x, limit) },
			"outer":    func() { k.Outer(v[3], v[1], v[2], 1, 15) },
		} {
			b.Run(k.Name+"/"+name, func(b *testing.B) {
				for b.Loop() {
					call()
				}
			})
		}
	}
}
