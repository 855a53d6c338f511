// Package group is the arithmetic below the beacon: scalars and points of BLS12-381 in the one form that they have in bytes,
// hashes to scalars, and polynomials over both. It starts no goroutine and reads no clock, so that blocks may run it.
// Multiplication takes a time that depends on the scalar: who measures a signer from next door may learn of its key.
package group

import (
	"crypto/sha512"
	"encoding/binary"
	"math/big"
	"math/bits"

	bls "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/fr"
)

// Scalar is a number modulo the order of the groups; G1 and G2 are points of the subgroups of that order.
type (
	Scalar = fr.Element
	G1     = bls.G1Affine
	G2     = bls.G2Affine
)

// Lengths of the encodings: a scalar big-endian below the order, compressed points.
const (
	ScalarLen = fr.Bytes
	G1Len     = bls.SizeOfG1AffineCompressed
	G2Len     = bls.SizeOfG2AffineCompressed
)

// BaseG1 is the generator of G1.
func BaseG1() G1 {
	_, _, g, _ := bls.Generators()
	return g
}

// BaseG2 is the generator of G2.
func BaseG2() G2 {
	_, _, _, g := bls.Generators()
	return g
}

// MulG1 is s·p.
func MulG1(p *G1, s *Scalar) G1 {
	var out G1
	out.ScalarMultiplication(p, s.BigInt(new(big.Int)))
	return out
}

// MulG2 is s·p.
func MulG2(p *G2, s *Scalar) G2 {
	var out G2
	out.ScalarMultiplication(p, s.BigInt(new(big.Int)))
	return out
}

// HashScalar hashes a domain and parts, each preceded by its length, to a scalar: 512 bits modulo the order, which nobody
// can tell from an even distribution.
func HashScalar(domain string, parts ...[]byte) Scalar {
	h := sha512.New()
	add := func(p []byte) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		h.Write(p)
	}
	add([]byte(domain))
	for _, p := range parts {
		add(p)
	}
	var s Scalar
	s.SetBytes(h.Sum(nil))
	return s
}

// Eval is the polynomial with these coefficients, the constant first, at x.
func Eval(poly []Scalar, x uint64) Scalar {
	at := fr.NewElement(x)
	var y Scalar
	for i := len(poly) - 1; i >= 0; i-- {
		y.Mul(&y, &at)
		y.Add(&y, &poly[i])
	}
	return y
}

// EvalG2 is Σ x^k·c[k]: with commitments to the coefficients of a polynomial, the commitment to its value at x. Its time
// depends on x, which is the place of a member.
func EvalG2(c []G2, x uint64) G2 {
	var y bls.G2Jac // infinity
	for i := len(c) - 1; i >= 0; i-- {
		y = times(&y, x)
		y.AddMixed(&c[i])
	}
	var out G2
	out.FromJacobian(&y)
	return out
}

// times is x·p by doubling and adding: for the small x here, a few steps instead of the hundred of a whole scalar.
func times(p *bls.G2Jac, x uint64) bls.G2Jac {
	var y bls.G2Jac
	for i := bits.Len64(x) - 1; i >= 0; i-- {
		y.DoubleAssign()
		if x>>i&1 == 1 {
			y.AddAssign(p)
		}
	}
	return y
}

// Lagrange are the factors λ with f(0) = Σ λ[i]·f(xs[i]) for every polynomial of a degree below len(xs). The xs must be
// different from each other and from 0.
func Lagrange(xs []uint64) []Scalar {
	out := make([]Scalar, len(xs))
	for i := range xs {
		num, den := fr.One(), fr.One()
		xi := fr.NewElement(xs[i])
		for j := range xs {
			if j == i {
				continue
			}
			xj := fr.NewElement(xs[j])
			num.Mul(&num, &xj)
			xj.Sub(&xj, &xi)
			den.Mul(&den, &xj)
		}
		den.Inverse(&den)
		out[i].Mul(&num, &den)
	}
	return out
}

// SumG1 is Σ factors[i]·points[i].
func SumG1(points []G1, factors []Scalar) G1 {
	var sum bls.G1Jac
	for i := range points {
		p := MulG1(&points[i], &factors[i])
		sum.AddMixed(&p)
	}
	var out G1
	out.FromJacobian(&sum)
	return out
}

// SumG2 is Σ factors[i]·points[i].
func SumG2(points []G2, factors []Scalar) G2 {
	var sum bls.G2Jac
	for i := range points {
		p := MulG2(&points[i], &factors[i])
		sum.AddMixed(&p)
	}
	var out G2
	out.FromJacobian(&sum)
	return out
}
