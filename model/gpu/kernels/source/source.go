// Package source reads the signatures of kernels from their source.
package source

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"sn3/model/gpu/cuda"
)

var (
	comment   = regexp.MustCompile(`(?s)//[^\n]*|/\*.*?\*/`)
	signature = regexp.MustCompile(`(?s)\bKERNEL\s*\(\s*(\w+)\s*\)\s*void\s+(\w+)\s*\(([^{;]*)\)\s*\{`)
	define    = regexp.MustCompile(`(?m)^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]+(\d+)[ \t]*(?://.*)?$`)
	constant  = regexp.MustCompile(`(?m)^[ \t]*(?:static[ \t]+)?const(?:expr)?[ \t]+int[ \t]+(\w+)[ \t]*=[ \t]*(\d+)[ \t]*;`)
	pointer   = regexp.MustCompile(`^GLOBAL\s*\(\s*((?:const\s+)?\w+)\s*\)\s*(\w+)$`)
	scalar    = regexp.MustCompile(`^(int|unsigned|float|long64|ulong64)\s+(\w+)$`)
	elem      = regexp.MustCompile(`^(const )?(float|bf16|int|unsigned|unsigned char|uchar|long64|ulong64)$`)
)

var scalars = map[string]cuda.Type{"int": cuda.Int32, "unsigned": cuda.Uint32, "float": cuda.Float32, "long64": cuda.Int64, "ulong64": cuda.Uint64}

// Parse finds the kernels of a source text in their order. What looks like a kernel and is not one of the subset is an error.
func Parse(text string) ([]cuda.Kernel, error) {
	text = comment.ReplaceAllString(text, " ")
	numbers := map[string]string{}
	for _, re := range []*regexp.Regexp{define, constant} {
		for _, m := range re.FindAllStringSubmatch(text, -1) {
			numbers[m[1]] = m[2]
		}
	}
	found := signature.FindAllStringSubmatch(text, -1)
	if n := strings.Count(strings.ReplaceAll(text, "#define KERNEL(", ""), "KERNEL("); n != len(found) {
		return nil, fmt.Errorf("%d of %d kernels have a signature KERNEL(threads) void name(parameters) {", len(found), n)
	}
	var list []cuda.Kernel
	for _, m := range found {
		k, err := kernel(m[1], m[2], m[3], numbers)
		if err != nil {
			return nil, fmt.Errorf("kernel %s: %w", m[2], err)
		}
		list = append(list, k)
	}
	return list, nil
}

func kernel(threads, name, params string, numbers map[string]string) (cuda.Kernel, error) {
	k := cuda.Kernel{Name: name}
	if v, ok := numbers[threads]; ok {
		threads = v
	}
	n, err := strconv.Atoi(threads)
	if err != nil || n < 32 || n > 1024 || n%32 != 0 {
		return k, fmt.Errorf("%q threads; a block has a multiple of 32 up to 1024, given as a number or a constant of the file", threads)
	}
	k.Threads = n
	for _, p := range strings.Split(params, ",") {
		p = strings.Join(strings.Fields(p), " ")
		if m := pointer.FindStringSubmatch(strings.ReplaceAll(p, "unsigned char", "uchar")); m != nil && elem.MatchString(m[1]) {
			k.Params = append(k.Params, cuda.Param{Name: m[2], Type: cuda.Pointer, Elem: strings.ReplaceAll(m[1], "uchar", "unsigned char")})
		} else if m := scalar.FindStringSubmatch(p); m != nil {
			k.Params = append(k.Params, cuda.Param{Name: m[2], Type: scalars[m[1]]})
		} else {
			return k, fmt.Errorf("parameter %q is not of the subset", p)
		}
	}
	if len(k.Params) > 16 {
		return k, fmt.Errorf("%d parameters, at most 16", len(k.Params))
	}
	return k, nil
}

// Table is the C++ table of kernels that the stand-in is built with.
func Table(list []cuda.Kernel) string {
	var b strings.Builder
	for _, k := range list {
		var kinds, args []string
		for i, p := range k.Params {
			kind, typ := strconv.Itoa(p.Type.Size()), p.Type.String()
			if p.Type == cuda.Pointer {
				kind, typ = "p", "GLOBAL("+p.Elem+")"
			}
			kinds = append(kinds, kind)
			args = append(args, fmt.Sprintf("arg<%s>(a[%d])", typ, i))
		}
		fmt.Fprintf(&b, "{%q, %d, %d, %q, [](void** a) { %s(%s); }},\n", k.Name, k.Threads, len(k.Params), strings.Join(kinds, ""), k.Name, strings.Join(args, ", "))
	}
	return b.String()
}
