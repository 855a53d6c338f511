package main

// peakChains is how many independent sums a loop keeps: more than latency × units of any CPU.
const peakChains = 24

// peak writes the loops that Peak times: nothing but one instruction on registers, and one that reads memory.
func peak() {
	peakLoop("peakAVX512", peakChains, func(i int) { p("\tVFMADD231PS Z30, Z31, Z%d", i) }, "Z")
	peakLoop("peakAVX2", 12, func(i int) { p("\tVFMADD231PS Y14, Y15, Y%d", i) }, "Y")
	peakLoop("peakBF16", peakChains, func(i int) { vdp(i, 30, 31) }, "Z")
	peakAMX()
	peakRead()
}

// peakLoop runs n chains of op; the two highest registers hold 2^-20 in every lane, as a float32 and as its upper bfloat16.
func peakLoop(name string, n int, op func(i int), reg string) {
	p("// func %s(loops int)", name)
	p("TEXT ·%s(SB), NOSPLIT, $0-8", name)
	p("\tMOVQ loops+0(FP), CX\n\tMOVL $0x35803580, AX\n\tVMOVD AX, X15\n\tVPBROADCASTD X15, Y15\n\tVMOVAPS Y15, Y14")
	if reg == "Z" {
		p("\tVPBROADCASTD AX, Z30\n\tVMOVAPS Z30, Z31")
	}
	for i := range n {
		if reg == "Z" {
			p("\tVPXORD Z%d, Z%d, Z%d", i, i, i)
		} else {
			p("\tVXORPS Y%d, Y%d, Y%d", i, i, i)
		}
	}
	p("loop:")
	for i := range n {
		op(i)
	}
	p("\tDECQ CX\n\tJNZ loop\n\tVZEROUPPER\n\tRET\n")
}

// peakAMX runs four products of tiles a loop, on the tiles that cfg describes; they hold zeros.
func peakAMX() {
	p("// func peakAMX(loops int, cfg *byte)\nTEXT ·peakAMX(SB), NOSPLIT, $0-16\n\tMOVQ loops+0(FP), CX\n\tMOVQ cfg+8(FP), AX")
	tileConfigAX()
	for t := range 8 {
		tileZero(t)
	}
	p("loop:")
	for t := range 4 {
		tdp(t, 4+t/2, 6+t%2)
	}
	p("\tDECQ CX\n\tJNZ loop")
	tileRelease()
	p("\tRET\n")
}

// peakRead loads n bytes, a multiple of 256, by AVX2.
func peakRead() {
	p("// func peakRead(n int, src *byte)\nTEXT ·peakRead(SB), NOSPLIT, $0-16\n\tMOVQ n+0(FP), CX\n\tMOVQ src+8(FP), SI")
	for i := range 4 {
		p("\tVPXOR Y%d, Y%d, Y%d", i, i, i)
	}
	p("loop:")
	for i := range 8 {
		p("\tVPXOR %d(SI), Y%d, Y%d", i*32, i%4, i%4)
	}
	p("\tADDQ $256, SI\n\tSUBQ $256, CX\n\tJNZ loop\n\tVZEROUPPER\n\tRET")
}
