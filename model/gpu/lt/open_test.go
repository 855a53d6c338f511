package lt_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sn3/model/gpu/cuda"
	"sn3/model/gpu/lt"
	"sn3/model/gpu/standin"
)

// What is no library, or not one for us, says so and what to do.
func TestUnavailable(t *testing.T) {
	standin.Only(t, "libraries that are not NVIDIA's")
	text := filepath.Join(t.TempDir(), "libcublasLt.so")
	if err := os.WriteFile(text, []byte("not a library"), 0o644); err != nil {
		t.Fatal(err)
	}
	old := standin.Load(t, "scale.cu")
	old.Set(t, "lt_version", "110803")
	for _, c := range []struct{ name, path, reason, advice string }{
		{"missing", "/nowhere/libcublasLt.so.13", "there is no cuBLASLt (/nowhere/libcublasLt.so.13)", "name its libcublasLt.so by SN3_CUBLASLT"},
		{"text", text, "there is no cuBLASLt", "SN3_CUBLASLT"},
		{"other library", standin.Shared(t, "libother.so", "extern \"C\" unsigned long cublasLtGetVersion() { return 130000; }"), "find cublasLtGetStatusName", "install"},
		{"old", old.Path, "has version 11.8.3, 12.0.0 is the least", "install libcublas of CUDA 12 or 13"},
		{"none", "none", "switched off by SN3_CUBLASLT=none", "unset it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("SN3_CUBLASLT", c.path)
			_, err := lt.Open()
			u, ok := errors.AsType[*lt.Unavailable](err)
			if !ok || !strings.Contains(err.Error(), c.reason) || !strings.Contains(u.Advice, c.advice) {
				t.Fatalf("%#v: %v", err, err)
			}
		})
	}
}

// Without SN3_CUBLASLT the first usable one of the names is taken; one that is there and no good says more than those that are not.
func TestFirst(t *testing.T) {
	standin.Only(t, "libraries that are not NVIDIA's")
	other := standin.Shared(t, "libother.so", "int unused;")
	card, second := standin.Load(t, "scale.cu"), standin.Load(t, "scale.cu")
	second.Set(t, "lt_version", "120903")
	for _, c := range []struct {
		names []string
		want  string
	}{
		{[]string{"/nowhere/13", card.Path, second.Path}, "13.10.0"},
		{[]string{other, "/nowhere/13", second.Path}, "12.9.3"},
		{[]string{"/nowhere/13", other, "/nowhere/12"}, "libother.so is no cuBLASLt that we can use"},
		{[]string{"/nowhere/13", "/nowhere/12"}, "there is no cuBLASLt (/nowhere/13, /nowhere/12); install"},
	} {
		l, err := lt.First(c.names)
		got := fmt.Sprint(err)
		if err == nil {
			got = l.Version()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%v: %s, not %s", c.names, got, c.want)
		}
	}
}

// SN3_CUBLASLT names the library.
func TestOpen(t *testing.T) {
	standin.Only(t, "libraries that are not NVIDIA's")
	card := standin.Load(t, "scale.cu")
	t.Setenv("SN3_CUBLASLT", card.Path)
	l, err := lt.Open()
	if err != nil {
		t.Fatal(err)
	}
	if l.Version() != "13.10.0" || l.Path() != card.Path {
		t.Errorf("version %s of %s", l.Version(), l.Path())
	}
}

// A library that is too new for the driver gives way to an older one that is there; where none starts, the first says why.
func TestOlderLibrary(t *testing.T) {
	standin.Only(t, "libraries that are not NVIDIA's")
	card := standin.Open(t, "scale.cu")
	old := filepath.Join(t.TempDir(), "libold.so") // the same library, by another name
	if err := os.Symlink(card.Path, old); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		others []string
		fails  bool
	}{{[]string{"/nowhere/12", old}, false}, {[]string{"/nowhere/12"}, true}, {nil, true}} {
		l, err := lt.First(append([]string{card.Path}, c.others...))
		if err != nil {
			t.Fatal(err)
		}
		card.Set(t, "fail", "cublasLtCreate:1:1")
		err = card.Do(func(x *cuda.Context) error {
			h, err := l.New(x, 0, 0)
			if err != nil {
				return err
			}
			return h.Close()
		})
		u, ok := errors.AsType[*lt.Unavailable](err)
		if c.fails && (!ok || lt.StatusOf(err) != lt.NotInitialized || !strings.Contains(u.Error(), "cuBLASLt 13.10.0 does not start on this card: cublasLtCreate: CUBLAS_STATUS_NOT_INITIALIZED (1)") ||
			!strings.Contains(u.Error(), "install a driver that is as new as the library")) || !c.fails && err != nil {
			t.Errorf("%v: %v", c.others, err)
		}
	}
}

// NVIDIA's library is not used with a stand-in for the driver, nor the other way round.
func TestForeignLibrary(t *testing.T) {
	standin.Only(t, "libraries that are not NVIDIA's")
	own := library(t, standin.Load(t, "scale.cu"))
	var text strings.Builder
	for _, name := range lt.Names(own) {
		fmt.Fprintf(&text, "extern \"C\" unsigned long %s() { return 120000; }\n", name)
	}
	l, err := lt.OpenAt(standin.Shared(t, "libforeign.so", text.String()))
	if err != nil {
		t.Fatal(err)
	}
	err = standin.Open(t, "scale.cu").Do(func(c *cuda.Context) error { _, err := l.New(c, 0, 0); return err })
	if _, ok := errors.AsType[*lt.Unavailable](err); !ok || !strings.Contains(err.Error(), "does not belong to this driver") {
		t.Error(err)
	}
}

// A workspace that the library could not use is refused; none at all works.
func TestWorkspace(t *testing.T) {
	card := standin.Open(t, "scale.cu")
	l := library(t, card)
	err := card.Do(func(c *cuda.Context) error {
		for _, w := range []struct {
			at    cuda.Ptr
			bytes int64
		}{{8, 1024}, {0, 1024}, {256, -1}} {
			if _, err := l.New(c, w.at, w.bytes); err == nil || !strings.Contains(err.Error(), "workspace") {
				t.Errorf("%+v: %v", w, err)
			}
		}
		h, err := l.New(c, 0, 0)
		if err != nil {
			return err
		}
		r := &rig{c, h, 0}
		return errors.Join(newProblem(dense(lt.TN, 9, 9, 9, true, false), 1).check(r), h.Close())
	})
	if err != nil {
		t.Error(err)
	}
}
