package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// known are instructions of whose bytes there is no doubt: a disassembler that does not know them is too old for the test.
var known = []instruction{
	{"tilezero %tmm0", []byte{0xc4, 0xe2, 0x7b, 0x49, 0xc0}},
	{"vdpbf16ps %zmm2,%zmm1,%zmm0", []byte{0x62, 0xf2, 0x76, 0x48, 0x52, 0xc2}},
}

type instruction struct {
	text  string
	bytes []byte
}

// Instructions that are written as bytes are those that their texts say, in the eyes of a disassembler: AMX cannot be run
// everywhere.
func TestBytesAreWhatTheySay(t *testing.T) {
	if _, err := exec.LookPath("objdump"); err != nil {
		t.Skip("no objdump here: install binutils to run this test")
	}
	if got := disassemble(t, known); len(got) != len(known) || got[0] != known[0].text || got[1] != known[1].text {
		t.Skipf("this objdump does not know these instructions, it reads %q", got)
	}
	for name, write := range map[string]func(){"products": gemm, "peaks": peak} {
		all := written(t, write)
		if len(all) < 28 {
			t.Errorf("%s: only %d instructions found", name, len(all))
		}
		texts := disassemble(t, all)
		if len(texts) != len(all) {
			t.Fatalf("%s: %d instructions were written, objdump reads %d", name, len(all), len(texts))
		}
		for i, got := range texts {
			if got != all[i].text {
				t.Errorf("%s: % x is %q, meant is %q", name, all[i].bytes, got, all[i].text)
			}
		}
	}
}

// written are the instructions that a part of the generator writes as bytes.
func written(t *testing.T, write func()) (all []instruction) {
	t.Helper()
	o.Reset()
	write()
	for line := range strings.Lines(o.String()) {
		if !strings.Contains(line, "BYTE") {
			continue
		}
		code, text, ok := strings.Cut(strings.TrimSpace(line), " // ")
		if !ok {
			t.Fatalf("%q does not say what it is", line)
		}
		x := instruction{text: text}
		for _, b := range regexp.MustCompile(`0x[0-9a-f]{2}`).FindAllString(code, -1) {
			v, err := strconv.ParseUint(b, 0, 8)
			if err != nil {
				t.Fatal(err)
			}
			x.bytes = append(x.bytes, byte(v))
		}
		all = append(all, x)
	}
	return all
}

// disassemble is what objdump reads; a length that is not the instruction's shows in their number.
func disassemble(t *testing.T, all []instruction) (texts []string) {
	t.Helper()
	var raw bytes.Buffer
	for _, x := range all {
		raw.Write(x.bytes)
	}
	file := filepath.Join(t.TempDir(), "code")
	if err := os.WriteFile(file, raw.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("objdump", "-D", "-b", "binary", "-m", "i386:x86-64", "--no-show-raw-insn", file).CombinedOutput()
	if err != nil {
		t.Skipf("objdump reads no x86-64 here: %v\n%s", err, out)
	}
	for _, m := range regexp.MustCompile(`(?m)^ *[0-9a-f]+:\t(.*)$`).FindAllSubmatch(out, -1) {
		texts = append(texts, strings.Join(strings.Fields(string(m[1])), " "))
	}
	return texts
}
