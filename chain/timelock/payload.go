package timelock

import (
	"encoding/binary"
	"errors"

	"golang.org/x/crypto/blake2b"
)

// ErrPayload: bytes that are not the one encoding of a payload.
var ErrPayload = errors.New("timelock: malformed weights payload")

// WeightsPayload is what a validator seals as its weights: version 4 of Subtensor's commits. The hotkey inside ties it to
// its author; a copy of the sealed bytes under another hotkey is worth nothing.
type WeightsPayload struct {
	Hotkey       [32]byte
	UIDs, Values []uint16 // as they came: nothing here says that they are equally long, ascending or of this subnet
	VersionKey   uint64
}

// Encode is the payload in SCALE: three vectors with their compact lengths, the version key, all little-endian.
func (p WeightsPayload) Encode() []byte {
	b := appendCompact(nil, len(p.Hotkey))
	return p.appendV3(append(b, p.Hotkey[:]...))
}

func (p WeightsPayload) appendV3(b []byte) []byte {
	b = appendVector(appendVector(b, p.UIDs), p.Values)
	return binary.LittleEndian.AppendUint64(b, p.VersionKey)
}

// Parse reads a payload; what it takes encodes to the same bytes.
func Parse(b []byte) (WeightsPayload, error) {
	r := reader{b: b}
	var p WeightsPayload
	if r.compact() != len(p.Hotkey) {
		return WeightsPayload{}, ErrPayload
	}
	copy(p.Hotkey[:], r.take(len(p.Hotkey)))
	return r.v3(p)
}

// ParseV3 reads the older form, which names no hotkey. Whoever copies sealed weights of this form commits them as its own:
// it is here to compare with Subtensor's runtimes, and no chain of ours takes it.
func ParseV3(b []byte) (WeightsPayload, error) {
	r := reader{b: b}
	return r.v3(WeightsPayload{})
}

// HashCommit is Subtensor's older commitment to weights, the hash of what is revealed later: index is the storage index of
// subnet and mechanism.
func HashCommit(p WeightsPayload, index uint16, salt []uint16) [32]byte {
	b := binary.LittleEndian.AppendUint16(p.Hotkey[:], index)
	b = appendVector(appendVector(appendVector(b, p.UIDs), p.Values), salt)
	return blake2b.Sum256(binary.LittleEndian.AppendUint64(b, p.VersionKey))
}

// appendCompact writes a Compact<u32>: the two lowest bits say how many bytes follow.
func appendCompact(b []byte, n int) []byte {
	switch {
	case n < 1<<6:
		return append(b, byte(n<<2))
	case n < 1<<14:
		return binary.LittleEndian.AppendUint16(b, uint16(n<<2|1))
	case n < 1<<30:
		return binary.LittleEndian.AppendUint32(b, uint32(n<<2|2))
	}
	return binary.LittleEndian.AppendUint32(append(b, 3), uint32(n))
}

func appendVector(b []byte, v []uint16) []byte {
	b = appendCompact(b, len(v))
	for _, x := range v {
		b = binary.LittleEndian.AppendUint16(b, x)
	}
	return b
}

// reader reads SCALE; after the first thing that is not there or not canonical it is bad and gives zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.b) {
		r.bad = true
		return nil
	}
	head := r.b[:n]
	r.b = r.b[n:]
	return head
}

// uint reads n bytes, little-endian, of at least low: a smaller number has a shorter form.
func (r *reader) uint(n int, low uint64) (x uint64) {
	b := r.take(n)
	for i := len(b) - 1; i >= 0; i-- {
		x = x<<8 | uint64(b[i])
	}
	r.bad = r.bad || x < low
	return x
}

func (r *reader) compact() int {
	if r.bad || len(r.b) == 0 {
		r.bad = true
		return 0
	}
	switch r.b[0] & 3 {
	case 0:
		return int(r.uint(1, 0) >> 2)
	case 1:
		return int(r.uint(2, 1<<8) >> 2)
	case 2:
		return int(r.uint(4, 1<<16) >> 2)
	}
	if r.take(1)[0] != 3 { // more bytes than a u32 has
		r.bad = true
		return 0
	}
	return int(r.uint(4, 1<<30))
}

func (r *reader) vector() []uint16 {
	n := r.compact()
	if r.bad || n < 0 || n > len(r.b)/2 { // before room is made
		r.bad = true
		return nil
	}
	b, v := r.take(2*n), make([]uint16, n)
	for i := range v {
		v[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return v
}

func (r *reader) v3(p WeightsPayload) (WeightsPayload, error) {
	p.UIDs, p.Values = r.vector(), r.vector()
	p.VersionKey = r.uint(8, 0)
	if r.bad || len(r.b) != 0 {
		return WeightsPayload{}, ErrPayload
	}
	return p, nil
}
