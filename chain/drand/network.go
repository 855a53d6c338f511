package drand

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sn3/chain"
	"sn3/chain/bls"
)

// scheme is the only one of drand's that fits a timelock of ours: unchained, signatures in G1, hashed by RFC 9380.
const scheme = "bls-unchained-g1-rfc9380"

// maxInfo is more than any chain info has; a key, two hashes and names.
const maxInfo = 4 << 10

// Network is what a drand network is known by. All of it goes into its hash, which is the network's name everywhere.
type Network struct {
	Beacon  string // the beacon's id on its nodes
	Public  [bls.PublicLen]byte
	Seed    [32]byte // hash of the first group of nodes
	Genesis int64    // Unix time of round 1
	Period  uint32   // seconds from round to round
}

// Quicknet is the network of the League of Entropy that Subtensor's timelocks use. Constants from
// https://api.drand.sh/52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971/info, as drand's own clients have
// them; a test computes that hash from them.
func Quicknet() Network {
	return Network{
		Beacon: "quicknet",
		Public: [bls.PublicLen]byte{
			0x83, 0xcf, 0x0f, 0x28, 0x96, 0xad, 0xee, 0x7e, 0xb8, 0xb5, 0xf0, 0x1f, 0xca, 0xd3, 0x91, 0x22, 0x12, 0xc4, 0x37, 0xe0, 0x07, 0x3e, 0x91, 0x1f,
			0xb9, 0x00, 0x22, 0xd3, 0xe7, 0x60, 0x18, 0x3c, 0x8c, 0x4b, 0x45, 0x0b, 0x6a, 0x0a, 0x6c, 0x3a, 0xc6, 0xa5, 0x77, 0x6a, 0x2d, 0x10, 0x64, 0x51,
			0x0d, 0x1f, 0xec, 0x75, 0x8c, 0x92, 0x1c, 0xc2, 0x2b, 0x0e, 0x17, 0xe6, 0x3a, 0xaf, 0x4b, 0xcb, 0x5e, 0xd6, 0x63, 0x04, 0xde, 0x9c, 0xf8, 0x09,
			0xbd, 0x27, 0x4c, 0xa7, 0x3b, 0xab, 0x4a, 0xf5, 0xa6, 0xe9, 0xc7, 0x6a, 0x4b, 0xc0, 0x9e, 0x76, 0xea, 0xe8, 0x99, 0x1e, 0xf5, 0xec, 0xe4, 0x5a,
		},
		Seed: [32]byte{
			0xf4, 0x77, 0xd5, 0xc8, 0x9f, 0x21, 0xa1, 0x7c, 0x86, 0x3a, 0x7f, 0x93, 0x7c, 0x6a, 0x6d, 0x15,
			0x85, 0x94, 0x14, 0xd2, 0xbe, 0x09, 0xcd, 0x44, 0x8d, 0x42, 0x79, 0xaf, 0x33, 0x1c, 0x5d, 0x3e,
		},
		Genesis: 1692803367,
		Period:  3,
	}
}

// Hash is the network's chain hash: whoever pins it has pinned the key.
func (n Network) Hash() [32]byte {
	b := binary.BigEndian.AppendUint32(nil, n.Period)
	b = binary.BigEndian.AppendUint64(b, uint64(n.Genesis))
	b = append(append(b, n.Public[:]...), n.Seed[:]...)
	if n.Beacon != "default" {
		b = append(b, n.Beacon...)
	}
	return sha256.Sum256(b)
}

// Validate refuses what no network can be.
func (n Network) Validate() error {
	if n.Period == 0 || n.Genesis < 0 || n.Genesis > end {
		return fmt.Errorf("drand network %q: period %d s from %d is no schedule", n.Beacon, n.Period, n.Genesis)
	}
	if _, err := bls.Public(n.Public[:]); err != nil {
		return fmt.Errorf("drand network %q: public key: %w", n.Beacon, err)
	}
	return nil
}

// ParseInfo reads the chain info of another network, the answer of a relay to /HASH/info. It may come from anywhere: the hash
// that the caller pins is over all of it.
func ParseInfo(info []byte, hash [32]byte) (Network, error) {
	fail := func(err error) (Network, error) { return Network{}, fmt.Errorf("read drand chain info: %w", err) }
	if len(info) > maxInfo {
		return fail(fmt.Errorf("%d bytes, at most %d", len(info), maxInfo))
	}
	var v struct {
		Public   hexed  `json:"public_key"`
		Period   uint32 `json:"period"`
		Genesis  int64  `json:"genesis_time"`
		Seed     hexed  `json:"groupHash"`
		Scheme   string `json:"schemeID"`
		Metadata struct {
			Beacon string `json:"beaconID"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(info, &v); err != nil {
		return fail(err)
	}
	if v.Scheme != scheme {
		return fail(fmt.Errorf("scheme %q; a timelock needs %s", v.Scheme, scheme))
	}
	n := Network{Beacon: v.Metadata.Beacon, Genesis: v.Genesis, Period: v.Period}
	if len(v.Public) != len(n.Public) || len(v.Seed) != len(n.Seed) {
		return fail(fmt.Errorf("public key of %d bytes and group hash of %d, want %d and %d", len(v.Public), len(v.Seed), len(n.Public), len(n.Seed)))
	}
	copy(n.Public[:], v.Public)
	copy(n.Seed[:], v.Seed)
	if h := n.Hash(); h != hash {
		return fail(fmt.Errorf("its hash is %x, not the pinned %x", h, hash))
	}
	return n, n.Validate()
}

// end is a Unix time after every round anybody waits for; arithmetic with rounds stays far from overflow.
const end = 1 << 40

// Round is the newest round that is due at t; 0 before the first.
func (n Network) Round(t time.Time) chain.Round {
	s := min(t.Unix(), end)
	if s < n.Genesis {
		return 0
	}
	return chain.Round((s-n.Genesis)/int64(n.Period)) + 1
}

// Time is when r is due: nobody honest signs it earlier. Rounds too far away share one time.
func (n Network) Time(r chain.Round) time.Time {
	before := uint64(r)
	if before > 0 {
		before--
	}
	if before >= uint64(end-n.Genesis)/uint64(n.Period) {
		return time.Unix(end, 0)
	}
	return time.Unix(n.Genesis+int64(before)*int64(n.Period), 0)
}

// RevealRound is the round that Subtensor's tools name for a reveal at t: the newest that is due for a whole period.
func (n Network) RevealRound(t time.Time) chain.Round {
	if r := n.Round(t); r > 0 {
		return r - 1
	}
	return 0
}

// Verify checks the signature of a round.
func (n Network) Verify(r chain.Round, signature []byte) error {
	return bls.Verify(n.Public[:], uint64(r), signature)
}

// hexed is bytes that JSON writes in hex, in one spelling.
type hexed []byte

var errHex = errors.New("want lower-case hex")

func (h *hexed) UnmarshalText(b []byte) error {
	raw := make([]byte, hex.DecodedLen(len(b)))
	if _, err := hex.Decode(raw, b); err != nil || !bytes.Equal(hex.AppendEncode(nil, raw), b) {
		return errHex
	}
	*h = raw
	return nil
}
