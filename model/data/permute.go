package data

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
)

// permRounds is the number of Feistel rounds. Four make a random function into a strong pseudo-random permutation (Luby and
// Rackoff 1988) of a large domain; small domains want more.
const permRounds = 8

// permutation is a keyed bijection of [0, n): a balanced Feistel network over the smallest even number of bits that holds n,
// walked until it lands inside (at most 4 steps on average). Nothing of size n is stored.
type permutation struct {
	key  [32]byte
	n    uint64
	half uint // bits of one half
}

// newPermutation makes the permutation of [0, n), n >= 1.
func newPermutation(key [32]byte, n uint64) permutation {
	return permutation{key, n, max(1, uint(bits.Len64(n-1)+1)/2)}
}

// at is the image of i < n.
func (p permutation) at(i uint64) uint64 {
	for i = p.once(i); i >= p.n; i = p.once(i) {
	}
	return i
}

// once is the Feistel network: (l, r) -> (r, l xor f(round, r)).
func (p permutation) once(i uint64) uint64 {
	mask := uint64(1)<<p.half - 1
	l, r := i>>p.half, i&mask
	var b [41]byte // key, round, half
	copy(b[:], p.key[:])
	for round := range permRounds {
		b[32] = byte(round)
		binary.BigEndian.PutUint64(b[33:], r)
		sum := sha256.Sum256(b[:])
		l, r = r, l^binary.BigEndian.Uint64(sum[:])&mask
	}
	return l<<p.half | r
}

// derive makes a key from a domain name and parts, each with its length.
func derive(domain string, parts ...[]byte) (key [32]byte) {
	h := sha256.New()
	for _, p := range append([][]byte{[]byte(domain)}, parts...) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		h.Write(p)
	}
	h.Sum(key[:0])
	return key
}
