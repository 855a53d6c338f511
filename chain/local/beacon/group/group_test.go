package group

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	bls "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/fp"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/fr"
	"pgregory.net/rapid"
)

func scalars(t *rapid.T, n int) []Scalar {
	out := make([]Scalar, n)
	for i := range out {
		out[i] = HashScalar("test", rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "seed"))
	}
	return out
}

// A polynomial's value at 0 follows from any len(poly) values, commitments to it evaluate as it does.
func TestPolynomials(t *testing.T) {
	g := BaseG2()
	rapid.Check(t, func(rt *rapid.T) {
		poly := scalars(rt, rapid.IntRange(1, 5).Draw(rt, "t"))
		xs := rapid.SliceOfNDistinct(rapid.Uint64Range(1, 64), len(poly), len(poly), rapid.ID[uint64]).Draw(rt, "xs")
		var sum, naive Scalar
		for i, l := range Lagrange(xs) {
			y := Eval(poly, xs[i])
			y.Mul(&y, &l)
			sum.Add(&sum, &y)
		}
		if !sum.Equal(&poly[0]) {
			rt.Fatalf("f(0) from %v", xs)
		}
		power, x := fr.One(), fr.NewElement(xs[0])
		commitments := make([]G2, len(poly))
		for k := range poly {
			var term Scalar
			term.Mul(&poly[k], &power)
			naive.Add(&naive, &term)
			power.Mul(&power, &x)
			commitments[k] = MulG2(&g, &poly[k])
		}
		if y := Eval(poly, xs[0]); !y.Equal(&naive) {
			rt.Fatalf("f(%d)", xs[0])
		}
		have, want := EvalG2(commitments, xs[0]), MulG2(&g, &naive)
		if !have.Equal(&want) {
			rt.Fatalf("commitment at %d", xs[0])
		}
	})
}

// Sums are sums, also where points are infinity, the same or opposite, and factors zero.
func TestSums(t *testing.T) {
	g1, g2 := BaseG1(), BaseG2()
	num := func(x int64) (s Scalar) { s.SetInt64(x); return s }
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(0, 5).Draw(rt, "n")
		p1, p2, f, sum := make([]G1, n), make([]G2, n), make([]Scalar, n), int64(0)
		for i := range f {
			p, x := rapid.Int64Range(-2, 2).Draw(rt, "point"), rapid.Int64Range(-2, 2).Draw(rt, "factor")
			at := num(p)
			p1[i], p2[i], f[i] = MulG1(&g1, &at), MulG2(&g2, &at), num(x)
			sum += p * x
		}
		want := num(sum)
		h1, w1 := SumG1(p1, f), MulG1(&g1, &want)
		h2, w2 := SumG2(p2, f), MulG2(&g2, &want)
		if !h1.Equal(&w1) || !h2.Equal(&w2) {
			rt.Fatalf("sum is not %d", sum)
		}
	})
}

// What is hashed is told apart by domain and by where one part ends; the value is that of hashlib.sha512 and %.
func TestHashScalar(t *testing.T) {
	s := HashScalar("sn3/test/1", []byte("ab"), []byte("c"))
	const want = "036eb9f25aeada97154de8025f75846b52927b6930587180a201057d21cd4593"
	if got := hex.EncodeToString(AppendScalar(nil, &s)); got != want {
		t.Errorf("hash is %s", got)
	}
	for name, o := range map[string]Scalar{"domain": HashScalar("sn3/test/2", []byte("ab"), []byte("c")), "parts": HashScalar("sn3/test/1", []byte("a"), []byte("bc")),
		"one part": HashScalar("sn3/test/1", []byte("abc")), "empty part": HashScalar("sn3/test/1", []byte("ab"), []byte("c"), nil)} {
		if o.Equal(&s) {
			t.Errorf("another %s, the same hash", name)
		}
	}
}

// outside are encodings of points of the curves that are not in the subgroups.
func outside() (g1, g2 []byte) {
	p1 := bls.GeneratePointNotInG1(fp.NewElement(7))
	var a1 G1
	a1.FromJacobian(&p1)
	var f bls.E2
	f.A0.SetUint64(7)
	p2 := bls.GeneratePointNotInG2(f)
	var a2 G2
	a2.FromJacobian(&p2)
	return AppendG1(nil, &a1), AppendG2(nil, &a2)
}

func TestReader(t *testing.T) {
	g1, g2 := BaseG1(), BaseG2()
	b1, b2 := AppendG1(nil, &g1), AppendG2(nil, &g2)
	out1, out2 := outside()
	order := fr.Modulus().FillBytes(make([]byte, ScalarLen))
	long1, long2 := g1.RawBytes(), g2.RawBytes()
	inf := func(n int) []byte { return append([]byte{0xc0}, make([]byte, n-1)...) }
	flip := func(b []byte, i int, x byte) []byte { c := bytes.Clone(b); c[i] ^= x; return c }
	all := func(n int) []byte { return bytes.Repeat([]byte{0xff}, n) }
	for _, c := range []struct {
		name string
		b    []byte
		read func(*Reader)
		ok   bool
	}{
		{"G1", b1, func(r *Reader) { r.G1() }, true},
		{"G1 short", b1[1:], func(r *Reader) { r.G1() }, false},
		{"G1 and more", append(bytes.Clone(b1), 0), func(r *Reader) { r.G1() }, false},
		{"G1 infinity", inf(G1Len), func(r *Reader) { r.G1() }, false},
		{"G1 outside of the subgroup", out1, func(r *Reader) { r.G1() }, false},
		{"G1 uncompressed", long1[:], func(r *Reader) { r.G1() }, false},
		{"G1 without flags", flip(b1, 0, 0x80), func(r *Reader) { r.G1() }, false},
		{"G1 of x beyond the field", flip(all(G1Len), 0, 0x40), func(r *Reader) { r.G1() }, false},
		{"G2", b2, func(r *Reader) { r.G2() }, true},
		{"G2 infinity", inf(G2Len), func(r *Reader) { r.G2() }, false},
		{"G2 infinity allowed", inf(G2Len), func(r *Reader) { r.G2OrInfinity() }, true},
		{"G2 infinity with a bit", flip(inf(G2Len), 95, 1), func(r *Reader) { r.G2OrInfinity() }, false},
		{"G2 infinity with a sign", flip(inf(G2Len), 0, 0x20), func(r *Reader) { r.G2OrInfinity() }, false},
		{"G2 outside of the subgroup", out2, func(r *Reader) { r.G2OrInfinity() }, false},
		{"G2 uncompressed", long2[:], func(r *Reader) { r.G2() }, false},
		{"zero", make([]byte, ScalarLen), func(r *Reader) { r.Scalar() }, true},
		{"the order", order, func(r *Reader) { r.Scalar() }, false},
		{"below the order", flip(order, 31, 1), func(r *Reader) { r.Scalar() }, true},
		{"const", []byte("abc"), func(r *Reader) { r.Const("abc") }, true},
		{"other const", []byte("abd"), func(r *Reader) { r.Const("abc") }, false},
		{"numbers", make([]byte, 11), func(r *Reader) { r.Uint64(); r.Uint16(); r.Byte() }, true},
		{"behind something bad", append(flip(order, 31, 0), b1...), func(r *Reader) { r.Scalar(); r.G1() }, false},
	} {
		r := NewReader(c.b)
		c.read(r)
		if err := r.Done(); c.ok != (err == nil) || err != nil && !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// FuzzReader: what is read has one encoding.
func FuzzReader(f *testing.F) {
	g1, g2 := BaseG1(), BaseG2()
	out1, out2 := outside()
	for _, b := range [][]byte{AppendG1(nil, &g1), AppendG2(nil, &g2), out1, out2, make([]byte, ScalarLen), append([]byte{0xc0}, make([]byte, G2Len-1)...)} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, read := range map[string]func(*Reader) []byte{
			"scalar": func(r *Reader) []byte { s := r.Scalar(); return AppendScalar(nil, &s) },
			"G1":     func(r *Reader) []byte { p := r.G1(); return AppendG1(nil, &p) },
			"G2":     func(r *Reader) []byte { p := r.G2OrInfinity(); return AppendG2(nil, &p) },
		} {
			r := NewReader(b)
			if got := read(r); r.Done() == nil && !bytes.Equal(got, b) {
				t.Errorf("%s %x is written %x", name, b, got)
			}
		}
	})
}
