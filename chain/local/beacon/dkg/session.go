package dkg

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"sn3/chain"
	"sn3/chain/local/beacon"
	"sn3/chain/local/beacon/group"
)

// Errors of a session and of what belongs to one.
var (
	ErrSession   = errors.New("dkg: made for another session")
	ErrNotMember = errors.New("dkg: not a member of the session")
)

// maxNetwork is the most bytes of a network's name, as in a transaction.
const maxNetwork = 64

const (
	sessionMagic  = "sn3dkg1"
	sessionDomain = "sn3/dkg/session/1"
)

// Session is one making of a key: who takes part and what for. Everything said in it carries its ID, so a second try
// must differ in something: it has a later round. Make one with NewSession or ParseSession.
type Session struct {
	network   string
	from      chain.Round
	threshold int
	members   []beacon.MemberKey
	points    []group.G1 // of the members
	id        [sha256.Size]byte
}

// NewSession makes a session for a key of the network that signs from round from on; the order of the members gives
// them their indices.
func NewSession(network string, from chain.Round, threshold int, members []beacon.MemberKey) (*Session, error) {
	n := len(members)
	if len(network) > maxNetwork || n < 1 || n > beacon.MaxMembers || threshold < 1 || threshold > n {
		return nil, fmt.Errorf("make session: threshold %d of %d members (at most %d), network name of %d bytes (at most %d)",
			threshold, n, beacon.MaxMembers, len(network), maxNetwork)
	}
	s := &Session{network: network, from: from, threshold: threshold, members: slices.Clone(members)}
	for i := range members {
		r := group.NewReader(members[i][:])
		s.points = append(s.points, r.G1())
		if err := r.Done(); err != nil {
			return nil, fmt.Errorf("make session: key of member %d: %w", i, err)
		}
		if slices.Contains(members[:i], members[i]) {
			return nil, fmt.Errorf("make session: member %d has the key of another one", i)
		}
	}
	s.id = sha256.Sum256(append([]byte(sessionDomain), s.Encode()...))
	return s, nil
}

// ID binds everything that a session says.
func (s *Session) ID() [sha256.Size]byte { return s.id }

// From is the first round of the key.
func (s *Session) From() chain.Round { return s.from }

// Threshold is how many members must sign together.
func (s *Session) Threshold() int { return s.threshold }

// Members are the encryption keys in the order of the indices.
func (s *Session) Members() []beacon.MemberKey { return slices.Clone(s.members) }

// Index is the index of the member with this encryption key.
func (s *Session) Index(key beacon.MemberKey) (int, bool) {
	i := slices.Index(s.members, key)
	return i, i >= 0
}

// Encode writes the canonical bytes, for a file that goes around before genesis.
func (s *Session) Encode() []byte {
	b := append([]byte(sessionMagic), byte(len(s.network)))
	b = binary.BigEndian.AppendUint64(append(b, s.network...), uint64(s.from))
	b = append(b, byte(s.threshold), byte(len(s.members)))
	for i := range s.members {
		b = append(b, s.members[i][:]...)
	}
	return b
}

// ParseSession reads what Encode writes.
func ParseSession(b []byte) (*Session, error) {
	r := group.NewReader(b)
	r.Const(sessionMagic)
	network := string(r.Bytes(int(r.Byte())))
	from, threshold, n := chain.Round(r.Uint64()), int(r.Byte()), int(r.Byte())
	members := make([]beacon.MemberKey, n)
	for i := range members {
		members[i] = beacon.MemberKey(r.Bytes(beacon.MemberKeyLen))
	}
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("parse session: %w", err)
	}
	s, err := NewSession(network, from, threshold, members)
	if err != nil {
		return nil, fmt.Errorf("parse session: %w: %w", group.ErrFormat, err)
	}
	return s, nil
}
