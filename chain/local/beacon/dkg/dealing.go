package dkg

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"slices"

	"sn3/chain/local/beacon"
	"sn3/chain/local/beacon/group"
)

// ErrDealing: a dealing without the proof that its dealer has made it.
var ErrDealing = errors.New("dkg: dealing without a valid proof")

const (
	dealingVersion = 1
	dealingHead    = 1 + sha256.Size + 3 // version, session, dealer, threshold, members
	dealingDomain  = "sn3/dkg/dealing/1"
	dealingSecrets = 3
)

// MaxDealing is the length of the longest dealing.
const MaxDealing = dealingHead + beacon.MaxMembers*(group.G2Len+group.ScalarLen) + group.G1Len + (1+dealingSecrets)*group.ScalarLen

// DealingLen is the length of a dealing to n members with threshold t.
func DealingLen(n, t int) int {
	return dealingHead + t*group.G2Len + group.G1Len + n*group.ScalarLen + proofLen(dealingSecrets)
}

// Dealing is what one member publishes in step 1: a secret of its own, shared among all members.
type Dealing struct {
	Session [sha256.Size]byte // its ID
	Dealer  int               // index of the member that deals

	commitments []group.G2 // to the coefficients, the constant first
	ephemeral   group.G1
	shares      [][group.ScalarLen]byte // encrypted, by member
	proof       []byte
}

// Deal makes the dealing of a member. The polynomial comes of 32 bytes from rand and of the member's secret, so that neither
// alone is enough to know it. The dealer needs to keep nothing: its own share is in the dealing too. With the same bytes
// from rand it is the same dealing, with others another one: a dealer that gives out two is thrown out by Finish.
func Deal(s *Session, m *Member, rand io.Reader) (*Dealing, error) {
	i, ok := s.Index(m.Public())
	if !ok {
		return nil, fmt.Errorf("deal: %w", ErrNotMember)
	}
	var seed [32]byte
	if _, err := io.ReadFull(rand, seed[:]); err != nil {
		return nil, fmt.Errorf("deal: %w", err)
	}
	draw := func(k int) group.Scalar {
		return group.HashScalar(dealingDomain+" secret", group.AppendScalar(nil, &m.x), s.id[:], seed[:], []byte{byte(k)})
	}
	poly := make([]group.Scalar, s.threshold)
	for k := range poly {
		poly[k] = draw(k)
	}
	return s.deal(m, i, poly, draw(beacon.MaxMembers)), nil
}

// deal is the dealing of a polynomial with r for the ephemeral key.
func (s *Session) deal(m *Member, i int, poly []group.Scalar, r group.Scalar) *Dealing {
	g1, g2 := group.BaseG1(), group.BaseG2()
	d := &Dealing{Session: s.id, Dealer: i, ephemeral: group.MulG1(&g1, &r)}
	for k := range poly {
		d.commitments = append(d.commitments, group.MulG2(&g2, &poly[k]))
	}
	for j := range s.members {
		share := group.Eval(poly, uint64(j)+1)
		dh := group.MulG1(&s.points[j], &r)
		d.shares = append(d.shares, d.crypt(share.Bytes(), j, &s.points[j], &dh))
	}
	d.proof = prove(dealingDomain, d.body(), d.claims(&m.public, &g1, &g2), []group.Scalar{m.x, r, poly[0]})
	return d
}

// claims are what a dealer must know: its member key's secret, the ephemeral one and its part of the key.
func (d *Dealing) claims(dealer, g1 *group.G1, g2 *group.G2) []claim {
	return []claim{{secret: 0, base1: g1, point1: dealer}, {secret: 1, base1: g1, point1: &d.ephemeral}, {secret: 2, base2: g2, point2: &d.commitments[0]}}
}

// crypt encrypts or decrypts the share of member j, given the secret point r·X_j = x_j·E: xor with a hash of it and of
// everything that says which share it is.
func (d *Dealing) crypt(share [group.ScalarLen]byte, j int, key, dh *group.G1) (out [group.ScalarLen]byte) {
	b := append([]byte("sn3/dkg/share/1"), d.Session[:]...)
	b = append(b, byte(d.Dealer), byte(j))
	b = group.AppendG1(group.AppendG1(group.AppendG1(b, &d.ephemeral), key), dh)
	pad := sha256.Sum256(b)
	subtle.XORBytes(out[:], share[:], pad[:])
	return out
}

// body is everything before the proof.
func (d *Dealing) body() []byte {
	b := append([]byte{dealingVersion}, d.Session[:]...)
	b = append(b, byte(d.Dealer), byte(len(d.commitments)), byte(len(d.shares)))
	for k := range d.commitments {
		b = group.AppendG2(b, &d.commitments[k])
	}
	b = group.AppendG1(b, &d.ephemeral)
	for j := range d.shares {
		b = append(b, d.shares[j][:]...)
	}
	return b
}

// Encode writes the canonical bytes.
func (d *Dealing) Encode() []byte { return append(d.body(), d.proof...) }

// Digest identifies a dealing.
func (d *Dealing) Digest() [sha256.Size]byte { return sha256.Sum256(d.Encode()) }

// ParseDealing reads a dealing: all points are in their subgroups and none is infinity, counts and length belong together.
// Whether it belongs to a session and is the dealer's, Check says.
func ParseDealing(b []byte) (*Dealing, error) {
	r := group.NewReader(b)
	r.Must(r.Byte() == dealingVersion)
	d := &Dealing{Session: [sha256.Size]byte(r.Bytes(sha256.Size)), Dealer: int(r.Byte())}
	t, n := int(r.Byte()), int(r.Byte())
	r.Must(t >= 1 && t <= n && n <= beacon.MaxMembers && d.Dealer < n && len(b) == DealingLen(n, t))
	for k := 0; k < t && r.OK(); k++ {
		d.commitments = append(d.commitments, r.G2())
	}
	d.ephemeral = r.G1()
	for j := 0; j < n && r.OK(); j++ {
		d.shares = append(d.shares, [group.ScalarLen]byte(r.Bytes(group.ScalarLen)))
	}
	d.proof = slices.Clone(r.Bytes(proofLen(dealingSecrets)))
	for p := group.NewReader(d.proof); p.OK() && p.Len() > 0; {
		p.Scalar()
		r.Must(p.OK())
	}
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("parse dealing: %w", err)
	}
	return d, nil
}

// Check says whether this is a dealing in session s by who it says: ErrSession or ErrDealing. What it cannot see is whether
// the encrypted shares are right: that is for complaints.
func (d *Dealing) Check(s *Session) error {
	if d.Session != s.id || len(d.commitments) != s.threshold || len(d.shares) != len(s.members) || d.Dealer >= len(s.members) {
		return fmt.Errorf("dealing of member %d: %w", d.Dealer, ErrSession)
	}
	g1, g2 := group.BaseG1(), group.BaseG2()
	if !proven(dealingDomain, d.body(), d.claims(&s.points[d.Dealer], &g1, &g2), dealingSecrets, d.proof) {
		return fmt.Errorf("dealing of member %d: %w", d.Dealer, ErrDealing)
	}
	return nil
}

// open decrypts the share of member j with the secret point; false if that is no scalar.
func (d *Dealing) open(j int, key, dh *group.G1) (share group.Scalar, ok bool) {
	plain := d.crypt(d.shares[j], j, key, dh)
	return share, share.SetBytesCanonical(plain[:]) == nil
}

// good tells whether the share that the secret point opens belongs to the commitments.
func (d *Dealing) good(j int, key, dh *group.G1) bool {
	share, ok := d.open(j, key, dh)
	if !ok {
		return false
	}
	g2 := group.BaseG2()
	have, want := group.MulG2(&g2, &share), group.EvalG2(d.commitments, uint64(j)+1)
	return have.Equal(&want)
}
