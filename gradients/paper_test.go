package gradients

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
	"sn3/model"
)

// One test per claim of what we follow: SparseLoCo (arXiv 2508.15706), Covenant-72B (arXiv 2603.08163), error feedback
// (Seide et al., Interspeech 2014), DESIGN §5.

// learn puts Δ through a feedback and returns what was sent, in chunk order.
func learn(t testing.TB, f *Feedback, d []float32, w chain.Window, k int) []float32 {
	t.Helper()
	p, err := f.Begin(flat(f.layout, d), model.NewFlat(f.layout), w, k)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Confirm(); err != nil {
		t.Fatal(err)
	}
	return dense(f.layout, p.Payload())
}

func dense(l *model.Layout, p *Payload) []float32 {
	out := make([]float32, l.Params())
	idx, val := make([]uint16, model.ChunkSize), make([]float32, model.ChunkSize)
	for i := range l.Chunks() {
		n := p.Chunk(i, idx, val)
		for j := range n {
			out[l.Chunk(i).Start+int(idx[j])] = val[j]
		}
	}
	return out
}

func payloadOf(t testing.TB, l *model.Layout, v []float32, k int) *Payload {
	t.Helper()
	raw, _ := encode(t, l, v, k)
	p, err := NewCodec(l).Open(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func norm(v []float32) float64 {
	sum := 0.0
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	return math.Sqrt(sum)
}

func dot(a, b []float32) float64 {
	sum := 0.0
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

// SparseLoCo §3, "e <- βe + Δ − sent": sent + residual == accumulated. Exactly, when quantisation loses nothing: here every
// value is on a level of the table already.
func TestConservationExact(t *testing.T) {
	l := tiny(t)
	levels := []float32{0, 1. / 1024, -1. / 1024, 2. / 1024, -2. / 1024}
	for _, k := range []int{64, 200, 4096} {
		f := openAt(t, t.TempDir(), l)
		r := rand.New(rand.NewPCG(5, uint64(k)))
		d := make([]float32, l.Params())
		for i := range d {
			d[i] = levels[r.IntN(len(levels))]
		}
		sent, n := learn(t, f, d, 0, k), 0
		for i := range d {
			if sent[i]+f.e[i] != d[i] || sent[i] != 0 && sent[i] != d[i] {
				t.Fatalf("k %d value %d: sent %v, kept %v of %v", k, i, sent[i], f.e[i], d[i])
			}
			if sent[i] != 0 {
				n++
			}
		}
		if n == 0 || k == 4096 && norm(f.e) != 0 {
			t.Fatalf("k %d: sent %d values, norm of the rest %v", k, n, norm(f.e))
		}
	}
}

// What is taken out of e is bit for bit what receivers decode, whatever the values: e' == float32(βe + Δ) − decode(payload).
func TestResidualIsWhatReceiversMiss(t *testing.T) {
	l := tiny(t)
	f := openAt(t, t.TempDir(), l)
	r := rand.New(rand.NewPCG(5, 6))
	for w := range chain.Window(4) {
		old, d := append([]float32(nil), f.e...), heavy(r, l.Params())
		sent := learn(t, f, d, w, 300)
		for i := range d {
			if want := float32(0.95*old[i]) + d[i] - sent[i]; f.e[i] != want {
				t.Fatalf("window %d value %d: residual %v, want %v", w, i, f.e[i], want)
			}
		}
	}
}

// The same with β = 0.95 and any values over many windows: to rounding.
func TestConservationToRounding(t *testing.T) {
	l := tiny(t)
	f := openAt(t, t.TempDir(), l)
	r := rand.New(rand.NewPCG(5, 5))
	want := make([]float64, l.Params()) // β-discounted Δ minus sent, in float64
	for w := range chain.Window(6) {
		d := heavy(r, l.Params())
		sent := learn(t, f, d, w, 200)
		for i := range want {
			want[i] = float64(float32(0.95))*want[i] + float64(d[i]) - float64(sent[i])
		}
	}
	for i, e := range f.e {
		if math.Abs(float64(e)-want[i]) > 1e-8 {
			t.Fatalf("value %d: residual %v, want %v", i, e, want[i])
		}
	}
}

// Seide et al. §2: what is too small to be sent now is sent later. With β = 1 and the same Δ every window the mean of what was
// sent comes to Δ; without feedback nine values in ten would never move.
func TestNothingIsStarved(t *testing.T) {
	l := layoutOf(t, model.Config{Vocab: 64, Width: 16, Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 2, FFN: 2, Seq: 8, Tied: true})
	f, err := OpenFeedback(t.TempDir(), l, 1)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 5))
	d := make([]float32, l.Params())
	for i := range d {
		d[i] = float32(0.5+r.Float64()) * 1e-3
	}
	sum := make([]float32, len(d))
	const windows = 40
	for w := range chain.Window(windows) {
		for i, x := range learn(t, f, d, w, 400) {
			sum[i] += x / windows
		}
	}
	for i := range sum {
		sum[i] -= d[i]
	}
	if off := norm(sum) / norm(d); off > 0.2 {
		t.Fatalf("the mean of what was sent is off by %.2f of Δ", off)
	}
}

// SparseLoCo §3: TopK keeps the k largest of a chunk: no value left out is larger than one sent, and as many as allowed go.
func TestTopKIsPerChunk(t *testing.T) {
	l := tiny(t)
	v := heavy(rand.New(rand.NewPCG(3, 9)), l.Params())
	_, sent := encode(t, l, v, 256)
	for i := range l.Chunks() {
		c := l.Chunk(i)
		in, least, most := map[int]bool{}, math.Inf(1), 0.0
		for _, x := range sent[i].Idx {
			in[int(x)] = true
			least = min(least, math.Abs(float64(v[c.Start+int(x)])))
		}
		for x := range c.Len {
			if !in[x] {
				most = max(most, math.Abs(float64(v[c.Start+x])))
			}
		}
		if len(in) != Keep(256, c.Len) || most > least {
			t.Fatalf("chunk %d: %d sent, the least %v, left out %v", i, len(in), least, most)
		}
	}
}

// Two bits a value are enough (SparseLoCo, "2-bit"): less than an eighth of the energy of heavy-tailed kept values is lost,
// and no sign.
func TestQuantisationError(t *testing.T) {
	l := tiny(t)
	v := heavy(rand.New(rand.NewPCG(3, 9)), l.Params())
	_, sent := encode(t, l, v, 512)
	var lost, kept float64
	for i, p := range sent {
		for j, x := range p.Idx {
			orig := float64(v[l.Chunk(i).Start+int(x)])
			if orig*float64(p.Val[j]) <= 0 {
				t.Fatalf("chunk %d value %d: %v became %v", i, x, orig, p.Val[j])
			}
			kept += orig * orig
			lost += (orig - float64(p.Val[j])) * (orig - float64(p.Val[j]))
		}
	}
	if lost > kept/8 {
		t.Fatalf("lost %.3g of %.3g", lost, kept)
	}
}

// Covenant-72B claims >146×, from 12 + 2 bits a value. Coded gaps must do better than 210× against float32.
func TestRatioAtProductionDensity(t *testing.T) {
	l := local(t)
	raw, _ := encode(t, l, heavy(rand.New(rand.NewPCG(3, 9)), l.Params()), 64)
	if ratio := float64(4*l.Params()) / float64(len(raw)); ratio < 210 {
		t.Fatalf("ratio %.1f", ratio)
	}
}

// Covenant-72B §2, "rescaled against the median norm": after the clip no payload is longer than the lower median, and
// none grew.
func TestClipCapsAtTheMedianNorm(t *testing.T) {
	for _, c := range []struct {
		norms []float64
		want  []float32
	}{
		{nil, []float32{}},
		{[]float64{0, 0}, []float32{1, 1}},
		{[]float64{1, 2, 4}, []float32{1, 1, 0.5}},
		{[]float64{1, 2, 4, 8}, []float32{1, 1, 0.5, 0.25}},
		{[]float64{0, 5, 10}, []float32{1, 1, 0.5}},
		{[]float64{math.Inf(1), 1, 2}, []float32{1, 1, 0.5}},
	} {
		got := Clips(c.norms)
		for i := range c.want {
			if got[i] != c.want[i] {
				t.Errorf("Clips(%v) = %v, want %v", c.norms, got, c.want)
				break
			}
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		norms := rapid.SliceOfN(rapid.Float64Range(1e-12, 1e6), 1, 20).Draw(rt, "norms")
		atMost := 0
		clip := Clips(norms)
		longest := 0.0
		for i, n := range norms {
			if clip[i] <= 0 || clip[i] > 1 {
				rt.Fatalf("factor %v", clip[i])
			}
			longest = max(longest, float64(clip[i])*n)
		}
		for _, n := range norms {
			if n <= longest*(1+1e-6) {
				atMost++
			}
		}
		if 2*atMost < len(norms) {
			rt.Fatalf("longest %v after the clip, and only %d of %d were that short", longest, atMost, len(norms))
		}
	})
}

// The norm that the clip uses is the norm of what is decoded.
func TestNormIsThatOfTheValues(t *testing.T) {
	l := tiny(t)
	for k := 1; k < 4096; k *= 3 {
		p := payloadOf(t, l, heavy(rand.New(rand.NewPCG(1, uint64(k))), l.Params()), k)
		if want := norm(dense(l, p)); math.Abs(p.Norm()/want-1) > 1e-6 {
			t.Errorf("k %d: norm %v, values have %v", k, p.Norm(), want)
		}
	}
}

// DESIGN §5, "a coordinate sent by one peer is not averaged over one": what one of 15 sends alone enters with 1/15.
func TestLoneSenderEntersWithOneOverR(t *testing.T) {
	l := tiny(t)
	honest, attack := make([]float32, l.Params()), make([]float32, l.Params())
	honest[0], attack[1] = 0.5, 0.5
	var parts []*Payload
	for range 14 {
		parts = append(parts, payloadOf(t, l, honest, 64))
	}
	parts = append(parts, payloadOf(t, l, attack, 64))
	theta := model.NewFlat(l)
	if _, err := OuterStep(theta, parts, 1, 2); err != nil {
		t.Fatal(err)
	}
	if got, want := theta.Data[1], -float32(0.5)/15; math.Abs(float64(got/want-1)) > 1e-6 {
		t.Errorf("the lone sender moved its coordinate by %v, want %v", got, want)
	}
	if got, want := theta.Data[0], -float32(0.5)*14/15; math.Abs(float64(got/want-1)) > 1e-6 {
		t.Errorf("14 of 15 moved theirs by %v, want %v", got, want)
	}
}

// One submission of 15 that points backwards, however long, cannot turn the step: the clip makes it as short as the others,
// and it is one of 15.
func TestSignFlipCannotReverse(t *testing.T) {
	l := tiny(t)
	d := heavy(rand.New(rand.NewPCG(1, 1)), l.Params())
	r := rand.New(rand.NewPCG(9, 9))
	var honest []*Payload
	for range 14 {
		v := append([]float32(nil), d...)
		for i := range v {
			v[i] += float32(2e-4 * r.NormFloat64())
		}
		honest = append(honest, payloadOf(t, l, v, 256))
	}
	step := func(parts []*Payload) []float32 {
		theta := model.NewFlat(l)
		if _, err := OuterStep(theta, parts, 1, 2); err != nil {
			t.Fatal(err)
		}
		return theta.Data
	}
	good := step(honest)
	for _, scale := range []float32{-1, -10, -1000} {
		v := append([]float32(nil), d...)
		for i := range v {
			v[i] *= scale
		}
		got := step(append(honest[:14:14], payloadOf(t, l, v, 256)))
		if along := dot(got, good) / dot(good, good); along < 0.8 {
			t.Errorf("flipped ×%v: the step is %.2f of the honest one", scale, along)
		}
	}
}

// The divisor is never below the run's minimum: a window with one submission moves by that share only.
func TestMinDivisor(t *testing.T) {
	l := tiny(t)
	d := make([]float32, l.Params())
	d[7] = 0.25
	for min, want := range map[int]float32{0: -0.25, 1: -0.25, 2: -0.125, 4: -0.0625} {
		theta := model.NewFlat(l)
		if _, err := OuterStep(theta, []*Payload{payloadOf(t, l, d, 64)}, 1, min); err != nil || theta.Data[7] != want {
			t.Errorf("minimum %d: moved by %v, want %v (%v)", min, theta.Data[7], want, err)
		}
	}
}

// The outer step size enters once (the reference code multiplies by it twice: notes/papers.md §2).
func TestAlphaEntersOnce(t *testing.T) {
	l := tiny(t)
	d := make([]float32, l.Params())
	d[7] = 0.25
	for _, alpha := range []float32{0.5, 1, 2} {
		theta := model.NewFlat(l)
		if _, err := OuterStep(theta, []*Payload{payloadOf(t, l, d, 64)}, alpha, 1); err != nil || theta.Data[7] != -0.25*alpha {
			t.Errorf("α %v: moved by %v (%v)", alpha, theta.Data[7], err)
		}
	}
}

// DESIGN §4, "no winner: θ and root unchanged", and neither do payloads that carry nothing move anything.
func TestNoWinnerChangesNothing(t *testing.T) {
	l := tiny(t)
	theta := model.NewFlat(l)
	theta.Init(3)
	theta.Data[0] = float32(math.Copysign(0, -1))
	before, err := Root(theta)
	if err != nil {
		t.Fatal(err)
	}
	empty := payloadOf(t, l, make([]float32, l.Params()), 64)
	for _, parts := range [][]*Payload{nil, {empty}, {empty, empty, empty}} {
		if after, err := OuterStep(theta, parts, 1, 2); err != nil || after != before {
			t.Errorf("%d empty submissions: root %s became %s (%v)", len(parts), before.Short(), after.Short(), err)
		}
	}
}
