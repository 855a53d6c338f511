package cuda_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sn3/model/gpu/cuda"
	"sn3/model/gpu/kernels"
	"sn3/model/gpu/standin"
)

// What is no driver, or not one for us, says so and what to do.
func TestUnavailable(t *testing.T) {
	standin.Only(t, "drivers that are none")
	text := filepath.Join(t.TempDir(), "libcuda.so")
	if err := os.WriteFile(text, []byte("not a library"), 0o644); err != nil {
		t.Fatal(err)
	}
	set := func(name, value string) string {
		c := standin.Load(t, "scale.cu")
		c.Set(t, name, value)
		return c.Path
	}
	for _, c := range []struct{ name, path, reason, advice string }{
		{"missing", "/nowhere/libcuda.so.1", "there is no NVIDIA driver (/nowhere/libcuda.so.1)", "install NVIDIA's driver"},
		{"text", text, "there is no NVIDIA driver", "install NVIDIA's driver"},
		{"other library", standin.Shared(t, "libother.so", "extern \"C\" int cuInit(unsigned) { return 0; }"), "find cuDriverGetVersion", "install a newer driver"},
		{"old", set("version", "11080"), "the driver is for CUDA 11.8, our kernels need CUDA 12.0", "install a newer driver"},
		{"no card", set("devices", "0"), "cuInit: CUDA_ERROR_NO_DEVICE (100)", "nvidia-smi"},
		{"faulty", set("fail", "cuDriverGetVersion:1:999"), "cuDriverGetVersion: CUDA_ERROR_UNKNOWN (999)", "reinstall"},
		{"mismatch", set("fail", "cuInit:1:803"), "restart the machine after the driver's update", "nvidia-smi"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := cuda.OpenAt(c.path)
			u, ok := errors.AsType[*cuda.Unavailable](err)
			if !ok || !strings.Contains(err.Error(), c.reason) || !strings.Contains(u.Advice, c.advice) {
				t.Fatalf("%#v: %v", err, err)
			}
		})
	}
}

// SN3_CUDA names the library.
func TestOpen(t *testing.T) {
	standin.Only(t, "a version that is known")
	c := standin.Load(t, "scale.cu")
	t.Setenv("SN3_CUDA", c.Path)
	d, err := cuda.Open()
	if err != nil {
		t.Fatal(err)
	}
	if d.Version() != 13000 || d.Path() != c.Path {
		t.Errorf("version %d of %s", d.Version(), d.Path())
	}
	t.Setenv("SN3_CUDA", "/nowhere/libcuda.so")
	if _, err := cuda.Open(); err == nil || !strings.Contains(err.Error(), "/nowhere/libcuda.so") {
		t.Error(err)
	}
}

func TestDevices(t *testing.T) {
	c := standin.Load(t, "scale.cu")
	c.Set(t, "devices", "2")
	c.Set(t, "cc", "90")
	c.Set(t, "memory", "1000000")
	d, err := cuda.OpenAt(c.Path)
	if err != nil {
		t.Fatal(err)
	}
	list, err := d.Devices()
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	want := cuda.Info{Ordinal: 1, Name: "stand-in on the CPU", Memory: 1000000, SMs: 1, Major: 9, Minor: 0, Clock: 1000000, MemoryClock: 1000000,
		MemoryBus: 64, L2: 1 << 20, Bus: "0000:02:00.0", UUID: "GPU-51515151-5151-5151-5151-515151515101"}
	if list[1] != want {
		t.Errorf("%+v, not %+v", list[1], want)
	}
	for _, ordinal := range []int{-1, 2} {
		if _, err := d.Start(ordinal); !strings.Contains(err.Error(), "there is no card") {
			t.Error(err)
		}
	}
	v, err := d.Start(1)
	if err != nil {
		t.Fatal(err)
	}
	if v.Info() != want {
		t.Error(v.Info())
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	if left := c.Report(t).Left(); left != "" {
		t.Error(left)
	}
}

// A driver that is not there, too old or without a card is missing; one that does not start for now is not.
func TestMissing(t *testing.T) {
	for _, c := range []struct {
		name, value string
		missing     bool
	}{
		{"version", "11080", true},
		{"devices", "0", true},
		{"fail", "cuInit:1:34", true},   // the stub
		{"fail", "cuInit:1:802", false}, // the fabric manager is not up yet
		{"fail", "cuInit:1:803", false},
		{"fail", "cuInit:1:999", false},
		{"fail", "cuDriverGetVersion:1:999", false},
	} {
		card := standin.Load(t, "scale.cu")
		card.Set(t, c.name, c.value)
		if _, err := cuda.OpenAt(card.Path); err == nil || cuda.Missing(err) != c.missing || cuda.Missing(fmt.Errorf("open: %w", err)) != c.missing {
			t.Errorf("%s=%s: %v: missing %v", c.name, c.value, err, !c.missing)
		}
	}
	if _, err := cuda.OpenAt("/nowhere/libcuda.so.1"); !cuda.Missing(err) {
		t.Error(err)
	}
	if cuda.Missing(nil) || cuda.Missing(cuda.ErrClosed) {
		t.Error("an error that is not the driver's")
	}
}

// without is the stand-in's library with another name for one of its functions.
func without(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(standin.Library(t, "scale.cu"))
	if err != nil {
		t.Fatal(err)
	}
	was := append(append([]byte{0}, name...), 0)
	if bytes.Count(text, was) == 0 {
		t.Fatalf("the library has no %s", name)
	}
	now := slices.Clone(was)
	now[len(now)-2] ^= 1
	path := filepath.Join(t.TempDir(), "libcuda.so")
	if err := os.WriteFile(path, bytes.ReplaceAll(text, was, now), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// A library that lacks a function, whichever, is not used, and the message names it; two of them came late or are not the driver's.
func TestEveryFunctionMissing(t *testing.T) {
	standin.Only(t, "a library that lacks a function")
	whole, err := cuda.OpenAt(standin.Library(t, "scale.cu"))
	if err != nil {
		t.Fatal(err)
	}
	names := cuda.Names(whole)
	if len(names) < 40 {
		t.Fatalf("only %d functions", len(names))
	}
	for _, name := range names {
		d, err := cuda.OpenAt(without(t, name))
		if name == "cuFuncGetParamInfo" || name == "sn3StandinPart" {
			if err != nil {
				t.Errorf("%s may be missing: %v", name, err)
				continue
			}
			v, err := d.Start(0)
			if err != nil {
				t.Fatal(err)
			}
			if err := v.Do(func(c *cuda.Context) error { // what it is for is left out
				m, err := c.Load(kernels.Image(8, 0))
				if err != nil {
					return err
				}
				_, err = scale(m)
				p, e := c.Alloc(256)
				return errors.Join(err, e, c.Part(p, 128, "part"), c.Free(p), m.Unload())
			}); err != nil {
				t.Errorf("without %s: %v", name, err)
			}
			if err := v.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		u, ok := errors.AsType[*cuda.Unavailable](err)
		if !ok || !strings.Contains(err.Error(), "find "+name+": ") || !strings.Contains(u.Advice, "install a newer driver") {
			t.Errorf("without %s: %v", name, err)
		}
	}
}
