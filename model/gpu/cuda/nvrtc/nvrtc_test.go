package nvrtc

import (
	"strings"
	"testing"
)

func open(t *testing.T) *Compiler {
	t.Helper()
	c, err := Open()
	if err != nil {
		t.Skip(err)
	}
	return c
}

// A warning is in the log of what compiles, an error in that of what does not.
func TestCompile(t *testing.T) {
	c := open(t)
	if major, minor, err := c.Version(); err != nil || major < 11 || minor < 0 {
		t.Errorf("version %d.%d: %v", major, minor, err)
	}
	ptx, log, err := c.Compile("one.cu", "extern \"C\" __global__ void one(int* y) { int unused; y[0] = 1; }", "--gpu-architecture=compute_80")
	if err != nil || !strings.Contains(log, "one.cu(1): warning") || !strings.Contains(string(ptx), ".entry one(") || !strings.Contains(string(ptx), ".target sm_80") {
		t.Errorf("%v: %s\n%s", err, log, ptx)
	}
	if ptx, log, err := c.Compile("one.cu", "extern \"C\" __global__ void one(int* y) { y[0] = 1; }", "--gpu-architecture=compute_80"); err != nil || log != "" || len(ptx) == 0 {
		t.Errorf("%v: %q, %d bytes", err, log, len(ptx))
	}
	if ptx, log, err := c.Compile("two.cu", "nothing", "--gpu-architecture=compute_80"); err == nil || !strings.Contains(err.Error(), "NVRTC_ERROR_COMPILATION (6)") || !strings.Contains(log, "two.cu(1): error") || ptx != nil {
		t.Errorf("%v: %s", err, log)
	}
	if _, _, err := c.Compile("", "", "--no-such-option"); err == nil {
		t.Error("it takes any option")
	}
}

// A library that is none of these is an error.
func TestOpenFails(t *testing.T) {
	t.Setenv("SN3_NVRTC", "/nowhere/libnvrtc.so")
	if _, err := Open(); err == nil || !strings.Contains(err.Error(), "open NVIDIA's compiler: ") {
		t.Error(err)
	}
}
