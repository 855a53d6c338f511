package kern

import (
	"encoding/binary"
	"math"
)

// GapBits is how many bits one look-up decodes.
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

// GapLanes decodes four codes of each of g by turns, as long as all have room for four and none can pass its end: the core works on all
// at once, two or four of them best. If the next four of one are not all in codes it stops before them and returns which of g it is,
// counted from 1; else 0. Pos, Last and Out move on. No code in codes is longer than GapBits.
func (k *Kernels) GapLanes(codes *GapCodes, g []Gaps) (stopped int) {
	n := uint64(math.MaxInt)
	for i := range g {
		x := &g[i]
		if x.Pos > x.End {
			return 0
		}
		_ = x.Bytes[x.End>>3+7] // the assembly does not look
		n = min(n, uint64(len(x.Out)/4), (x.End-x.Pos)/(4*GapBits)+1)
	}
	if n == 0 || len(g) == 0 {
		return 0
	}
	turns := 0
	switch {
	case len(g) == 4 && k.level != portable:
		turns, stopped = gapLanes4(&codes[0], (*[4]Gaps)(g), int(n))
	case len(g) == 2 && k.level != portable:
		turns, stopped = gapLanes2(&codes[0], (*[2]Gaps)(g), int(n))
	default:
		for ; n > 0; n-- {
			for i := range g {
				if !g[i].Four(codes) {
					return i + 1
				}
			}
		}
		return 0
	}
	for i := range g {
		read := turns
		if i+1 < stopped {
			read++
		}
		g[i].Out = g[i].Out[4*read:]
	}
	return stopped
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
