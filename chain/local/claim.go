package local

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// claimDomain keeps a claim from being taken for anything else that a consensus key signs: CometBFT signs votes and proposals,
// which begin with their own length.
const claimDomain = "sn3/validator/1\x00"

// ValidatorClaim is what a node's consensus key signs to become a validator of a network: "sn3/validator/1" ‖ 0 ‖
// SHA-256(length of network u8 ‖ network ‖ key ‖ beacon list).
func ValidatorClaim(network string, key [32]byte, beacon []byte) []byte {
	b := append([]byte{byte(len(network))}, network...)
	sum := sha256.Sum256(appendList(append(b, key[:]...), beacon))
	return append([]byte(claimDomain), sum[:]...)
}

// Proven says whether the proof is by the key, for that network.
func (o SetValidator) Proven(network string) bool {
	return len(network) <= maxNetwork && len(o.Beacon) <= MaxMember && ed25519.Verify(o.Key[:], ValidatorClaim(network, o.Key, o.Beacon), o.Proof[:])
}

// ErrCandidate: a text that is no candidate's line, or whose proof is not for this network.
var ErrCandidate = errors.New("local: not the line that a node prints of itself")

// Candidate is what a node says of itself to become a validator: chaind prints its line, and the owner adds it.
type Candidate struct {
	Node   string   // its peer-to-peer id, 40 hex digits
	Key    [32]byte // ed25519, of consensus
	Beacon []byte
	Proof  [64]byte
}

// Op is the transaction that makes it a validator.
func (c Candidate) Op() SetValidator {
	return SetValidator{Key: c.Key, Beacon: c.Beacon, Power: 1, Proof: c.Proof}
}

// String is the line: node, key, beacon member and proof in hex with colons between.
func (c Candidate) String() string {
	return fmt.Sprintf("%s:%x:%x:%x", c.Node, c.Key[:], c.Beacon, c.Proof[:])
}

// ParseCandidate reads a line of a network and checks its proof.
func ParseCandidate(line, network string) (c Candidate, err error) {
	part := strings.Split(strings.TrimSpace(line), ":")
	if len(part) != 4 {
		return c, fmt.Errorf("%w: %d parts, want 4", ErrCandidate, len(part))
	}
	var raw [4][]byte
	for i, p := range part {
		if raw[i], err = hex.DecodeString(p); err != nil || p != strings.ToLower(p) {
			return c, fmt.Errorf("%w: part %d is not in small hex digits", ErrCandidate, i+1)
		}
	}
	if len(raw[0]) != 20 || len(raw[1]) != 32 || len(raw[2]) > MaxMember || len(raw[3]) != 64 {
		return c, fmt.Errorf("%w: a part has another length; copy the whole line", ErrCandidate)
	}
	c = Candidate{Node: part[0], Key: [32]byte(raw[1]), Beacon: raw[2], Proof: [64]byte(raw[3])}
	if !c.Op().Proven(network) {
		return c, fmt.Errorf("%w: its proof is not for network %q; have the node print it anew", ErrCandidate, network)
	}
	return c, nil
}
