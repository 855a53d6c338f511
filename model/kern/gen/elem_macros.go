package main

import (
	"fmt"
	"strconv"
)

// expand writes a macro:
//
//	LD d, V0     load; lanes beyond n are 0, with LDA those of the accumulator
//	LDH d, V0, V1    load 16-bit values into the low halves of the lanes of V0; V1 is lost
//	BC f, V0     the one value that f points to in every lane
//	ST V0, d     store
//	STH V0, V1, d    store the low halves of the lanes of V0; both are lost
//	LIVE V0      clear the lanes beyond n
//	EXP V0, V1, V2, V3    V0 = exp V0, the others are lost
//	ROUND V0, V1, V2      V1 = the bfloat16 nearest to V0, V0 and V2 are lost
//	WIDEN V0, V1     V1 = the float32 of a rounded V0
func (w *writer) expand(op string, args []string) bool {
	short := w.lanes == 8
	switch op {
	case "LD", "LDA":
		switch {
		case !w.rest:
			w.ins("VMOVUPS " + w.at(args[0]) + ", " + args[1])
		case short:
			w.ins("VMASKMOVPS " + w.at(args[0]) + ", " + w.mask + ", " + args[1])
			if op == "LDA" {
				w.ins("VBLENDVPS " + w.mask + ", " + args[1] + ", A, " + args[1])
			}
		case op == "LDA":
			w.ins("VMOVAPS A, " + args[1] + "\nVMOVUPS " + w.at(args[0]) + ", K1, " + args[1])
		default:
			w.ins("VMOVUPS.Z " + w.at(args[0]) + ", K1, " + args[1])
		}
	case "BC":
		p("\tVBROADCASTSS (%s), %s%s", w.ptr[args[0]], w.reg, w.number(args[1]))
	case "ST":
		switch {
		case !w.rest:
			w.ins("VMOVUPS " + args[0] + ", " + w.at(args[1]))
		case short:
			w.ins("VMASKMOVPS " + args[0] + ", " + w.mask + ", " + w.at(args[1]))
		default:
			w.ins("VMOVUPS " + args[0] + ", K1, " + w.at(args[1]))
		}
	case "LDH":
		switch {
		case !w.rest:
			w.ins("VPMOVZXWD " + w.at(args[0]) + ", " + args[1])
		case short:
			w.loadHalves(args[0], w.number(args[1]), w.number(args[2]))
		default:
			w.ins("VPMOVZXWD.Z " + w.at(args[0]) + ", K1, " + args[1])
		}
	case "ROUND":
		if !w.narrow {
			return w.macro(op, args)
		}
		narrow(w.number(args[1]), w.number(args[0]))
	case "WIDEN":
		if w.narrow {
			p("\tVPMOVZXWD Y%s, Z%s", w.number(args[0]), w.number(args[1]))
			args[0] = args[1]
		}
		w.ins("VPSLLD $16, " + args[0] + ", " + args[1])
	case "STH":
		w.storeHalves(w.number(args[0]), w.number(args[1]), args[2])
	case "LIVE":
		if w.rest && short {
			w.ins("VANDPS " + w.mask + ", " + args[0] + ", " + args[0])
		} else if w.rest {
			w.ins("VMOVAPS.Z " + args[0] + ", K1, " + args[0])
		}
	default:
		return w.macro(op, args)
	}
	return true
}

// macro writes one that is text.
func (w *writer) macro(op string, args []string) bool {
	m, ok := w.macros[op]
	if ok {
		w.ins(macroArg.ReplaceAllStringFunc(m, func(s string) string {
			if s == "$$" {
				return "$"
			}
			i, _ := strconv.Atoi(s[1:])
			return args[i-1][1:]
		}))
	}
	return ok
}

// narrow rounds register b into half of d (EVEX.512.F3.0F38.W0 72 /r); both are below 8.
func narrow(d, b string) {
	to, _ := strconv.Atoi(d)
	from, _ := strconv.Atoi(b)
	raw(fmt.Sprintf("vcvtneps2bf16 %%zmm%d,%%ymm%d", from, to), 0x62, 0xf2, 0x7e, 0x48, 0x72, 0xc0|byte(to)<<3|byte(from))
}

// storeHalves stores the low halves of the lanes of register r; with AVX2 the rest goes in pieces of 4, 2 and 1.
func (w *writer) storeHalves(r, other, ptr string) {
	switch {
	case w.narrow && w.rest:
		p("\tVMOVDQU16 Y%s, K1, %s", r, w.at(ptr))
		return
	case w.narrow:
		p("\tVMOVDQU Y%s, %s", r, w.at(ptr))
		return
	}
	if w.lanes == 16 && w.rest {
		w.ins("VPMOVDW V" + r + ", K1, " + w.at(ptr))
		return
	}
	if w.lanes == 16 {
		p("\tVPMOVDW Z%s, Y%s\n\tVMOVDQU Y%s, %s", r, r, r, w.at(ptr))
		return
	}
	p("\tVEXTRACTI128 $1, Y%s, X%s\n\tVPACKUSDW X%s, X%s, X%s", r, other, other, r, r)
	if !w.rest {
		p("\tVMOVDQU X%s, %s", r, w.at(ptr))
		return
	}
	n := w.rests
	w.rests++
	p("\tLEAQ %s, BX", w.at(ptr))
	p("\tTESTL $4, CX\n\tJZ to2x%d\n\tVMOVQ X%s, (BX)\n\tADDQ $8, BX\n\tVPSRLDQ $8, X%s, X%s", n, r, r, r)
	p("to2x%d:\n\tTESTL $2, CX\n\tJZ to1x%d\n\tVMOVD X%s, (BX)\n\tADDQ $4, BX\n\tVPSRLDQ $4, X%s, X%s", n, n, r, r, r)
	p("to1x%d:\n\tTESTL $1, CX\n\tJZ to0x%d\n\tVPEXTRW $0, X%s, (BX)\nto0x%d:", n, n, r, n)
}

// loadHalves loads the rest, at most 7, with AVX2: the last 1, before it 2, before it 4.
func (w *writer) loadHalves(ptr, r, other string) {
	n := w.rests
	w.rests++
	p("\tLEAQ %s, BX\n\tLEAQ (BX)(CX*2), BX\n\tXORL R12, R12", w.at(ptr))
	p("\tTESTL $1, CX\n\tJZ from2x%d\n\tSUBQ $2, BX\n\tMOVWLZX (BX), R12", n)
	p("from2x%d:\n\tTESTL $2, CX\n\tJZ from4x%d\n\tSUBQ $4, BX\n\tSHLQ $32, R12\n\tMOVL (BX), R13\n\tORQ R13, R12", n, n)
	p("from4x%d:\n\tVMOVQ R12, X%s\n\tTESTL $4, CX\n\tJZ from0x%d\n\tVPSLLDQ $8, X%s, X%s\n\tVMOVQ -8(BX), X%s\n\tVPOR X%s, X%s, X%s", n, r, n, r, r, other, other, r, r)
	p("from0x%d:\n\tVPMOVZXWD X%s, Y%s", n, r, r)
}
