package main

import "fmt"

// gemm writes gemm_amd64.s: micro-kernels and packing.
func gemm() {
	fma := func(d, a, b int) { p("\tVFMADD231PS Z%d, Z%d, Z%d", b, a, d) }
	kernel512("kern14x32", fma, packed)
	kernel512("kern14x32Rows", fma, across)
	kernel512("kern14x32Cols", fma, along)
	kernel512("kernBF14x32", vdp, packed)
	kernel512("kernBF14x32Rows", vdp, across)
	kernelAMX()
	kernel2()
	packCross16()
	packAlong16()
	packPairs16()
}

// raw emits an instruction that Go's assembler does not know, with its text as GNU objdump writes it: the tests compare.
func raw(text string, b ...byte) {
	s := "\t"
	for i, x := range b {
		if i > 0 {
			s += "; "
		}
		s += fmt.Sprintf("BYTE $0x%02x", x)
	}
	p("%s // %s", s, text)
}

// vdp is d += a·b over pairs of bfloat16 (EVEX.512.F3.0F38.W0 52 /r).
func vdp(d, a, b int) {
	p0 := byte(^(d>>3)&1)<<7 | byte(^(b>>4)&1)<<6 | byte(^(b>>3)&1)<<5 | byte(^(d>>4)&1)<<4 | 2
	p1 := byte(^a&15)<<3 | 4 | 2
	p2 := byte(2)<<5 | byte(^(a>>4)&1)<<3
	raw(fmt.Sprintf("vdpbf16ps %%zmm%d,%%zmm%d,%%zmm%d", b, a, d), 0x62, p0, p1, p2, 0x52, 0xc0|byte(d&7)<<3|byte(b&7))
}

// tdp is d += a·b, a product of tiles: rows of a, columns of b (VEX.128.F3.0F38.W0 5C, d in reg, a in rm, b in vvvv).
func tdp(d, a, b int) {
	raw(fmt.Sprintf("tdpbf16ps %%tmm%d,%%tmm%d,%%tmm%d", b, a, d), 0xc4, 0xe2, byte(^b&15)<<3|2, 0x5c, 0xc0|byte(d<<3|a))
}

func tileZero(d int) {
	raw(fmt.Sprintf("tilezero %%tmm%d", d), 0xc4, 0xe2, 0x7b, 0x49, 0xc0|byte(d)<<3)
}
func tileConfigAX() { raw("ldtilecfg (%rax)", 0xc4, 0xe2, 0x78, 0x49, 0x00) }
func tileRelease()  { raw("tilerelease", 0xc4, 0xe2, 0x78, 0x49, 0xc0) }

// A block of C is 14×32 in 28 of the 32 registers of AVX-512, 6×16 in 12 of the 16 of AVX2.
const rows512, rows2 = 14, 6

// layout is how the lines of A lie: packed; across: each along memory, the next one aBytes further; along: side by side, the next
// step aBytes further.
type layout int

const (
	packed layout = iota
	across
	along
)

// times are the multiples of aBytes.
var times = []string{"", "(R11*1)", "(R11*2)", "(R13*1)", "(R11*4)"}

// line is where line i of step u of the unrolled loop is.
func (l layout) line(i, u int) string {
	switch l {
	case across:
		return fmt.Sprintf("%d(%s)%s", u*4, []string{"SI", "BX", "R12"}[i/5], times[i%5])
	case along:
		return fmt.Sprintf("%d(SI)%s", i*4, times[u])
	}
	return fmt.Sprintf("%d(SI)", (u*rows512+i)*4)
}

// ahead calls later steps into the cache.
func (l layout) ahead(u int) {
	switch l {
	case packed:
		p("\tPREFETCHT0 %d(SI)", 1024+64*u)
	case along:
		p("\tPREFETCHT0 (BX)%s\n\tPREFETCHT0 52(BX)%s", times[u], times[u])
	}
}

// kernel512 is C (+)= A·B, B in packed panels, of k steps: a step is 14 lines of A and 32 of B, a line one float32 or two bfloat16.
func kernel512(name string, mac func(d, a, b int), lie layout) {
	args, size := "k int, a, b, c *float32, ldcBytes int, acc int", 48
	if lie != packed {
		args, size = "k int, a, b, c *float32, ldcBytes int, acc int, aBytes int", 56
	}
	p("// func %s(%s)\nTEXT ·%s(SB), NOSPLIT, $0-%d", name, args, name, size)
	p("\tMOVQ k+0(FP), CX\n\tMOVQ a+8(FP), SI\n\tMOVQ b+16(FP), DI\n\tMOVQ c+24(FP), DX\n\tMOVQ ldcBytes+32(FP), R9\n\tMOVQ acc+40(FP), R10")
	if lie != packed {
		p("\tMOVQ aBytes+48(FP), R11\n\tLEAQ (R11)(R11*2), R13")
	}
	switch lie {
	case across: // lines 0-4 from SI, 5-9 from BX, 10-13 from R12
		p("\tLEAQ (SI)(R11*4), BX\n\tADDQ R11, BX\n\tLEAQ (BX)(R11*4), R12\n\tADDQ R11, R12")
	case along: // steps from SI, BX is as far as lines are called into the cache
		p("\tMOVQ R11, BX\n\tSHLQ $4, BX\n\tADDQ SI, BX")
	}
	p("\tMOVQ DX, R8")
	for i := range 2 * rows512 {
		p("\tVPXORD Z%d, Z%d, Z%d", i, i, i)
		if i%2 == 0 {
			p("\tPREFETCHT0 (R8)\n\tPREFETCHT0 64(R8)\n\tADDQ R9, R8")
		}
	}
	step := func(u int) {
		p("\tVMOVUPS %d(DI), Z28\n\tVMOVUPS %d(DI), Z29", u*128, u*128+64)
		for i := range rows512 {
			z := 30 + i%2
			p("\tVBROADCASTSS %s, Z%d", lie.line(i, u), z)
			mac(i, z, 28)
			mac(rows512+i, z, 29)
		}
	}
	next := func(n int) {
		switch lie {
		case across:
			p("\tADDQ $%d, SI\n\tADDQ $%d, BX\n\tADDQ $%d, R12", n*4, n*4, n*4)
		case along:
			p("\tLEAQ (SI)(R11*%d), SI\n\tLEAQ (BX)(R11*%d), BX", n, n)
		default:
			p("\tADDQ $%d, SI", n*rows512*4)
		}
		p("\tADDQ $%d, DI", n*128)
	}
	const unroll = 4
	p("\tSUBQ $%d, CX\n\tJL tail\nloop:", unroll)
	for u := range unroll {
		lie.ahead(u)
		step(u)
	}
	next(unroll)
	p("\tSUBQ $%d, CX\n\tJGE loop\ntail:\n\tADDQ $%d, CX\n\tJZ done\nrest:", unroll, unroll)
	step(0)
	next(1)
	p("\tDECQ CX\n\tJNZ rest\ndone:\n\tTESTQ R10, R10\n\tJZ store\n\tMOVQ DX, R8")
	for i := range rows512 {
		p("\tVADDPS (R8), Z%d, Z%d\n\tVADDPS 64(R8), Z%d, Z%d\n\tADDQ R9, R8", i, i, rows512+i, rows512+i)
	}
	p("store:")
	for i := range rows512 {
		p("\tVMOVUPS Z%d, (DX)\n\tVMOVUPS Z%d, 64(DX)\n\tADDQ R9, DX", i, rows512+i)
	}
	p("\tVZEROUPPER\n\tRET\n")
}

// kernel2 is the same with AVX2 and FMA: a step is 6 lines of A and 16 of B.
func kernel2() {
	p("// func kern6x16(k int, a, b, c *float32, ldcBytes int, acc int)")
	p("TEXT ·kern6x16(SB), NOSPLIT, $0-48")
	p("\tMOVQ k+0(FP), CX\n\tMOVQ a+8(FP), SI\n\tMOVQ b+16(FP), DI\n\tMOVQ c+24(FP), DX\n\tMOVQ ldcBytes+32(FP), R9\n\tMOVQ acc+40(FP), R10")
	for i := range 2 * rows2 {
		p("\tVXORPS Y%d, Y%d, Y%d", i, i, i)
	}
	step := func(ka, kb int) {
		p("\tVMOVUPS %d(DI), Y12\n\tVMOVUPS %d(DI), Y13", kb, kb+32)
		for i := range rows2 {
			z := 14 + i%2
			p("\tVBROADCASTSS %d(SI), Y%d\n\tVFMADD231PS Y12, Y%d, Y%d\n\tVFMADD231PS Y13, Y%d, Y%d", ka+i*4, z, z, i, z, rows2+i)
		}
	}
	const unroll = 4
	p("\tSUBQ $%d, CX\n\tJL tail\nloop:", unroll)
	for u := range unroll {
		step(u*rows2*4, u*64)
	}
	p("\tADDQ $%d, SI\n\tADDQ $%d, DI\n\tSUBQ $%d, CX\n\tJGE loop", unroll*rows2*4, unroll*64, unroll)
	p("tail:\n\tADDQ $%d, CX\n\tJZ done\nrest:", unroll)
	step(0, 0)
	p("\tADDQ $%d, SI\n\tADDQ $64, DI\n\tDECQ CX\n\tJNZ rest", rows2*4)
	p("done:\n\tTESTQ R10, R10\n\tJZ store\n\tMOVQ DX, R8")
	for i := range rows2 {
		p("\tVADDPS (R8), Y%d, Y%d\n\tVADDPS 32(R8), Y%d, Y%d\n\tADDQ R9, R8", i, i, rows2+i, rows2+i)
	}
	p("store:")
	for i := range rows2 {
		p("\tVMOVUPS Y%d, (DX)\n\tVMOVUPS Y%d, 32(DX)\n\tADDQ R9, DX", i, rows2+i)
	}
	p("\tVZEROUPPER\n\tRET\n")
}

// kernelAMX is C (+)= A·B for 32×32 of C in four tiles of 16×16; k counts pairs, in blocks of 16 (Mul.tiles). Tiles are released
// at the end, so that no state crosses a switch of goroutines.
func kernelAMX() {
	for i := range 64 { // palette 1; eight tiles of 16 rows of 64 bytes
		v := byte(0)
		switch {
		case i == 0:
			v = 1
		case i >= 16 && i < 32 && i%2 == 0:
			v = 64
		case i >= 48 && i < 56:
			v = 16
		}
		p("DATA ·tilecfg+%d(SB)/1, $0x%02x", i, v)
	}
	p("GLOBL ·tilecfg(SB), RODATA|NOPTR, $64\n")
	p("// func kernAMX(k int, a, b, c *float32, ldcBytes int, acc int)")
	p("TEXT ·kernAMX(SB), NOSPLIT, $0-48")
	p("\tLEAQ ·tilecfg(SB), AX")
	tileConfigAX()
	p("\tMOVQ k+0(FP), CX\n\tSHRQ $4, CX\n\tMOVQ a+8(FP), SI\n\tMOVQ b+16(FP), DI\n\tMOVQ c+24(FP), DX\n\tMOVQ ldcBytes+32(FP), R9\n\tMOVQ acc+40(FP), R13\n\tMOVQ $64, R8")
	p("\tMOVQ R9, R10\n\tSHLQ $4, R10\n\tADDQ DX, R10\n\tTESTQ R13, R13\n\tJZ zero")
	onC := func(load bool) { // the four tiles of C: rows of R9 bytes, 0-15 from DX, 16-31 from R10
		for t, x := range []struct {
			rows, cols string
			bytes      []byte
		}{{"rdx", "", []byte{0xa2, 0x04, 0x0a}}, {"rdx", "0x40", []byte{0xa2, 0x4c, 0x0a, 0x40}}, {"r10", "", []byte{0x82, 0x14, 0x0a}}, {"r10", "0x40", []byte{0x82, 0x5c, 0x0a, 0x40}}} {
			text, op := fmt.Sprintf("tilestored %%tmm%d,%s(%%%s,%%r9,1)", t, x.cols, x.rows), byte(0x7a)
			if load {
				text, op = fmt.Sprintf("tileloadd %s(%%%s,%%r9,1),%%tmm%d", x.cols, x.rows, t), 0x7b
			}
			raw(text, append([]byte{0xc4, x.bytes[0], op, 0x4b}, x.bytes[1:]...)...)
		}
	}
	onC(true)
	p("\tJMP loop\nzero:")
	for t := range 4 {
		tileZero(t)
	}
	p("loop:")
	raw("tileloadd (%rsi,%r8,1),%tmm4", 0xc4, 0xa2, 0x7b, 0x4b, 0x24, 0x06) // A rows 0-15
	raw("tileloadd (%rdi,%r8,1),%tmm6", 0xc4, 0xa2, 0x7b, 0x4b, 0x34, 0x07) // B columns 0-15
	tdp(0, 4, 6)
	raw("tileloadd 0x400(%rdi,%r8,1),%tmm7", 0xc4, 0xa2, 0x7b, 0x4b, 0xbc, 0x07, 0x00, 0x04, 0, 0) // B columns 16-31
	tdp(1, 4, 7)
	raw("tileloadd 0x400(%rsi,%r8,1),%tmm5", 0xc4, 0xa2, 0x7b, 0x4b, 0xac, 0x06, 0x00, 0x04, 0, 0) // A rows 16-31
	tdp(2, 5, 6)
	tdp(3, 5, 7)
	p("\tADDQ $2048, SI\n\tADDQ $2048, DI\n\tDECQ CX\n\tJNZ loop")
	onC(false)
	tileRelease()
	p("\tRET\n")
}

// transpose turns Z0..Z15, 16×16 words of 32 bits, with Z16..Z31 as scratch.
func transpose() {
	op := func(op string, d, a, b int) { p("\t%s Z%d, Z%d, Z%d", op, b, a, d) }
	t := func(i int) int { return 16 + i }
	for i := 0; i < 16; i += 2 {
		op("VPUNPCKLDQ", t(i), i, i+1)
		op("VPUNPCKHDQ", t(i+1), i, i+1)
	}
	for i := 0; i < 16; i += 4 {
		op("VPUNPCKLQDQ", i, t(i), t(i+2))
		op("VPUNPCKHQDQ", i+1, t(i), t(i+2))
		op("VPUNPCKLQDQ", i+2, t(i+1), t(i+3))
		op("VPUNPCKHQDQ", i+3, t(i+1), t(i+3))
	}
	sh := func(imm, d, a, b int) { p("\tVSHUFI32X4 $0x%x, Z%d, Z%d, Z%d", imm, b, a, d) }
	for h := 0; h < 16; h += 8 {
		for i := range 4 {
			sh(0x88, t(h+i), h+i, h+i+4)
			sh(0xdd, t(h+4+i), h+i, h+i+4)
		}
	}
	for i := range 8 {
		sh(0x88, i, t(i), t(i+8))
		sh(0xdd, i+8, t(i), t(i+8))
	}
}

// packCross16 packs up to 16 lines that each lie along memory, 16 steps at a time; missing lines become zero.
func packCross16() {
	p("// func packCross16(src *float32, ldBytes, lines, blocks int, dst *float32, dstBytes, mask int)")
	p("TEXT ·packCross16(SB), NOSPLIT, $0-56")
	p("\tMOVQ src+0(FP), SI\n\tMOVQ ldBytes+8(FP), R9\n\tMOVQ lines+16(FP), R12\n\tMOVQ blocks+24(FP), CX\n\tMOVQ dst+32(FP), DI\n\tMOVQ dstBytes+40(FP), R10\n\tMOVQ mask+48(FP), AX\n\tKMOVW AX, K1")
	p("loop:\n\tMOVQ SI, R8")
	for i := range 16 {
		p("\tCMPQ R12, $%d\n\tJLE zero%d\n\tVMOVUPS (R8), Z%d\n\tADDQ R9, R8", i, i, i)
	}
	p("\tJMP turn")
	for i := range 16 {
		p("zero%d:\n\tVPXORD Z%d, Z%d, Z%d", i, i, i, i)
	}
	p("turn:")
	transpose()
	for i := range 16 {
		p("\tVMOVUPS Z%d, K1, (DI)\n\tADDQ R10, DI", i)
	}
	p("\tADDQ $64, SI\n\tDECQ CX\n\tJNZ loop\n\tVZEROUPPER\n\tRET\n")
}

// masks loads two halves of a mask of 32 lines.
func masks(name string, off, k int) {
	p("\tMOVQ %s+%d(FP), AX\n\tKMOVW AX, K%d\n\tSHRQ $16, AX\n\tKMOVW AX, K%d", name, off, k, k+1)
}

// packAlong16 packs n steps whose lines lie side by side: up to 32 of them, by mask; lines that are stored but not loaded
// become zero.
func packAlong16() {
	p("// func packAlong16(src *float32, ldBytes, n int, dst *float32, dstBytes, load, store int)")
	p("TEXT ·packAlong16(SB), NOSPLIT, $0-56")
	p("\tMOVQ src+0(FP), SI\n\tMOVQ ldBytes+8(FP), R9\n\tMOVQ n+16(FP), CX\n\tMOVQ dst+24(FP), DI\n\tMOVQ dstBytes+32(FP), R10")
	masks("load", 40, 1)
	masks("store", 48, 3)
	p("\tMOVQ R9, R13\n\tSHLQ $4, R13\nloop:\n\tPREFETCHT0 (SI)(R13*1)\n\tPREFETCHT0 64(SI)(R13*1)\n\tVMOVUPS.Z (SI), K1, Z0\n\tVMOVUPS.Z 64(SI), K2, Z1\n\tVMOVUPS Z0, K3, (DI)\n\tVMOVUPS Z1, K4, 64(DI)")
	p("\tADDQ R9, SI\n\tADDQ R10, DI\n\tDECQ CX\n\tJNZ loop\n\tVZEROUPPER\n\tRET\n")
}

// packPairs16 is packAlong16 for bfloat16: rows 2i and 2i+1 become the pairs of step i.
func packPairs16() {
	p("// func packPairs16(src *BF16, ldBytes, n int, dst *float32, dstBytes, load, store int)")
	p("TEXT ·packPairs16(SB), NOSPLIT, $0-56")
	p("\tMOVQ src+0(FP), SI\n\tMOVQ ldBytes+8(FP), R9\n\tMOVQ n+16(FP), CX\n\tMOVQ dst+24(FP), DI\n\tMOVQ dstBytes+32(FP), R10")
	masks("load", 40, 1)
	masks("store", 48, 3)
	p("\tMOVQ R9, R13\n\tSHLQ $5, R13\nloop:\n\tPREFETCHT0 (SI)(R13*1)\n\tVPMOVZXWD.Z (SI), K1, Z0\n\tVPMOVZXWD.Z 32(SI), K2, Z1\n\tADDQ R9, SI\n\tPREFETCHT0 (SI)(R13*1)\n\tVPMOVZXWD.Z (SI), K1, Z2\n\tVPMOVZXWD.Z 32(SI), K2, Z3\n\tADDQ R9, SI")
	p("\tVPSLLD $16, Z2, Z2\n\tVPSLLD $16, Z3, Z3\n\tVPORD Z2, Z0, Z0\n\tVPORD Z3, Z1, Z1\n\tVMOVUPS Z0, K3, (DI)\n\tVMOVUPS Z1, K4, 64(DI)")
	p("\tADDQ R10, DI\n\tDECQ CX\n\tJNZ loop\n\tVZEROUPPER\n\tRET\n")
}
