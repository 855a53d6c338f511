package beacon

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/consensys/gnark-crypto/ecc/bls12-381/fr"

	"sn3/chain"
	"sn3/chain/local/beacon/group"
)

// MemberKeyLen is the length of a member's encryption key, a compressed point of G1.
const MemberKeyLen = group.G1Len

// MemberKey is the public encryption key of a member of the beacon; PublicKey a public key or share that signatures verify with.
type (
	MemberKey [MemberKeyLen]byte
	PublicKey [PublicLen]byte
)

// MarshalText writes the key in hex.
func (k MemberKey) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, k[:]), nil }

// UnmarshalText reads what MarshalText writes; whether it is a point, who uses it finds out.
func (k *MemberKey) UnmarshalText(b []byte) error { return unhexInto(k[:], b) }

// MarshalText writes the key in hex.
func (k PublicKey) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, k[:]), nil }

// UnmarshalText reads what MarshalText writes; whether it is a point, who uses it finds out.
func (k *PublicKey) UnmarshalText(b []byte) error { return unhexInto(k[:], b) }

func unhexInto(dst, text []byte) error {
	if len(text) != 2*len(dst) {
		return fmt.Errorf("read key: %d hex digits, want %d", len(text), 2*len(dst))
	}
	if _, err := hex.Decode(dst, text); err != nil {
		return fmt.Errorf("read key: %w", err)
	}
	return nil
}

// Errors of a key and of a list of keys.
var (
	ErrKey   = errors.New("beacon: not a shared key")
	ErrOrder = errors.New("beacon: a key must begin later than the one before it")
)

// Key is a key of the beacon and who has it: from round From on, Threshold of Members sign together what verifies with
// Public. PublicShares[i] verifies the partial signatures of Members[i].
//
// A public share may be infinity: a dealer that sees all other dealings can make its own so. It cannot sign then, nobody
// else is touched.
type Key struct {
	From         chain.Round `json:"from"`
	Threshold    int         `json:"threshold"`
	Public       PublicKey   `json:"public"`
	Members      []MemberKey `json:"members"` // their encryption keys, in the order of their indices
	PublicShares []PublicKey `json:"public_shares"`
}

const keyVersion = 1

// Encode writes the canonical bytes.
func (k *Key) Encode() []byte { return k.append(nil) }

func (k *Key) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, keyVersion), uint64(k.From))
	b = append(b, byte(k.Threshold), byte(len(k.Members)))
	b = append(b, k.Public[:]...)
	for i := range k.Members {
		b = append(b, k.Members[i][:]...)
		b = append(b, k.PublicShares[i][:]...)
	}
	return b
}

// ParseKey reads a key: every point is one, members differ, 1 <= threshold <= members <= MaxMembers.
func ParseKey(b []byte) (*Key, error) {
	r := group.NewReader(b)
	k := readKey(r)
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("parse beacon key: %w", err)
	}
	return k, nil
}

func readKey(r *group.Reader) *Key {
	r.Must(r.Byte() == keyVersion)
	k := &Key{From: chain.Round(r.Uint64()), Threshold: int(r.Byte())}
	n := int(r.Byte())
	r.Must(k.Threshold >= 1 && k.Threshold <= n && n <= MaxMembers)
	public := r.G2()
	k.Public = PublicKey(public.Bytes())
	for i := 0; i < n && r.OK(); i++ {
		m, s := r.G1(), r.G2OrInfinity()
		key := MemberKey(m.Bytes())
		r.Must(!slices.Contains(k.Members, key))
		k.Members = append(k.Members, key)
		k.PublicShares = append(k.PublicShares, PublicKey(s.Bytes()))
	}
	return k
}

// Check is ErrKey unless the public shares belong to the key: they and Public, at 0, must be values of one polynomial of a
// degree below the threshold, or else some threshold of members would sign what does not verify. A key that was made here
// (dkg.Finish) has it; ask it of one that a person hands over. Instead of every subset of shares it looks at a sum that is zero for all
// such polynomials (a word of the dual code, as in SCRAPE, Cascudo and David, ACNS 2017), drawn by a hash of the key.
func (k *Key) Check() error {
	n := len(k.Members)
	if k.Threshold < 1 || k.Threshold > n || n > MaxMembers || len(k.PublicShares) != n {
		return fmt.Errorf("%w: threshold %d, %d members, %d public shares", ErrKey, k.Threshold, n, len(k.PublicShares))
	}
	enc := k.Encode()
	if _, err := ParseKey(enc); err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	word := make([]group.Scalar, n-k.Threshold+1) // coefficients of a random polynomial of degree n − t
	for i := range word {
		word[i] = group.HashScalar("sn3/beacon/key/1", enc, []byte{byte(i)})
	}
	points, factors := make([]group.G2, n+1), make([]group.Scalar, n+1)
	for x := range points {
		share := k.Public
		if x > 0 {
			share = k.PublicShares[x-1]
		}
		r := group.NewReader(share[:])
		points[x], factors[x] = r.G2OrInfinity(), group.Eval(word, uint64(x))
		den := fr.One()
		for y := range points {
			if y != x {
				d := new(fr.Element).SetInt64(int64(x - y))
				den.Mul(&den, d)
			}
		}
		factors[x].Div(&factors[x], &den)
	}
	if sum := group.SumG2(points, factors); !sum.IsInfinity() {
		return fmt.Errorf("%w: its public shares are not those of one secret", ErrKey)
	}
	return nil
}

// Index is the index of the member with this encryption key.
func (k *Key) Index(m MemberKey) (int, bool) {
	i := slices.Index(k.Members, m)
	return i, i >= 0
}

// Keys are the keys of a chain, each from its round until the next one's: From ascends.
type Keys []*Key

// At is the key that signs round r; there is none before the first key's.
func (ks Keys) At(r chain.Round) (*Key, bool) {
	for i := len(ks) - 1; i >= 0; i-- {
		if ks[i].From <= r {
			return ks[i], true
		}
	}
	return nil, false
}

// Add is the list with another key behind; the list itself stays as it is. ErrOrder if the key does not begin later than the last.
func (ks Keys) Add(k *Key) (Keys, error) {
	if n := len(ks); n > 0 && ks[n-1].From >= k.From {
		return nil, fmt.Errorf("%w: round %d, after one of round %d", ErrOrder, k.From, ks[n-1].From)
	}
	return append(slices.Clone(ks), k), nil
}

// maxKeys bounds a list: a key a day for more than a century.
const maxKeys = 1<<16 - 1

// Encode writes the canonical bytes.
func (ks Keys) Encode() ([]byte, error) {
	if len(ks) > maxKeys {
		return nil, fmt.Errorf("write beacon keys: %d, at most %d", len(ks), maxKeys)
	}
	b := binary.BigEndian.AppendUint16(nil, uint16(len(ks)))
	for _, k := range ks {
		b = k.append(b)
	}
	return b, nil
}

// ParseKeys reads what Encode writes.
func ParseKeys(b []byte) (Keys, error) {
	r := group.NewReader(b)
	var ks Keys
	for n := int(r.Uint16()); n > 0 && r.OK(); n-- {
		k := readKey(r)
		r.Must(len(ks) == 0 || ks[len(ks)-1].From < k.From)
		ks = append(ks, k)
	}
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("parse beacon keys: %w", err)
	}
	return ks, nil
}
