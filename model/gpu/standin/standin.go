// Package standin builds the stand-in for libcuda.so.1: the same kernels, compiled by g++ to run on the CPU behind the driver's calls,
// where every access is checked. It is for tests.
package standin

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/ebitengine/purego"

	"sn3/model/gpu/cuda"
	"sn3/model/gpu/kernels"
	"sn3/model/gpu/kernels/source"
)

//go:embed src
var own embed.FS

// Image is what a module of the stand-in can be loaded from, instead of PTX: it has every kernel that was built in.
var Image = []byte("// standin")

// flags are those of g++: no contraction, so that mul and add round as on the card.
var flags = []string{"-std=c++20", "-O2", "-ftree-vectorize", "-g1", "-fPIC", "-shared", "-fvisibility=hidden", "-ffp-contract=off", "-fno-strict-aliasing", "-Wall", "-Wno-unused-function"}

// Library returns the path of the stand-in with the kernels of the named files, all without a name. It is built once for the same
// sources and kept in the user's cache. Without g++ the test is skipped.
func Library(t testing.TB, files ...string) string {
	t.Helper()
	gxx, err := exec.LookPath("g++")
	if err != nil {
		t.Skip("there is no g++: the stand-in for the GPU cannot be built")
	}
	sources, err := gather(files)
	if err != nil {
		t.Fatal(err)
	}
	lib, err := build(gxx, sources)
	if err != nil {
		t.Fatal(err)
	}
	return lib
}

// gather is what the build reads, by file name.
func gather(files []string) (map[string][]byte, error) {
	out := map[string][]byte{}
	src, err := fs.Sub(own, "src")
	if err != nil {
		return nil, err
	}
	for _, from := range []fs.FS{src, kernels.Sources} {
		list, err := fs.Glob(from, "*")
		if err != nil {
			return nil, err
		}
		for _, name := range list {
			if out[name], err = fs.ReadFile(from, name); err != nil {
				return nil, err
			}
		}
	}
	if len(files) == 0 {
		for name := range out {
			if path.Ext(name) == ".cu" && name != "all.cu" {
				files = append(files, name)
			}
		}
	}
	sort.Strings(files)
	var all, table strings.Builder
	for _, f := range files {
		list, err := source.Parse(string(out[f]))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		fmt.Fprintf(&all, "#include %q\n", f)
		table.WriteString(source.Table(list))
	}
	out["all.cu"], out["table.inc"] = []byte(all.String()), []byte(table.String())
	return out, nil
}

// build compiles the sources, unless the cache has the result. Two processes may do it at once; the last rename wins.
func build(gxx string, sources map[string][]byte) (string, error) {
	version, err := exec.Command(gxx, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask g++ for its version: %w", err)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%q\n", version, flags)
	names := make([]string, 0, len(sources))
	for name := range sources {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Fprintf(h, "%s %d\n", name, len(sources[name]))
		h.Write(sources[name])
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache folder: %w", err)
	}
	cache = filepath.Join(cache, "sn3-standin")
	lib := filepath.Join(cache, hex.EncodeToString(h.Sum(nil)[:12])+".so")
	if _, err := os.Stat(lib); err == nil {
		return lib, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	dir, err := os.MkdirTemp(cache, "build-")
	if err != nil {
		return "", fmt.Errorf("make a folder to build in: %w", err)
	}
	defer os.RemoveAll(dir)
	for name, text := range sources {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return "", err
		}
	}
	c := exec.Command(gxx, append(append([]string{}, flags...), "-I.", "-o", "out.so", "standin.cpp")...)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile the stand-in: %w\n%s", err, out)
	}
	return lib, os.Rename(filepath.Join(dir, "out.so"), lib)
}

// Card is a private copy of the stand-in, with its own memory and settings, and its only device, started.
type Card struct {
	*cuda.Device
	Driver *cuda.Driver
	set    func(name, value string) int32
	report func(to *byte, n int32) int32
}

// Open builds the stand-in (Library) and starts its device. At the end of the test the device is closed and nothing may be left on it, unless
// a kernel was at fault.
func Open(t testing.TB, files ...string) *Card {
	t.Helper()
	c := OpenDriver(t, files...)
	var err error
	if c.Device, err = c.Driver.Start(0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := c.Close()
		r := c.Report(t)
		if r.Faults > 0 { // the context is lost with what it holds
			return
		}
		if err != nil {
			t.Errorf("close the device: %v", err)
		}
		if left := r.Left(); left != "" && !t.Failed() {
			t.Errorf("left on the device: %s", left)
		}
	})
	return c
}

// OpenDriver is Open without starting the device: for tests of the start.
func OpenDriver(t testing.TB, files ...string) *Card {
	t.Helper()
	lib := filepath.Join(t.TempDir(), "libcuda.so")
	if err := copyFile(lib, Library(t, files...)); err != nil { // the loader knows libraries by file
		t.Fatal(err)
	}
	h, err := purego.Dlopen(lib, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		t.Fatal(err)
	}
	c := new(Card)
	purego.RegisterLibFunc(&c.set, h, "sn3StandinSet")
	purego.RegisterLibFunc(&c.report, h, "sn3StandinReport")
	if c.Driver, err = cuda.OpenAt(lib); err != nil {
		t.Fatal(err)
	}
	return c
}

func copyFile(to, from string) (err error) {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	_, err = io.Copy(w, r)
	return err
}

// Set changes a setting: order (forward, reverse, random), seed, memory (bytes of the card), oom (k: the k-th allocation from now fails),
// fail (name:k:code: the k-th call of a driver's function from now fails), devices, version, cc.
func (c *Card) Set(t testing.TB, name, value string) {
	t.Helper()
	if c.set(name, value) != 0 {
		t.Fatalf("the stand-in does not know %s=%s", name, value)
	}
}

// Report is what the stand-in has counted.
type Report struct {
	Allocations, Bytes, Peak, Asked                    int64 // alive; Asked: allocations asked for, pinned ones included
	Pinned, Modules, Streams, Events, Graphs, Contexts int64 // alive
	Faults                                             int64 // of kernels; the context is lost after one
	Launches, Calls                                    map[string]int64
}

// Left says what is alive, "" where nothing is.
func (r Report) Left() string {
	var s []string
	for _, e := range []struct {
		n    int64
		what string
	}{{r.Allocations, "allocations"}, {r.Pinned, "pinned allocations"}, {r.Modules, "modules"}, {r.Streams, "streams"}, {r.Events, "events"}, {r.Graphs, "graphs"}, {r.Contexts, "contexts"}} {
		if e.n != 0 {
			s = append(s, fmt.Sprintf("%d %s", e.n, e.what))
		}
	}
	return strings.Join(s, ", ")
}

// Report asks the stand-in what it has counted.
func (c *Card) Report(t testing.TB) Report {
	t.Helper()
	b := make([]byte, c.report(nil, 0)+1024)
	c.report(&b[0], int32(len(b)))
	var r Report
	if err := json.Unmarshal(b[:strings.IndexByte(string(b), 0)], &r); err != nil {
		t.Fatal(err)
	}
	return r
}
