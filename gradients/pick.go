package gradients

import (
	"fmt"
	"math"

	"sn3/model"
	"sn3/model/kern"
)

// smallest is the bit pattern of half the smallest scale, 2^-29. Sending less than that would add more error than it takes
// away, so such values count as zeros: they wait in the error feedback.
const smallest = 0x31000000

// infinite is the bit pattern from which on a magnitude is no number.
const infinite = 0x7f800000

// pad is how far vectors reach beyond a chunk: the kernels work on 16 values.
const pad = 16

// picker chooses what a chunk sends; it keeps its scratch memory between chunks. The zero value uses portable kernels.
type picker struct {
	kern  *kern.Kernels
	dense [model.ChunkSize + pad]float32 // the chunk, zeros behind it
	top   [kern.Groups]float32           // largest magnitude of each group of it
	near  [model.ChunkSize + pad]uint32  // indices of those that may be kept
	mag   [model.ChunkSize + pad]float32 // and their values
	idx   [model.ChunkSize]uint16
	codes [model.ChunkSize]byte
	bins  bins
}

// choose keeps the keep largest magnitudes of v and quantises them. The result is valid until the next call.
func (p *picker) choose(v []float32, keep int) (symbols, error) {
	if p.kern == nil {
		p.kern = Compute{}.kernels()
	}
	copy(p.dense[:], v)
	return p.pick(len(v), keep, p.kern.Tops(p.dense[:len(v)], &p.top))
}

// pick is choose for the real values that are in dense, whose groups are in top and whose largest magnitude is most.
func (p *picker) pick(real, keep int, most uint32) (symbols, error) {
	if most >= infinite {
		return symbols{}, p.notFinite(real)
	}
	n := p.take(real, keep, most)
	sym := symbols{idx: p.idx[:n], codes: p.codes[:n]}
	if n > 0 {
		sym.scale = p.quantise(sym)
	}
	return sym, nil
}

func (p *picker) notFinite(real int) error {
	for i, x := range p.dense[:real] {
		if math.Float32bits(x)&^(1<<31) >= infinite {
			return fmt.Errorf("%w: value %d is %v", ErrNotFinite, i, x)
		}
	}
	return ErrNotFinite
}

// take fills idx with the indices of the keep largest magnitudes, ascending; of equal ones the lower index wins. A limit that a few more
// than keep reach leaves little to decide exactly.
func (p *picker) take(real, keep int, most uint32) int {
	if most < smallest {
		return 0
	}
	chunk := p.padded(p.dense[:], real)
	from := chunk
	if keep <= kern.Groups/2 && real == model.ChunkSize {
		from = p.top[:] // keep groups have a value of at least the keep-th largest of their maxima: so have keep values
	}
	limit, _ := p.kern.Rank(from, keep, keep+keep/8, smallest, most+1)
	near := p.near[:p.kern.Above(p.near[:], chunk, limit)]
	if len(near) <= keep {
		for j, i := range near {
			p.idx[j] = uint16(i)
		}
		return len(near)
	}
	for j, i := range near {
		p.mag[j] = p.dense[i%model.ChunkSize]
	}
	exact, reached := p.kern.Rank(p.padded(p.mag[:], len(near)), keep, keep, limit, most+1)
	if reached > keep {
		return p.keepTied(near, keep, exact)
	}
	n := 0
	for j, i := range near {
		p.idx[n%model.ChunkSize] = uint16(i)
		n += int(1 - (uint64(bitsOf(p.mag[j]))-uint64(exact))>>63)
	}
	return n
}

// keepTied takes of near what is above limit and, from the lowest index on, as many equal to it as keep has room for.
func (p *picker) keepTied(near []uint32, keep int, limit uint32) int {
	ties := keep
	for j := range near {
		if bitsOf(p.mag[j]) > limit {
			ties--
		}
	}
	n := 0
	for j, i := range near {
		switch b := bitsOf(p.mag[j]); {
		case b < limit || b == limit && ties == 0:
			continue
		case b == limit:
			ties--
		}
		p.idx[n] = uint16(i)
		n++
	}
	return n
}

// padded is the first n of v and zeros up to a multiple of 16.
func (p *picker) padded(v []float32, n int) []float32 {
	to := (n + pad - 1) / pad * pad
	clear(v[n:to])
	return v[:to]
}

// bitsOf is |x| as bits, which order as the magnitudes do.
func bitsOf(x float32) uint32 { return math.Float32bits(x) &^ (1 << 31) }
