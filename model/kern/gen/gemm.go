package main

// The micro-kernel holds a 14×32 block of C in 28 of 32 registers.
const MR, NR = 14, 32

// f32kern is C (+)= A·B on packed panels of k steps.
func f32kern() {
	p("// func kern14x32(k int, a, b, c *float32, ldcBytes int, acc int)")
	p("TEXT ·kern14x32(SB), NOSPLIT, $0-48")
	p("\tMOVQ k+0(FP), CX\n\tMOVQ a+8(FP), SI\n\tMOVQ b+16(FP), DI\n\tMOVQ c+24(FP), DX\n\tMOVQ ldcBytes+32(FP), R9\n\tMOVQ acc+40(FP), R10")
	for i := 0; i < 28; i++ {
		p("\tVPXORD Z%d, Z%d, Z%d", i, i, i)
	}
	step := func(ka, kb int) {
		p("\tVMOVUPS %d(DI), Z28\n\tVMOVUPS %d(DI), Z29", kb, kb+64)
		for i := 0; i < MR; i++ {
			z := 30 + i%2
			p("\tVBROADCASTSS %d(SI), Z%d\n\tVFMADD231PS Z28, Z%d, Z%d\n\tVFMADD231PS Z29, Z%d, Z%d", ka+i*4, z, z, i, z, 14+i)
		}
	}
	p("\tSUBQ $2, CX\n\tJL  tail")
	p("loop:")
	p("\tPREFETCHT0 1024(SI)\n\tPREFETCHT0 1088(SI)")
	step(0, 0)
	step(MR*4, NR*4)
	p("\tADDQ $%d, SI\n\tADDQ $%d, DI\n\tSUBQ $2, CX\n\tJGE loop", MR*8, NR*8)
	p("tail:\n\tADDQ $2, CX\n\tJZ done")
	step(0, 0)
	p("done:\n\tTESTQ R10, R10\n\tJZ store")
	p("\tMOVQ DX, R8")
	for i := 0; i < MR; i++ {
		p("\tVADDPS (R8), Z%d, Z%d\n\tVADDPS 64(R8), Z%d, Z%d\n\tADDQ R9, R8", i, i, 14+i, 14+i)
	}
	p("store:")
	for i := 0; i < MR; i++ {
		p("\tVMOVUPS Z%d, (DX)\n\tVMOVUPS Z%d, 64(DX)\n\tADDQ R9, DX", i, 14+i)
	}
	p("\tVZEROUPPER\n\tRET\n")
}
