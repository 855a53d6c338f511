package main

import "strings"

// headRows: the rows of one head, put among those of other heads, rotated back: d = a·cos + b·sin, e = b·cos − a·sin.
var headRows = []kernel{
	{name: "unrope", params: unropeParams("*float32"), strides: unropeStrides, unroll: 1, body: unrope + `
		ST V4, d
		ST V5, e`},
	{name: "unropeBF16", rounds: true, params: unropeParams("*BF16"), strides: unropeStrides, unroll: 1, body: unrope + `
		ROUND V4, V0, V1
		STH V0, V1, d
		ROUND V5, V0, V1
		STH V0, V1, e`},
	// d = o·f, f of the row
	{name: "scaleRows", params: rowParams("", "d o f", "dBytes oBytes fBytes"), strides: strings.Fields("dBytes oBytes fBytes"), unroll: 1, body: `
		LD o, V0
		BC f, V1
		VMULPS V1, V0, V0
		ST V0, d`},
	{name: "scaleRowsBF16", rounds: true, params: rowParams("d", "o f", "dBytes oBytes fBytes"), strides: strings.Fields("dBytes oBytes fBytes"), unroll: 1, body: `
		LD o, V0
		BC f, V1
		VMULPS V1, V0, V0
		ROUND V0, V1, V2
		STH V1, V0, d`},
	// sum = Σ a·b of the row
	{name: "dotRows", params: rowParams("", "a b sum", "aBytes bBytes sumBytes"), strides: strings.Fields("aBytes bBytes sumBytes"), join: "VADDPS", unroll: 2, body: `
		LD a, V0
		LD b, V1
		VFMADD231PS V1, V0, A`},
	// the same of a rounded, which goes to d
	{name: "dotRowsBF16", rounds: true, params: rowParams("d b", "a sum", "dBytes bBytes aBytes sumBytes"), strides: strings.Fields("dBytes bBytes aBytes sumBytes"), join: "VADDPS", unroll: 2, body: `
		LD a, V0
		ROUND V0, V1, V2
		WIDEN V1, V0
		LDH b, V3, V4
		VPSLLD $16, V3, V3
		VFMADD231PS V3, V0, A
		STH V1, V2, d`},
}

// rowParams are pointers to rows, of bfloat16 and of float32, and then numbers.
func rowParams(halves, singles, numbers string) []param {
	out := append(bf16s(halves), floats(singles)...)
	for _, n := range strings.Fields("rows " + numbers) {
		out = append(out, param{name: n, typ: "int"})
	}
	return out
}

var unropeStrides = strings.Fields("dBytes dBytes aBytes aBytes cBytes cBytes")

func unropeParams(out string) []param {
	all := rowParams("", "d e a b c s", "dBytes aBytes cBytes")
	all[0].typ, all[1].typ = out, out
	return all
}

const unrope = `
		LD a, V0
		LD b, V1
		LD c, V2
		LD s, V3
		VMULPS V0, V2, V4
		VFMADD231PS V1, V3, V4
		VMULPS V1, V2, V5
		VFNMADD231PS V0, V3, V5`
