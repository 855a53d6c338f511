package golden

import (
	"os"
	"path/filepath"
	"testing"
)

// skipped says whether f skips its test.
func skipped(t *testing.T, f func(t *testing.T)) (skipped bool) {
	t.Helper()
	t.Run("", func(t *testing.T) {
		defer func() { skipped = t.Skipped() }()
		f(t)
	})
	return skipped
}

// Without the whole sets the committed cases are found, and what is not committed is skipped rather than failed.
func TestPart(t *testing.T) {
	_, part := roots(t)
	for name, root := range map[string]string{"nothing there": filepath.Join(t.TempDir(), "none"), "the part itself": part} {
		t.Setenv("GOLDEN", root)
		if got, want := Case(t, "llama", "gqa-tied", "expected.safetensors"), filepath.Join(part, "llama", "gqa-tied"); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		for what, f := range map[string]func(t *testing.T){
			"case":      func(t *testing.T) { Case(t, "llama", "mha") },
			"file":      func(t *testing.T) { Case(t, "llama", "sharded", "expected.safetensors") },
			"set":       func(t *testing.T) { Case(t, "yuma", "x") },
			"whole set": func(t *testing.T) { Dir(t, "llama") },
		} {
			if !skipped(t, f) {
				t.Errorf("%s: a missing %s was not skipped", name, what)
			}
		}
	}
}

// A whole set wins over the committed part.
func TestWhole(t *testing.T) {
	root := t.TempDir()
	t.Setenv("GOLDEN", root)
	want := filepath.Join(root, "llama", "bf16")
	if err := os.MkdirAll(want, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := Case(t, "llama", "bf16"); got != want {
		t.Errorf("found %s, want %s", got, want)
	}
	if got := Dir(t, "llama"); got != filepath.Dir(want) {
		t.Errorf("found %s, want %s", got, filepath.Dir(want))
	}
}
