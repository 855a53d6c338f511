package dkg

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	bls "github.com/consensys/gnark-crypto/ecc/bls12-381"

	"sn3/chain/local/beacon"
	"sn3/chain/local/beacon/group"
)

// Errors of step 3. The first three say why a dealer is out.
var (
	ErrSilent = errors.New("dkg: has published no valid dealing")
	ErrTwice  = errors.New("dkg: has published two dealings")
	ErrGuilty = errors.New("dkg: has dealt a bad share")
	ErrTooFew = errors.New("dkg: fewer qualified dealers than the threshold: there is no new key, the old one stays; begin a session with a later round")
	ErrShare  = errors.New("dkg: the share dealt to this member is bad and nobody complained in time; it cannot sign with this key")
)

// Fault is why a member does not count as a dealer. Its own share it gets like all others.
type Fault struct {
	Dealer int
	Why    error // ErrSilent, ErrTwice, or an ErrGuilty that names who complained
}

// Result is what a session comes to.
type Result struct {
	Key       *beacon.Key // nil if there are fewer qualified dealers than the threshold
	Qualified []int       // dealers that count, ascending
	Faults    []Fault     // all others, ascending

	session  *Session
	dealings []*Dealing // of the qualified, in their order
}

// Finish is step 3: the key and who made it, a function of the sets of dealings and complaints, whatever their order and
// however often one is there. What does not check is ignored: anybody may have written it. With fewer qualified dealers
// than the threshold it is ErrTooFew, and Result says why.
func Finish(s *Session, dealings []*Dealing, complaints []*Complaint) (*Result, error) {
	byDealer, out := s.collect(dealings)   // 1. one dealing of every dealer
	for _, c := range sorted(complaints) { // 2. without those about which a complaint holds
		if c.Dealer < len(out) && out[c.Dealer] == nil && c.Check(s, byDealer[c.Dealer]) == nil {
			out[c.Dealer] = guilty{c.Accuser}
		}
	}
	r := &Result{session: s}
	for i, d := range byDealer {
		if out[i] != nil {
			r.Faults = append(r.Faults, Fault{i, out[i]})
			continue
		}
		r.Qualified = append(r.Qualified, i)
		r.dealings = append(r.dealings, d)
	}
	if len(r.Qualified) < s.threshold { // 3. enough that one of any t is among them
		return r, fmt.Errorf("%w (%d of %d)", ErrTooFew, len(r.Qualified), s.threshold)
	}
	var err error
	r.Key, err = r.sum() // 4. all of them together
	return r, err
}

// guilty is an ErrGuilty with the lowest index of those whose complaints hold.
type guilty struct{ accuser int }

func (g guilty) Error() string { return fmt.Sprintf("%v, says member %d", ErrGuilty, g.accuser) }

// Unwrap makes it ErrGuilty.
func (g guilty) Unwrap() error { return ErrGuilty }

// sorted are the complaints by accuser: of those that hold about a dealer the first is named, and no other looked at.
func sorted(cs []*Complaint) []*Complaint {
	return slices.SortedFunc(slices.Values(cs), func(a, b *Complaint) int { return a.Accuser - b.Accuser })
}

// collect finds the one valid dealing of each member, or why there is none.
func (s *Session) collect(dealings []*Dealing) ([]*Dealing, []error) {
	n := len(s.members)
	byDealer, out, digests := make([]*Dealing, n), make([]error, n), make([][sha256.Size]byte, n)
	for i := range out {
		out[i] = ErrSilent
	}
	for _, d := range dealings {
		if d.Dealer >= n {
			continue
		}
		digest := d.Digest()
		if byDealer[d.Dealer] != nil && digests[d.Dealer] == digest || d.Check(s) != nil {
			continue
		}
		if byDealer[d.Dealer] != nil {
			out[d.Dealer] = ErrTwice
			continue
		}
		byDealer[d.Dealer], out[d.Dealer], digests[d.Dealer] = d, nil, digest
	}
	return byDealer, out
}

// sum is the key of the qualified dealings.
func (r *Result) sum() (*beacon.Key, error) {
	s := r.session
	total := make([]group.G2, s.threshold)
	for k := range total {
		var sum bls.G2Jac
		for _, d := range r.dealings {
			sum.AddMixed(&d.commitments[k])
		}
		total[k].FromJacobian(&sum)
	}
	if total[0].IsInfinity() { // every dealer has shown that it knows its part, so nobody can aim at this
		return nil, fmt.Errorf("%w (the parts add up to nothing)", ErrTooFew)
	}
	key := &beacon.Key{From: s.from, Threshold: s.threshold, Public: beacon.PublicKey(total[0].Bytes()), Members: s.Members()}
	for j := range s.members {
		p := group.EvalG2(total, uint64(j)+1)
		key.PublicShares = append(key.PublicShares, beacon.PublicKey(p.Bytes()))
	}
	return key, nil
}

// Share is the member's share of the key. ErrShare if a qualified dealer's share for it is bad: it should have complained.
func (r *Result) Share(m *Member) (beacon.Share, error) {
	if r.Key == nil {
		return beacon.Share{}, fmt.Errorf("make share: %w", ErrTooFew)
	}
	j, ok := r.session.Index(m.Public())
	if !ok {
		return beacon.Share{}, fmt.Errorf("make share: %w", ErrNotMember)
	}
	var sum group.Scalar
	for _, d := range r.dealings {
		dh := group.MulG1(&d.ephemeral, &m.x)
		share, _ := d.open(j, &m.public, &dh)
		sum.Add(&sum, &share)
	}
	g2 := group.BaseG2()
	if public := group.MulG2(&g2, &sum); public.Bytes() != r.Key.PublicShares[j] {
		return beacon.Share{}, r.blame(m, j)
	}
	return beacon.Share{From: r.Key.From, Index: j, Secret: sum.Bytes()}, nil
}

// blame is an ErrShare that names the dealers whose shares for m are bad.
func (r *Result) blame(m *Member, j int) error {
	var bad []int
	for _, d := range r.dealings {
		if dh := group.MulG1(&d.ephemeral, &m.x); !d.good(j, &m.public, &dh) {
			bad = append(bad, d.Dealer)
		}
	}
	return fmt.Errorf("%w: dealt by members %v", ErrShare, bad)
}
