package kern

import "encoding/binary"

// GapBits is how many bits one look-up of GapPair decodes.
const GapBits = 13

// GapCodes has for every GapBits bits, first bit highest, the code that they begin with: its length in the lower 6 bits, and above them
// how far the next index is from the last. 0: they begin with none that fits.
type GapCodes [1 << GapBits]uint16

// Gaps is a bit string being decoded.
type Gaps struct {
	Bytes    []byte   // 8 more than End says
	Pos, End uint64   // in bits
	Last     uint64   // the last index, shifted left by 6; −1 before the first
	Out      []uint16 // where the next indices go
}

// GapPair decodes four codes of a and four of b by turns, while both have room for four and have not passed their ends: the core works
// on both at once. If the next four of one are not all in codes it stops before them and returns 1 for a, 2 for b; else 0. Pos, Last and Out
// move on.
func (k *Kernels) GapPair(codes *GapCodes, a, b *Gaps) (stopped int) {
	n := min(len(a.Out), len(b.Out)) / 4
	if n == 0 {
		return 0
	}
	_, _ = a.Bytes[a.End>>3+7], b.Bytes[b.End>>3+7] // the assembly does not look
	if k.level != portable {
		state := [6]uint64{a.Pos, b.Pos, a.Last, b.Last}
		stopped = gapPairA(&codes[0], &a.Bytes[0], &b.Bytes[0], a.End, b.End, &a.Out[0], &b.Out[0], n, &state)
		a.Pos, a.Last, a.Out = state[0], state[2], a.Out[state[4]:]
		b.Pos, b.Last, b.Out = state[1], state[3], b.Out[state[5]:]
		return stopped
	}
	for ; n > 0 && a.Pos <= a.End && b.Pos <= b.End; n-- {
		if !a.Four(codes) {
			return 1
		}
		if !b.Four(codes) {
			return 2
		}
	}
	return 0
}

// Four decodes four codes; false, and nothing is read, if they are not all in codes. There must be room for four, and Pos not beyond
// End. A code that is not there changes nothing, nor do those after it: so the last tells.
func (g *Gaps) Four(codes *GapCodes) bool {
	v := binary.BigEndian.Uint64(g.Bytes[g.Pos>>3:]) << (g.Pos & 7) // 57 bits
	x, s := (*[4]uint16)(g.Out), g.Last
	var c uint16
	for i := range x {
		c = codes[v>>(64-GapBits)]
		v <<= c & 63
		s += uint64(c)
		x[i] = uint16(s >> 6)
	}
	if c == 0 {
		return false
	}
	g.Pos, g.Last, g.Out = g.Pos+s&63, s&^63, g.Out[4:]
	return true
}
