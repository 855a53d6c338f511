package dkg

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"sn3/chain/local/beacon"
	"sn3/chain/local/beacon/group"
)

// Errors of a complaint.
var (
	ErrComplaint    = errors.New("dkg: complaint without a valid proof")
	ErrUnfounded    = errors.New("dkg: complaint about a good share")
	ErrOtherDealing = errors.New("dkg: complaint about another dealing of this dealer: it has given out two, or one was damaged on the way; compare their digests")
)

const (
	complaintVersion = 1
	complaintDomain  = "sn3/dkg/complaint/1"
	complaintProof   = 2 * group.ScalarLen
)

// ComplaintLen is the length of every complaint.
const ComplaintLen = 1 + sha256.Size + 2 + sha256.Size + group.G1Len + complaintProof

// Complaint is what a member publishes in step 2 about a dealing with a bad share for it.
type Complaint struct {
	Session [sha256.Size]byte // its ID
	Accuser int               // index of the member that got the bad share
	Dealer  int               // index of the member that dealt it
	Dealing [sha256.Size]byte // digest of the dealing

	dh    group.G1 // x_j·E_i
	proof []byte
}

// Inspect looks at the share of m in a dealing that Check has accepted: nil if it is good, else the complaint about it.
func (s *Session) Inspect(d *Dealing, m *Member) (*Complaint, error) {
	if err := d.Check(s); err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	j, ok := s.Index(m.Public())
	if !ok {
		return nil, fmt.Errorf("inspect: %w", ErrNotMember)
	}
	dh := group.MulG1(&d.ephemeral, &m.x)
	if d.good(j, &m.public, &dh) {
		return nil, nil
	}
	return s.complain(d, m, j, dh), nil
}

func (s *Session) complain(d *Dealing, m *Member, j int, dh group.G1) *Complaint {
	c := &Complaint{Session: s.id, Accuser: j, Dealer: d.Dealer, Dealing: d.Digest(), dh: dh}
	g := group.BaseG1()
	c.proof = prove(complaintDomain, c.body(), c.claims(&m.public, &d.ephemeral, &g), []group.Scalar{m.x})
	return c
}

// claims are that one x makes both the accuser's key of G1 and the secret point of E.
func (c *Complaint) claims(accuser, ephemeral, g *group.G1) []claim {
	return []claim{{base1: g, point1: accuser}, {base1: ephemeral, point1: &c.dh}}
}

func (c *Complaint) body() []byte {
	b := append([]byte{complaintVersion}, c.Session[:]...)
	b = append(b, byte(c.Accuser), byte(c.Dealer))
	return group.AppendG1(append(b, c.Dealing[:]...), &c.dh)
}

// Encode writes the canonical bytes.
func (c *Complaint) Encode() []byte { return append(c.body(), c.proof...) }

// ParseComplaint reads a complaint; whether it holds, Check says.
func ParseComplaint(b []byte) (*Complaint, error) {
	r := group.NewReader(b)
	r.Must(r.Byte() == complaintVersion)
	c := &Complaint{Session: [sha256.Size]byte(r.Bytes(sha256.Size)), Accuser: int(r.Byte()), Dealer: int(r.Byte())}
	r.Must(c.Accuser < beacon.MaxMembers && c.Dealer < beacon.MaxMembers)
	c.Dealing = [sha256.Size]byte(r.Bytes(sha256.Size))
	c.dh = r.G1()
	e, answer := r.Scalar(), r.Scalar()
	c.proof = slices.Concat(group.AppendScalar(nil, &e), group.AppendScalar(nil, &answer))
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("parse complaint: %w", err)
	}
	return c, nil
}

// Check says whether a complaint about dealing d, which Dealing.Check has accepted, holds: nil means that the dealer is guilty. Else it is
// ErrSession, ErrOtherDealing, ErrComplaint (the accuser has not made it) or ErrUnfounded (the share is good).
func (c *Complaint) Check(s *Session, d *Dealing) error {
	fail := func(err error) error {
		return fmt.Errorf("complaint of member %d about the dealing of %d: %w", c.Accuser, c.Dealer, err)
	}
	switch {
	case c.Session != s.id || d.Session != s.id || c.Accuser >= len(s.members) || c.Accuser >= len(d.shares):
		return fail(ErrSession)
	case c.Dealer != d.Dealer || c.Dealing != d.Digest():
		return fail(ErrOtherDealing)
	}
	g, key := group.BaseG1(), &s.points[c.Accuser]
	if !proven(complaintDomain, c.body(), c.claims(key, &d.ephemeral, &g), 1, c.proof) {
		return fail(ErrComplaint)
	}
	if d.good(c.Accuser, key, &c.dh) {
		return fail(ErrUnfounded)
	}
	return nil
}
