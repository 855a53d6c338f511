package dkg

import (
	"errors"
	"fmt"
	"io"

	"sn3/chain/local/beacon"
	"sn3/chain/local/beacon/group"
)

// ErrProof: a proof that does not show that its author knows the secret of a member key.
var ErrProof = errors.New("dkg: not a proof of the member key")

// ProofLen is the length of a proof that a member knows its key's secret.
const ProofLen = 2 * group.ScalarLen

const (
	memberMagic  = "sn3member1"
	cardMagic    = "sn3card1"
	memberDomain = "sn3/dkg/member/1"
)

// Member is a member's encryption key pair. It is a secret.
type Member struct {
	x      group.Scalar
	public group.G1
}

// Generate makes a member of 64 bytes from rand.
func Generate(rand io.Reader) (*Member, error) {
	var seed [64]byte
	if _, err := io.ReadFull(rand, seed[:]); err != nil {
		return nil, fmt.Errorf("make member key: %w", err)
	}
	return newMember(group.HashScalar(memberDomain+" secret", seed[:])), nil
}

func newMember(x group.Scalar) *Member {
	g := group.BaseG1()
	return &Member{x, group.MulG1(&g, &x)}
}

// Public is the key that others encrypt to.
func (m *Member) Public() beacon.MemberKey { return beacon.MemberKey(m.public.Bytes()) }

// Encode writes the form of a member in a file: the secret, and the public key so that damage shows.
func (m *Member) Encode() []byte {
	return group.AppendG1(group.AppendScalar([]byte(memberMagic), &m.x), &m.public)
}

// ParseMember reads what Encode writes.
func ParseMember(b []byte) (*Member, error) {
	r := group.NewReader(b)
	r.Const(memberMagic)
	x, public := r.Scalar(), r.G1()
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("parse member key: %w", err)
	}
	m := newMember(x)
	if !m.public.Equal(&public) {
		return nil, fmt.Errorf("parse member key: the secret is damaged; restore the file from a copy: %w", group.ErrFormat)
	}
	return m, nil
}

// Prove shows that m knows the secret of its key. The context says where the proof counts (the network and whose key it is),
// so that nobody can present it as its own.
func (m *Member) Prove(context []byte) []byte {
	g := group.BaseG1()
	return prove(memberDomain, context, []claim{{base1: &g, point1: &m.public}}, []group.Scalar{m.x})
}

// CheckProof is ErrProof unless proof shows in this context that somebody knows the secret of the key.
func CheckProof(key beacon.MemberKey, context, proof []byte) error {
	r := group.NewReader(key[:])
	public := r.G1()
	if r.Done() != nil {
		return fmt.Errorf("%w: the key is not a point of G1", ErrProof)
	}
	g := group.BaseG1()
	if !proven(memberDomain, context, []claim{{base1: &g, point1: &public}}, 1, proof) {
		return ErrProof
	}
	return nil
}

// Card is what a member hands to whoever makes a session, as a file: its key and the proof of it.
func (m *Member) Card(context []byte) []byte {
	return append(group.AppendG1([]byte(cardMagic), &m.public), m.Prove(context)...)
}

// ParseCard reads a card and checks its proof in this context.
func ParseCard(b, context []byte) (beacon.MemberKey, error) {
	r := group.NewReader(b)
	r.Const(cardMagic)
	key, proof := beacon.MemberKey(r.Bytes(beacon.MemberKeyLen)), r.Bytes(ProofLen)
	if err := r.Done(); err != nil {
		return beacon.MemberKey{}, fmt.Errorf("parse member card: %w", err)
	}
	if err := CheckProof(key, context, proof); err != nil {
		return beacon.MemberKey{}, fmt.Errorf("parse member card: %w", err)
	}
	return key, nil
}

// CardKey is the key of a card that ParseCard has accepted; what is none has none, or one that is nobody's.
func CardKey(b []byte) (key beacon.MemberKey, ok bool) {
	if len(b) != len(cardMagic)+beacon.MemberKeyLen+ProofLen {
		return key, false
	}
	return beacon.MemberKey(b[len(cardMagic):][:beacon.MemberKeyLen]), true
}
