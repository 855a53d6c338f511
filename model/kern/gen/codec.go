package main

import "fmt"

// codec writes the kernels of compression and of the outer step. They are protocol arithmetic: every product is rounded before it is
// added, so nothing here is fused. VPANDD with the mask of magnitudes orders floats as integers.
func codec() {
	p("#include \"go_asm.h\"\n")
	p("DATA ·magmask+0(SB)/4, $0x7fffffff\nGLOBL ·magmask(SB), RODATA|NOPTR, $4")
	for i := range 16 {
		p("DATA ·lanes+%d(SB)/4, $%d", 4*i, i)
	}
	p("GLOBL ·lanes(SB), RODATA|NOPTR, $64\n")
	codec512()
	codec2()
	fn("prefetchLines", "v unsafe.Pointer, bytes int", 16)
	p("\tMOVQ v+0(FP), SI\n\tMOVQ bytes+8(FP), CX\nloop:\n\tPREFETCHT0 (SI)\n\tADDQ $64, SI\n\tSUBQ $64, CX\n\tJG loop")
	p("\tRET\n")
	gapLanes(2)
	gapLanes(4)
}

// gapLanes reads four codes of each of some bit strings by turns. A code that is not in the table is 0 and changes nothing, nor do those
// after it: so the last tells, and the lane goes back to where its turn began. A position is that of a bit in memory, so that a lane takes
// two registers; where its indices go is on the stack. Offsets are those of Gaps.
func gapLanes(lanes int) {
	pos, last := []string{"R8", "R9", "R10", "R11"}, []string{"R12", "R13", "SI", "DI"}
	const before, end = "before-8(SP)", "end-16(SP)"
	out := func(i int) string { return fmt.Sprintf("out%d-%d(SP)", i, 24+8*i) }
	p("// func gapLanes%d(codes *uint16, of *[%d]Gaps, n int) (turns, stopped int)\nTEXT ·gapLanes%d(SB), NOSPLIT, $%d-40", lanes, lanes, lanes, 16+8*lanes)
	p("\tMOVQ codes+0(FP), AX\n\tMOVQ of+8(FP), BX\n\tMOVQ n+16(FP), R15\n\tSHLQ $3, R15\n\tMOVQ R15, %s\n\tXORL R15, R15", end)
	for i := range lanes {
		p("\tMOVQ (Gaps__size*%[1]d+Gaps_Bytes)(BX), %[2]s\n\tSHLQ $3, %[2]s\n\tADDQ (Gaps__size*%[1]d+Gaps_Pos)(BX), %[2]s", i, pos[i])
		p("\tMOVQ (Gaps__size*%d+Gaps_Last)(BX), %s\n\tMOVQ (Gaps__size*%d+Gaps_Out)(BX), DX\n\tMOVQ DX, %s", i, last[i], i, out(i))
	}
	p("loop:\n\tCMPQ R15, %s\n\tJGE done", end)
	for i := range lanes {
		p("\tMOVQ %[1]s, CX\n\tMOVQ %[1]s, DX\n\tSHRQ $3, DX\n\tMOVQ (DX), BX\n\tBSWAPQ BX\n\tANDL $7, CX\n\tSHLQ CX, BX", pos[i])
		p("\tMOVQ %s, R14\n\tMOVQ %s, %s", out(i), last[i], before)
		for j := range 4 {
			p("\tMOVQ BX, DX\n\tSHRQ $51, DX\n\tMOVWLZX (AX)(DX*2), CX\n\tSHLQ CX, BX\n\tADDQ CX, %s", last[i])
			p("\tMOVQ %s, DX\n\tSHRQ $6, DX\n\tMOVW DX, %d(R14)(R15*1)", last[i], 2*j)
		}
		p("\tTESTL CX, CX\n\tJZ fail%[3]d\n\tMOVQ %[2]s, CX\n\tANDQ $63, CX\n\tADDQ CX, %[1]s\n\tANDQ $-64, %[2]s", pos[i], last[i], i)
	}
	p("\tADDQ $8, R15\n\tJMP loop")
	for i := range lanes {
		p("fail%d:\n\tMOVQ %s, %s\n\tMOVQ $%d, AX\n\tJMP back", i, before, last[i], i+1)
	}
	p("done:\n\tXORL AX, AX\nback:\n\tMOVQ of+8(FP), BX")
	for i := range lanes {
		p("\tMOVQ (Gaps__size*%[1]d+Gaps_Bytes)(BX), DX\n\tSHLQ $3, DX\n\tSUBQ DX, %[2]s", i, pos[i])
		p("\tMOVQ %s, (Gaps__size*%d+Gaps_Pos)(BX)\n\tMOVQ %s, (Gaps__size*%d+Gaps_Last)(BX)", pos[i], i, last[i], i)
	}
	p("\tSHRQ $3, R15\n\tMOVQ R15, turns+24(FP)\n\tMOVQ AX, stopped+32(FP)\n\tRET\n")
}

// hmaxU reduces the 16 unsigned lanes of Z[z] into X[z]; with half only the 8 of Y[z]. Scratch is 13.
func hmaxU(z int, half bool) {
	if !half {
		p("\tVEXTRACTI64X4 $1, Z%d, Y13\n\tVPMAXUD Y13, Y%d, Y%d", z, z, z)
	}
	p("\tVEXTRACTI128 $1, Y%d, X13\n\tVPMAXUD X13, X%d, X%d", z, z, z)
	p("\tVPSHUFD $0x4e, X%d, X13\n\tVPMAXUD X13, X%d, X%d\n\tVPSHUFD $0xb1, X%d, X13\n\tVPMAXUD X13, X%d, X%d", z, z, z, z, z, z)
}

func codec512() {
	// top[j] = the largest magnitude of dst[i], i = j modulo 256; returns the largest of all
	fn("feedback512", "dst, old, start, end *float32, n int, beta float32, top *float32) (most uint32", 60)
	p("\tMOVQ dst+0(FP), DI\n\tMOVQ old+8(FP), SI\n\tMOVQ start+16(FP), DX\n\tMOVQ end+24(FP), R8\n\tMOVQ n+32(FP), CX")
	p("\tVBROADCASTSS beta+40(FP), Z15\n\tMOVQ top+48(FP), R9")
	tops512(func(i int) {
		t := i % 6 * 2
		p("\tVMOVUPS %d(DX), Z%d\n\tVSUBPS %d(R8), Z%d, Z%d\n\tVMULPS %d(SI), Z15, Z%d", 64*i, t, 64*i, t, t, 64*i, t+1)
		p("\tVADDPS Z%d, Z%d, Z%d\n\tVMOVUPS Z%d, %d(DI)\n\tVPANDD Z%d, Z14, Z%d\n\tVPMAXUD Z%d, Z%d, Z%d", t, t+1, t, t, 64*i, t, t, t, 16+i, 16+i)
	}, "DI", "SI", "DX", "R8")
	p("\tMOVL AX, most+56(FP)")
	end()

	fn("tops512", "v *float32, n int, top *float32) (most uint32", 28)
	p("\tMOVQ v+0(FP), SI\n\tMOVQ n+8(FP), CX\n\tMOVQ top+16(FP), R9")
	tops512(func(i int) {
		p("\tVPANDD %d(SI), Z14, Z%d\n\tVPMAXUD Z%d, Z%d, Z%d", 64*i, i%6, i%6, 16+i, 16+i)
	}, "SI")
	p("\tMOVL AX, most+24(FP)")
	end()

	rank512()

	// idx = the indices of x whose magnitude has bits of at least limit
	fn("above512", "idx *uint32, x *float32, n int, limit uint32) (count int", 40)
	p("\tMOVQ idx+0(FP), DI\n\tMOVQ x+8(FP), SI\n\tMOVQ n+16(FP), CX\n\tVBROADCASTSS limit+24(FP), Z2\n\tVPBROADCASTD ·magmask(SB), Z14")
	p("\tVMOVDQU32 ·lanes(SB), Z5\n\tMOVL $16, AX\n\tVPBROADCASTD AX, Z6\n\tMOVQ DI, R8")
	loop(16, func() {
		p("\tVPANDD (SI), Z14, Z0\n\tVPCMPUD $5, Z2, Z0, K1\n\tVPCOMPRESSD.Z Z5, K1, Z1\n\tVMOVDQU32 Z1, (DI)")
		p("\tKMOVW K1, AX\n\tPOPCNTL AX, AX\n\tLEAQ (DI)(AX*4), DI\n\tVPADDD Z6, Z5, Z5")
	}, "SI")
	p("\tSUBQ R8, DI\n\tSHRQ $2, DI\n\tMOVQ DI, count+32(FP)")
	end()

	outerKernel("outer512", "Z", 16)

	// dst is aligned to 64 bytes; it goes past the cache
	fn("stream512", "dst, src *float32, n int", 24)
	p("\tMOVQ dst+0(FP), DI\n\tMOVQ src+8(FP), SI\n\tMOVQ n+16(FP), CX")
	loop(16, func() { p("\tVMOVUPS (SI), Z0\n\tVMOVNTPS Z0, (DI)") }, "DI", "SI")
	p("\tSFENCE")
	end()
}

// tops512 runs body for the 16 vectors of every 256 values, with the maxima in Z16..Z31, stores them to (R9) and leaves the largest in AX.
func tops512(body func(i int), regs ...string) {
	p("\tVPBROADCASTD ·magmask(SB), Z14")
	for i := 16; i < 32; i++ {
		p("\tVPXORD Z%d, Z%d, Z%d", i, i, i)
	}
	loop(256, func() {
		for i := range 16 {
			body(i)
		}
	}, regs...)
	p("\tVPXORD Z0, Z0, Z0")
	for i := range 16 {
		p("\tVMOVUPS Z%d, %d(R9)\n\tVPMAXUD Z%d, Z0, Z0", 16+i, 64*i, 16+i)
	}
	hmaxU(0, false)
	p("\tVMOVD X0, AX")
}

// rank512 narrows [lo, hi) by halves: lo always has k or more magnitudes at or above it, hi fewer.
func rank512() {
	fn("rank512", "x *float32, n, k, most int, lo, hi uint32) (limit uint32, count int", 56)
	p("\tMOVQ x+0(FP), R8\n\tMOVQ n+8(FP), R9\n\tMOVQ k+16(FP), R10\n\tMOVQ most+24(FP), R11\n\tMOVL lo+32(FP), R12\n\tMOVL hi+36(FP), R13")
	p("\tVPBROADCASTD ·magmask(SB), Z14\n\tVPTERNLOGD $0xff, Z1, Z1, Z1\n\tMOVQ R8, SI\n\tMOVQ R9, CX")
	p("least:\n\tVPANDD (SI), Z14, Z0\n\tVPMINUD Z0, Z1, Z1\n\tADDQ $64, SI\n\tSUBQ $16, CX\n\tJG least")
	p("\tVEXTRACTI64X4 $1, Z1, Y13\n\tVPMINUD Y13, Y1, Y1")
	raiseLo()
	rankLoop(func() {
		p("\tVPBROADCASTD BX, Z2")
		p("count:\n\tVPANDD (SI), Z14, Z0\n\tVPCMPUD $5, Z2, Z0, K1\n\tKMOVW K1, AX\n\tPOPCNTL AX, AX\n\tADDQ AX, DI\n\tADDQ $64, SI\n\tSUBQ $16, CX\n\tJG count")
	})
}

// raiseLo makes lo at least the smallest magnitude, which Y1 has in its lanes.
func raiseLo() {
	p("\tVEXTRACTI128 $1, Y1, X13\n\tVPMINUD X13, X1, X1")
	p("\tVPSHUFD $0x4e, X1, X13\n\tVPMINUD X13, X1, X1\n\tVPSHUFD $0xb1, X1, X13\n\tVPMINUD X13, X1, X1\n\tVMOVD X1, AX")
	p("\tCMPL AX, R12\n\tCMOVLHI AX, R12\n\tMOVL R12, BX\n\tXORQ DX, DX")
}

// rankLoop is the bisection around a count: of the n magnitudes at R8 those at or above BX, into DI. The first count is that of lo itself.
func rankLoop(count func()) {
	p("step:\n\tMOVQ R8, SI\n\tMOVQ R9, CX\n\tXORQ DI, DI")
	count()
	p("\tCMPL BX, R12\n\tJEQ atLeast\n\tCMPQ DI, R10\n\tJGE atLeast\n\tMOVL BX, R13\n\tJMP halve")
	p("atLeast:\n\tMOVL BX, R12\n\tMOVQ DI, DX\n\tCMPQ DX, R11\n\tJLE done")
	p("halve:\n\tMOVL R13, BX\n\tSUBL R12, BX\n\tSHRL $1, BX\n\tJZ done\n\tADDL R12, BX\n\tJMP step")
	p("done:\n\tMOVL R12, limit+40(FP)\n\tMOVQ DX, count+48(FP)")
	end()
}

// outerKernel is dst = src − alpha·(sum/div), and sum is cleared.
func outerKernel(name, r string, lanes int) {
	fn(name, "dst, src, sum *float32, n int, alpha, div float32", 40)
	p("\tMOVQ dst+0(FP), DI\n\tMOVQ src+8(FP), SI\n\tMOVQ sum+16(FP), DX\n\tMOVQ n+24(FP), CX\n\tVBROADCASTSS alpha+32(FP), %s4\n\tVBROADCASTSS div+36(FP), %s5", r, r)
	p("\tVXORPS Y6, Y6, Y6")
	loop(lanes, func() {
		p("\tVMOVUPS (DX), %[1]s0\n\tVDIVPS %[1]s5, %[1]s0, %[1]s0\n\tVMULPS %[1]s4, %[1]s0, %[1]s0\n\tVMOVUPS (SI), %[1]s1\n\tVSUBPS %[1]s0, %[1]s1, %[1]s1", r)
		p("\tVMOVUPS %[1]s1, (DI)\n\tVMOVUPS %[1]s6, (DX)", r)
	}, "DI", "SI", "DX")
	end()
}

// codec2 has the same kernels for AVX2, but for the compress store: masks2 leaves a bit for each value.
func codec2() {
	tops := func(body func(i int), regs ...string) { // maxima in memory: 32 registers would be needed
		p("\tVPBROADCASTD ·magmask(SB), Y14\n\tVXORPS Y0, Y0, Y0")
		for i := range 32 {
			p("\tVMOVUPS Y0, %d(R9)", 32*i)
		}
		loop(256, func() {
			for i := range 32 {
				body(i)
				p("\tVPMAXUD %d(R9), Y%d, Y%d\n\tVMOVUPS Y%d, %d(R9)", 32*i, i%3*2, i%3*2, i%3*2, 32*i)
			}
		}, regs...)
		p("\tVPXOR Y0, Y0, Y0")
		for i := range 32 {
			p("\tVPMAXUD %d(R9), Y0, Y0", 32*i)
		}
		hmaxU(0, true)
		p("\tVMOVD X0, AX")
	}
	fn("feedback2", "dst, old, start, end *float32, n int, beta float32, top *float32) (most uint32", 60)
	p("\tMOVQ dst+0(FP), DI\n\tMOVQ old+8(FP), SI\n\tMOVQ start+16(FP), DX\n\tMOVQ end+24(FP), R8\n\tMOVQ n+32(FP), CX")
	p("\tVBROADCASTSS beta+40(FP), Y15\n\tMOVQ top+48(FP), R9")
	tops(func(i int) {
		t := i % 3 * 2
		p("\tVMOVUPS %d(DX), Y%d\n\tVSUBPS %d(R8), Y%d, Y%d\n\tVMULPS %d(SI), Y15, Y%d", 32*i, t, 32*i, t, t, 32*i, t+1)
		p("\tVADDPS Y%d, Y%d, Y%d\n\tVMOVUPS Y%d, %d(DI)\n\tVPAND Y%d, Y14, Y%d", t, t+1, t, t, 32*i, t, t)
	}, "DI", "SI", "DX", "R8")
	p("\tMOVL AX, most+56(FP)")
	end()
	fn("tops2", "v *float32, n int, top *float32) (most uint32", 28)
	p("\tMOVQ v+0(FP), SI\n\tMOVQ n+8(FP), CX\n\tMOVQ top+16(FP), R9")
	tops(func(i int) { p("\tVPAND %d(SI), Y14, Y%d", 32*i, i%3*2) }, "SI")
	p("\tMOVL AX, most+24(FP)")
	end()

	fn("rank2", "x *float32, n, k, most int, lo, hi uint32) (limit uint32, count int", 56)
	p("\tMOVQ x+0(FP), R8\n\tMOVQ n+8(FP), R9\n\tMOVQ k+16(FP), R10\n\tMOVQ most+24(FP), R11\n\tMOVL lo+32(FP), R12\n\tMOVL hi+36(FP), R13")
	p("\tVPBROADCASTD ·magmask(SB), Y14\n\tVPCMPEQD Y1, Y1, Y1\n\tMOVQ R8, SI\n\tMOVQ R9, CX")
	p("least:\n\tVPAND (SI), Y14, Y0\n\tVPMINUD Y0, Y1, Y1\n\tADDQ $32, SI\n\tSUBQ $8, CX\n\tJG least")
	raiseLo()
	rankLoop(func() {
		p("\tLEAL -1(BX), AX\n\tVMOVD AX, X2\n\tVPBROADCASTD X2, Y2\n\tVPXOR Y3, Y3, Y3")
		p("count:\n\tVPAND (SI), Y14, Y0\n\tVPCMPGTD Y2, Y0, Y0\n\tVPSUBD Y0, Y3, Y3\n\tADDQ $32, SI\n\tSUBQ $8, CX\n\tJG count")
		p("\tVEXTRACTI128 $1, Y3, X0\n\tVPADDD X0, X3, X3\n\tVPSHUFD $0x4e, X3, X0\n\tVPADDD X0, X3, X3\n\tVPSHUFD $0xb1, X3, X0\n\tVPADDD X0, X3, X3\n\tVMOVD X3, DI")
	})

	fn("masks2", "bits *uint8, x *float32, n int, limit uint32", 28)
	p("\tMOVQ bits+0(FP), DI\n\tMOVQ x+8(FP), SI\n\tMOVQ n+16(FP), CX\n\tMOVL limit+24(FP), AX\n\tDECL AX\n\tVMOVD AX, X2\n\tVPBROADCASTD X2, Y2\n\tVPBROADCASTD ·magmask(SB), Y14")
	loop(8, func() {
		p("\tVPAND (SI), Y14, Y0\n\tVPCMPGTD Y2, Y0, Y0\n\tVMOVMSKPS Y0, AX\n\tMOVB AX, (DI)\n\tINCQ DI")
	}, "SI")
	end()

	outerKernel("outer2", "Y", 8)
}
