package gradients

import (
	"fmt"
	"math"
	"slices"

	"sn3/model"
)

// split is where a magnitude counts as large, in units of the scale: half-way between the levels 1 and 2.
const split = 1.5

// picker chooses what a chunk sends; it keeps its scratch memory between chunks.
type picker struct {
	mag   [model.ChunkSize]uint32
	order [model.ChunkSize]uint32
	idx   [model.ChunkSize]uint16
	codes [model.ChunkSize]byte
}

// choose keeps the keep largest magnitudes of v and quantises them. The result is valid until the next call.
func (p *picker) choose(v []float32, keep int) (symbols, error) {
	nonzero := 0
	for i, x := range v {
		b := math.Float32bits(x) &^ (1 << 31)
		if b >= 0x7f800000 {
			return symbols{}, fmt.Errorf("%w: value %d is %v", ErrNotFinite, i, x)
		}
		p.mag[i] = b
		if b != 0 {
			p.order[nonzero] = b
			nonzero++
		}
	}
	n := 0
	if nonzero > 0 {
		n = p.take(len(v), min(keep, nonzero), nonzero)
	}
	sym := symbols{idx: p.idx[:n], codes: p.codes[:n]}
	if n > 0 {
		sym.scale = p.quantise(v, sym)
	}
	return sym, nil
}

// take fills idx with the indices of the keep largest magnitudes, ascending; of equal ones the lower index wins. Float bits
// of magnitudes order as the magnitudes do.
func (p *picker) take(real, keep, nonzero int) int {
	sorted := p.order[:nonzero]
	slices.Sort(sorted)
	limit := sorted[nonzero-keep]
	above := 0
	for _, b := range sorted[nonzero-keep:] {
		if b > limit {
			above++
		}
	}
	ties, n := keep-above, 0
	for i := range real {
		switch b := p.mag[i]; {
		case b > limit:
		case b == limit && ties > 0:
			ties--
		default:
			continue
		}
		p.idx[n] = uint16(i)
		n++
	}
	return n
}

// quantise chooses scale and codes: from the mean magnitude it alternates between splitting into small and large and the
// best scale for that split (Lloyd, IEEE Trans. Inf. Theory 28, 1982), then takes the better of the two nearest table
// entries. Receivers never repeat this: only decoding must be bit-exact.
func (p *picker) quantise(v []float32, sym symbols) byte {
	s := 0.0
	for _, i := range sym.idx {
		s += math.Abs(float64(v[i]))
	}
	s /= 1.4 * float64(len(sym.idx))
	for range 4 {
		num, den := 0.0, 0.0
		for _, i := range sym.idx {
			m := math.Abs(float64(v[i]))
			if m > split*s {
				num, den = num+2*m, den+4
			} else {
				num, den = num+m, den+1
			}
		}
		s = num / den
	}
	at := int(math.Floor((math.Log2(s) + 28) * octave))
	best, bestErr := byte(0), math.Inf(1)
	for _, c := range []int{at, at + 1} {
		code := byte(min(max(c, 0), len(scales)-1))
		if e := squaredError(v, sym.idx, code); e < bestErr {
			best, bestErr = code, e
		}
	}
	return p.assign(v, sym, best)
}

func squaredError(v []float32, idx []uint16, code byte) float64 {
	s := float64(math.Float32frombits(scales[code]))
	sum := 0.0
	for _, i := range idx {
		m := math.Abs(float64(v[i]))
		d := m - s
		if m > split*s {
			d = m - 2*s
		}
		sum += d * d
	}
	return sum
}

// assign sets the codes for a scale. A chunk of only large values is written an octave higher as only small ones, so that
// every decoded chunk has one form.
func (p *picker) assign(v []float32, sym symbols, scale byte) byte {
	s := float64(math.Float32frombits(scales[scale]))
	small := false
	for j, i := range sym.idx {
		code := byte(0)
		if math.Abs(float64(v[i])) > split*s {
			code = 1
		} else {
			small = true
		}
		if v[i] < 0 {
			code |= 2
		}
		sym.codes[j] = code
	}
	if !small && int(scale)+octave < len(scales) {
		for j := range sym.codes {
			sym.codes[j] &^= 1
		}
		return scale + octave
	}
	return scale
}
