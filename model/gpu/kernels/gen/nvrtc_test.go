package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sn3/model/gpu/cuda/nvrtc"
	"sn3/model/gpu/kernels"
	"sn3/model/gpu/kernels/source"
)

// nvidia is NVIDIA's own compiler; without it the test is skipped.
func nvidia(t *testing.T) *nvrtc.Compiler {
	t.Helper()
	c, err := nvrtc.Open()
	if err != nil {
		t.Skipf("%v: the kernels are compiled by clang only (SN3_NVRTC names the library)", err)
	}
	return c
}

// NVIDIA's compiler takes the same source without a warning, and makes the same kernels of it: parameters, threads, shared memory, and the
// arithmetic that nodes agree on. Where ptxas is there too, it assembles, and what kernels take is listed beside clang's.
func TestNVRTC(t *testing.T) {
	c, dir := nvidia(t), t.TempDir()
	from, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range targets {
		ptx, log, err := c.Compile("all.cu", string(read(t, from, "all.cu")), "--gpu-architecture="+strings.Replace(target, "sm_", "compute_", 1), "--include-path="+from)
		if err != nil || log != "" {
			t.Fatalf("for %s: %v\n%s", target, err, log)
		}
		stripped := source.Strip(ptx)
		if err := source.Check(stripped, kernels.Table); err != nil {
			t.Errorf("for %s: %v", target, err)
		}
		if err := source.CheckExact(stripped, kernels.Exact); err != nil {
			t.Errorf("for %s: %v", target, err)
		}
		if !bytes.Contains(stripped, []byte("\n.target "+target+"\n")) {
			t.Errorf("it is not for %s: %.200q", target, stripped)
		}
		if err := os.WriteFile(filepath.Join(dir, target+".ptx"), ptx, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ptxas := assembler()
	if ptxas == "" {
		t.Log("there is no ptxas: what NVIDIA's compiler makes is not assembled")
		return
	}
	theirs := assembled(t, ptxas, dir)
	if len(theirs) != len(targets)*len(kernels.Table) {
		t.Errorf("ptxas knows %d of %d kernels", len(theirs), len(targets)*len(kernels.Table))
	}
	t.Log(beside(assembled(t, ptxas, filepath.Join("..", "ptx")), theirs))
}

// beside is a table of what kernels take by clang and by NVIDIA's compiler: registers, and bytes spilled where there are some.
func beside(ours, theirs map[string]usage) string {
	var b strings.Builder
	fmt.Fprintf(&b, "registers (bytes spilled) by clang and by NVRTC\n| kernel | %s |\n", strings.Join(targets, " | "))
	cell := func(u usage) string {
		if u.spilled > 0 {
			return fmt.Sprintf("%d (%d)", u.registers, u.spilled)
		}
		return fmt.Sprint(u.registers)
	}
	names := []string{}
	for _, k := range kernels.Table {
		names = append(names, k.Name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&b, "| %s", name)
		for _, target := range targets {
			fmt.Fprintf(&b, " | %s, %s", cell(ours[target+" "+name]), cell(theirs[target+" "+name]))
		}
		b.WriteString(" |\n")
	}
	return b.String()
}

var function = regexp.MustCompile(`\bDEVICE\s+(?:const\s+)?\w+[\s*&]+(\w+)\s*\(`)

// None of our functions has a name that NVIDIA's compiler declares itself: of two that fit it would take the one that fits better, without a
// word. (It did: ballot, by NVIDIA's without .sync, which ptxas then refused.)
func TestNamesAreOurs(t *testing.T) {
	c := nvidia(t)
	files, err := filepath.Glob(filepath.Join("..", "*.[ch]*"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range files {
		for _, m := range function.FindAllStringSubmatch(string(read(t, f)), -1) {
			names[m[1]] = true
		}
	}
	if len(names) < 50 || !names["ballot_of"] {
		t.Fatalf("only %d functions found", len(names))
	}
	known := func(name string) bool {
		_, log, err := c.Compile("name.cu", "__device__ void f() { "+name+"; }")
		return err == nil || !strings.Contains(log, "identifier \""+name+"\" is undefined")
	}
	for name := range names {
		if name != "__attribute__" && known(name) {
			t.Errorf("NVIDIA's compiler has a function %s of its own", name)
		}
	}
	if !known("ballot") {
		t.Error("it does not know ballot, which it declares")
	}
}
