package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/limits.txt as ptxas finds it")

// usage is what ptxas says of a kernel.
type usage struct{ registers, spilled, shared int }

var (
	property = regexp.MustCompile(`Function properties for (\w+)\n\s*(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads\n.*Used (\d+) registers(?:.*?, (\d+) bytes smem)?`)
	limit    = regexp.MustCompile(`^(\S+) (\w+): (\d+) registers, (\d+) bytes spilled, (\d+) bytes of shared memory$`)
)

// assembler is ptxas, named by SN3_PTXAS where it is not in the path; "" where there is none.
func assembler() string {
	if p := os.Getenv("SN3_PTXAS"); p != "" {
		return p
	}
	p, err := exec.LookPath("ptxas")
	if err != nil {
		return ""
	}
	return p
}

// assembled is what ptxas says of the PTX in a folder, by target and kernel.
func assembled(t *testing.T, ptxas, dir string) map[string]usage {
	t.Helper()
	out := map[string]usage{}
	for _, target := range targets {
		c := exec.Command(ptxas, "-v", "-arch", target, "-o", filepath.Join(t.TempDir(), "out.cubin"), filepath.Join(dir, target+".ptx"))
		text, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("assemble for %s: %v\n%s", target, err, text)
		}
		for _, m := range property.FindAllStringSubmatch(string(text), -1) {
			var n [4]int
			for i, s := range []string{m[5], m[3], m[4], m[6]} {
				n[i], _ = strconv.Atoi(s) // no smem is 0
			}
			out[target+" "+m[1]] = usage{n[0], n[1] + n[2], n[3]}
		}
	}
	return out
}

// The PTX assembles, and no kernel takes more registers, spills more or has more shared memory than the committed limits; other
// versions of ptxas may take a few more.
func TestAssembles(t *testing.T) {
	ptxas := assembler()
	if ptxas == "" {
		t.Skip("there is no ptxas (it is in NVIDIA's CUDA toolkit): registers and spills are not checked")
	}
	got := assembled(t, ptxas, filepath.Join("..", "ptx"))
	file := filepath.Join("testdata", "limits.txt")
	if *update {
		var b bytes.Buffer
		names := make([]string, 0, len(got))
		for name := range got {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			u := got[name]
			fmt.Fprintf(&b, "%s: %d registers, %d bytes spilled, %d bytes of shared memory\n", name, u.registers, u.spilled, u.shared)
		}
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const registers, spilled = 8, 16
	limits := limitsOf(t, file)
	for name, u := range got {
		l, ok := limits[name]
		if !ok {
			t.Errorf("%s has no limits: look at what it takes (%+v) and run go test ./model/gpu/kernels/gen -update", name, u)
			continue
		}
		if u.registers > l.registers+registers || u.spilled > l.spilled+spilled || u.shared > l.shared {
			t.Errorf("%s takes %+v, its limits are %+v", name, u, l)
		}
	}
	for name := range limits {
		if _, ok := got[name]; !ok {
			t.Errorf("%s has limits and is no kernel", name)
		}
	}
}

func limitsOf(t *testing.T, file string) map[string]usage {
	t.Helper()
	out := map[string]usage{}
	for line := range strings.Lines(string(read(t, file))) {
		m := limit.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			t.Fatalf("%s: %q", file, line)
		}
		var n [3]int
		for i := range n {
			n[i], _ = strconv.Atoi(m[3+i]) // digits, by the pattern
		}
		out[m[1]+" "+m[2]] = usage{n[0], n[1], n[2]}
	}
	return out
}
