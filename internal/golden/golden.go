// Package golden finds the reference vectors that some tests compare with. The whole sets are extra: where they are not, a
// test that needs them is skipped with a message. A small part of them is in testdata, so that a fresh clone tests the same
// things on fewer cases.
package golden

import (
	"os"
	"path/filepath"
	"testing"
)

// Dir is the folder of a whole set of vectors (llama, yuma, ...): in $GOLDEN, or in shared/golden beside the repository.
func Dir(t testing.TB, set string) string {
	t.Helper()
	root, part := roots(t)
	dir := filepath.Join(root, set)
	if _, err := os.Stat(dir); err != nil || root == part {
		t.Skipf("no reference vectors at %s; set GOLDEN=<folder> to run this test", dir)
	}
	return dir
}

// Case is the folder of one case of a set, with the files that the test needs. Where the whole set is not, it is the
// committed copy; a case that is not committed either is skipped with a message.
func Case(t testing.TB, set, name string, files ...string) string {
	t.Helper()
	root, part := roots(t)
	if _, err := os.Stat(filepath.Join(root, set)); err != nil {
		root = part
	}
	dir := filepath.Join(root, set, name)
	for _, f := range append([]string{"."}, files...) {
		_, err := os.Stat(filepath.Join(dir, f))
		if err == nil {
			continue
		}
		if root != part { // a whole set has all its cases: a wrong name must not pass for a missing set
			t.Fatal(err)
		}
		t.Skipf("%s/%s is not among the committed vectors; set GOLDEN=<folder> to run this test", set, filepath.Join(name, f))
	}
	return dir
}

// roots are the folder of the whole sets, which need not be there, and that of the committed part.
func roots(t testing.TB) (root, part string) {
	t.Helper()
	repo, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(repo, "go.mod")); err == nil || repo == filepath.Dir(repo) {
			break
		}
		repo = filepath.Dir(repo)
	}
	part = filepath.Join(repo, "internal", "golden", "testdata")
	if root = os.Getenv("GOLDEN"); root == "" {
		root = filepath.Join(repo, "..", "shared", "golden")
	}
	return filepath.Clean(root), part
}
