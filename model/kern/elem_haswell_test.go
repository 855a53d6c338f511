//go:build amd64 && !race

package kern

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// On a CPU that has AVX2 and FMA, and nothing newer, the AVX2 level passes its tests: they run again in an emulator that refuses the
// rest, where one is installed. Not TestElemAtTheEdge: qemu 7 reads whole vectors for VMASKMOVPS, which processors do not.
func TestElemOnHaswell(t *testing.T) {
	var qemu string
	for _, name := range []string{"qemu-x86_64-static", "qemu-x86_64"} {
		if path, err := exec.LookPath(name); err == nil {
			qemu = path
		}
	}
	if qemu == "" {
		t.Skip("no qemu-x86_64 here: install qemu-user-static to run this test")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tests := "^(TestElemEveryLength|TestElemRandom|TestRopeHeads|TestBF16Sets|TestExpUlps|TestExpSpecial|TestMaxSpecial|TestElemAllocs|TestRowsEveryLength|TestRowsNotFinite)$"
	out, err := exec.Command(qemu, "-cpu", "Haswell", self, "-test.short", "-test.v", "-test.run", tests, "-rapid.checks=20").CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	if s := string(out); !strings.Contains(s, "avx2: ") || !strings.Contains(s, "kernels avx512 cannot run here") || strings.Count(s, "--- PASS") < 10 {
		t.Errorf("not the tests or the levels that were meant:\n%s", s)
	}
}
