package kern

import (
	"math"
	"unsafe"
)

// slice packs n steps from k on of the lines [line, line+lines) side by side, width lines to a step; missing ones are zero.
func (x *Mul) slice(o *operand, width, line, lines, k, n int, dst []float32) {
	simd := x.K.level == avx512
	switch {
	case x.unit > 1:
		x.tiles(o, o == &x.a, line, lines, k, n, dst)
	case o.h == nil && o.along && simd:
		packAlong16(&o.f[k*o.ld+line], o.ld*4, n, &dst[0], width*4, mask(lines), mask(width))
	case o.h == nil && o.along:
		alongPortable(o, width, line, lines, k, n, dst)
	case o.h == nil:
		done := 0
		if simd {
			done = n &^ 15
			if done > 0 {
				cross(unsafe.Pointer(&o.f[line*o.ld+k]), o.ld*4, width, lines, done, dst)
			}
		}
		crossPortable(o, width, line, lines, k+done, n-done, dst[done*width:])
	default:
		x.pairs(o, width, line, lines, k, n, dst)
	}
}

// mask has the lowest n bits set.
func mask(n int) int { return 1<<n - 1 }

// cross packs a multiple of 16 steps of lines that lie along memory, 16 lines at a time; src is the first step of the first.
func cross(src unsafe.Pointer, ldBytes, width, lines, n int, dst []float32) {
	for g := 0; g < width; g += 16 {
		at := min(g, lines-1) // a group without lines reads none
		packCross16((*float32)(unsafe.Add(src, at*ldBytes)), ldBytes, lines-g, n/16, &dst[g], width*4, mask(min(16, width-g)))
	}
}

// pairs is slice for bfloat16: step i is the values 2i and 2i+1 of a line; what is beyond the end is zero.
func (x *Mul) pairs(o *operand, width, line, lines, k, n int, dst []float32) {
	full := max(0, min(n, x.values/2-k)) // pairs that are whole
	if o.along {
		if full > 0 {
			packPairs16(&o.h[2*k*o.ld+line], o.ld*2, full, &dst[0], width*4, mask(lines), mask(width))
		}
		clear(dst[full*width : n*width])
		if full < n && 2*(k+full) < x.values {
			for l, v := range o.h[2*(k+full)*o.ld+line:][:lines] {
				dst[full*width+l] = math.Float32frombits(uint32(v))
			}
		}
		return
	}
	done := full &^ 15
	if done > 0 {
		cross(unsafe.Pointer(&o.h[line*o.ld+2*k]), o.ld*2, width, lines, done, dst)
	}
	if done == n {
		return
	}
	clear(dst[done*width : n*width])
	for l := range lines {
		row := o.h[(line+l)*o.ld+min(2*(k+done), x.values):]
		row = row[:min(2*(n-done), max(0, x.values-2*(k+done)))]
		for i, v := range row {
			at := &dst[(done+i/2)*width+l]
			*at = math.Float32frombits(math.Float32bits(*at) | uint32(v)<<(16*(i%2)))
		}
	}
}

// tiles is slice for AMX: blocks of 16 steps, each two tiles of 16 rows of 64 bytes. A row of a tile of A is a line of C's with
// its 16 pairs, a row of a tile of B a pair of 16 lines.
func (x *Mul) tiles(o *operand, isA bool, line, lines, k, n int, dst []float32) {
	const width, tile = 32, 256
	var turn [tile]float32
	for s := 0; s < n; s += 16 {
		for t := 0; t < width; t += 16 {
			d := dst[s*width+t*16:][:tile]
			here := max(0, min(16, lines-t))
			if here == 0 {
				clear(d)
				continue
			}
			if !isA {
				x.pairs(o, 16, line+t, here, k+s, 16, d)
				continue
			}
			x.pairs(o, 16, line+t, here, k+s, 16, turn[:])
			packCross16(&turn[0], 64, 16, 1, &d[0], 64, mask(16))
		}
	}
}

func alongPortable(o *operand, width, line, lines, k, n int, dst []float32) {
	for i := range n {
		d := dst[i*width : (i+1)*width]
		copy(d, o.f[(k+i)*o.ld+line:][:lines])
		clear(d[lines:])
	}
}

func crossPortable(o *operand, width, line, lines, k, n int, dst []float32) {
	for l := range width {
		if l >= lines {
			for i := l; i < n*width; i += width {
				dst[i] = 0
			}
			continue
		}
		i := l
		for _, v := range o.f[(line+l)*o.ld+k:][:n] {
			dst[i] = v
			i += width
		}
	}
}
