// Package ceremony makes the beacon's shared key of a network that has no block yet, of files that its validators send each
// other: the protocol of package dkg, with what a chain would otherwise do. It is a function of bytes, no I/O.
//
// # Steps
//
// Somebody puts the validators' lines into a draft, a genesis that is complete but for the beacon's key. Every member then
//
//  1. deals: a file with its part of the key, its share for each of the others encrypted;
//  2. answers, once it has everybody's dealing: which dealings it has got, and complaints about bad shares;
//  3. finishes, once it has everybody's answer: the genesis, the same bytes for all, and its own share.
//
// All that is said follows from the member key and from what the others have said. To do a step again gives the same bytes, and
// who has lost its share, or its files, makes them anew.
//
// # What goes wrong
//
// Everything said is bound to the draft by its hash, and to its author by a proof of its member key. Who says two things is
// found out where both arrive (ErrTwice), and an answer names all dealings, so who gives one to some and another to others is
// seen before a key is made. A dealer of a bad share is out by a complaint that everybody can check; it stays a member and can sign.
// Somebody who does not answer keeps the others waiting: they begin again, with a draft without it.
//
// What remains is to compare the hash of the genesis by another way than the files came: a member may still give an answer with a
// complaint to some and one without to others.
package ceremony

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"sn3/chain"
	"sn3/chain/local/beacon"
	"sn3/chain/local/beacon/dkg"
	"sn3/chain/local/state"
)

// Errors of a ceremony. Beside them are those of package dkg.
var (
	ErrDraft = errors.New("ceremony: not a draft for several validators")
	ErrFile  = errors.New("ceremony: neither a dealing nor an answer, or damaged on the way")
	ErrTwice = errors.New("ceremony: a member has said two different things")
	ErrWait  = errors.New("ceremony: others have not said what this step needs")
)

// dealingMagic is what the file of a dealing begins with.
const dealingMagic = "sn3deal1"

// MaxFile is the length of the longest file that goes around.
const MaxFile = max(len(dealingMagic)+dkg.MaxDealing, maxAnswer)

// Ceremony is a draft and what its members have said so far. Members have the indices of the session.
type Ceremony struct {
	draft      *state.Genesis
	hash       chain.Hash
	session    *dkg.Session
	validators []chain.Hash
	dealings   []*dkg.Dealing
	answers    []*answer
}

// Draft checks a genesis with validators and no beacon key: all of them must be able to take part.
func Draft(g *state.Genesis) (*Ceremony, error) {
	if len(g.BeaconKey)+len(g.Beacon) > 0 {
		return nil, fmt.Errorf("%w: it has a beacon key already", ErrDraft)
	}
	if len(g.Validators) < 2 {
		return nil, fmt.Errorf("%w: %d validators; one alone needs no ceremony, chaind init makes its key", ErrDraft, len(g.Validators))
	}
	if _, err := g.ValidateDraft(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDraft, err)
	}
	hash, err := g.Hash()
	if err != nil {
		return nil, err
	}
	validators, keys := g.Members()
	for _, v := range g.Validators {
		if !slices.Contains(validators, v.Key) {
			return nil, fmt.Errorf("%w: the line of validator %s has no member card; have it print one with this release (chaind keys)", ErrDraft, v.Key)
		}
	}
	c := &Ceremony{draft: g, hash: hash, validators: validators, dealings: make([]*dkg.Dealing, len(keys)), answers: make([]*answer, len(keys))}
	// the draft's hash stands where sessions of a chain have its name: what is said counts for this draft only
	c.session, err = dkg.NewSession(hash.String(), 0, beacon.Quorum(len(keys)), keys)
	return c, err
}

// Hash is the draft's.
func (c *Ceremony) Hash() chain.Hash { return c.hash }

// Session is that of the key.
func (c *Ceremony) Session() *dkg.Session { return c.session }

// Validator is the consensus key of a member.
func (c *Ceremony) Validator(member int) chain.Hash { return c.validators[member] }

// Index is the index of a member: dkg.ErrNotMember for who is none.
func (c *Ceremony) Index(m *dkg.Member) (int, error) {
	i, ok := c.session.Index(m.Public())
	if !ok {
		return 0, dkg.ErrNotMember
	}
	return i, nil
}

// Add takes a file. The same one may come again; two of one member that differ are ErrTwice, and one that was made for another
// draft dkg.ErrSession.
func (c *Ceremony) Add(raw []byte) error {
	switch {
	case bytes.HasPrefix(raw, []byte(dealingMagic)):
		return c.addDealing(raw[len(dealingMagic):])
	case bytes.HasPrefix(raw, []byte(answerMagic)):
		return c.addAnswer(raw)
	}
	return ErrFile
}

func (c *Ceremony) addDealing(raw []byte) error {
	d, err := dkg.ParseDealing(raw)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFile, err)
	}
	if err := d.Check(c.session); errors.Is(err, dkg.ErrDealing) {
		return fmt.Errorf("%w: %w", ErrFile, err)
	} else if err != nil {
		return err
	}
	if old := c.dealings[d.Dealer]; old != nil && old.Digest() != d.Digest() {
		return c.of(d.Dealer, ErrTwice)
	}
	c.dealings[d.Dealer] = d
	return nil
}

// of names the member that an error is about.
func (c *Ceremony) of(member int, err error) error {
	return fmt.Errorf("validator %s: %w", c.validators[member].Short(), err)
}

// Deal is the dealing of a member, the same every time: what it is drawn from is the member key and the session.
func (c *Ceremony) Deal(m *dkg.Member) ([]byte, error) {
	id := c.session.ID()
	d, err := dkg.Deal(c.session, m, bytes.NewReader(id[:]))
	if err != nil {
		return nil, err
	}
	return append([]byte(dealingMagic), d.Encode()...), nil
}

// Progress is what a member has said so far.
type Progress struct {
	Validator       chain.Hash
	Dealt, Answered bool
}

// Progress tells it of all members.
func (c *Ceremony) Progress() []Progress {
	out := make([]Progress, len(c.validators))
	for i, v := range c.validators {
		out[i] = Progress{v, c.dealings[i] != nil, c.answers[i] != nil}
	}
	return out
}
