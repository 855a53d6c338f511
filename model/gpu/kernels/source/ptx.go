package source

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"sn3/model/gpu/cuda"
)

var (
	entry      = regexp.MustCompile(`(?s)\.visible \.entry (\w+)\(\n(.*?)\n\)\n(.*?)\{`)
	param      = regexp.MustCompile(`^\.param \.([a-z]\d+)(?: \.ptr \.\w+ \.align \d+)? \w+,?$`)
	shared     = regexp.MustCompile(`(?m)^\.shared \.align (\d+) \.b8 \w+\[(\d+)\];$`)
	arithmetic = regexp.MustCompile(`(?m)\b((?:add|sub|mul|div|fma|mad|sqrt|rcp|neg|abs|min|max|cvt|ex2|lg2|rsqrt|tanh|testp|copysign)[.\w]*\.(?:f32|f64|f16|bf16)(?:\.[\w.]+)?)\s`)
)

// sharedLimit is the most shared memory that a block has without asking for more.
const sharedLimit = 48 << 10

// Entry is a kernel of a PTX text.
type Entry struct {
	Name   string
	params []string // lines
	rest   string   // directives and instructions
}

// Strip takes comments, empty lines and indentation from PTX: a third of the text. Entries reads what it leaves.
func Strip(ptx []byte) []byte {
	var b strings.Builder
	for line := range strings.Lines(string(ptx)) {
		line, _, _ = strings.Cut(line, "//") // PTX has no strings with it
		if f := strings.Fields(line); len(f) > 0 {
			b.WriteString(strings.Join(f, " ") + "\n")
		}
	}
	return []byte(b.String())
}

// Entries finds the kernels of a stripped PTX text.
func Entries(ptx []byte) (list []Entry) {
	text := string(ptx)
	found := entry.FindAllStringSubmatchIndex(text, -1)
	for i, m := range found {
		end := len(text)
		if i+1 < len(found) {
			end = found[i+1][0]
		}
		list = append(list, Entry{text[m[2]:m[3]], strings.Split(text[m[4]:m[5]], "\n"), text[m[6]:end]})
	}
	return list
}

// Check compares a PTX text with the table: the same kernels, each with its parameters and threads, at most 48 KiB of shared memory aligned for
// vectors, and no local memory, since arrays that are meant for registers are to lie in registers.
func Check(ptx []byte, table []cuda.Kernel) error {
	want := map[string]cuda.Kernel{}
	for _, k := range table {
		want[k.Name] = k
	}
	for _, e := range Entries(ptx) {
		k, ok := want[e.Name]
		if !ok {
			return fmt.Errorf("kernel %s is not in the table, or twice in the PTX", e.Name)
		}
		delete(want, e.Name)
		if err := e.check(k); err != nil {
			return fmt.Errorf("kernel %s: %w", e.Name, err)
		}
	}
	for name := range want {
		return fmt.Errorf("kernel %s is not in the PTX", name)
	}
	return nil
}

func (e Entry) check(k cuda.Kernel) error {
	if len(e.params) != len(k.Params) {
		return fmt.Errorf("%d parameters, the table has %d", len(e.params), len(k.Params))
	}
	for i, line := range e.params {
		p := k.Params[i]
		if m := param.FindStringSubmatch(line); m == nil || m[1] != inPTX[p.Type] {
			return fmt.Errorf("parameter %d (%s): %q is not .%s", i, p.Name, line, inPTX[p.Type])
		}
	}
	if !strings.Contains(e.rest, ".maxntid "+strconv.Itoa(k.Threads)+", 1, 1\n") {
		return fmt.Errorf("not of %d threads: %.80q", k.Threads, e.rest)
	}
	if strings.Contains(e.rest, "__local_depot") || strings.Contains(e.rest, ".local ") {
		return fmt.Errorf("it uses local memory")
	}
	size, found := 0, shared.FindAllStringSubmatch(e.rest, -1)
	for _, s := range found {
		n, err := strconv.Atoi(s[2])
		if err != nil || s[1] != "16" {
			return fmt.Errorf("%q is not aligned to 16 bytes", s[0])
		}
		size += (n + 15) &^ 15
	}
	if size > sharedLimit || strings.Count(e.rest, ".shared .align") != len(found) {
		return fmt.Errorf("%d bytes of shared memory in %d arrays, at most %d", size, len(found), sharedLimit)
	}
	return nil
}

// inPTX is how PTX declares parameters.
var inPTX = map[cuda.Type]string{cuda.Pointer: "u64", cuda.Int32: "u32", cuda.Uint32: "u32", cuda.Float32: "f32", cuda.Int64: "u64", cuda.Uint64: "u64"}

// exact are the instructions that round every result to nearest, and nothing else.
var exact = regexp.MustCompile(`^(?:(?:add|sub|mul|div)\.rn\.f(?:32|64)|cvt\.f64\.f32|cvt\.rn\.f64\.[su](?:32|64))$`)

// CheckExact looks at the arithmetic of the named kernels: nothing in it may flush subnormals, fuse or approximate, and each must have at least
// as many instructions on floating point numbers as the map says.
func CheckExact(ptx []byte, least map[string]int) error {
	found := map[string]int{}
	for _, e := range Entries(ptx) {
		if _, ok := least[e.Name]; !ok {
			continue
		}
		for _, m := range arithmetic.FindAllStringSubmatch(e.rest, -1) {
			if found[e.Name]++; !exact.MatchString(m[1]) {
				return fmt.Errorf("kernel %s: %s does not round as nodes agree", e.Name, m[1])
			}
		}
	}
	for name, n := range least {
		if found[name] < n {
			return fmt.Errorf("kernel %s: %d instructions are not what it computes", name, found[name])
		}
	}
	return nil
}
