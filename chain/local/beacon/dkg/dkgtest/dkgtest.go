// Package dkgtest misbehaves, for tests: it makes dealings that everybody takes for valid until their victim complains. It
// writes the bytes of docs/FORMAT.md by itself, where dkg makes no such thing.
package dkgtest

import (
	"bytes"
	"fmt"

	"sn3/chain/local/beacon/dkg"
	"sn3/chain/local/beacon/group"
)

const (
	magicLen = len("sn3member1")
	domain   = "sn3/dkg/dealing/1"
	ephemera = 64 // number of the draw that is the ephemeral secret
	headLen  = 1 + 32 + 3
)

// Misdeal is a dealing of m, of 32 bytes of seed, whose share for the member victim is damaged and whose proof is right.
func Misdeal(s *dkg.Session, m *dkg.Member, victim int, seed [32]byte) (*dkg.Dealing, error) {
	good, err := dkg.Deal(s, m, bytes.NewReader(seed[:]))
	if err != nil {
		return nil, fmt.Errorf("misdeal: %w", err)
	}
	t, raw := s.Threshold(), good.Encode()
	body := raw[:len(raw)-4*group.ScalarLen]
	point := body[headLen+t*group.G2Len:][:group.G1Len]
	body[headLen+t*group.G2Len+group.G1Len+victim*group.ScalarLen] ^= 1

	id, x := s.ID(), m.Encode()[magicLen:magicLen+group.ScalarLen]
	draw := func(k byte) group.Scalar { return group.HashScalar(domain+" secret", x, id[:], seed[:], []byte{k}) }
	secrets := [3]group.Scalar{{}, draw(ephemera), draw(0)}
	if err := secrets[0].SetBytesCanonical(x); err != nil {
		return nil, fmt.Errorf("misdeal: %w", err)
	}
	g1, g2 := group.BaseG1(), group.BaseG2()
	about := bytes.Clone(body)
	key := m.Public()
	for i, p := range [][]byte{key[:], point} {
		about = append(group.AppendG1(append(about, byte(i)), &g1), p...)
	}
	about = append(group.AppendG2(append(about, 2), &g2), body[headLen:headLen+group.G2Len]...)
	nonces := [3]group.Scalar{}
	for i := range nonces {
		nonces[i] = group.HashScalar("dkgtest", about, []byte{byte(i)})
	}
	n0, n1, n2 := group.MulG1(&g1, &nonces[0]), group.MulG1(&g1, &nonces[1]), group.MulG2(&g2, &nonces[2])
	e := group.HashScalar(domain, about, group.AppendG1(nil, &n0), group.AppendG1(nil, &n1), group.AppendG2(nil, &n2))
	out := group.AppendScalar(bytes.Clone(body), &e)
	for i := range secrets {
		answer := e
		answer.Mul(&answer, &secrets[i])
		answer.Add(&answer, &nonces[i])
		out = group.AppendScalar(out, &answer)
	}
	return dkg.ParseDealing(out)
}
