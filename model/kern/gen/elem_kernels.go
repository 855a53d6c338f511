package main

import (
	"fmt"
	"go/format"
	"os"
	"slices"
	"strings"
)

// kernels are all element-wise kernels.
var kernels = slicesOf(linear, softmax, norm, headRows, swiglu, adamw, halves)

func slicesOf(groups ...[]kernel) (all []kernel) {
	for _, g := range groups {
		all = append(all, g...)
	}
	return all
}

// floats are pointers to float32, followed by the length.
func floats(names string, more ...param) []param {
	var out []param
	for _, n := range strings.Fields(names) {
		out = append(out, param{name: n, typ: "*float32"})
	}
	return append(append(out, param{name: "n", typ: "int"}), more...)
}

func scalar(name string) param { return param{name: name, typ: "float32"} }

// linear: sums, products, scalings.
var linear = []kernel{
	{name: "dot", params: floats("a b"), result: "sum", join: "VADDPS", unroll: 4, body: `
		LD a, V0
		LD b, V1
		VFMADD231PS V1, V0, A`},
	{name: "sumSquares", params: floats("a"), result: "sum", join: "VADDPS", unroll: 4, body: `
		LD a, V0
		VFMADD231PS V0, V0, A`},
	{name: "scaleMul", params: floats("d x w", scalar("s")), unroll: 2, body: `
		LD x, V0
		VMULPS @s, V0, V0
		LD w, V1
		VMULPS V1, V0, V0
		ST V0, d`},
	{name: "scale", params: floats("d", scalar("s")), unroll: 4, body: `
		LD d, V0
		VMULPS @s, V0, V0
		ST V0, d`},
	{name: "add", params: floats("d s"), unroll: 4, body: `
		LD d, V0
		LD s, V1
		VADDPS V1, V0, V0
		ST V0, d`},
	{name: "mulAdd", params: floats("d s", scalar("a")), unroll: 4, body: `
		LD d, V0
		LD s, V1
		VFMADD231PS @a, V1, V0
		ST V0, d`},
}

// softmax and its pieces. The maximum skips a NaN: of a NaN and a number VMAXPS gives the operand that is written first.
var softmax = []kernel{
	{name: "max", params: floats("d"), result: "m", join: "VMAXPS", unroll: 4, body: `
		LDA d, V0
		VMAXPS A, V0, A`},
	{name: "expSum", params: floats("d", scalar("scale"), scalar("bias")), result: "sum", join: "VADDPS", unroll: 2, body: `
		LD d, V0
		VFMADD213PS @bias, @scale, V0
		EXP V0, V1, V2, V3
		ST V0, d
		LIVE V0
		VADDPS V0, A, A`},
	{name: "expSumBF16", rounds: true, params: append(bf16s("h"), floats("d", scalar("scale"), scalar("bias"))...), result: "sum", join: "VADDPS", unroll: 2, body: `
		LD d, V0
		VFMADD213PS @bias, @scale, V0
		EXP V0, V1, V2, V3
		LIVE V0
		VADDPS V0, A, A
		ROUND V0, V1, V2
		STH V1, V0, h`},
	{name: "scoreGradients", params: floats("s d l e", scalar("scale")), unroll: 1, body: scoreGradients + `
		ST V0, s
		ST V5, d`},
	{name: "scoreGradientsBF16", rounds: true, params: append(bf16s("p u"), floats("s d l e", scalar("scale"))...), unroll: 1, body: scoreGradients + `
		ROUND V0, V1, V2
		STH V1, V0, p
		ROUND V5, V1, V2
		STH V1, V5, u`},
}

// scoreGradients leaves p = exp(scale·s − l) in V0 and scale·p·(d − e) in V5.
const scoreGradients = `
		LD s, V0
		LD l, V1
		VFMSUB213PS V1, @scale, V0
		EXP V0, V1, V2, V3
		LD d, V5
		LD e, V1
		VSUBPS V1, V5, V5
		VMULPS V0, V5, V5
		VMULPS @scale, V5, V5`

// norm: RMSNorm backward and RoPE.
var norm = []kernel{
	{name: "dot3", params: floats("a b c"), result: "sum", join: "VADDPS", unroll: 4, body: `
		LD a, V0
		LD b, V1
		VMULPS V1, V0, V0
		LD c, V1
		VFMADD231PS V1, V0, A`},
	// dx += r·(dy·w + x·c), dw += dy·x·r
	{name: "rmsBackward", params: floats("dx dw dy x w", scalar("r"), scalar("c")), unroll: 1, body: `
		LD dy, V0
		LD x, V1
		LD w, V2
		LD dx, V3
		LD dw, V4
		VMULPS V0, V2, V2
		VFMADD231PS @c, V1, V2
		VFMADD231PS @r, V2, V3
		ST V3, dx
		VMULPS V0, V1, V1
		VFMADD231PS @r, V1, V4
		ST V4, dw`},
	// (a, b) = (a·cos − b·sin·sign, a·sin·sign + b·cos)
	{name: "rope", params: append(floats("a b c s")[:4], param{name: "half", typ: "int"}, param{name: "heads", typ: "int"}, scalar("sign")), heads: true, unroll: 1, body: `
		LD a, V0
		LD b, V1
		LD c, V2
		LD s, V3
		VMULPS @sign, V3, V3
		VMULPS V0, V2, V4
		VFNMADD231PS V1, V3, V4
		VMULPS V1, V2, V5
		VFMADD231PS V0, V3, V5
		ST V4, a
		ST V5, b`},
}

// swiglu: silu(gate)·up and its gradient.
var swiglu = []kernel{
	{name: "swiglu", params: floats("a gt u"), unroll: 1, body: `
		LD gt, V4
		LD u, V5
		VXORPS #sign, V4, V0
		EXP V0, V1, V2, V3
		VADDPS #one, V0, V0
		VDIVPS V0, V4, V4
		VMULPS V5, V4, V4
		ST V4, a`},
	// the same, and gate and up are kept, all rounded
	{name: "swigluBF16", rounds: true, params: append(bf16s("a gh uh"), floats("gt u")...), unroll: 1, body: `
		LD gt, V4
		LD u, V5
		VXORPS #sign, V4, V0
		EXP V0, V1, V2, V3
		VADDPS #one, V0, V0
		VDIVPS V0, V4, V6
		VMULPS V5, V6, V6
		ROUND V4, V0, V1
		STH V0, V1, gh
		ROUND V5, V0, V1
		STH V0, V1, uh
		ROUND V6, V0, V1
		STH V0, V1, a`},
	{name: "swigluBackward", params: floats("gt u da"), unroll: 1, body: `
		LD gt, V4
		LD u, V6` + swigluBackward + `
		ST V7, u
		ST V6, gt`},
	// of rounded values, to rounded ones
	{name: "swigluBackwardBF16", rounds: true, params: append(bf16s("dg du gh uh"), floats("da")...), unroll: 1, body: `
		LDH gh, V4, V0
		VPSLLD $16, V4, V4
		LDH uh, V6, V0
		VPSLLD $16, V6, V6` + swigluBackward + `
		ROUND V7, V0, V1
		STH V0, V1, du
		ROUND V6, V0, V1
		STH V0, V1, dg`},
}

// bf16s are pointers to bfloat16.
func bf16s(names string) (out []param) {
	for _, n := range strings.Fields(names) {
		out = append(out, param{name: n, typ: "*BF16"})
	}
	return out
}

// swigluBackward makes of gate in V4 and up in V6 the gradient of up in V7 and that of gate in V6: V5 = σ(gate), and V3 =
// silu'(gate) = σ·(1 + gate·(1 − σ)).
const swigluBackward = `
		VXORPS #sign, V4, V0
		EXP V0, V1, V2, V3
		VADDPS #one, V0, V0
		VMOVUPS #one, V1
		VDIVPS V0, V1, V5
		LD da, V7
		VMULPS V6, V7, V6
		VMULPS V4, V5, V0
		VMULPS V0, V7, V7
		VSUBPS V5, V1, V3
		VFMADD213PS #one, V4, V3
		VMULPS V5, V3, V3
		VMULPS V3, V6, V6`

// step is AdamW on gradient·gs; ic1 = 1/(1 − β1^t), nb1 = 1 − β1, and so on.
const step = `
		LD gr, V0
		VMULPS @gs, V0, V0
		LD m, V1
		VMULPS @b1, V1, V1
		VFMADD231PS @nb1, V0, V1
		ST V1, m
		VMULPS V0, V0, V2
		VMULPS @nb2, V2, V2
		LD v, V4
		VFMADD231PS @b2, V4, V2
		ST V2, v
		VMULPS @ic2, V2, V2
		VSQRTPS V2, V2
		VADDPS @eps, V2, V2
		VMULPS @ic1, V1, V1
		VDIVPS V2, V1, V1
		LD p, V3
		VFMADD231PS @wd, V3, V1
		VFNMADD231PS @lr, V1, V3
		ST V3, p`

var adamwTable = param{name: "k", typ: "*float32", table: strings.Fields("lr b1 b2 eps wd ic1 ic2 nb1 nb2 gs")}

// adamw alone, and with a bfloat16 copy of the new parameters.
var adamw = []kernel{
	{name: "adamw", params: floats("p gr m v", adamwTable), unroll: 1, body: step},
	{name: "adamwCopy", params: append(bf16s("h"), floats("p gr m v", adamwTable)...), unroll: 1, body: step + `
		ROUND V3, V0, V1
		STH V0, V1, h`},
}

// halves: conversions between float32 and bfloat16, and sums of products of both.
var halves = []kernel{
	{name: "toBF16", params: append(bf16s("d"), floats("s")...), unroll: 2, body: `
		LD s, V0
		ROUND V0, V1, V2
		STH V1, V0, d`},
	{name: "fromBF16", params: []param{{name: "d", typ: "*float32"}, {name: "s", typ: "*BF16"}, {name: "n", typ: "int"}}, unroll: 2, body: `
		LDH s, V0, V1
		VPSLLD $16, V0, V0
		ST V0, d`},
	{name: "dotBF16", params: []param{{name: "a", typ: "*float32"}, {name: "b", typ: "*BF16"}, {name: "n", typ: "int"}}, result: "sum", join: "VADDPS", unroll: 4, body: `
		LDH b, V0, V1
		VPSLLD $16, V0, V0
		LD a, V1
		VFMADD231PS V1, V0, A`},
}

// decl is the Go signature.
func (k *kernel) decl(suffix string) string {
	var args []string
	for i, a := range k.params {
		text := a.name
		if i+1 == len(k.params) || k.params[i+1].typ != a.typ {
			text += " " + a.typ
		}
		args = append(args, text)
	}
	out := fmt.Sprintf("%s%s(%s)", k.name, suffix, strings.Join(args, ", "))
	if k.result != "" {
		out += " (" + k.result + " float32)"
	}
	return out
}

// elemFiles writes the assembly of both widths and its declarations.
func elemFiles() {
	write("elem_avx2_amd64.s", func() { elem(avx2) })
	write("elem_avx512_amd64.s", func() { elem(avx512) })
	write("elem_vdp_amd64.s", func() { elem(avx512bf16) })
	writeGo("elem_amd64.go", "amd64", func() { elemDecls(false) })
	writeGo("elem_other.go", "!amd64", func() { elemDecls(true) })
}

// writeGo makes one Go file.
func writeGo(name, tag string, body func()) {
	o.Reset()
	p("//go:build %s\n\n// Code generated by model/kern/gen; DO NOT EDIT.\n\npackage kern\n", tag)
	body()
	text, err := format.Source(o.Bytes())
	if err == nil {
		err = os.WriteFile(name, text, 0o644)
	}
	if err != nil {
		fail("write %s: %v", name, err)
	}
}

// elem writes the assembly of one width.
func elem(i isa) {
	for n, c := range consts {
		for off := 0; off < i.constBytes(); off += 4 {
			p("DATA elemConst<>+%d(SB)/4, $0x%08x", n*i.constBytes()+off, c.bits)
		}
	}
	p("GLOBL elemConst<>(SB), RODATA|NOPTR, $%d\n", len(consts)*i.constBytes())
	if i.lanes == 8 {
		for off := range 16 {
			p("DATA elemMask<>+%d(SB)/4, $0x%08x", off*4, uint32(off/8)-1)
		}
		p("GLOBL elemMask<>(SB), RODATA|NOPTR, $64\n")
	}
	for _, k := range i.kernels() {
		w := writer{isa: i, kernel: k, ptr: map[string]string{}, width: map[string]int{}, vec: map[string]string{}}
		w.function()
	}
}

// kernels are those that an instruction set has.
func (w *isa) kernels() []kernel {
	return slices.DeleteFunc(slices.Clone(kernels), func(k kernel) bool { return w.narrow && !k.rounds })
}

// elemDecls writes the declarations of both widths; with bodies for platforms without them.
func elemDecls(bodies bool) {
	for _, i := range []isa{avx2, avx512, avx512bf16} {
		for _, k := range i.kernels() {
			switch {
			case !bodies:
				p("//go:noescape\nfunc %s\n", k.decl(i.suffix))
			case k.result != "":
				p("func %s { return 0 }", k.decl(i.suffix))
			default:
				p("func %s {}", k.decl(i.suffix))
			}
		}
	}
}
