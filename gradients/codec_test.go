package gradients

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"sort"
	"testing"

	"pgregory.net/rapid"

	"sn3/model"
)

// tiny is a layout with odd edges: blocks of 64×64, 64×5, 3×64, vectors.
func tiny(t testing.TB) *model.Layout {
	t.Helper()
	l, err := model.NewLayout(model.Config{Vocab: 67, Width: 69, Layers: 1, Heads: 3, KVHeads: 1, HeadDim: 22, FFN: 70, Seq: 8,
		Tied: true, RopeTheta: 1e4, NormEps: 1e-5})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

type flatSource struct {
	l *model.Layout
	v []float32
}

func (s flatSource) Chunk(i int, dst []float32) error {
	copy(dst, s.v[s.l.Chunk(i).Start:])
	return nil
}

// heavy draws values like pseudo-gradients: normal times a heavy-tailed factor, some exact zeros.
func heavy(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		if r.IntN(10) > 0 {
			v[i] = float32(1e-3 * r.NormFloat64() * math.Exp(0.7*r.NormFloat64()))
		}
	}
	return v
}

func encode(t testing.TB, l *model.Layout, v []float32, k int) ([]byte, map[int]Part) {
	t.Helper()
	var b bytes.Buffer
	sent := map[int]Part{}
	st, err := NewCodec(l).Encode(&b, flatSource{l, v}, k, func(i int, idx []uint16, val []float32) {
		sent[i] = Part{append([]uint16(nil), idx...), append([]float32(nil), val...)}
	})
	if err != nil {
		t.Fatal(err)
	}
	if st.Bytes != int64(b.Len()) || st.Bytes > NewCodec(l).MaxLen(k) {
		t.Fatalf("stats say %d bytes, written %d, at most %d", st.Bytes, b.Len(), NewCodec(l).MaxLen(k))
	}
	return b.Bytes(), sent
}

// What a receiver decodes is what the sender took out of its feedback, and writing it again gives the same bytes.
func TestRoundTrip(t *testing.T) {
	l := tiny(t)
	rapid.Check(t, func(rt *rapid.T) {
		k := rapid.IntRange(1, 4096).Draw(rt, "k")
		v := heavy(rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1)), l.Params())
		raw, sent := encode(t, l, v, k)
		p, err := NewCodec(l).Open(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			rt.Fatal(err)
		}
		idx, val := make([]uint16, model.ChunkSize), make([]float32, model.ChunkSize)
		for i := range l.Chunks() {
			n := p.Chunk(i, idx, val)
			if n != len(sent[i].Idx) || n > Keep(k, l.Chunk(i).Len) {
				rt.Fatalf("chunk %d: %d decoded, %d sent", i, n, len(sent[i].Idx))
			}
			for j := range n {
				if idx[j] != sent[i].Idx[j] || val[j] != sent[i].Val[j] {
					rt.Fatalf("chunk %d value %d: (%d, %v), sent (%d, %v)", i, j, idx[j], val[j], sent[i].Idx[j], sent[i].Val[j])
				}
			}
		}
		var again bytes.Buffer
		if _, err := p.WriteTo(&again); err != nil || !bytes.Equal(again.Bytes(), raw) {
			rt.Fatalf("written again: %v, equal %v", err, bytes.Equal(again.Bytes(), raw))
		}
	})
}

// The kept values are the largest, ties to the lower index, against a naive twin.
func TestTopKAgainstNaive(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		v := rapid.SliceOfN(rapid.Map(rapid.IntRange(-5, 5), func(i int) float32 { return float32(i) / 8 }), 1, 300).Draw(rt, "v")
		keep := rapid.IntRange(1, len(v)).Draw(rt, "keep")
		order := make([]int, len(v))
		for i := range order {
			order[i] = i
		}
		abs := func(i int) float64 { return math.Abs(float64(v[i])) }
		sort.SliceStable(order, func(a, b int) bool { return abs(order[a]) > abs(order[b]) })
		var want []int
		for _, i := range order[:keep] {
			if v[i] != 0 {
				want = append(want, i)
			}
		}
		sort.Ints(want)
		var p picker
		got, err := p.choose(v, keep)
		if err != nil || len(got.idx) != len(want) {
			rt.Fatalf("kept %d, want %d (%v)", len(got.idx), len(want), err)
		}
		for j := range want {
			if int(got.idx[j]) != want[j] {
				rt.Fatalf("kept %v, want %v", got.idx, want)
			}
		}
	})
}

func TestNotFiniteIsAnError(t *testing.T) {
	l := tiny(t)
	for _, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		v := make([]float32, l.Params())
		v[100] = float32(x)
		_, err := NewCodec(l).Encode(&bytes.Buffer{}, flatSource{l, v}, 64, nil)
		if !errors.Is(err, ErrNotFinite) {
			t.Errorf("%v: %v", x, err)
		}
	}
}

// Fixed heavy-tailed data at production density must stay within 9.6 bits per value, all included (DESIGN §5).
func TestBitsPerValue(t *testing.T) {
	l, err := model.NewLayout(model.Config{Vocab: 256, Width: 128, Layers: 4, Heads: 4, KVHeads: 4, HeadDim: 32, FFN: 384, Seq: 128,
		Tied: true, RopeTheta: 1e4, NormEps: 1e-5})
	if err != nil {
		t.Fatal(err)
	}
	v := heavy(rand.New(rand.NewPCG(7, 7)), l.Params())
	for k, limit := range map[int]float64{64: 9.65, 512: 6.7, 1024: 5.7} {
		var b bytes.Buffer
		st, err := NewCodec(l).Encode(&b, flatSource{l, v}, k, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("k %d: %d values, %d bytes, %.3f bits per value, ratio to f32 %.0f", k, st.Kept, st.Bytes, st.BitsPerValue(), float64(4*l.Params())/float64(st.Bytes))
		if st.BitsPerValue() > limit {
			t.Errorf("k %d: %.3f bits per value, want at most %.2f", k, st.BitsPerValue(), limit)
		}
	}
}

// Quantisation loses little: the energy left out of the kept values is below an eighth of theirs.
func TestQuantisationError(t *testing.T) {
	l := tiny(t)
	v := heavy(rand.New(rand.NewPCG(3, 9)), l.Params())
	_, sent := encode(t, l, v, 512)
	var lost, kept float64
	for i, p := range sent {
		for j, x := range p.Idx {
			orig := float64(v[l.Chunk(i).Start+int(x)])
			kept += orig * orig
			lost += (orig - float64(p.Val[j])) * (orig - float64(p.Val[j]))
		}
	}
	if lost > kept/8 {
		t.Fatalf("lost %.3g of %.3g", lost, kept)
	}
}

func TestEveryTamperedByteIsRefusedOrDiffers(t *testing.T) {
	l := tiny(t)
	raw, _ := encode(t, l, heavy(rand.New(rand.NewPCG(1, 2)), l.Params()), 64)
	for i := range raw {
		for _, flip := range []byte{1, 0x80} {
			b := append([]byte(nil), raw...)
			b[i] ^= flip
			checkCanonical(t, l, b)
		}
	}
	for _, b := range [][]byte{nil, raw[:len(raw)-1], raw[:40], append(append([]byte(nil), raw...), 0)} {
		if _, err := NewCodec(l).Open(bytes.NewReader(b), int64(len(b))); err == nil {
			t.Errorf("%d of %d bytes were accepted", len(b), len(raw))
		}
	}
}

// checkCanonical: what decodes encodes to the same bytes; what does not is a DecodeError.
func checkCanonical(t testing.TB, l *model.Layout, b []byte) {
	t.Helper()
	p, err := NewCodec(l).Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		var d *DecodeError
		if !errors.As(err, &d) {
			t.Fatalf("error of another kind: %v", err)
		}
		return
	}
	var again bytes.Buffer
	if _, err := p.WriteTo(&again); err != nil || !bytes.Equal(again.Bytes(), b) {
		t.Fatalf("decodes, but encodes to other bytes (%v)", err)
	}
}

func FuzzOpen(f *testing.F) {
	l := tiny(f)
	for _, k := range []int{1, 64, 1500} {
		raw, _ := encode(f, l, heavy(rand.New(rand.NewPCG(uint64(k), 2)), l.Params()), k)
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, b []byte) { checkCanonical(t, l, b) })
}

func FuzzParseManifest(f *testing.F) {
	f.Add(Manifest{Window: 3, Steps: 10, Length: 99}.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := ParseManifest(b); err == nil && !bytes.Equal(m.Encode(), b) {
			t.Fatal("parses, but encodes to other bytes")
		}
	})
}
