package gradients

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"

	"sn3/chain"
	"sn3/model"
	"sn3/model/kern"
)

// machines are all the ways this machine can compute: the first is the plainest.
func machines(t testing.TB) []Compute {
	out := []Compute{{}, {Threads: 3}}
	for _, name := range []string{"avx2", "avx512"} {
		k, err := kern.Select(name)
		if err != nil {
			t.Logf("skipped: %v", err)
			continue
		}
		out = append(out, Compute{1, k}, Compute{3, k})
	}
	return out
}

func (c Compute) name() string {
	if c.Kernels == nil {
		return fmt.Sprintf("portable on %d", c.Threads)
	}
	return fmt.Sprintf("%s on %d", c.Kernels.Name, c.Threads)
}

// segmented is a layout of three segments: two of whole chunks, one that ends in small ones.
func segmented(t testing.TB) *model.Layout {
	return layoutOf(t, model.Config{Vocab: 64 * 66, Width: 64 * 33, Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 2, FFN: 2, Seq: 4, Tied: true})
}

// plain draws values from integers alone, the same on every platform: some zeros, some equal, over 14 octaves.
func plain(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(math.Ldexp(float64(r.IntN(1<<18)-1<<17), -20-r.IntN(14)))
		if r.IntN(8) == 0 {
			v[i] = float32(r.IntN(5)-2) / 1024
		}
	}
	return v
}

// twinPick is the choice of a chunk by sorting everything, with sums in the order of the sorted magnitudes.
func twinPick(v []float32, keep int) Part {
	abs := func(i int) float64 { return math.Abs(float64(v[i])) }
	var order []int
	for i := range v {
		if abs(i) >= 0x1p-29 {
			order = append(order, i)
		}
	}
	sort.SliceStable(order, func(a, b int) bool { return abs(order[a]) > abs(order[b]) })
	order = order[:min(keep, len(order))]
	if len(order) == 0 {
		return Part{}
	}
	best, least := 0, math.Inf(1)
	at, below, above := len(order), 0.0, 0.0
	for j := len(order) - 1; j >= 0; j-- {
		above += abs(order[j])
	}
	for c := range scales {
		s := float64(math.Float32frombits(scales[c]))
		for ; at > 0 && !(abs(order[at-1]) > 1.5*s); at-- {
			below, above = below+abs(order[at-1]), above-abs(order[at-1])
		}
		a, b := below+2*above, float64(len(order)-at+4*at)
		if e := s * (float64(s*b) - 2*a); e < least {
			best, least = c, e
		}
	}
	slices.Sort(order)
	var p Part
	small := false
	for _, i := range order {
		p.Idx = append(p.Idx, uint16(i))
		large := abs(i) > 1.5*float64(math.Float32frombits(scales[best]))
		small = small || !large
		x := math.Float32frombits(scales[best])
		if large {
			x *= 2
		}
		p.Val = append(p.Val, float32(math.Copysign(float64(x), float64(v[i]))))
	}
	return p
}

// twinBegin is Begin by the words of its comment.
func twinBegin(l *model.Layout, e, start, end []float32, k int) (raw []byte, after []float32) {
	after = make([]float32, len(e))
	for i := range e {
		after[i] = float32(0.95*e[i]) + (start[i] - end[i])
	}
	raw = twinPayload(l, k, func(i, real, keep int) string {
		v := after[l.Chunk(i).Start:][:real]
		p := twinPick(v, keep)
		s := twinChunk(real, keep, p)
		for j, x := range p.Idx {
			v[x] -= p.Val[j]
		}
		return s
	})
	return raw, after
}

// shapes of what was learned that selection and quantisation could stumble over.
var learned = map[string]func(r *rand.Rand, v []float32){
	"plain":    func(r *rand.Rand, v []float32) { copy(v, plain(r, len(v))) },
	"constant": func(r *rand.Rand, v []float32) { fill(v, -0.01) },
	"two":      func(r *rand.Rand, v []float32) { every(v, func(i int) float32 { return float32(i%2)/64 + 1.0/64 }) },
	"sparse":   func(r *rand.Rand, v []float32) { every(v, func(i int) float32 { return float32(r.IntN(40)/39) / 8 }) },
	"wide": func(r *rand.Rand, v []float32) { // sums that float64 does not hold
		every(v, func(int) float32 { return float32(math.Ldexp(r.NormFloat64(), 1-r.IntN(31))) })
	},
	"zero": func(r *rand.Rand, v []float32) { clear(v) },
}

func every(v []float32, f func(i int) float32) {
	for i := range v {
		v[i] = f(i)
	}
}

func fill(v []float32, x float32) { every(v, func(int) float32 { return x }) }

// copied hides that weights can show their values.
type copied struct{ model.Weights }

// Whatever it computes with, Begin makes the payload and the error feedback that the naive twin makes, window after window.
func TestBeginAgainstTwin(t *testing.T) {
	l := layoutOf(t, model.Config{Vocab: 130, Width: 128, Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 32, FFN: 70, Seq: 8, Tied: true})
	for name, draw := range learned {
		for _, k := range []int{1, 64, 130, 1500, 4096} {
			r := rand.New(rand.NewPCG(uint64(k), 5))
			var deltas [2]*model.Flat
			var raws [2][]byte
			var es [2][]float32
			e, zero := make([]float32, l.Params()), model.NewFlat(l)
			for w := range deltas {
				deltas[w] = model.NewFlat(l)
				draw(r, deltas[w].Data)
				raws[w], es[w] = twinBegin(l, e, deltas[w].Data, zero.Data, k)
				e = es[w]
			}
			for i, c := range machines(t) {
				f := &Feedback{layout: l, codec: NewCodec(l), beta: 0.95, e: make([]float32, l.Params()), compute: c}
				for w := range deltas {
					var start model.Weights = deltas[w]
					if i%2 == 1 {
						start = copied{start}
					}
					after := make([]float32, l.Params())
					p, raw, err := f.compress(start, zero, after, k)
					if err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(raw, raws[w]) {
						t.Fatalf("%s, k %d, %s, window %d: other bytes than the twin's", name, k, c.name(), w)
					}
					sameBits(t, fmt.Sprintf("%s, k %d, %s: e", name, k, c.name()), after, es[w])
					samePayload(t, p, reopened(t, l, raw))
					f.e = after
				}
			}
		}
	}
}

func sameBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: value %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

func reopened(t testing.TB, l *model.Layout, raw []byte) *Payload {
	t.Helper()
	p, err := NewCodec(l).Open(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func samePayload(t *testing.T, a, b *Payload) {
	t.Helper()
	if !slices.Equal(a.start, b.start) || !slices.Equal(a.idx, b.idx) || !slices.Equal(a.codes, b.codes) || !bytes.Equal(a.scales, b.scales) ||
		a.norm != b.norm || a.size != b.size || a.k != b.k {
		t.Fatal("the payload is not what a receiver reads from its bytes")
	}
}

// goldenBegin are the hashes of payload and error feedback after two windows, made by the sequential code of the first release from
// integers alone: the same on every platform, for ever.
var goldenBegin = map[int][2]string{
	64:  {"8a43906c4ce6c56fa81fb42c62f1d10acb0b083e3c2b1624edc8a8104330183d", "83b5668beaa1d8151075ceeb8bae1f1fefc2e75bef76cabded9d527bacfeeea1"},
	512: {"84c494a7451a7b3a3743897992eaead333eaa25e36108c9e474ffdda760d8e90", "35f179daf952a8179a37920a55c019c1674a0d3ceaeabc05c5d79dd0f57083c1"},
}

func TestGoldenBegin(t *testing.T) {
	l := local(t)
	for k, want := range goldenBegin {
		var v [4]*model.Flat
		r := rand.New(rand.NewPCG(uint64(k), 6))
		for i := range v {
			v[i] = flat(l, plain(r, l.Params()))
		}
		for _, c := range machines(t) {
			f := openAt(t, t.TempDir(), l)
			f.Use(c)
			got := [2]string{}
			for w := range 2 {
				p, err := f.Begin(v[2*w], v[2*w+1], chain.Window(w), k)
				if err != nil {
					t.Fatal(err)
				}
				got = [2]string{p.Sum().String(), fmt.Sprintf("%x", sha256.Sum256(littleEndian(make([]byte, 4*len(p.e)), p.e)))}
				if err := p.Confirm(); err != nil {
					t.Fatal(err)
				}
			}
			if got != want {
				t.Errorf("k %d, %s: %v, want %v", k, c.name(), got, want)
			}
		}
	}
}

// Three segments, in one go and against the twin of the bytes.
func TestBeginOfSegments(t *testing.T) {
	l := segmented(t)
	d := flat(l, plain(rand.New(rand.NewPCG(1, 8)), l.Params()))
	clear(d.Data[:70*4096]) // chunks that keep less than they may, so that the rest moves
	var want []byte
	for _, c := range machines(t) {
		f := &Feedback{layout: l, codec: NewCodec(l), beta: 0.95, e: make([]float32, l.Params()), compute: c}
		p, raw, err := f.compress(d, model.NewFlat(l), make([]float32, l.Params()), 16)
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want, _ = encode(t, l, d.Data, 16)
		}
		if !bytes.Equal(raw, want) {
			t.Fatalf("%s: other bytes than one chunk after the other", c.name())
		}
		samePayload(t, p, reopened(t, l, raw))
	}
}

// The error is that of the lowest chunk that has one, nothing changes, and the next call works.
func TestBeginErrors(t *testing.T) {
	l := local(t)
	zero := model.NewFlat(l)
	for _, c := range machines(t) {
		f := openAt(t, t.TempDir(), l)
		f.Use(c)
		before := state(f)
		bad := model.NewFlat(l)
		bad.Data[l.Chunk(150).Start+3] = float32(math.NaN())
		bad.Data[l.Chunk(70).Start+5] = float32(math.Inf(-1))
		for range 5 {
			_, err := f.Begin(bad, zero, 1, 64)
			if !errors.Is(err, ErrNotFinite) || !strings.Contains(err.Error(), "chunk 70: ") || !strings.Contains(err.Error(), "value 5 is -Inf") {
				t.Fatalf("%s: %v", c.name(), err)
			}
		}
		_, err := f.Begin(failing{zero, 70}, zero, 1, 64)
		if !errors.Is(err, errKilled) || !strings.Contains(err.Error(), "chunk 70: ") {
			t.Fatalf("%s: %v", c.name(), err)
		}
		if _, err := f.Begin(zero, zero, 1, 0); err == nil {
			t.Error("k 0 was accepted")
		}
		if state(f) != before || f.Pending() != nil {
			t.Fatalf("%s: an error changed the state", c.name())
		}
		if _, err := f.Begin(zero, zero, 1, 64); err != nil {
			t.Fatalf("%s: after an error: %v", c.name(), err)
		}
	}
}

// failing cannot read from chunk at on.
type failing struct {
	model.Weights
	at int
}

func (f failing) Read(dst []float32, c model.ChunkRange) error {
	if c.From >= f.at {
		return errKilled
	}
	return f.Weights.Read(dst, c)
}

// Memory is allocated for the payload, not for chunks: twice the chunks, the same number of allocations.
func TestCompressAllocations(t *testing.T) {
	count := func(layers int) float64 {
		l := layoutOf(t, model.Config{Vocab: 64, Width: 128, Layers: layers, Heads: 2, KVHeads: 2, HeadDim: 64, FFN: 128, Seq: 8, Tied: true})
		f := &Feedback{layout: l, codec: NewCodec(l), beta: 0.95, e: make([]float32, l.Params())}
		d, zero, e := flat(l, plain(rand.New(rand.NewPCG(1, 1)), l.Params())), model.NewFlat(l), make([]float32, l.Params())
		return testing.AllocsPerRun(5, func() {
			if _, _, err := f.compress(d, zero, e, 64); err != nil {
				t.Fatal(err)
			}
		})
	}
	if few, many := count(2), count(30); many > few+8 { // the growth of one segment's buffer is logarithmic
		t.Errorf("%v allocations for 2 layers, %v for 30", few, many)
	}
}

// The outer step is AggregateChunk on every chunk, wherever it is made and with whatever; its root is that of the result.
func TestStepAgainstAggregateChunk(t *testing.T) {
	for _, l := range []*model.Layout{tiny(t), local(t)} {
		r := rand.New(rand.NewPCG(3, 3))
		theta := flat(l, plain(r, l.Params()))
		var parts []*Payload
		norms := []float64{}
		for i := range 5 {
			parts = append(parts, fixed(l, []int{64, 1500}[i%2], uint64(i)))
			norms = append(norms, parts[i].Norm())
		}
		want := flat(l, theta.Data)
		for i := range l.Chunks() {
			var now []Part
			for _, p := range parts {
				idx, val := make([]uint16, model.ChunkSize), make([]float32, model.ChunkSize)
				n := p.Chunk(i, idx, val)
				now = append(now, Part{idx[:n], val[:n]})
			}
			AggregateChunk(want.Data[l.Chunk(i).Start:][:l.Chunk(i).Len], now, Clips(norms), 1.7, 7)
		}
		before := slices.Clone(theta.Data)
		for _, c := range machines(t) {
			o := Outer{Alpha: 1.7, MinDivisor: 7, Compute: c}
			to := flat(l, plain(r, l.Params()))
			root, err := o.Step(to, theta, parts)
			if err != nil || root != naiveRoot(l, want.Data) {
				t.Fatalf("%s: root %s (%v)", c.name(), root.Short(), err)
			}
			sameBits(t, c.name(), to.Data, want.Data)
			sameBits(t, c.name()+": what was read", theta.Data, before)
			if root, err = o.Step(to, to, parts); err != nil || root != naiveRoot(l, to.Data) {
				t.Fatalf("%s: in place: root %s (%v)", c.name(), root.Short(), err)
			}
			for _, w := range []model.Weights{want, copied{want}} {
				if got, err := c.Root(w); err != nil || got != naiveRoot(l, want.Data) {
					t.Fatalf("%s: Root gives %s (%v)", c.name(), got.Short(), err)
				}
			}
			if _, err := c.Root(failing{copied{want}, 1}); !errors.Is(err, errKilled) {
				t.Fatalf("%s: %v", c.name(), err)
			}
		}
		if _, err := (Outer{}).Step(model.NewFlat(segmented(t)), theta, parts); err == nil {
			t.Error("a step into another layout was made")
		}
	}
}
