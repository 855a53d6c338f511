package ceremony

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"sn3/chain/local/beacon"
	"sn3/chain/local/beacon/dkg"
	"sn3/chain/local/beacon/group"
	"sn3/chain/local/state"
)

const (
	answerMagic  = "sn3answer1"
	answerDomain = "sn3/ceremony/answer/1"
	answerHead   = len(answerMagic) + sha256.Size + 2 // session, member, members
	maxAnswer    = answerHead + beacon.MaxMembers*(sha256.Size+dkg.ComplaintLen) + 1 + dkg.ProofLen
)

// answer is what a member says when it has all dealings: which ones, and complaints about those with a bad share for it.
type answer struct {
	member     int
	dealings   [][sha256.Size]byte // digests, by dealer
	complaints []*dkg.Complaint    // of this member, by dealer
	proof      []byte              // of its member key, for everything before

	raw []byte
}

// body is everything before the proof.
func (a *answer) body(session [sha256.Size]byte) []byte {
	b := append([]byte(answerMagic), session[:]...)
	b = append(b, byte(a.member), byte(len(a.dealings)))
	for _, d := range a.dealings {
		b = append(b, d[:]...)
	}
	b = append(b, byte(len(a.complaints)))
	for _, c := range a.complaints {
		b = append(b, c.Encode()...)
	}
	return b
}

// claim is what the proof of an answer is for.
func claim(body []byte) []byte {
	sum := sha256.Sum256(body)
	return append([]byte(answerDomain), sum[:]...)
}

// parseAnswer reads an answer; whose it is and whether it holds, others find out.
func parseAnswer(raw []byte) (a *answer, session [sha256.Size]byte, err error) {
	r := group.NewReader(raw)
	r.Const(answerMagic)
	session = [sha256.Size]byte(r.Bytes(sha256.Size))
	a = &answer{member: int(r.Byte()), raw: slices.Clone(raw)}
	n := int(r.Byte())
	r.Must(n <= beacon.MaxMembers && a.member < n)
	for i := 0; i < n && r.OK(); i++ {
		a.dealings = append(a.dealings, [sha256.Size]byte(r.Bytes(sha256.Size)))
	}
	last := -1
	for k := int(r.Byte()); k > 0 && r.OK(); k-- {
		c, err := dkg.ParseComplaint(r.Bytes(dkg.ComplaintLen))
		r.Must(err == nil && c.Accuser == a.member && c.Dealer > last && c.Dealer < n)
		if r.OK() {
			last = c.Dealer
			a.complaints = append(a.complaints, c)
		}
	}
	a.proof = slices.Clone(r.Bytes(dkg.ProofLen))
	return a, session, r.Done()
}

func (c *Ceremony) addAnswer(raw []byte) error {
	a, session, err := parseAnswer(raw)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFile, err)
	}
	if session != c.session.ID() || len(a.dealings) != len(c.validators) {
		return fmt.Errorf("answer of member %d: %w", a.member, dkg.ErrSession)
	}
	if err := dkg.CheckProof(c.session.Members()[a.member], claim(a.body(session)), a.proof); err != nil {
		return fmt.Errorf("%w: answer of member %d: %w", ErrFile, a.member, err)
	}
	if old := c.answers[a.member]; old != nil && !slices.Equal(old.raw, a.raw) {
		return c.of(a.member, ErrTwice)
	}
	c.answers[a.member] = a
	return nil
}

// Answer is what a member says to all dealings, the same every time. ErrWait until all are there.
func (c *Ceremony) Answer(m *dkg.Member) ([]byte, error) {
	me, err := c.Index(m)
	if err != nil {
		return nil, err
	}
	a := &answer{member: me}
	for _, d := range c.dealings {
		if d == nil {
			return nil, fmt.Errorf("%w: dealings", ErrWait)
		}
		a.dealings = append(a.dealings, d.Digest())
		bad, err := c.session.Inspect(d, m)
		if err != nil {
			return nil, err
		}
		if bad != nil {
			a.complaints = append(a.complaints, bad)
		}
	}
	body := a.body(c.session.ID())
	return append(body, m.Prove(claim(body))...), nil
}

// Conflict is a member that has got another dealing than is here.
type Conflict struct{ Member, Dealer int }

// Conflicts are all of those that the answers so far tell of.
func (c *Ceremony) Conflicts() (out []Conflict) {
	for _, a := range c.answers {
		for i, d := range c.dealings {
			if a != nil && d != nil && a.dealings[i] != d.Digest() {
				out = append(out, Conflict{a.member, i})
			}
		}
	}
	return out
}

// check is ErrWait until every member has answered, and an error if an answer is about other dealings or complains about a good share.
func (c *Ceremony) check() (complaints []*dkg.Complaint, err error) {
	if slices.Contains(c.dealings, nil) || slices.Contains(c.answers, nil) {
		return nil, fmt.Errorf("%w: dealings and answers", ErrWait)
	}
	if list := c.Conflicts(); len(list) > 0 {
		x := list[0]
		return nil, c.of(x.Member, fmt.Errorf("%w, of validator %s", dkg.ErrOtherDealing, c.validators[x.Dealer].Short()))
	}
	for _, a := range c.answers {
		for _, x := range a.complaints {
			if err := x.Check(c.session, c.dealings[x.Dealer]); err != nil {
				return nil, c.of(a.member, err)
			}
			complaints = append(complaints, x)
		}
	}
	return complaints, nil
}

// Finish is the genesis with the key, and who does not count as a dealer. It is the same for all members. ErrWait until
// every member has answered, dkg.ErrTooFew if too few dealers count.
func (c *Ceremony) Finish() (*Result, error) {
	complaints, err := c.check()
	if err != nil {
		return nil, err
	}
	made, err := dkg.Finish(c.session, c.dealings, complaints)
	if made == nil {
		return nil, err
	}
	r := &Result{made: made}
	for _, f := range made.Faults {
		r.Out = append(r.Out, f.Dealer)
	}
	if err != nil {
		return r, err
	}
	g := *c.draft
	g.Beacon, g.BeaconKey = made.Key.Encode(), made.Key.Public[:]
	r.Genesis = &g
	_, err = g.Validate()
	return r, err
}

// Result is what a ceremony comes to.
type Result struct {
	Genesis *state.Genesis
	Out     []int // members whose dealing does not count, because a complaint about it holds

	made *dkg.Result
}

// Share is a member's share of the key.
func (r *Result) Share(m *dkg.Member) (beacon.Share, error) {
	if r.Genesis == nil {
		return beacon.Share{}, errors.New("ceremony: there is no key")
	}
	return r.made.Share(m)
}
