package dkg

import (
	"sn3/chain/local/beacon/group"
)

// claim is one equation that a proof shows: secret number i times base is point. Base and point are in G1, or in G2 if base1
// is nil.
type claim struct {
	secret        int
	base1, point1 *group.G1
	base2, point2 *group.G2
}

// times is the base times s, encoded.
func (c claim) times(s *group.Scalar) []byte {
	if c.base1 != nil {
		p := group.MulG1(c.base1, s)
		return group.AppendG1(nil, &p)
	}
	p := group.MulG2(c.base2, s)
	return group.AppendG2(nil, &p)
}

// commitment is s·base − e·point, encoded: what the prover committed to if s is its answer to the challenge e.
func (c claim) commitment(s, e *group.Scalar) []byte {
	var minus group.Scalar
	minus.Neg(e)
	factors := []group.Scalar{*s, minus}
	if c.base1 != nil {
		p := group.SumG1([]group.G1{*c.base1, *c.point1}, factors)
		return group.AppendG1(nil, &p)
	}
	p := group.SumG2([]group.G2{*c.base2, *c.point2}, factors)
	return group.AppendG2(nil, &p)
}

// statement is what a proof is about: the claims and the message that goes with them.
func statement(message []byte, claims []claim) []byte {
	b := append([]byte(nil), message...)
	for _, c := range claims {
		b = append(b, byte(c.secret))
		if c.base1 != nil {
			b = group.AppendG1(group.AppendG1(b, c.base1), c.point1)
		} else {
			b = group.AppendG2(group.AppendG2(b, c.base2), c.point2)
		}
	}
	return b
}

// proofLen is the length of a proof that knows so many secrets.
func proofLen(secrets int) int { return group.ScalarLen * (1 + secrets) }

// prove shows that the secrets satisfy the claims (Schnorr, made non-interactive by Fiat and Shamir): the challenge e, then an
// answer for each secret. The nonces are hashes of the secrets and the statement, so no source of randomness can give
// them away.
func prove(domain string, message []byte, claims []claim, secrets []group.Scalar) []byte {
	about := statement(message, claims)
	var known []byte
	for i := range secrets {
		known = group.AppendScalar(known, &secrets[i])
	}
	nonces := make([]group.Scalar, len(secrets))
	for i := range nonces {
		nonces[i] = group.HashScalar(domain+" nonce", known, about, []byte{byte(i)})
	}
	parts := [][]byte{about}
	for _, c := range claims {
		parts = append(parts, c.times(&nonces[c.secret]))
	}
	e := group.HashScalar(domain, parts...)
	out := group.AppendScalar(nil, &e)
	for i := range secrets {
		var s group.Scalar
		s.Mul(&e, &secrets[i])
		s.Add(&s, &nonces[i])
		out = group.AppendScalar(out, &s)
	}
	return out
}

// proven tells whether proof is one of these claims. There is one encoding of each proof: scalars are canonical.
func proven(domain string, message []byte, claims []claim, secrets int, proof []byte) bool {
	r := group.NewReader(proof)
	e := r.Scalar()
	answers := make([]group.Scalar, secrets)
	for i := range answers {
		answers[i] = r.Scalar()
	}
	if r.Done() != nil {
		return false
	}
	parts := [][]byte{statement(message, claims)}
	for _, c := range claims {
		parts = append(parts, c.commitment(&answers[c.secret], &e))
	}
	want := group.HashScalar(domain, parts...)
	return e.Equal(&want)
}
