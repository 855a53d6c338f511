package lt

import (
	"path/filepath"
	"slices"
	"testing"
)

// The loader's name comes first, CUDA 13 before 12; then what lies where PyTorch and NVIDIA put it. A relative environment is no place.
func TestPlaces(t *testing.T) {
	lies := []string{
		"/home/a/venv/lib/python3.12/site-packages/nvidia/cublas/lib/libcublasLt.so.12",
		"/home/a/.local/lib/python3.10/site-packages/nvidia/cu13/lib/libcublasLt.so.13",
		"/usr/local/cuda-12.4/lib64/libcublasLt.so.12", "/usr/local/cuda-12.8/lib64/libcublasLt.so.12",
		"/opt/conda/lib/libcublasLt.so.12",
		"venv/lib/python3.12/site-packages/nvidia/cublas/lib/libcublasLt.so.12",
	}
	glob := func(p string) (found []string, err error) {
		for _, f := range lies {
			if ok, err := filepath.Match(p, f); err != nil {
				t.Fatal(err)
			} else if ok {
				found = append(found, f)
			}
		}
		return found, nil
	}
	env := map[string]string{"VIRTUAL_ENV": "/home/a/venv", "CONDA_PREFIX": "venv", "HOME": "/home/a"}
	got := places(func(name string) string { return env[name] }, glob)
	want := []string{
		"libcublasLt.so.13", "/usr/local/cuda/lib64/libcublasLt.so.13", lies[1],
		"libcublasLt.so.12", "/usr/local/cuda/lib64/libcublasLt.so.12", lies[3], lies[2], lies[0], lies[4],
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := places(func(string) string { return "" }, func(string) ([]string, error) { return nil, nil }); len(got) != 4 {
		t.Errorf("an empty machine has %q", got)
	}
}
