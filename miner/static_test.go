package main

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// With the tag nogpu the miner asks nothing of the machine but its kernel, no C library either; --gpu then says how it was built. Without
// the tag it needs glibc's loader, as NVIDIA's driver does.
func TestBuiltWithoutCards(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("it builds programs for Linux")
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("there is no go")
	}
	dir := t.TempDir()
	for tags, static := range map[string]bool{"": false, "nogpu": true} {
		miner := filepath.Join(dir, "miner-"+tags)
		build := exec.Command(goTool, "build", "-tags", tags, "-o", miner, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		f, err := elf.Open(miner)
		if err != nil {
			t.Fatal(err)
		}
		libraries, err := f.ImportedLibraries()
		if err != nil || (len(libraries) == 0) != static {
			t.Errorf("-tags %q: it needs %q, %v", tags, libraries, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	run := exec.Command(filepath.Join(dir, "miner-nogpu"), "--gpu", "--plan", "--chain", "127.0.0.1:1")
	out, err := run.CombinedOutput()
	if run.ProcessState.ExitCode() != 3 || !strings.Contains(string(out), "built without support for cards (-tags nogpu)") {
		t.Errorf("%v\n%s", err, out)
	}
}
