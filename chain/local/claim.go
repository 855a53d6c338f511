package local

import (
	"crypto/ed25519"
	"crypto/sha256"
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
