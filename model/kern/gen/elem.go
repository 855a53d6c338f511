package main

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The element-wise kernels are described once, in elem_kernels.go, for both vector widths. A line of a description is an
// instruction, in which these words stand for operands:
//
//	V3      vector register 3; free are 0..7, with many arguments fewer
//	A       this copy's accumulator
//	@s      the float argument s in every lane
//	#one    a constant of consts in every lane; where it stands, memory must be allowed
//
// or a macro, which differs between the widths or between whole vectors and the rest (see expand).

// A kernel is one function on rows of n values, any n ≥ 1.
type kernel struct {
	name    string
	params  []param
	result  string // name of the float32 it returns: the accumulators joined by join, or none
	join    string // VADDPS from 0 or VMAXPS from −Inf
	unroll  int    // copies in the main loop, each with its own accumulator
	body    string
	heads   bool     // rope: the row is repeated for every head, with pointers a and b moved on by two rows
	rounds  bool     // to bfloat16 what is used in the same step only: parameters have the same bits in every set, and no instruction of their own
	strides []string // the row is repeated rows times, every pointer moved on by the argument that stands in its place here
}

// param is one argument. table names the float32s that a pointer points to, each to be put in every lane.
type param struct {
	name, typ string
	table     []string
}

// isa is a vector width: the letter of its registers, the register that says which lanes of the rest are there, its macros.
type isa struct {
	suffix, reg string
	lanes       int
	mask        string
	narrow      bool // rounded values lie side by side in half a register, as VCVTNEPS2BF16 leaves them; else in the lanes
	macros      map[string]string
}

var (
	avx2 = isa{suffix: "AVX2", reg: "Y", lanes: 8, mask: "Y15", macros: map[string]string{
		// Compared, because the exponent is put in by an integer sum: below lo it is 0, above hi or NaN it is x + Inf.
		"EXP": expHead + `
			VSUBPS #magic, V$2, V$4
			VFMADD231PS #nln2hi, V$4, V$3
			VFMADD231PS #nln2lo, V$4, V$3` + expPoly + `
			VPSLLD $$23, V$2, V$2
			VPADDD V$2, V$4, V$4
			VCMPPS $$5, #lo, V$1, V$2
			VANDPS V$2, V$4, V$4
			VCMPPS $$6, #hi, V$1, V$2
			VADDPS #inf, V$1, V$1
			VBLENDVPS V$2, V$1, V$4, V$1`,
		"ROUND": `
			VPSRLD $$16, V$1, V$2
			VPAND #int1, V$2, V$2
			VPADDD V$1, V$2, V$2
			VPADDD #half16, V$2, V$2
			VPSRLD $$16, V$2, V$2
			VCMPPS $$3, V$1, V$1, V$3
			VMOVUPS #nan16, V$1
			VBLENDVPS V$3, V$1, V$2, V$2`,
	}}
	avx512 = isa{suffix: "AVX512", reg: "Z", lanes: 16, mask: "K1", macros: map[string]string{
		"EXP": `
			VCMPPS $$5, #lo, V$1, K2
			VMINPS V$1, #top, V$1` + expHead + `
			VSUBPS #magic, V$2, V$2
			VFMADD231PS #nln2hi, V$2, V$3
			VFMADD231PS #nln2lo, V$2, V$3` + expPoly + `
			VSCALEFPS.Z V$2, V$4, K2, V$1`,
		"ROUND": `
			VPSRLD $$16, V$1, V$2
			VPANDD #int1, V$2, V$2
			VPADDD V$1, V$2, V$2
			VPADDD #half16, V$2, V$2
			VPSRLD $$16, V$2, V$2
			VCMPPS $$3, V$1, V$1, K2
			VMOVDQA32 #nan16, K2, V$2`,
	}}
)

// avx512bf16 is AVX-512 with the instruction that rounds to bfloat16. It takes subnormals for zero.
var avx512bf16 = isa{suffix: "VDP", reg: "Z", lanes: 16, mask: "K1", narrow: true, macros: map[string]string{"EXP": avx512.macros["EXP"]}}

// exp x = 2^n·exp r: n is x/ln 2 rounded by adding 1.5·2^23, r = x − n·ln 2 in two parts, exp r a polynomial (Cephes expf).
const (
	expHead = `
			VMOVUPS #magic, V$2
			VFMADD231PS #log2e, V$1, V$2
			VMOVAPS V$1, V$3`
	expPoly = `
			VMOVUPS #c0, V$4
			VFMADD213PS #c1, V$3, V$4
			VFMADD213PS #c2, V$3, V$4
			VFMADD213PS #c3, V$3, V$4
			VFMADD213PS #c4, V$3, V$4
			VFMADD213PS #c5, V$3, V$4
			VFMADD213PS #one, V$3, V$4
			VFMADD213PS #one, V$3, V$4`
)

// consts are the bits of each constant. lo and hi are the float32s inside of ln 2^-126 and ln 2^128.
var consts = []struct {
	name string
	bits uint32
}{
	{"log2e", f(1.44269504)}, {"magic", f(1.5 * (1 << 23))}, {"nln2hi", f(-0.693359375)}, {"nln2lo", f(2.12194440e-4)},
	{"c0", f(1.9875691500e-4)}, {"c1", f(1.3981999507e-3)}, {"c2", f(8.3334519073e-3)}, {"c3", f(4.1665795894e-2)}, {"c4", f(1.6666665459e-1)},
	{"c5", f(5.0000001201e-1)}, {"one", f(1)}, {"lo", f(-87.33654)}, {"hi", f(88.72283)}, {"top", f(89)},
	{"inf", f(float32(math.Inf(1)))}, {"ninf", f(float32(math.Inf(-1)))},
	{"sign", 1 << 31}, {"int1", 1}, {"half16", 0x7FFF}, {"nan16", 0x7FC0},
}

func f(x float32) uint32 { return math.Float32bits(x) }

// writer turns one kernel into the code of one width.
type writer struct {
	isa
	kernel
	ptr   map[string]string // pointer argument -> general register
	width map[string]int    // its bytes per element
	vec   map[string]string // float argument or constant -> vector register or memory
	free  int               // the registers below are not taken by arguments and accumulators
	copy  int               // of the loop body
	rest  bool              // the lanes beyond n are off
	rests int               // loads and stores of halves in the rest so far, for their labels
}

var (
	vReg, aReg  = regexp.MustCompile(`\bV(\d+)\b`), regexp.MustCompile(`\bA\b`)
	named       = regexp.MustCompile(`[@#](\w+)`)
	macroArg    = regexp.MustCompile(`\$(\d|\$)`)
	pointerRegs = []string{"DI", "SI", "DX", "R8", "R9", "R10"}
)

// ins writes lines of a description.
func (w *writer) ins(text string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		op, rest, _ := strings.Cut(line, " ")
		if args := strings.Split(rest, ", "); !w.expand(op, args) {
			line = vReg.ReplaceAllStringFunc(line, func(s string) string { return w.reg + w.number(s) })
			line = aReg.ReplaceAllString(line, w.acc(w.copy))
			p("\t%s", named.ReplaceAllStringFunc(line, func(s string) string {
				if w.vec[s[1:]] == "" {
					fail("%s: no operand %s", w.name, s)
				}
				return w.vec[s[1:]]
			}))
		}
	}
}

// number is that of a description's register, which must be free.
func (w *writer) number(v string) string {
	if i, err := strconv.Atoi(v[1:]); err != nil || i >= w.free {
		fail("%s: there is no register %s, or it is taken", w.name, v)
	}
	return v[1:]
}

func (w *writer) acc(i int) string { return fmt.Sprintf("%s%d", w.reg, 8+i) }

// at is where the values of this copy lie behind a pointer.
func (w *writer) at(ptr string) string {
	if w.ptr[ptr] == "" {
		fail("%s: no pointer %s", w.name, ptr)
	}
	return fmt.Sprintf("%d(%s)(AX*%d)", w.copy*w.lanes*w.width[ptr], w.ptr[ptr], w.width[ptr])
}

// start begins an accumulator.
func (w *writer) start() string {
	return map[string]string{"VADDPS": "VXORPS A, A, A", "VMAXPS": "VMOVUPS #ninf, A"}[w.join]
}

// function writes the whole kernel: arguments, constants, the loop over whole vectors, the rest, the result.
func (w *writer) function() {
	p("// func %s", w.decl(w.suffix))
	p("TEXT ·%s%s(SB), NOSPLIT, $0-%d", w.name, w.suffix, w.arguments(false))
	w.arguments(true)
	w.constants()
	if w.strides == nil {
		w.begin()
	}
	if w.heads {
		p("head:\n\tMOVQ half+32(FP), CX")
	}
	if w.strides != nil {
		p("row:\n\tMOVQ %s, CX", w.argument("n"))
		w.begin()
	}
	w.loops()
	if w.strides != nil {
		w.nextRow()
		p("\tVZEROUPPER\n\tRET\n")
		return
	}
	if w.heads {
		p("\tMOVQ half+32(FP), CX\n\tLEAQ (DI)(CX*8), DI\n\tLEAQ (SI)(CX*8), SI\n\tDECQ R13\n\tJNZ head")
	}
	if w.join != "" {
		w.reduce(fmt.Sprintf("%s+%d(FP)", w.result, w.arguments(false)-4))
	}
	p("\tVZEROUPPER\n\tRET\n")
}

// begin starts the accumulators.
func (w *writer) begin() {
	for i := 0; w.join != "" && i < w.unroll; i++ {
		w.copy = i
		w.ins(w.start())
	}
	w.copy = 0
}

// argument is where an argument of 8 bytes lies; all before it have 8 too.
func (w *writer) argument(name string) string {
	i := slices.IndexFunc(w.params, func(a param) bool { return a.name == name })
	if i < 0 {
		fail("%s: no argument %s", w.name, name)
	}
	return fmt.Sprintf("%s+%d(FP)", name, i*8)
}

// nextRow stores the row's sum, which goes to the last pointer, and moves every pointer on.
func (w *writer) nextRow() {
	if w.join != "" {
		w.reduce(fmt.Sprintf("(%s)", w.ptr[w.params[len(w.strides)-1].name]))
	}
	for i, stride := range w.strides {
		p("\tADDQ %s, %s", w.argument(stride), w.ptr[w.params[i].name])
	}
	p("\tDECQ R11\n\tJNZ row")
}

// arguments loads the arguments and returns their size in bytes with the result.
func (w *writer) arguments(load bool) int {
	off, next := 0, 14
	lane := func(name, from string) {
		w.vec[name] = fmt.Sprintf("%s%d", w.reg, next)
		next--
		if load {
			p("\tVBROADCASTSS %s, %s", from, w.vec[name])
		}
	}
	for _, a := range w.params {
		size := 8
		reg := map[string]string{"n": "CX", "half": "CX", "heads": "R13", "rows": "R11"}[a.name]
		switch {
		case a.typ == "float32":
			size = 4
			lane(a.name, fmt.Sprintf("%s+%d(FP)", a.name, off))
		case a.table != nil:
			reg = "BX"
		case a.typ != "int":
			reg = pointerRegs[len(w.ptr)%len(pointerRegs)]
			if r := w.ptr[a.name]; r != "" {
				reg = r
			}
			w.ptr[a.name], w.width[a.name] = reg, map[string]int{"*float32": 4, "*BF16": 2}[a.typ]
		}
		if load && reg != "" {
			p("\tMOVQ %s+%d(FP), %s", a.name, off, reg)
		}
		for i, name := range a.table {
			lane(name, fmt.Sprintf("%d(BX)", i*4))
		}
		off += size
	}
	w.free = next + 1
	if w.join != "" {
		if w.free < 8+w.unroll {
			fail("%s: arguments and accumulators overlap", w.name)
		}
		w.free = 8
		if w.result != "" {
			off = (off+7)&^7 + 4
		}
	}
	return off
}

// constants finds those that the kernel uses; with AVX-512 there are registers for them.
func (w *writer) constants() {
	text := w.body
	for op, m := range w.macros {
		if strings.Contains(w.body, op+" ") {
			text += m
		}
	}
	text += w.start()
	next, last := 16, 32
	for i, c := range consts {
		if !slices.Contains(named.FindAllString(text, -1), "#"+c.name) {
			continue
		}
		w.vec[c.name] = fmt.Sprintf("elemConst<>+%d(SB)", i*w.constBytes())
		if w.lanes == 16 {
			if next == last && last == 32 { // the rest below the arguments, where accumulators would be
				next, last, w.free = 8, w.free, 8
			}
			if next == last || last < 32 && w.join != "" {
				fail("%s: too many constants", w.name)
			}
			p("\tVBROADCASTSS %s, Z%d", w.vec[c.name], next)
			w.vec[c.name] = fmt.Sprintf("Z%d", next)
			next++
		}
	}
}

// constBytes is the size of a constant in memory: AVX2 reads it as a whole vector.
func (w *isa) constBytes() int {
	if w.lanes == 16 {
		return 4
	}
	return 32
}

// loops walks AX from 0 to CX: unroll vectors at a time, one at a time, the rest.
func (w *writer) loops() {
	p("\tXORL AX, AX")
	if w.unroll > 1 {
		w.loop("many", "few", w.unroll)
		p("few:")
	}
	w.loop("one", "rest", 1)
	p("rest:\n\tSUBQ AX, CX\n\tJZ done")
	if w.lanes == 16 {
		p("\tMOVL $1, BX\n\tSHLL CX, BX\n\tDECL BX\n\tKMOVW BX, K1")
	} else {
		p("\tLEAQ elemMask<>+32(SB), BX\n\tLEAQ (CX*4), R12\n\tSUBQ R12, BX\n\tVMOVUPS (BX), Y15")
	}
	w.copy, w.rest = 0, true
	w.ins(w.body)
	w.rest = false
	p("done:")
}

func (w *writer) loop(label, next string, copies int) {
	step := copies * w.lanes
	p("\tLEAQ -%d(CX), R12\n\tCMPQ AX, R12\n\tJGT %s\n\tPCALIGN $32\n%s:", step, next, label)
	for w.copy = range copies {
		w.ins(w.body)
	}
	p("\tADDQ $%d, AX\n\tCMPQ AX, R12\n\tJLE %s", step, label)
}

// reduce joins the accumulators and their lanes, always in the same order, and leaves the result in memory.
func (w *writer) reduce(to string) {
	for by := 1; by < w.unroll; by *= 2 {
		for i := 0; i+by < w.unroll; i += 2 * by {
			p("\t%s %s, %s, %s", w.join, w.acc(i+by), w.acc(i), w.acc(i))
		}
	}
	if w.lanes == 16 {
		p("\tVEXTRACTF64X4 $1, Z8, Y0\n\t%s Y0, Y8, Y8", w.join)
	}
	p("\tVEXTRACTF128 $1, Y8, X0\n\t%s X0, X8, X8", w.join)
	p("\tVPERMILPS $0x4e, X8, X0\n\t%s X0, X8, X8\n\tVPERMILPS $0xb1, X8, X0\n\t%s X0, X8, X8", w.join, w.join)
	p("\tVMOVSS X8, %s", to)
}
