package kern

import (
	"encoding/hex"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

var (
	asmFunc  = regexp.MustCompile(`^kern\.(\w+) STEXT`)
	asmInstr = regexp.MustCompile(`^\t0x[0-9a-f]+ (\d+) \([^)]*\)\t([A-Z0-9.]+)\t?(.*)$`)
	asmBytes = regexp.MustCompile(`^\t0x[0-9a-f]+ ((?:[0-9a-f]{2} )+)`)
)

// An instruction that needs AVX-512 begins with the byte 62: in the file for AVX2 the assembler may make none.
func TestAVX2CodeHasNoEVEX(t *testing.T) {
	evex := encodedEVEX(t, "elem_avx2_amd64.s")
	if len(evex) > 0 {
		t.Errorf("an AVX2 CPU cannot run %s", strings.Join(evex, "\n"))
	}
	if len(encodedEVEX(t, "elem_avx512_amd64.s")) == 0 {
		t.Error("the test finds no such instruction in the file for AVX-512 either")
	}
}

// encodedEVEX assembles a file and lists the instructions that begin with the EVEX prefix.
func encodedEVEX(t *testing.T, file string) (found []string) {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skipf("there is no go command here: %v", err)
	}
	cmd := exec.Command("go", "tool", "asm", "-S", "-p", "kern", "-I", filepath.Join(strings.TrimSpace(string(root)), "pkg", "include"), "-o", filepath.Join(t.TempDir(), "x.o"), file)
	cmd.Env = append(cmd.Environ(), "GOARCH=amd64", "GOOS="+runtime.GOOS)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("assemble %s: %v\n%s", file, err, out)
	}
	type instr struct {
		pc   int
		text string
	}
	var name string
	var code []byte
	var instrs []instr
	functions := 0
	flush := func() {
		for _, i := range instrs {
			if i.pc < len(code) && code[i.pc] == 0x62 {
				found = append(found, name+": "+i.text)
			}
		}
		code, instrs = nil, nil
	}
	for line := range strings.SplitSeq(string(out), "\n") {
		if m := asmFunc.FindStringSubmatch(line); m != nil {
			flush()
			name = m[1]
			functions++
		} else if m := asmInstr.FindStringSubmatch(line); m != nil {
			pc, err := strconv.Atoi(m[1])
			if err != nil {
				t.Fatal(err)
			}
			instrs = append(instrs, instr{pc, m[2] + " " + m[3]})
		} else if m := asmBytes.FindStringSubmatch(line); m != nil && len(instrs) > 0 {
			b, err := hex.DecodeString(strings.ReplaceAll(m[1], " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			code = append(code, b...)
		}
	}
	flush()
	if functions < 15 {
		t.Fatalf("%d functions found in the listing of %s: it is not read right", functions, file)
	}
	return found
}
