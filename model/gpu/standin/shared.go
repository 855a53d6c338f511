package standin

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Shared builds a library of that name from C++ source, for tests of what opens libraries.
func Shared(t testing.TB, name, text string) string {
	t.Helper()
	gxx, err := exec.LookPath("g++")
	if err != nil {
		t.Skip("there is no g++")
	}
	dir := t.TempDir()
	src, lib := filepath.Join(dir, name+".cpp"), filepath.Join(dir, name)
	if err := os.WriteFile(src, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(gxx, "-shared", "-fPIC", "-O1", "-o", lib, src).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return lib
}
