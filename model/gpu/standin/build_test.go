package standin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A library is built once for the same sources, and what nobody has used for long is removed by the next build.
func TestCache(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	cache := filepath.Join(os.Getenv("XDG_CACHE_HOME"), "sn3-standin")
	old := filepath.Join(cache, "build-killed")
	if err := os.MkdirAll(old, 0o755); err != nil {
		t.Fatal(err)
	}
	ago := time.Now().Add(-2 * keep)
	if err := os.Chtimes(old, ago, ago); err != nil {
		t.Fatal(err)
	}
	text := "#include \"device.h\"\nKERNEL(32) void nothing(int a) {}\n"
	lib := library(t, nil, text)
	first, err := os.Stat(lib)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := os.ReadDir(cache); err != nil || len(list) != 1 {
		t.Errorf("%v %v in the cache, not one library", list, err)
	}
	if again := library(t, nil, text); again != lib {
		t.Errorf("%s, then %s", lib, again)
	}
	if second, err := os.Stat(lib); err != nil || !os.SameFile(first, second) {
		t.Errorf("it was built again: %v", err)
	}
}

// What does not compile is an error with the compiler's words; nothing of it stays.
func TestBuildFails(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	sources, err := gather(nil, "#include \"device.h\"\nKERNEL(32) void wrong(int a) { no_such(a); }\n")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := build("g++", sources); err == nil || !strings.Contains(err.Error(), "no_such") || !strings.Contains(err.Error(), "text.cu:2") {
		t.Error(err)
	}
	if list, err := os.ReadDir(filepath.Join(os.Getenv("XDG_CACHE_HOME"), "sn3-standin")); err != nil || len(list) != 0 {
		t.Errorf("%v %v in the cache", list, err)
	}
	if _, err := gather(nil, "KERNEL(32) void wrong(char a) {}"); err == nil || !strings.Contains(err.Error(), "text.cu: kernel wrong") {
		t.Error(err)
	}
}
