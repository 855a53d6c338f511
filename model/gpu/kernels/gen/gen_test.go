package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// copySources puts the kernels into an empty folder, which becomes the current one, and returns where they are from.
func copySources(t *testing.T) (from string) {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	from = filepath.Dir(here)
	to := t.TempDir()
	for _, pattern := range []string{"*.cu", "*.h"} {
		files, err := filepath.Glob(filepath.Join(from, pattern))
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(to, filepath.Base(f)), text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Chdir(to)
	return from
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The files in the repository are what the generator writes.
func TestFilesAreFresh(t *testing.T) {
	from := copySources(t)
	if _, err := derive(); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"all.cu", "table.go"} {
		if !bytes.Equal(read(t, f), read(t, from, f)) {
			t.Errorf("%s is not what the generator writes: run go generate ./model/gpu/kernels", f)
		}
	}
}

// So is the PTX, if the compiler is the one that made it.
func TestPTXIsFresh(t *testing.T) {
	if _, err := exec.LookPath(clang); err != nil {
		t.Skipf("there is no %s: the PTX is not made again", clang)
	}
	version, err := compiler()
	if err != nil {
		t.Fatal(err)
	}
	from := copySources(t)
	list, err := derive()
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range targets {
		f := filepath.Join("ptx", target+".ptx")
		committed := read(t, from, f)
		if made, _, _ := strings.Cut(string(committed), "\n"); made != "// "+version {
			t.Skipf("%s was made by %s, this is %s", f, strings.TrimPrefix(made, "// "), version)
		}
		if err := compile(target, version, list); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(read(t, f), committed) {
			t.Errorf("%s is not what the generator writes: run go generate ./model/gpu/kernels", f)
		}
	}
}

// A kernel's name is there once, and what is wrong with a file is said with its name.
func TestWrongSources(t *testing.T) {
	for says, text := range map[string]string{
		"kernel scale is in scale.cu too":       "KERNEL(32) void scale(int a) {\n}\n",
		"zz.cu: kernel x: parameter \"char c\"": "KERNEL(32) void x(char c) {\n}\n",
		"zz.cu: 0 of 1 kernels":                 "KERNEL(32) int x(int c) {\n}\n",
	} {
		t.Chdir(t.TempDir())
		if err := os.WriteFile("scale.cu", []byte("KERNEL(32) void scale(int a) {\n}\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("zz.cu", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := derive(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, not: %s", err, says)
		}
	}
}
