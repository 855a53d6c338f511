package main

import "math"

// exp constants live in Z16..Z27 (see loadc)
var consts = []float32{1.44269504, -0.693359375, 2.12194440e-4, 1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1, 1, -87, 88}

func loadc() {
	for i := range consts {
		p("\tVBROADCASTSS ·expc+%d(SB), Z%d", i*4, 16+i)
	}
}

// vexp: Z[x] = exp(Z[x]), scratch n,r,q. Of a NaN and a number VMAXPS and VMINPS give the operand that is written first here,
// so that a NaN stays one.
func vexp(x, n, r, q int) {
	p("\tVMAXPS Z%d, Z26, Z%d\n\tVMINPS Z%d, Z27, Z%d", x, x, x, x)
	p("\tVMULPS Z16, Z%d, Z%d\n\tVRNDSCALEPS $0, Z%d, Z%d", x, n, n, n)
	p("\tVMOVAPS Z%d, Z%d\n\tVFMADD231PS Z17, Z%d, Z%d\n\tVFMADD231PS Z18, Z%d, Z%d", x, r, n, r, n, r)
	p("\tVMOVAPS Z19, Z%d", q)
	for c := 20; c <= 24; c++ {
		p("\tVFMADD213PS Z%d, Z%d, Z%d", c, r, q)
	}
	p("\tVMULPS Z%d, Z%d, Z%d\n\tVFMADD213PS Z%d, Z%d, Z%d\n\tVADDPS Z25, Z%d, Z%d", r, r, x, r, x, q, q, q)
	p("\tVSCALEFPS Z%d, Z%d, Z%d", n, q, x)
}

func fn(name, sig string, size int) {
	p("// func %s(%s)\nTEXT ·%s(SB), NOSPLIT, $0-%d", name, sig, name, size)
}
func loop(step int, body func(), regs ...string) {
	p("loop:")
	body()
	for _, r := range regs {
		p("\tADDQ $%d, %s", step*4, r)
	}
	p("\tSUBQ $%d, CX\n\tJG loop", step)
}
func hsum(z int, op string) { // reduce Z[z] into X[z]; scratch Z31
	p("\tVEXTRACTF64X4 $1, Z%d, Y31\n\t%s Y31, Y%d, Y%d\n\tVEXTRACTF32X4 $1, Y%d, X30\n\t%s X30, X%d, X%d", z, op, z, z, z, op, z, z)
	p("\tVPERMILPS $0x4e, X%d, X30\n\t%s X30, X%d, X%d\n\tVPERMILPS $0xb1, X%d, X30\n\t%s X30, X%d, X%d", z, op, z, z, z, op, z, z)
}
func end() { p("\tVZEROUPPER\n\tRET\n") }

// elem writes elem_amd64.s.
func elem() {
	for i, c := range consts {
		p("DATA ·expc+%d(SB)/4, $0x%08x", i*4, math.Float32bits(c))
	}
	p("GLOBL ·expc(SB), RODATA|NOPTR, $%d\n", len(consts)*4)
	softmaxKernels()
	swigluKernels()
	linearKernels()
	trainKernels()
}

func softmaxKernels() {
	fn("expA", "d *float32, n int, scale, bias float32) (sum float32", 28)
	p("\tMOVQ d+0(FP), DI\n\tMOVQ n+8(FP), CX\n\tVBROADCASTSS scale+16(FP), Z14\n\tVBROADCASTSS bias+20(FP), Z15\n\tVPXORD Z13, Z13, Z13")
	loadc()
	loop(16, func() {
		p("\tVMOVUPS (DI), Z0\n\tVFMADD213PS Z15, Z14, Z0")
		vexp(0, 1, 2, 3)
		p("\tVADDPS Z0, Z13, Z13\n\tVMOVUPS Z0, (DI)")
	}, "DI")
	hsum(13, "VADDPS")
	p("\tVMOVSS X13, sum+24(FP)")
	end()
	fn("maxA", "d *float32, n int) (m float32", 20)
	p("\tMOVQ d+0(FP), DI\n\tMOVQ n+8(FP), CX\n\tVMOVUPS (DI), Z0")
	loop(16, func() { p("\tVMAXPS (DI), Z0, Z0") }, "DI")
	hsum(0, "VMAXPS")
	p("\tVMOVSS X0, m+16(FP)")
	end()
	fn("scaleA", "d *float32, n int, s float32", 20)
	p("\tMOVQ d+0(FP), DI\n\tMOVQ n+8(FP), CX\n\tVBROADCASTSS s+16(FP), Z1")
	loop(16, func() { p("\tVMULPS (DI), Z1, Z0\n\tVMOVUPS Z0, (DI)") }, "DI")
	end()
	fn("dsA", "d, q *float32, n int, delta, scale float32", 32)
	p("\tMOVQ d+0(FP), DI\n\tMOVQ q+8(FP), SI\n\tMOVQ n+16(FP), CX\n\tVBROADCASTSS delta+24(FP), Z1\n\tVBROADCASTSS scale+28(FP), Z2")
	loop(16, func() {
		p("\tVMOVUPS (DI), Z0\n\tVSUBPS Z1, Z0, Z0\n\tVMULPS (SI), Z0, Z0\n\tVMULPS Z2, Z0, Z0\n\tVMOVUPS Z0, (DI)")
	}, "DI", "SI")
	end()
}

func swigluKernels() {
	fn("swigluA", "a, gt, u *float32, n int", 32)
	p("\tMOVQ a+0(FP), DI\n\tMOVQ gt+8(FP), SI\n\tMOVQ u+16(FP), DX\n\tMOVQ n+24(FP), CX\n\tVPXORD Z15, Z15, Z15")
	loadc()
	loop(16, func() {
		p("\tVMOVUPS (SI), Z4\n\tVSUBPS Z4, Z15, Z0")
		vexp(0, 1, 2, 3)
		p("\tVADDPS Z25, Z0, Z0\n\tVDIVPS Z0, Z4, Z4\n\tVMULPS (DX), Z4, Z4\n\tVMOVUPS Z4, (DI)")
	}, "DI", "SI", "DX")
	end()
	fn("swigluBwdA", "gt, u, da *float32, n int", 32)
	p("\tMOVQ gt+0(FP), DI\n\tMOVQ u+8(FP), SI\n\tMOVQ da+16(FP), DX\n\tMOVQ n+24(FP), CX\n\tVPXORD Z15, Z15, Z15")
	loadc()
	loop(16, func() {
		p("\tVMOVUPS (DI), Z4\n\tVSUBPS Z4, Z15, Z0")
		vexp(0, 1, 2, 3)
		p("\tVADDPS Z25, Z0, Z0\n\tVDIVPS Z0, Z25, Z5")                           // sg
		p("\tVMULPS Z4, Z5, Z6\n\tVMOVUPS (DX), Z7\n\tVMULPS (SI), Z7, Z8")       // silu, da, da*u
		p("\tVMULPS Z6, Z7, Z7\n\tVMOVUPS Z7, (SI)")                              // du
		p("\tVSUBPS Z5, Z25, Z9\n\tVFMADD213PS Z25, Z4, Z9\n\tVMULPS Z5, Z9, Z9") // dsilu
		p("\tVMULPS Z9, Z8, Z8\n\tVMOVUPS Z8, (DI)")
	}, "DI", "SI", "DX")
	end()
}

func linearKernels() {
	fn("addA", "d, s *float32, n int", 24)
	p("\tMOVQ d+0(FP), DI\n\tMOVQ s+8(FP), SI\n\tMOVQ n+16(FP), CX")
	loop(16, func() { p("\tVMOVUPS (DI), Z0\n\tVADDPS (SI), Z0, Z0\n\tVMOVUPS Z0, (DI)") }, "DI", "SI")
	end()
	fn("dotA", "a, b *float32, n int) (s float32", 28)
	p("\tMOVQ a+0(FP), DI\n\tMOVQ b+8(FP), SI\n\tMOVQ n+16(FP), CX\n\tVPXORD Z0, Z0, Z0")
	loop(16, func() { p("\tVMOVUPS (DI), Z1\n\tVFMADD231PS (SI), Z1, Z0") }, "DI", "SI")
	hsum(0, "VADDPS")
	p("\tVMOVSS X0, s+24(FP)")
	end()
	fn("scaleMulA", "d, x, w *float32, n int, s float32", 36)
	p("\tMOVQ d+0(FP), DI\n\tMOVQ x+8(FP), SI\n\tMOVQ w+16(FP), DX\n\tMOVQ n+24(FP), CX\n\tVBROADCASTSS s+32(FP), Z1")
	loop(16, func() { p("\tVMULPS (SI), Z1, Z0\n\tVMULPS (DX), Z0, Z0\n\tVMOVUPS Z0, (DI)") }, "DI", "SI", "DX")
	end()
	fn("dot3A", "a, b, c *float32, n int) (s float32", 36)
	p("\tMOVQ a+0(FP), DI\n\tMOVQ b+8(FP), SI\n\tMOVQ c+16(FP), DX\n\tMOVQ n+24(FP), CX\n\tVPXORD Z0, Z0, Z0")
	loop(16, func() { p("\tVMOVUPS (DI), Z1\n\tVMULPS (SI), Z1, Z1\n\tVFMADD231PS (DX), Z1, Z0") }, "DI", "SI", "DX")
	hsum(0, "VADDPS")
	p("\tVMOVSS X0, s+32(FP)")
	end()
}

func trainKernels() {
	// dx += r*(dy*w + x*c), dw += dy*x*r
	fn("rmsBwdA", "dx, dw, dy, x, w *float32, n int, r, c float32", 56)
	p("\tMOVQ dx+0(FP), DI\n\tMOVQ dw+8(FP), SI\n\tMOVQ dy+16(FP), DX\n\tMOVQ x+24(FP), R8\n\tMOVQ w+32(FP), R9\n\tMOVQ n+40(FP), CX\n\tVBROADCASTSS r+48(FP), Z1\n\tVBROADCASTSS c+52(FP), Z2")
	loop(16, func() {
		p("\tVMOVUPS (DX), Z3\n\tVMOVUPS (R8), Z4\n\tVMULPS (R9), Z3, Z5\n\tVFMADD231PS Z2, Z4, Z5\n\tVMOVUPS (DI), Z6\n\tVFMADD231PS Z1, Z5, Z6\n\tVMOVUPS Z6, (DI)")
		p("\tVMULPS Z3, Z4, Z4\n\tVMOVUPS (SI), Z7\n\tVFMADD231PS Z1, Z4, Z7\n\tVMOVUPS Z7, (SI)")
	}, "DI", "SI", "DX", "R8", "R9")
	end()

	// one head: (a,b) = (a*c - b*s*sign, a*s*sign + b*c), heads of stride bytes, n = half head size (multiple of 16)
	fn("ropeA", "q, c, s *float32, n, heads int, sign float32", 44)
	p("\tMOVQ q+0(FP), DI\n\tMOVQ n+24(FP), R10\n\tMOVQ heads+32(FP), R11\n\tVBROADCASTSS sign+40(FP), Z15")
	p("head:\n\tMOVQ c+8(FP), SI\n\tMOVQ s+16(FP), DX\n\tMOVQ R10, CX\n\tLEAQ (DI)(R10*4), R8")
	loop(16, func() {
		p("\tVMOVUPS (DI), Z0\n\tVMOVUPS (R8), Z1\n\tVMOVUPS (SI), Z2\n\tVMULPS (DX), Z15, Z3")
		p("\tVMULPS Z0, Z2, Z4\n\tVFNMADD231PS Z1, Z3, Z4\n\tVMULPS Z1, Z2, Z5\n\tVFMADD231PS Z0, Z3, Z5\n\tVMOVUPS Z4, (DI)\n\tVMOVUPS Z5, (R8)")
	}, "DI", "R8", "SI", "DX")
	p("\tMOVQ R8, DI\n\tDECQ R11\n\tJNZ head")
	end()

	// k: lr b1 b2 eps wd 1/c1 1/c2 1-b1 1-b2
	fn("adamwA", "p, gr, m, v *float32, n int, k *float32", 48)
	p("\tMOVQ p+0(FP), DI\n\tMOVQ gr+8(FP), SI\n\tMOVQ m+16(FP), DX\n\tMOVQ v+24(FP), R8\n\tMOVQ n+32(FP), CX\n\tMOVQ k+40(FP), AX\n\tVPXORD Z15, Z15, Z15")
	for i := 0; i < 9; i++ {
		p("\tVBROADCASTSS %d(AX), Z%d", i*4, 16+i)
	}
	loop(16, func() {
		p("\tVMOVUPS (SI), Z0\n\tVMULPS (DX), Z17, Z1\n\tVFMADD231PS Z0, Z23, Z1\n\tVMOVUPS Z1, (DX)")
		p("\tVMULPS Z0, Z0, Z2\n\tVMULPS Z24, Z2, Z2\n\tVFMADD231PS (R8), Z18, Z2\n\tVMOVUPS Z2, (R8)")
		p("\tVMULPS Z22, Z2, Z2\n\tVSQRTPS Z2, Z2\n\tVADDPS Z19, Z2, Z2\n\tVMULPS Z21, Z1, Z1\n\tVDIVPS Z2, Z1, Z1")
		p("\tVMOVUPS (DI), Z3\n\tVFMADD231PS Z20, Z3, Z1\n\tVFNMADD231PS Z16, Z1, Z3\n\tVMOVUPS Z3, (DI)\n\tVMOVUPS Z15, (SI)")
	}, "DI", "SI", "DX", "R8")
	end()
}
