package state

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon"
	"sn3/chain/local/beacon/dkg"
)

// The making of a beacon key takes two phases of blocks, in each of which every validator's turn to propose comes three times:
// first the members deal, then they complain about bad shares. Both go into the blocks that they themselves propose.
const (
	leastPhase = 12
	turns      = 3

	// MaxSaid is how many dealings and complaints a block may bring. A dealing of 64 members costs a node some 10 ms.
	MaxSaid = 16

	maxAhead = 8 // keys that are made and do not sign yet

	beaconNotice = 10      // blocks more than the way of a commitment from the end of the making to the key's first round
	beaconAhead  = 1 << 20 // blocks more, at most: a mistyped round must not keep later keys away for good
	maxTempo     = 1 << 40 // beyond which no notice is long enough
)

// Leading bytes of what members say; no transaction starts with them.
const (
	SaidDealing   = 0xB2
	SaidComplaint = 0xB3
)

// ErrSaid: a block that would bring these dealings and complaints is refused.
var ErrSaid = errors.New("state: dealings or complaints that a block must not bring")

// making is the making of a beacon key.
type making struct {
	from    chain.Round // first round of the key
	start   chain.Block // when it was announced
	phase   chain.Block // length of each of the two phases
	members []member
	guilty  []byte // by member: 1 + the index of the first whose complaint about it holds; 0: nobody's

	session *dkg.Session
}

// member is a validator that takes part.
type member struct {
	validator [32]byte
	key       beacon.MemberKey
}

// end is the block that makes the key.
func (m *making) end() chain.Block { return m.start + 2*m.phase }

func (m *making) deals(height chain.Block) bool {
	return height > m.start && height <= m.start+m.phase
}

func (m *making) complains(height chain.Block) bool {
	return height > m.start+m.phase && height <= m.end()
}

// outcome is what the last making came to.
type outcome struct {
	from chain.Round
	at   chain.Block
	how  byte
}

// How a making ended.
const (
	madeNone = iota
	madeKey
	madeTooFew
	madeLate
	madeKinds
)

var outcomes = [madeKinds]string{"", "the key was made", "fewer members than the threshold have dealt; the old key stays, announce another one",
	"the reveal period was raised meanwhile, and commitments would not open; the old key stays, announce another one"}

// String says it to people; it is empty if there was none.
func (o outcome) String() string {
	if o.how == madeNone {
		return ""
	}
	return fmt.Sprintf("block %d, for round %d on: %s", o.at, o.from, outcomes[o.how])
}

// dealingID names a kept dealing.
type dealingID struct {
	from   chain.Round
	dealer byte
}

// MemberContext is what a validator's member card is made for (dkg.Member.Card): "sn3/beacon/member/1" ‖ SHA-256(length of
// network u8 ‖ network ‖ consensus key). No other validator, and no other network, can use it.
func MemberContext(network string, validator [32]byte) []byte {
	b := append([]byte{byte(len(network))}, network...)
	sum := sha256.Sum256(append(b, validator[:]...))
	return append([]byte("sn3/beacon/member/1"), sum[:]...)
}

// Members are the validators with a member card that is theirs, by consensus key, and their member keys. Of two with the same
// member key the first counts.
func (g *Genesis) Members() (validators []chain.Hash, keys []beacon.MemberKey) {
	set := map[[32]byte]validator{}
	for _, v := range g.Validators {
		set[v.Key] = validator{beacon: v.Beacon}
	}
	for _, m := range membersOf(g.Network, set) {
		validators, keys = append(validators, m.validator), append(keys, m.key)
	}
	return validators, keys
}

func membersOf(network string, set map[[32]byte]validator) (out []member) {
	seen := map[beacon.MemberKey]bool{}
	ids := make([][32]byte, 0, len(set))
	for k := range set { // any order: sorted below
		ids = append(ids, k)
	}
	slices.SortFunc(ids, func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range ids {
		key, err := dkg.ParseCard(set[id].beacon, MemberContext(network, id))
		if err != nil || seen[key] || len(out) == beacon.MaxMembers {
			continue
		}
		seen[key] = true
		out = append(out, member{id, key})
	}
	return out
}

// phaseLen is the length of a phase with the present validators.
func (s *State) phaseLen() chain.Block {
	return max(leastPhase, turns*chain.Block(len(s.validators)))
}

// earliest is the first round that a key made until block end may sign: no commitment that was sealed to the key before it
// opens with a later round (local.RevealRounds).
func (s *State) earliest(end chain.Block) chain.Round {
	return chain.Round(end + s.run.Tempo*chain.Block(s.params.RevealPeriod+1) + beaconNotice)
}

// nextBeacon is the first round of a key that is announced in the block at height.
func (s *State) nextBeacon(height chain.Block) chain.Round {
	return max(s.earliest(height+2*s.phaseLen()), s.tried.from+1, s.keys[len(s.keys)-1].From+1)
}

// checkMakeBeacon: one making at a time, each for a later round than the one before, and far enough ahead.
func (s *State) checkMakeBeacon(o local.MakeBeacon, from chain.Hotkey) local.Code {
	first := s.earliest(s.meta.Height + 2*s.phaseLen())
	switch {
	case !s.owns(from):
		return local.CodeNotSubnetOwner
	case s.making != nil, s.run.Tempo > maxTempo, o.At < s.nextBeacon(s.meta.Height) || o.At > first+beaconAhead,
		s.ahead() >= maxAhead, len(membersOf(s.gen.Network, s.validators)) == 0:
		return local.CodeBeacon
	}
	return local.CodeOK
}

func (s *State) makeBeacon(o local.MakeBeacon) {
	m := &making{from: o.At, start: s.meta.Height, phase: s.phaseLen(), members: membersOf(s.gen.Network, s.validators)}
	m.guilty = make([]byte, len(m.members))
	if err := m.open(s.gen.Network); err != nil {
		return // not reached: the members' keys are points and differ
	}
	s.making = m
	s.touch(makingKey)
	s.emit(local.Event{Kind: local.EventBeacon, At: chain.Block(o.At), Amount: chain.Amount(len(m.members)), Reason: "members begin to make a key"})
}

// open makes the session of what is stored.
func (m *making) open(network string) (err error) {
	keys := make([]beacon.MemberKey, len(m.members))
	for i := range keys {
		keys[i] = m.members[i].key
	}
	m.session, err = dkg.NewSession(network, m.from, beacon.Quorum(len(keys)), keys)
	return err
}

// said is a dealing or a complaint that a block brings.
type said struct {
	dealing   *dkg.Dealing
	complaint *dkg.Complaint
}

// dealer is whose dealing it is about.
func (x said) dealer() int {
	if x.dealing != nil {
		return x.dealing.Dealer
	}
	return x.complaint.Dealer
}

// hear reads what a member says in the block at height, and refuses what changes nothing: what comes in another phase, a
// dealer's second dealing, a complaint that does not hold or about who is out already.
func (s *State) hear(height chain.Block, raw []byte) (x said, err error) {
	m := s.making
	switch {
	case m == nil || len(raw) == 0:
		return x, fmt.Errorf("%w: no key is being made", ErrSaid)
	case raw[0] == SaidDealing && m.deals(height) && len(raw) <= 1+dkg.MaxDealing:
		if x.dealing, err = dkg.ParseDealing(raw[1:]); err == nil {
			err = x.dealing.Check(m.session)
		}
		if err == nil && s.dealings[dealingID{m.from, byte(x.dealing.Dealer)}] != nil {
			err = dkg.ErrTwice
		}
	case raw[0] == SaidComplaint && m.complains(height) && len(raw) == 1+dkg.ComplaintLen:
		if x.complaint, err = dkg.ParseComplaint(raw[1:]); err == nil {
			err = s.holds(x.complaint)
		}
	default:
		return x, fmt.Errorf("%w: not at height %d", ErrSaid, height)
	}
	if err != nil {
		return x, fmt.Errorf("%w: %w", ErrSaid, err)
	}
	return x, nil
}

// holds says whether a complaint shows that a dealer which counts so far is guilty.
func (s *State) holds(c *dkg.Complaint) error {
	m := s.making
	raw := s.dealings[dealingID{m.from, byte(c.Dealer)}]
	if c.Dealer >= len(m.members) || raw == nil {
		return dkg.ErrSilent
	}
	if m.guilty[c.Dealer] != 0 {
		return dkg.ErrGuilty
	}
	d, err := dkg.ParseDealing(raw)
	if err != nil {
		return err
	}
	return c.Check(m.session, d)
}

// CheckSaid says whether a proposed block at height may bring these: each changes something, and there is one about each
// dealer at most.
func (s *State) CheckSaid(height chain.Block, list [][]byte) error {
	if len(list) > MaxSaid {
		return fmt.Errorf("%w: %d, at most %d", ErrSaid, len(list), MaxSaid)
	}
	var seen [beacon.MaxMembers]bool
	for _, raw := range list {
		x, err := s.hear(height, raw)
		if err != nil {
			return err
		}
		if seen[x.dealer()] {
			return fmt.Errorf("%w: two about member %d", ErrSaid, x.dealer())
		}
		seen[x.dealer()] = true
	}
	return nil
}

// listen enters what the members say in a block being executed; what does not count is as if it were not there.
func (s *State) listen(list [][]byte) {
	for _, raw := range list[:min(len(list), MaxSaid)] {
		x, err := s.hear(s.meta.Height, raw)
		if err != nil {
			continue
		}
		if x.dealing != nil {
			id := dealingID{s.making.from, byte(x.dealing.Dealer)}
			s.dealings[id] = bytes.Clone(raw[1:])
			s.touch(dealingKey(id))
			continue
		}
		s.making.guilty[x.complaint.Dealer] = byte(x.complaint.Accuser) + 1
		s.touch(makingKey)
	}
}

// finishBeacon makes the key at the end of the second phase, or gives up: then the old key stays.
func (s *State) finishBeacon() {
	m := s.making
	if m == nil || s.meta.Height != m.end() {
		return
	}
	s.making = nil
	s.tried = outcome{m.from, s.meta.Height, madeKey}
	s.touch(makingKey)
	key := s.result(m)
	switch {
	case key == nil:
		s.tried.how = madeTooFew
	case chain.Round(s.meta.Height)+chain.Round(s.run.Tempo)*chain.Round(s.params.RevealPeriod+1) >= m.from:
		s.tried.how = madeLate
	default:
		s.keys = append(slices.Clone(s.keys), key)
		s.touch(keyKey(key.From))
		s.forgetKeys()
	}
	s.forgetDealings(m)
	s.emit(local.Event{Kind: local.EventBeacon, At: chain.Block(m.from), Amount: chain.Amount(len(m.members)), Reason: outcomes[s.tried.how]})
}

// result is the key of the dealings that count, nil if they are too few.
func (s *State) result(m *making) *beacon.Key {
	var list []*dkg.Dealing
	for i := range m.members {
		raw := s.dealings[dealingID{m.from, byte(i)}]
		if raw == nil || m.guilty[i] != 0 {
			continue
		}
		if d, err := dkg.ParseDealing(raw); err == nil {
			list = append(list, d)
		}
	}
	res, err := dkg.Finish(m.session, list, nil)
	if err != nil {
		return nil
	}
	return res.Key
}

// forgetDealings keeps those that the shares of the signing and of the next key follow from.
func (s *State) forgetDealings(m *making) {
	keep := map[chain.Round]bool{s.keyAt(chain.Round(s.meta.Height)).From: true, s.keys[len(s.keys)-1].From: true}
	for id := range s.dealings { // any order: what is deleted is a set
		if !keep[id.from] || id.from == m.from && m.guilty[id.dealer] != 0 {
			delete(s.dealings, id)
			s.touch(dealingKey(id))
		}
	}
}

// Dealings are those that a key was made of, by dealer, as long as they are kept.
func (s *State) Dealings(from chain.Round) (out [][]byte) {
	for i := range beacon.MaxMembers {
		if raw := s.dealings[dealingID{from, byte(i)}]; raw != nil {
			out = append(out, raw)
		}
	}
	return out
}

// Making is what a member must know of the key being made.
type Making struct {
	Session     *dkg.Session
	Dealings    map[int][]byte // by dealer; do not modify
	Guilty      map[int]bool
	Deals       bool // the block asked for may bring dealings
	Complaining bool // or complaints
}

// Making is the key being made, as the block at height sees it; nil if there is none.
func (s *State) Making(height chain.Block) *Making {
	m := s.making
	if m == nil {
		return nil
	}
	out := &Making{m.session, map[int][]byte{}, map[int]bool{}, m.deals(height), m.complains(height)}
	for i := range m.members {
		if raw := s.dealings[dealingID{m.from, byte(i)}]; raw != nil {
			out.Dealings[i] = raw
		}
		if m.guilty[i] != 0 {
			out.Guilty[i] = true
		}
	}
	return out
}

func (m *making) status(s *State) *local.BeaconMaking {
	out := &local.BeaconMaking{From: m.from, Threshold: m.session.Threshold(), DealUntil: m.start + m.phase, Until: m.end(), Members: []local.BeaconMember{}}
	out.Phase = local.PhaseDealing
	if s.meta.Height >= out.DealUntil {
		out.Phase = local.PhaseComplaints
	}
	for i, x := range m.members {
		out.Members = append(out.Members, local.BeaconMember{Key: x.validator, Dealt: s.dealings[dealingID{m.from, byte(i)}] != nil, Guilty: m.guilty[i] != 0})
	}
	return out
}
