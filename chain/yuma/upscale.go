package yuma

import "slices"

// MaxUpscale scales weights so that the largest is 65535, as the chain stores them; zeros stay zeros. Halves are rounded up.
func MaxUpscale(v []uint16) []uint16 {
	f := make([]fixed, len(v))
	for i, x := range v {
		f[i] = whole(uint64(x))
	}
	return maxUpscale(f)
}

// maxUpscale takes the factor first where the largest is above 32768, else the product: either stays within the numbers'
// range where the other might not, and they round differently.
func maxUpscale(v []fixed) []uint16 {
	out := make([]uint16, len(v))
	if len(v) == 0 {
		return out
	}
	top, full := slices.Max(v), whole(u16Full)
	for i, x := range v {
		if top > whole(32768) {
			x = x.mul(full.div(top))
		} else {
			x = x.mul(full).div(top) // x/0 is 0
		}
		out[i] = uint16(min(u16Full, x.round()))
	}
	return out
}
