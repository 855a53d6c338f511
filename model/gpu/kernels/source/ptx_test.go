package source

import (
	"strings"
	"testing"

	"sn3/model/gpu/cuda"
)

// sample is PTX as a compiler writes it.
const sample = `//
.version 8.0 // of the language
.target sm_80

.visible .entry one(
	.param .u64 .ptr .global .align 4 one_param_0,
	.param .u32 one_param_1,
	.param .f32 one_param_2
)
.maxntid 64, 1, 1
{
	.reg .f32 	%f<4>;
	// demoted variable
	.shared .align 16 .b8 part[8];
	@%p1 add.rn.f32 	%f1, %f2, %f3; // sum
	{mul.rn.f32 %f1, %f1, %f2; cvt.f64.f32 %fd1, %f1;}
	ret;
}
`

var signatures = []cuda.Kernel{{Name: "one", Threads: 64, Params: []cuda.Param{{Name: "y", Type: cuda.Pointer}, {Name: "n", Type: cuda.Int32}, {Name: "a", Type: cuda.Float32}}}}

func TestStrip(t *testing.T) {
	if got := string(Strip([]byte("//\n\n.version 8.0\n\tadd.s32 \t%r1, %r2; // sum\n\t// begin inline asm\n}\n"))); got != ".version 8.0\nadd.s32 %r1, %r2;\n}\n" {
		t.Errorf("%q", got)
	}
}

// What differs between table and text is said.
func TestCheck(t *testing.T) {
	for _, c := range []struct{ from, to, says string }{
		{"", "", ""},
		{"one(", "other(", "kernel other is not in the table"},
		{"", sample, "kernel one is not in the table, or twice"},
		{".entry", ".func", "kernel one is not in the PTX"},
		{".param .u32 one_param_1,\n", "", "2 parameters, the table has 3"},
		{".u32", ".u64", "parameter 1 (n): \".param .u64 one_param_1,\" is not .u32"},
		{".f32 one", ".b32 one", "is not .f32"},
		{"64, 1", "32, 1", "not of 64 threads"},
		{".reg .f32", ".local .align 4 .b8 __local_depot0[4];\n.reg .f32", "local memory"},
		{".reg .f32", ".local .b8 x[4];\n.reg .f32", "local memory"},
		{".align 16 .b8", ".align 8 .b8", "is not aligned to 16 bytes"},
		{".align 16 .b8", ".align 16 .f32", "0 bytes of shared memory in 0 arrays"},
		{"part[8]", "part[49153]", "49168 bytes of shared memory in 1 arrays, at most 49152"},
	} {
		text := strings.Replace(sample, c.from, c.to, 1)
		if c.from == "" {
			text = sample + c.to
		}
		err := Check(Strip([]byte(text)), signatures)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%q for %q: %v, not: %s", c.to, c.from, err, c.says)
		}
	}
}

// An instruction that rounds otherwise is found, also behind a predicate and within braces.
func TestCheckExact(t *testing.T) {
	for _, c := range []struct{ from, to, says string }{
		{"", "", ""},
		{"add.rn.f32", "add.f32", "add.f32 does not round"},
		{"add.rn.f32", "add.rn.ftz.f32", "add.rn.ftz.f32 does not"},
		{"mul.rn.f32", "fma.rn.f32", "fma.rn.f32 does not"},
		{"mul.rn.f32", "div.approx.f32", "div.approx.f32 does not"},
		{"cvt.f64.f32", "cvt.rzi.f32.f32", "cvt.rzi.f32.f32 does not"},
		{"add.rn.f32", "add.s32", "2 instructions are not what it computes"},
		{"one(", "other(", "0 instructions"},
	} {
		err := CheckExact(Strip([]byte(strings.Replace(sample, c.from, c.to, 1))), map[string]int{"one": 3})
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%q for %q: %v, not: %s", c.to, c.from, err, c.says)
		}
	}
}
