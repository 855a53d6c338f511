package pack

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// seenKey is the length of a document's hash as it is remembered: 128 bits of SHA-256. Among a billion documents two different
// ones have the same with a chance of 10^-21.
const seenKey = 16

// ErrMemory: more documents than the set of hashes may hold.
var ErrMemory = errors.New("pack: more documents than fit in the memory for finding duplicates")

// seen is a set of document hashes: 256 open-addressing tables by the first byte, each doubled at 3/4 full, so a document costs
// 21 to 43 bytes, 30 on average, and growing never takes much more than what is there. Bounded by most bytes.
type seen struct {
	most   int64
	bytes  int64
	tables [256]table
}

type table struct {
	keys [][2]uint64 // zero is free
	n    int
}

func newSeen(most int64) *seen { return &seen{most: most} }

// split is a hash as two words; the one that would be zero becomes one.
func split(sum []byte) [2]uint64 {
	k := [2]uint64{binary.LittleEndian.Uint64(sum), binary.LittleEndian.Uint64(sum[8:])}
	if k == [2]uint64{} {
		k[1] = 1
	}
	return k
}

// add puts a hash (at least seenKey bytes) in; fresh says that it was not there. ErrMemory if it does not fit.
func (s *seen) add(sum []byte) (fresh bool, err error) {
	k := split(sum)
	t := &s.tables[byte(k[0])]
	if 4*(t.n+1) > 3*len(t.keys) {
		size := max(16, 2*len(t.keys))
		grown := int64(size-len(t.keys)) * seenKey
		if s.bytes+grown > s.most {
			return false, fmt.Errorf("%w: %d MiB hold %d documents; allow more (--dedup-memory) or pack in parts (--part i/n)", ErrMemory, s.most>>20, s.len())
		}
		s.bytes += grown
		t.grow(size)
	}
	at := t.find(k)
	if t.keys[at] == k {
		return false, nil
	}
	t.keys[at] = k
	t.n++
	return true, nil
}

// len is the number of hashes.
func (s *seen) len() (n int) {
	for i := range s.tables {
		n += s.tables[i].n
	}
	return n
}

// find is where k is or belongs. There is a free place.
func (t *table) find(k [2]uint64) int {
	mask := len(t.keys) - 1
	at := int(k[1]) & mask
	for t.keys[at] != k && t.keys[at] != [2]uint64{} {
		at = (at + 1) & mask
	}
	return at
}

func (t *table) grow(size int) {
	old := t.keys
	t.keys = make([][2]uint64, size)
	for _, k := range old {
		if k != [2]uint64{} {
			t.keys[t.find(k)] = k
		}
	}
}
