package kernels_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
	"sn3/gradients"
	"sn3/model"
	"sn3/model/kern"
)

// The protocol's kernels must give the bits of package gradients and of model/kern; the reference is what nodes run, portable.

// kinds are vectors that selection and quantisation could stumble over.
var kinds = map[string]func(r *rand.Rand, v []float32){
	"heavy": func(r *rand.Rand, v []float32) {
		for i := range v {
			v[i] = float32(1e-3 * r.NormFloat64() * math.Exp(0.7*r.NormFloat64()))
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
	"one":  func(r *rand.Rand, v []float32) { clear(v); v[r.IntN(len(v))] = 1 },
	"extreme": func(r *rand.Rand, v []float32) {
		for i := range v {
			v[i] = math.Float32frombits(r.Uint32()&^(0xff<<23) | r.Uint32N(255)<<23) // any finite float, subnormals too
		}
	},
	"subnormal": func(r *rand.Rand, v []float32) {
		for i := range v {
			v[i] = math.Float32frombits(r.Uint32() &^ (0xff << 23))
		}
	},
	"edge": func(r *rand.Rand, v []float32) { // around the least that is sent, and where a magnitude becomes large
		for i := range v {
			v[i] = math.Float32frombits(uint32([]int{0x31000000, 0x31c00000, 0x3f400000}[r.IntN(3)]+r.IntN(3)-1) | r.Uint32()&(1<<31))
		}
	},
	"levels": func(r *rand.Rand, v []float32) { // what decoding gives: one scale, its double, both signs
		s := scaleOf(r.IntN(256))
		for i := range v {
			v[i] = s * []float32{1, -1, 2, -2}[r.IntN(4)]
		}
	},
	"midway": func(r *rand.Rand, v []float32) { // two scales are equally wrong
		for c := r.IntN(255); ; c = r.IntN(255) {
			a, b := scaleOf(c), scaleOf(c+1)
			m := float32((float64(a) + float64(b)) / 2)
			if 2*float64(m) != float64(a)+float64(b) {
				continue
			}
			for i := range v {
				v[i] = m * float32(1-2*r.IntN(2))
			}
			return
		}
	},
	"large and few small": func(r *rand.Rand, v []float32) { // exponents far apart: the order of sums matters
		for i := range v {
			v[i] = float32(r.NormFloat64() * math.Exp2(-4*float64(r.IntN(8))))
		}
	},
}

// scaleOf is scale c of the codec's table.
func scaleOf(c int) float32 { return float32(math.Exp2(float64(c)/8 - 28)) }

// vectorOf is n values of a kind.
func vectorOf(r *rand.Rand, kind string, n int) []float32 {
	v := make([]float32, n)
	kinds[kind](r, v)
	return v
}

// sameBits fails if two vectors differ in a bit; all NaNs count as the same, for a device has only one.
func sameBits(t testing.TB, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i, x := range want {
		if math.Float32bits(got[i]) != math.Float32bits(x) && (x == x || got[i] == got[i]) {
			t.Fatalf("%s: value %d of %d is %v (%08x), want %v (%08x)", what, i, len(want), got[i], math.Float32bits(got[i]), x, math.Float32bits(x))
		}
	}
}

// layoutOf is the layout of a configuration whose other fields do not matter.
func layoutOf(t testing.TB, c model.Config) *model.Layout {
	t.Helper()
	c.RopeTheta, c.NormEps, c.Seq = 1e4, 1e-5, 8
	l, err := model.NewLayout(c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// edges is the layout of gradients' golden tests: blocks of 64×64, 64×5, 3×64, vectors.
func edges(t testing.TB) *model.Layout {
	return layoutOf(t, model.Config{Vocab: 67, Width: 69, Layers: 1, Heads: 3, KVHeads: 1, HeadDim: 22, FFN: 70, Tied: true})
}

// block is a small layout that has a chunk of rows by cols values, rows 2 or more, and others of a few.
func block(t testing.TB, rows, cols int) *model.Layout {
	return layoutOf(t, model.Config{Vocab: rows, Width: cols, Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 2, FFN: 1, Tied: true})
}

// long is a layout that has chunks of n values, norms, and many of a few.
func long(t testing.TB, n int) *model.Layout {
	return block(t, 2, n)
}

// begins are the places of a layout's chunks in chunk order.
func begins(l *model.Layout) []int64 {
	out := make([]int64, l.Chunks()+1)
	for i := range l.Chunks() {
		out[i+1] = int64(l.Chunk(i).Start + l.Chunk(i).Len)
	}
	return out
}

// symbols is what a chunk sends.
type symbols struct {
	idx   []uint16
	codes []byte
	scale byte
}

func (s symbols) equal(o symbols) bool {
	return slices.Equal(s.idx, o.idx) && slices.Equal(s.codes, o.codes) && s.scale == o.scale
}

// values are what receivers decode.
func (s symbols) values() []float32 {
	out := make([]float32, len(s.codes))
	for j, c := range s.codes {
		v := scaleOf(int(s.scale))
		if c&1 != 0 {
			v += v
		}
		if c&2 != 0 {
			v = -v
		}
		out[j] = v
	}
	return out
}

// compress runs the kernel on e, which becomes the residual, and returns for each chunk what it sends; false where it is not finite.
func compress(r *rig, l *model.Layout, e []float32, k int) ([]symbols, []bool) {
	room := make([]int64, l.Chunks()+1)
	for i := range l.Chunks() {
		room[i+1] = room[i] + int64(gradients.Keep(k, l.Chunk(i).Len))
	}
	n := room[l.Chunks()]
	at, counts := up(r, e), blank[int32](r, l.Chunks())
	idx, codes, scales := blank[uint16](r, int(n)), blank[byte](r, int(n)), blank[byte](r, l.Chunks())
	r.launch("compress", l.Chunks(), at, up(r, begins(l)), up(r, room), idx, codes, scales, counts)
	down(r, e, at)
	allIdx, allCodes := down(r, make([]uint16, n), idx), down(r, make([]byte, n), codes)
	allScales, count := down(r, make([]byte, l.Chunks()), scales), down(r, make([]int32, l.Chunks()), counts)
	out, finite := make([]symbols, l.Chunks()), make([]bool, l.Chunks())
	for i, c := range count {
		if finite[i] = c >= 0; finite[i] {
			out[i] = symbols{allIdx[room[i]:][:c], allCodes[room[i]:][:c], allScales[i]}
		}
	}
	return out, finite
}

// flat is v as weights.
func flat(l *model.Layout, v []float32) *model.Flat {
	f := model.NewFlat(l)
	copy(f.Data, v)
	return f
}

// source is v as what a codec encodes.
type source struct{ *model.Flat }

func (s source) Chunk(i int, dst []float32) error {
	return s.Read(dst, model.ChunkRange{From: i, To: i + 1})
}

// payloadOf is what the codec makes of e.
func payloadOf(t testing.TB, l *model.Layout, e []float32, k int) *gradients.Payload {
	t.Helper()
	var b bytes.Buffer
	c := gradients.NewCodec(l)
	if _, err := c.Encode(&b, source{flat(l, e)}, k, nil); err != nil {
		t.Fatal(err)
	}
	p, err := c.Open(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func symbolsOf(p *gradients.Payload) []symbols {
	out := make([]symbols, p.Layout().Chunks())
	for i := range out {
		out[i].idx, out[i].codes, out[i].scale = p.Symbols(i)
	}
	return out
}

// lengths are where tails begin and end.
var lengths = []int{1, 2, 15, 16, 17, 63, 64, 255, 256, 257, 1000, 4095, 4096}

func TestFeedback(t *testing.T) {
	inOrders(t, func(r *rig) {
		rnd := rand.New(rand.NewPCG(1, 9))
		for kind := range kinds {
			for _, n := range lengths {
				old, start, end := vectorOf(rnd, kind, n), vectorOf(rnd, kind, n), vectorOf(rnd, kind, n)
				if kind == "extreme" {
					old[0], start[n/2], end[n-1] = float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))
				}
				want := make([]float32, n)
				var top [kern.Groups]float32
				new(kern.Kernels).Feedback(want, old, start, end, 0.95, &top)
				e, o := blank[float32](r, n), up(r, old)
				s, d := up(r, start), up(r, end)
				r.launch("feedback", (n+255)/256, e, o, s, d, int64(n), float32(0.95))
				sameBits(r, kind, down(r, make([]float32, n), e), want)
				r.launch("feedback", (n+255)/256, o, o, s, d, int64(n), float32(0.95))
				sameBits(r, kind+" in place", down(r, make([]float32, n), o), want)
				r.free()
			}
		}
	}, "protocol.cu")
}

// checkCompress compares the kernel with the codec: symbols and residual.
func checkCompress(r *rig, what string, l *model.Layout, e []float32, k int) {
	r.Helper()
	defer r.free()
	want, left := symbolsOf(payloadOf(r, l, e, k)), slices.Clone(e)
	got, finite := compress(r, l, left, k)
	for i := range want {
		if !finite[i] || !got[i].equal(want[i]) {
			r.Fatalf("%s, k %d, chunk %d of %d values: %v, finite %v, want %v", what, k, i, l.Chunk(i).Len, got[i], finite[i], want[i])
		}
		for j, v := range want[i].values() {
			e[l.Chunk(i).Start+int(want[i].idx[j])] -= v
		}
	}
	sameBits(r, what, left, e)
}

func TestCompress(t *testing.T) {
	r, n := newRig(t, "protocol.cu"), 0
	rnd := rand.New(rand.NewPCG(2, 9))
	check := func(kind string, l *model.Layout, k int) {
		r.card.Set(t, "order", orders[n%len(orders)])
		checkCompress(r, kind, l, vectorOf(rnd, kind, l.Params()), k)
		n++
	}
	for kind := range kinds {
		check(kind, edges(t), 64)
		for _, k := range []int{1, 1500, 4096} {
			check(kind, block(t, 64, 64), k)
		}
	}
	check("heavy", long(t, 1000), 64)
}

// At every scale: what is just large, or just not, among values on its levels.
func TestCompressSplits(t *testing.T) {
	r, l := newRig(t, "protocol.cu"), block(t, 256*model.BlockSide, 1)
	e := make([]float32, l.Params())
	for i := range l.Chunks() {
		c, s := l.Chunk(i), scaleOf(i%256)
		split := math.Float32bits(float32(1.5 * float64(s)))
		for x := range c.Len {
			e[c.Start+x] = s * []float32{1, -1, 2, -2}[x%4]
			if x%16 == 5 { // few, or another scale would be best
				e[c.Start+x] = math.Float32frombits(split + uint32(x/16) - 1)
			}
		}
	}
	checkCompress(r, "splits", l, e, model.ChunkSize)
}

// A magnitude that is just small, where two scales are equally good but for 2⁻²²: whether it counts as small or large decides between them.
func TestCompressAtTheSplit(t *testing.T) {
	r, l := newRig(t, "protocol.cu"), block(t, 64, 64)
	off := func(m, s float64) float64 { // the squared error of a magnitude with a scale
		if m > 1.5*s {
			s *= 2
		}
		return (m - s) * (m - s)
	}
	for _, c := range []int{83, 124, 166, 207} {
		s, next := float64(scaleOf(c)), float64(scaleOf(c+1))
		split := math.Float32frombits(math.Float32bits(float32(1.5*s+s*0x1p-20)) - 1)
		for float64(split) > 1.5*s {
			split = math.Nextafter32(split, 0)
		}
		if float64(split) == 1.5*s {
			t.Fatalf("scale %d: one and a half times it is a number", c)
		}
		// one value of twice the scale, lest an octave lower be as good; 29 values v and one w that make both scales as good as each other: what the error is apart grows in proportion to each
		apart := off(float64(split), s) - off(float64(split), next) + off(2*s, s) - off(2*s, next)
		v := float32((s+next)/2 - apart/(60*(next-s)))
		w := float64(v)
		for range 3 {
			all := apart + 29*(off(float64(v), s)-off(float64(v), next)) + off(w, s) - off(w, next)
			w -= all / (2 * (next - s))
		}
		at := math.Float32bits(float32(w))
		for d := range uint32(25) {
			e := make([]float32, l.Params())
			for i := range 29 {
				e[i] = v
			}
			e[29], e[30], e[31] = math.Float32frombits(at+d-12), -split, float32(2*s)
			checkCompress(r, fmt.Sprint("scale ", c, ", ", d), l, e, model.ChunkSize)
		}
	}
}

// Chunks of every kind of length, drawn; and all the codec can be asked to keep of them.
func TestCompressDrawn(t *testing.T) {
	names := slices.Sorted(maps.Keys(kinds))
	r := newRig(t, "protocol.cu")
	rapid.Check(t, func(rt *rapid.T) {
		r.card.Set(t, "order", rapid.SampledFrom(orders).Draw(rt, "order"))
		l := block(t, rapid.IntRange(2, 64).Draw(rt, "rows"), rapid.IntRange(1, 64).Draw(rt, "columns"))
		kind := rapid.SampledFrom(names).Draw(rt, "kind")
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		e := vectorOf(rnd, kind, l.Params())
		clear(e[:rapid.IntRange(0, l.Params()/2).Draw(rt, "zeros")])
		checkCompress(r, kind, l, e, rapid.OneOf(rapid.IntRange(1, 4096), rapid.IntRange(1, 200)).Draw(rt, "k"))
	})
}

// A chunk with a value that is not finite says so and stays as it is; its neighbours do not mind.
func TestCompressNotFinite(t *testing.T) {
	r, l := newRig(t, "protocol.cu"), edges(t)
	rnd := rand.New(rand.NewPCG(3, 9))
	for n, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		r.card.Set(t, "order", orders[n])
		e := vectorOf(rnd, "heavy", l.Params())
		want := symbolsOf(payloadOf(r, l, e, 64))
		bad := map[int]bool{}
		for i := range l.Chunks() {
			if c := l.Chunk(i); i%3 == 1 {
				e[c.Start+rnd.IntN(c.Len)], bad[i] = float32(x), true
			}
		}
		if _, err := gradients.NewCodec(l).Encode(new(bytes.Buffer), source{flat(l, e)}, 64, nil); !errors.Is(err, gradients.ErrNotFinite) {
			r.Fatalf("the codec takes %v: %v", x, err)
		}
		left := slices.Clone(e)
		got, finite := compress(r, l, left, 64)
		for i := range got {
			c := l.Chunk(i)
			switch {
			case finite[i] == bad[i], finite[i] && !got[i].equal(want[i]):
				r.Fatalf("%v: chunk %d: finite %v, %v", x, i, finite[i], got[i])
			case bad[i]:
				sameBits(r, "chunk that is not finite", left[c.Start:c.Start+c.Len], e[c.Start:c.Start+c.Len])
			}
		}
		r.free()
	}
}

// Windows one after the other: a miner's error feedback on the device sends the bytes that gradients.Feedback sends.
func TestFeedbackOverWindows(t *testing.T) {
	r, l := newRig(t, "protocol.cu"), edges(t)
	f, err := gradients.OpenFeedback(t.TempDir(), l, 0.95)
	if err != nil {
		r.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(4, 9))
	e := make([]float32, l.Params())
	for w := range 4 {
		r.card.Set(t, "order", orders[w%3])
		start, end := vectorOf(rnd, "heavy", l.Params()), vectorOf(rnd, "heavy", l.Params())
		p, err := f.Begin(flat(l, start), flat(l, end), chain.Window(w), 96)
		if err != nil || p.Confirm() != nil {
			r.Fatal(err)
		}
		at := up(r, e)
		r.launch("feedback", (len(e)+255)/256, at, at, up(r, start), up(r, end), int64(len(e)), float32(0.95))
		got, _ := compress(r, l, down(r, e, at), 96)
		for i, want := range symbolsOf(p.Payload()) {
			if !got[i].equal(want) {
				r.Fatalf("window %d chunk %d: %v, want %v", w, i, got[i], want)
			}
		}
		packed, raw, err := gradients.NewCodec(l).Pack(96, func(i int) ([]uint16, []byte, byte) { return got[i].idx, got[i].codes, got[i].scale })
		if err != nil || packed.Norm() != p.Payload().Norm() || chain.Hash(sha256.Sum256(raw)) != p.Sum() {
			r.Fatalf("window %d: %d bytes that are not the %d of the CPU (%v)", w, len(raw), p.Size(), err)
		}
		r.free()
	}
}

// Every level of the table.
func TestDecode(t *testing.T) {
	var all []symbols
	for s := range 256 {
		all = append(all, symbols{[]uint16{0, 1, 2, 3}, []byte{0, 1, 2, 3}, byte(s)})
	}
	inOrders(t, func(r *rig) {
		check := func(chunks []symbols, want []float32) {
			at := []int64{0}
			var codes, scales []byte
			for _, s := range chunks {
				codes, scales = append(codes, s.codes...), append(scales, s.scale)
				at = append(at, int64(len(codes)))
			}
			val := blank[float32](r, len(codes))
			r.launch("decode", len(chunks), val, up(r, codes), up(r, scales), up(r, at))
			sameBits(r, "decoded", down(r, make([]float32, len(codes)), val), want)
			r.free()
		}
		var want []float32
		for _, s := range all {
			want = append(want, s.values()...)
		}
		check(all, want)
		l := edges(t)
		p := payloadOf(r, l, vectorOf(rand.New(rand.NewPCG(5, 9)), "heavy", l.Params()), 300)
		idx, val := make([]uint16, model.ChunkSize), make([]float32, model.ChunkSize)
		want = nil
		for i := range l.Chunks() {
			want = append(want, val[:p.Chunk(i, idx, val)]...)
		}
		check(symbolsOf(p), want)
	}, "protocol.cu")
}
