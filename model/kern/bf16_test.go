package kern

import (
	"encoding/binary"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"
	"sn3/internal/golden"
)

// Every set rounds as the reference does (column 1 of the vectors), at whole vectors and in the rest.
func TestBF16Golden(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(golden.Case(t, "llama", "bf16"), "f32_to_bf16.bin"))
	if err != nil {
		t.Fatal(err)
	}
	if len(raw) != 4100*8 {
		t.Fatalf("%d bytes, want 4,100 records of 8", len(raw))
	}
	var in []float32
	var want []BF16
	for r := raw; len(r) > 0; r = r[8:] {
		in = append(in, math.Float32frombits(binary.LittleEndian.Uint32(r)))
		want = append(want, BF16(binary.LittleEndian.Uint16(r[4:])))
	}
	for _, k := range levels(t) {
		for from := range 33 {
			x := in[from:]
			got := make([]BF16, len(x))
			k.ToBF16(got, x)
			for i := range got {
				if got[i] != want[from+i] {
					t.Fatalf("%s: %#08x becomes %#04x, want %#04x", k.Name, math.Float32bits(x[i]), got[i], want[from+i])
				}
			}
		}
	}
}

// All 65,536 bfloat16 values widen to themselves and come back; what lies between two goes to the nearer one, in the middle to the even
// one: checked with exact arithmetic.
func TestBF16EveryValue(t *testing.T) {
	var all []BF16
	for b := range 1 << 16 {
		all = append(all, BF16(b))
	}
	for _, k := range levels(t) {
		x, back := make([]float32, len(all)), make([]BF16, len(all))
		k.FromBF16(x, all)
		k.ToBF16(back, x)
		for i, b := range all {
			if math.Float32bits(x[i]) != uint32(b)<<16 {
				t.Fatalf("%s: %#04x widens to %#08x", k.Name, b, math.Float32bits(x[i]))
			}
			if nan := x[i] != x[i]; !nan && back[i] != b || nan && back[i] != 0x7FC0 {
				t.Fatalf("%s: %#04x comes back as %#04x", k.Name, b, back[i])
			}
		}
	}
	r := rand.New(rand.NewPCG(5, 5))
	for range 200_000 {
		u := r.Uint32()
		if r.IntN(4) == 0 {
			u = u&^0xFFFF | 0x8000 // a middle
		}
		x := math.Float32frombits(u)
		below, above := BF16(u>>16), BF16(u>>16)+1
		if x != x || above&0x7F80 == 0x7F80 { // NaN, or next to infinity
			continue
		}
		gap := func(b BF16) *big.Float {
			d := new(big.Float).Sub(big.NewFloat(float64(x)), big.NewFloat(float64(b.Float32())))
			return d.Abs(d)
		}
		want := below
		if c := gap(above).Cmp(gap(below)); c < 0 || c == 0 && below&1 == 1 {
			want = above
		}
		if got := RoundBF16(x); got != want {
			t.Fatalf("%#08x becomes %#04x, want %#04x", u, got, want)
		}
	}
}

// The conversions of every set are those of the portable code, bit for bit, at every length and place; nothing beside the rows
// changes. So is the copy that Step makes.
func TestBF16Sets(t *testing.T) {
	const guard = BF16(0xABCD)
	for _, k := range levels(t) {
		rapid.Check(t, func(rt *rapid.T) {
			n, off := rapid.IntRange(1, 300).Draw(rt, "n"), rapid.IntRange(0, 31).Draw(rt, "off")
			r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 2))
			src, all := newRow(n, off), make([]BF16, off+n+40)
			for i := range src.vals {
				src.vals[i] = math.Float32frombits(r.Uint32() & [...]uint32{0xFFFFFFFF, 0x80FFFFFF, 0xFFFF8000}[r.IntN(3)])
			}
			for i := range all {
				all[i] = guard
			}
			h := all[off : off+n]
			k.ToBF16(h, src.vals)
			for i, b := range h {
				if want := RoundBF16(src.vals[i]); b != want {
					rt.Fatalf("%s: value %d of %d, %#08x, becomes %#04x, want %#04x", k.Name, i, n, math.Float32bits(src.vals[i]), b, want)
				}
			}
			wide := newRow(n, off)
			k.FromBF16(wide.vals, h)
			for i, x := range wide.vals {
				if math.Float32bits(x) != uint32(h[i])<<16 {
					rt.Fatalf("%s: value %d of %d, %#04x, widens to %#08x", k.Name, i, n, h[i], math.Float32bits(x))
				}
			}
			c := elemCases[len(elemCases)-1]
			rows, v, _ := c.fill(r, n, func() int { return off })
			_, plain, _ := c.fill(r, n, func() int { return 0 })
			for i := range plain {
				copy(plain[i], v[i])
			}
			stepCase(k, v, h)
			stepCase(k, plain, nil)
			for i, b := range h {
				if b != RoundBF16(v[0][i]) || v[0][i] != plain[0][i] {
					rt.Fatalf("%s: Step leaves %#04x of %v, alone %v", k.Name, b, v[0][i], plain[0][i])
				}
			}
			for i, b := range all {
				if (i < off || i >= off+n) && b != guard {
					rt.Fatalf("%s: written at %d of %d", k.Name, i-off, n)
				}
			}
			for _, x := range append(rows, src, wide) {
				if at, yes := x.touched(); yes {
					rt.Fatalf("%s: a float32 row is written at %d", k.Name, at)
				}
			}
		})
	}
}

func FuzzBF16(f *testing.F) {
	for _, u := range []uint32{0, 1, 0x8000, 0x8001, 0x18000, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x80000001, 0xFFFFFFFF} {
		f.Add(u)
	}
	f.Fuzz(func(t *testing.T, u uint32) {
		for _, k := range levels(t) {
			x, got := make([]float32, 19), make([]BF16, 19)
			for i := range x {
				x[i] = math.Float32frombits(u + uint32(i))
			}
			k.ToBF16(got, x)
			for i := range x {
				if want := RoundBF16(x[i]); got[i] != want {
					t.Fatalf("%s: %#08x becomes %#04x, want %#04x", k.Name, u+uint32(i), got[i], want)
				}
			}
		}
	})
}
