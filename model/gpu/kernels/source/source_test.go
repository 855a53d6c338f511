package source

import (
	"reflect"
	"strings"
	"testing"

	"sn3/model/gpu/cuda"
)

func TestParse(t *testing.T) {
	got, err := Parse(`
// KERNEL(1) void in_a_comment(int a) {
/* KERNEL(2) void
in_another(int a) { */
#define WIDTH 128 // threads
const int rows = 64;
DEVICE float helper(float a) { return a; }
KERNEL(32) void one(GLOBAL(float) y, GLOBAL(const bf16) x, GLOBAL( const unsigned char ) c,
                    int a, unsigned b, float f, long64 l, // the length
                    ulong64 u) {
}
KERNEL( WIDTH )
void two(GLOBAL(int) y) { y[0] = 1; }
KERNEL(rows) void three(int a) {}
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []cuda.Kernel{
		{Name: "one", Threads: 32, Params: []cuda.Param{{Name: "y", Type: cuda.Pointer, Elem: "float"}, {Name: "x", Type: cuda.Pointer, Elem: "const bf16"},
			{Name: "c", Type: cuda.Pointer, Elem: "const unsigned char"}, {Name: "a", Type: cuda.Int32}, {Name: "b", Type: cuda.Uint32},
			{Name: "f", Type: cuda.Float32}, {Name: "l", Type: cuda.Int64}, {Name: "u", Type: cuda.Uint64}}},
		{Name: "two", Threads: 128, Params: []cuda.Param{{Name: "y", Type: cuda.Pointer, Elem: "int"}}},
		{Name: "three", Threads: 64, Params: []cuda.Param{{Name: "a", Type: cuda.Int32}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, not %+v", got, want)
	}
	if line := Table(want[1:2]); line != "{\"two\", 128, 1, \"p\", [](void** a) { two(arg<GLOBAL(int)>(a[0])); }},\n" {
		t.Errorf("%q", line)
	}
}

func TestParseRefuses(t *testing.T) {
	many := strings.TrimSuffix(strings.Repeat("int a, ", 17), ", ")
	for text, says := range map[string]string{
		"KERNEL(31) void k(int a) {}":               `"31" threads`,
		"KERNEL(0) void k(int a) {}":                `"0" threads`,
		"KERNEL(1056) void k(int a) {}":             `"1056" threads`,
		"KERNEL(N) void k(int a) {}":                `"N" threads`,
		"KERNEL(32) void k(float* a) {}":            `parameter "float* a" is not of the subset`,
		"KERNEL(32) void k(GLOBAL(double) a) {}":    `parameter "GLOBAL(double) a" is not of the subset`,
		"KERNEL(32) void k(double a) {}":            `parameter "double a" is not of the subset`,
		"KERNEL(32) void k(int) {}":                 `parameter "int" is not of the subset`,
		"KERNEL(32) void k() {}":                    `parameter "" is not of the subset`,
		"KERNEL(32) void k(" + many + ") {}":        "17 parameters, at most 16",
		"KERNEL(32) void k(int a);":                 "0 of 1 kernels",
		"KERNEL(32) float k(int a) {}":              "0 of 1 kernels",
		"KERNEL(32) void k(int a) {}\nKERNEL(32) x": "1 of 2 kernels",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, not: %s", text, err, says)
		}
	}
}

// What is parsed has sizes and names, whatever the text.
func FuzzParse(f *testing.F) {
	f.Add("KERNEL(32) void one(GLOBAL(float) y, int a) {\n}\n")
	f.Add("#define N 64\nKERNEL(N) void two(GLOBAL(const unsigned char) y) {}")
	f.Add("/* KERNEL( */ KERNEL(32")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := Parse(text)
		if err != nil {
			return
		}
		for _, k := range list {
			if k.Name == "" || k.Threads < 32 || k.Threads > 1024 || k.Threads%32 != 0 || len(k.Params) == 0 || len(k.Params) > 16 {
				t.Fatalf("%+v", k)
			}
			for _, p := range k.Params {
				if p.Name == "" || p.Type.String() == "unknown" || (p.Elem != "") != (p.Type == cuda.Pointer) {
					t.Fatalf("%+v", k)
				}
			}
		}
		if lines := strings.Count(Table(list), "\n"); lines != len(list) {
			t.Fatalf("%d lines for %d kernels", lines, len(list))
		}
	})
}
