package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sn3/model/gpu/standin"
)

// gpu-check from a packed folder, where there is no Go: real programs, some of the tests, on the stand-in.
func TestGPUCheckFromAPack(t *testing.T) {
	standin.Only(t, "gpu-check of the stand-in")
	if testing.Short() {
		t.Skip("builds programs")
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("there is no go to pack with")
	}
	driver, from, to, tools := standin.Library(t), t.TempDir(), t.TempDir(), t.TempDir()
	pack := filepath.Join(from, "sn3-gpu-check")
	if out, err := exec.CommandContext(t.Context(), "sh", "../gpu-check-pack.sh", pack, "model/gpu/cuda").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), "tar", "-xzf", pack+".tar.gz", "-C", to).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.RemoveAll(from); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "dirname", "basename", "mkdir", "grep", "head", "tail", "awk", "cut", "cat"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Skipf("there is no %s", name)
		}
		if err := os.Symlink(path, filepath.Join(tools, name)); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.CommandContext(t.Context(), filepath.Join(tools, "sh"), filepath.Join(to, "sn3-gpu-check", "gpu-check.sh"), "driver", "cublaslt", "engine", "bench")
	c.Dir = to
	c.Env = []string{"PATH=" + tools, "HOME=" + to, "SN3_CUDA=" + driver, "SN3_CUBLASLT=none", "OUT=results",
		"BENCH=--shapes local --batch 1 --seq 8 --values 9000 --products 32x32x32 --rounds 1 --card H100"}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var report struct {
		Steps []struct{ Step, Result, Words string }
	}
	var measured GPUReport
	for name, to := range map[string]any{"report.json": &report, "bench.json": &measured} {
		raw, err := os.ReadFile(filepath.Join(c.Dir, "results", name))
		if err == nil {
			err = json.Unmarshal(raw, to)
		}
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	var steps []string
	for _, s := range report.Steps {
		steps = append(steps, s.Step+" "+s.Result)
	}
	if got := strings.Join(steps, ", "); got != "driver passed, cublaslt not present, engine not present, bench passed" {
		t.Errorf("steps: %s\n%s", got, out)
	}
	if len(measured.Models) != 1 || !(measured.Models[0].MFU > 0) || measured.Version == "" || !strings.Contains(measured.NoTorch, "python3") {
		t.Errorf("measured %+v", measured)
	}
	page, err := os.ReadFile(filepath.Join(c.Dir, "results", "report.md"))
	if err != nil || !strings.Contains(string(page), "| driver | passed |") || !strings.Contains(string(page), "local by kernel") {
		t.Errorf("%v\n%s", err, page)
	}
}
