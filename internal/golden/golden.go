// Package golden finds the reference vectors that some tests compare with. They are extra: where they are not, a test that
// needs them is skipped with a message.
package golden

import (
	"os"
	"path/filepath"
	"testing"
)

// Dir is the folder of a set of vectors (llama, yuma, ...): $GOLDEN, or shared/golden beside the repository.
func Dir(t testing.TB, set string) string {
	t.Helper()
	root := os.Getenv("GOLDEN")
	if root == "" {
		wd, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for root = wd; ; root = filepath.Dir(root) {
			if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil || root == filepath.Dir(root) {
				break
			}
		}
		root = filepath.Join(root, "..", "shared", "golden")
	}
	dir := filepath.Join(root, set)
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no reference vectors at %s; set GOLDEN=<folder> to run this test", dir)
	}
	return dir
}
