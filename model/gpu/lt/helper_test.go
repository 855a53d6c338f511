package lt_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"sn3/model/gpu/cuda"
	"sn3/model/gpu/lt"
	"sn3/model/gpu/standin"
	"sn3/model/kern"
)

const workspace = 1 << 20

// rig is a handle on a stand-in, with a workspace.
type rig struct {
	*cuda.Context
	h *lt.Handle
	w cuda.Ptr
}

// library opens the stand-in's, or with a card (standin.Real) NVIDIA's.
func library(t rapid.TB, card *standin.Card) *lt.Library {
	t.Helper()
	open := func() (*lt.Library, error) { return lt.OpenAt(card.Path) }
	if standin.Real() {
		open = lt.Open
	}
	l, err := open()
	if err != nil && standin.Real() {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// on runs f with a handle on the stand-in; nothing may be left afterwards.
func on(t rapid.TB, card *standin.Card, f func(*rig) error) error {
	t.Helper()
	l := library(t, card)
	return card.Do(func(c *cuda.Context) (err error) {
		w, err := c.Alloc(workspace)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.Free(w)) }()
		h, err := l.New(c, w, workspace)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, h.Close()) }()
		return f(&rig{c, h, w})
	})
}

// try is on, which must succeed.
func try(t *testing.T, f func(*rig) error) *standin.Card {
	t.Helper()
	card := standin.Open(t, "scale.cu")
	if err := on(t, card, f); err != nil {
		t.Fatal(err)
	}
	return card
}

// sizes are the factors as they lie: rows and columns of A and of B.
func sizes(p lt.Product) (ra, ca, rb, cb int) {
	ra, ca, rb, cb = p.M, p.K, p.K, p.N
	switch p.Form {
	case lt.NT:
		rb, cb = p.N, p.K
	case lt.TN:
		ra, ca = p.K, p.M
	}
	return
}

// values is a matrix of rows ld apart, without what would lie after its last value; between rows are no numbers.
func values(r *rand.Rand, rows, cols, ld int) []kern.BF16 {
	out := make([]kern.BF16, (rows-1)*ld+cols)
	for i := range out {
		out[i] = kern.RoundBF16(float32(math.NaN()))
		if i%ld < cols {
			out[i] = kern.RoundBF16(float32(r.NormFloat64()))
		}
	}
	return out
}

// problem is a product with its factors, what C held, and what it is to hold.
type problem struct {
	lt.Product
	a, b []kern.BF16
	c    []float32 // bfloat16 values, so that both kinds of C can hold them; NaN between rows
	want []float64 // (M,N)
	size []float64 // Σ |a·b| + |c| of each
}

func newProblem(p lt.Product, seed uint64) *problem {
	r := rand.New(rand.NewPCG(seed, 3))
	ra, ca, rb, cb := sizes(p)
	x := &problem{Product: p, a: values(r, ra, ca, p.LdA), b: values(r, rb, cb, p.LdB)}
	for _, v := range values(r, p.M, p.N, p.LdC) {
		x.c = append(x.c, v.Float32())
	}
	for i := range p.M {
		for j := range p.N {
			sum, size := 0.0, 0.0
			if p.Acc {
				sum = float64(x.c[i*p.LdC+j])
				size = math.Abs(sum)
			}
			for k := range p.K {
				ia, ib := i*p.LdA+k, k*p.LdB+j
				switch p.Form {
				case lt.NT:
					ib = j*p.LdB + k
				case lt.TN:
					ia = k*p.LdA + i
				}
				v := float64(x.a[ia].Float32()) * float64(x.b[ib].Float32())
				sum, size = sum+v, size+math.Abs(v)
			}
			x.want, x.size = append(x.want, sum), append(x.size, size)
		}
	}
	return x
}

// bound is how far a sum of K float32 products and C, in whatever order, then rounded to what C is, may be from the exact one: K
// roundings of at most 2⁻²⁴ each of the size of the sum at most (the products of bfloat16 are exact, and float64 errs by 2⁻²⁹ of that).
// A card cuts off instead, four products and the sum so far at the last bit of the largest (kernels' sumError): 2⁻²³ for each, of K
// filled up to a tile's length.
func (x *problem) bound(i int) float64 {
	off := x.size[i] * (float64(x.K) + 2) * 0x1.01p-24
	if standin.Real() {
		off = x.size[i] * (1.5*float64(x.K) + 64) * 0x1p-23
	}
	if x.Half {
		off += (math.Abs(x.want[i]) + off) * 0x1p-8
	}
	return off + 0x1p-126
}

// run makes the product on the card and gives what C then holds.
func (x *problem) run(r *rig) (c []float32, err error) {
	var parts []cuda.Ptr
	defer func() {
		for _, p := range parts {
			err = errors.Join(err, r.Free(p))
		}
	}()
	lend := func(bytes int) (cuda.Ptr, error) {
		p, err := r.Alloc(int64(bytes))
		if err == nil {
			parts = append(parts, p)
		}
		return p, err
	}
	a, err := lend(2 * len(x.a))
	if err != nil {
		return nil, err
	}
	b, err := lend(2 * len(x.b))
	if err != nil {
		return nil, err
	}
	out, err := lend(4 * len(x.c))
	if err != nil {
		return nil, err
	}
	half := make([]kern.BF16, len(x.c))
	for i, v := range x.c {
		half[i] = kern.RoundBF16(v)
	}
	c = append(c, x.c...)
	steps := []func() error{
		func() error { return cuda.Put(r.Context, a, x.a) },
		func() error { return cuda.Put(r.Context, b, x.b) },
		func() error { return cuda.Put(r.Context, out, c) },
		func() error { return r.h.Run(x.Product, a, b, out) },
		func() error { return cuda.Get(r.Context, c, out) },
	}
	if x.Half {
		steps[2] = func() error { return cuda.Put(r.Context, out, half) }
		steps[4] = func() error { return cuda.Get(r.Context, half, out) }
	}
	for _, f := range steps {
		if err := f(); err != nil {
			return nil, err
		}
	}
	if x.Half {
		for i, v := range half {
			c[i] = v.Float32()
		}
	}
	return c, nil
}

// check makes the product and compares it with float64.
func (x *problem) check(r *rig) error {
	got, err := x.run(r)
	if err != nil {
		return err
	}
	for i, v := range got {
		y, j := i/x.LdC, i%x.LdC
		if j >= x.N {
			if v == v {
				return fmt.Errorf("%v: between rows %g was written", x.Product, v)
			}
			continue
		}
		at := y*x.N + j
		if off := math.Abs(float64(v) - x.want[at]); !(off <= x.bound(at)) {
			return fmt.Errorf("%v: C[%d][%d] is %g, not %g: off by %.3g, %.3g may be", x.Product, y, j, v, x.want[at], off, x.bound(at))
		}
	}
	return nil
}
