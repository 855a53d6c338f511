package beacon

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"sn3/chain"
	"sn3/chain/local/beacon/group"
)

// MaxMembers is the most members that a key may be shared by.
const MaxMembers = 64

// PartialLen is the length of an encoded partial signature: the member's index and its signature.
const PartialLen = 1 + SignatureLen

// ErrTooFew: fewer good partial signatures than the threshold. The round's signature is not known yet: wait for more.
var ErrTooFew = errors.New("beacon: fewer partial signatures than the threshold")

// Quorum is the threshold for n members that goes with a BFT network: more than two thirds. As long as more than a third is
// honest and alone less than a third is missing, nobody can sign ahead and nothing stops.
func Quorum(n int) int { return 2*n/3 + 1 }

// Partial is one member's part of a round's signature: the signature with its share.
type Partial struct {
	Index     int // of the member, from 0
	Signature [SignatureLen]byte
}

// Encode writes the canonical bytes.
func (p Partial) Encode() []byte { return append([]byte{byte(p.Index)}, p.Signature[:]...) }

// ParsePartial reads a partial signature; whether it is one only VerifyPartial says.
func ParsePartial(b []byte) (Partial, error) {
	if len(b) != PartialLen || b[0] >= MaxMembers {
		return Partial{}, fmt.Errorf("parse partial signature: %w", group.ErrFormat)
	}
	return Partial{int(b[0]), [SignatureLen]byte(b[1:])}, nil
}

// PartialSign signs a round with a share.
func PartialSign(s Share, r chain.Round) (Partial, error) {
	sig, err := Sign(s.Secret[:], r)
	if err != nil {
		return Partial{}, fmt.Errorf("sign round %d with the share of member %d: %w", r, s.Index, err)
	}
	return Partial{s.Index, [SignatureLen]byte(sig)}, nil
}

// VerifyPartial checks a partial signature against the public share of its member; a member whose public share is infinity
// has none that verify.
func VerifyPartial(public PublicKey, r chain.Round, p Partial) error {
	return Verify(public[:], r, p.Signature[:])
}

// Combine makes the round's signature of t partial signatures: Σ λ_i·σ_i with the factors of Lagrange at 0. Any t good ones
// of different members give the same bytes; of more, those of the lowest indices are taken. It does not verify them: a
// single bad one makes a signature that Verify refuses (Key.Combine finds out whose it was).
func Combine(t int, partials []Partial) ([]byte, error) {
	ps := slices.Clone(partials)
	slices.SortStableFunc(ps, func(a, b Partial) int { return a.Index - b.Index })
	ps = slices.CompactFunc(ps, func(a, b Partial) bool { return a.Index == b.Index })
	if t < 1 || len(ps) < t {
		return nil, fmt.Errorf("%w: %d of %d", ErrTooFew, len(ps), t)
	}
	xs, points := make([]uint64, t), make([]group.G1, t)
	for i, p := range ps[:t] {
		if p.Index < 0 || p.Index >= MaxMembers {
			return nil, fmt.Errorf("partial signature of member %d: %w", p.Index, ErrBeacon)
		}
		rd := group.NewReader(p.Signature[:])
		xs[i], points[i] = place(p.Index), rd.G1()
		if rd.Done() != nil {
			return nil, fmt.Errorf("partial signature of member %d: %w", p.Index, ErrBeacon)
		}
	}
	sum := group.SumG1(points, group.Lagrange(xs))
	return group.AppendG1(nil, &sum), nil
}

// place is where member i's share is the value of the shared polynomial; at 0 it is the secret key.
func place(i int) uint64 { return uint64(i) + 1 }

// Combine makes the signature of a round of partial signatures that nobody has verified. When those that it takes are good
// this costs one verification, not one for each. Else it looks at every one, leaves bad ones out, which do no harm as long
// as the threshold is left, and names whose they are, ascending. Without a threshold of good ones it is ErrTooFew.
func (k *Key) Combine(r chain.Round, partials []Partial) (signature []byte, bad []int, err error) {
	sig, err := Combine(k.Threshold, k.own(partials))
	if err == nil && Verify(k.Public[:], r, sig) == nil {
		return sig, k.strangers(partials), nil
	}
	var good []Partial
	bad = k.strangers(partials)
	for _, p := range k.own(partials) {
		if VerifyPartial(k.PublicShares[p.Index], r, p) == nil {
			good = append(good, p)
		} else {
			bad = append(bad, p.Index)
		}
	}
	slices.Sort(bad)
	bad = slices.Compact(bad)
	sig, err = Combine(k.Threshold, good)
	if err == nil {
		err = Verify(k.Public[:], r, sig)
	}
	if err != nil {
		return nil, bad, fmt.Errorf("combine round %d: %w", r, err)
	}
	return sig, bad, nil
}

func (k *Key) member(i int) bool { return i >= 0 && i < len(k.PublicShares) }

// own are the partial signatures that claim to be a member's.
func (k *Key) own(partials []Partial) []Partial {
	return slices.DeleteFunc(slices.Clone(partials), func(p Partial) bool { return !k.member(p.Index) })
}

// strangers are the indices that no member has, ascending.
func (k *Key) strangers(partials []Partial) []int {
	var out []int
	for _, p := range partials {
		if !k.member(p.Index) {
			out = append(out, p.Index)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Share is one member's part of a key's secret. It is a secret itself.
type Share struct {
	From   chain.Round // first round of its key
	Index  int         // of the member, from 0
	Secret [SecretLen]byte
}

const shareMagic = "sn3share1"

// Encode writes the form of a share in a file: with its public share, so that damage shows.
func (s Share) Encode() ([]byte, error) {
	pub, err := Public(s.Secret[:])
	if err != nil {
		return nil, fmt.Errorf("write share: %w", err)
	}
	b := binary.BigEndian.AppendUint64([]byte(shareMagic), uint64(s.From))
	return slices.Concat(b, []byte{byte(s.Index)}, s.Secret[:], pub), nil
}

// ParseShare reads what Encode writes.
func ParseShare(b []byte) (Share, error) {
	r := group.NewReader(b)
	r.Const(shareMagic)
	s := Share{chain.Round(r.Uint64()), int(r.Byte()), [SecretLen]byte(r.Bytes(SecretLen))}
	pub := r.Bytes(PublicLen)
	r.Must(s.Index < MaxMembers)
	if err := r.Done(); err != nil {
		return Share{}, fmt.Errorf("parse share: %w", err)
	}
	if have, err := Public(s.Secret[:]); err != nil || !bytes.Equal(have, pub) {
		return Share{}, fmt.Errorf("parse share: the secret is damaged; restore the file from a copy: %w", group.ErrFormat)
	}
	return s, nil
}
