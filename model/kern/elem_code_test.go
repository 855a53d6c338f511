package kern

import (
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"
)

var (
	asmFunc  = regexp.MustCompile(`^kern\.(\w+) STEXT`)
	asmInstr = regexp.MustCompile(`^\t0x[0-9a-f]+ (\d+) \([^)]*\)\t([A-Z0-9.]+)\t?(.*)$`)
	asmBytes = regexp.MustCompile(`^\t0x[0-9a-f]+ ((?:[0-9a-f]{2} )+)`)
)

// An instruction that needs AVX-512 begins with the byte 62: of the functions for AVX2 and for any CPU the assembler may make none.
func TestAVX2CodeHasNoEVEX(t *testing.T) {
	for file, old := range map[string]*regexp.Regexp{
		"elem_avx2_amd64.s": regexp.MustCompile(`.`), "codec_amd64.s": regexp.MustCompile(`2$|4$|prefetch`), "gemm_amd64.s": regexp.MustCompile(`6x16`),
		"peak_amd64.s": regexp.MustCompile(`AVX2|Read`),
	} {
		evex := 0
		for _, text := range encodedEVEX(t, file) {
			name, _, _ := strings.Cut(text, ":")
			if !old.MatchString(name) || strings.HasSuffix(name, "512") {
				evex++
			} else {
				t.Errorf("%s: an AVX2 CPU cannot run %s", file, text)
			}
		}
		if evex == 0 && file != "elem_avx2_amd64.s" {
			t.Errorf("%s: no function for AVX-512 found", file)
		}
	}
}

// asmHeader is a folder with the header that the go command makes for the assembly of this package.
func asmHeader(t *testing.T) string {
	t.Helper()
	dir, g := t.TempDir(), Gaps{}
	text := fmt.Sprintf("#define Gaps__size %d\n#define Gaps_Bytes %d\n#define Gaps_Pos %d\n#define Gaps_Last %d\n#define Gaps_Out %d\n",
		unsafe.Sizeof(g), unsafe.Offsetof(g.Bytes), unsafe.Offsetof(g.Pos), unsafe.Offsetof(g.Last), unsafe.Offsetof(g.Out))
	if err := os.WriteFile(filepath.Join(dir, "go_asm.h"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// encodedEVEX assembles a file and lists the instructions that begin with the EVEX prefix.
func encodedEVEX(t *testing.T, file string) (found []string) {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skipf("there is no go command here: %v", err)
	}
	cmd := exec.Command("go", "tool", "asm", "-S", "-p", "kern", "-I", filepath.Join(strings.TrimSpace(string(root)), "pkg", "include"), "-I", asmHeader(t), "-o", filepath.Join(t.TempDir(), "x.o"), file)
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
	if functions < 5 {
		t.Fatalf("%d functions found in the listing of %s: it is not read right", functions, file)
	}
	return found
}
