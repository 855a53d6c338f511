package kern

//go:noescape
func peakAVX2(loops int)

//go:noescape
func peakAVX512(loops int)

//go:noescape
func peakBF16(loops int)

//go:noescape
func peakAMX(loops int, cfg *byte)

//go:noescape
func peakRead(n int, src *byte)

// peakLoops are those that this CPU can run.
func peakLoops() (out []peakLoop) {
	f := features()
	if f.avx2 {
		out = append(out, peakLoop{"avx2", 12 * 8 * 2, peakAVX2})
	}
	if f.avx512 {
		out = append(out, peakLoop{"avx512", 24 * 16 * 2, peakAVX512})
	}
	if f.vdp {
		out = append(out, peakLoop{"avx512bf16", 24 * 32 * 2, peakBF16})
	}
	if f.amx {
		cfg := [64]byte{0: 1} // palette 1: eight tiles of 16 rows of 64 bytes
		for t := range 8 {
			cfg[16+2*t], cfg[48+t] = 64, 16
		}
		out = append(out, peakLoop{"amx", 4 * 16 * 16 * 32 * 2, func(loops int) { peakAMX(loops, &cfg[0]) }})
	}
	return out
}

// peakReader reads n bytes; nil if this CPU cannot.
func peakReader() func(n int, src *byte) {
	if features().avx2 {
		return peakRead
	}
	return nil
}
