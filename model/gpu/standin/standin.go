// Package standin builds the stand-in for libcuda.so.1: the same kernels, compiled by g++ to run on the CPU behind the driver's calls,
// where every access is checked. The same file stands in for libcublasLt.so. It is for tests. A program under test takes it by
// SN3_CUDA=<Library>, with products of the library by SN3_CUBLASLT=<Library> too, and the settings of Card.Set by SN3_STANDIN_<NAME>;
// "report" names a file that gets the report when the last context is released, %p in it being the process id. With SN3_GPU_CHECK=1
// the same tests run on a card (Real).
package standin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sn3/model/gpu/cuda"
)

// Card is a private copy of the stand-in, with its own memory and settings. Open gives it a started device.
type Card struct {
	*cuda.Device
	Driver *cuda.Driver
	Path   string
	set    func(name, value string) int32
	report func(to *byte, n int32) int32
}

// Open builds the stand-in (Library) and starts its device. At the end of the test the device is closed and nothing may be left on it, unless
// a kernel was at fault.
func Open(t testing.TB, files ...string) *Card {
	t.Helper()
	return start(t, Load(t, files...))
}

// OpenText is Open with the kernels of a text instead of ours.
func OpenText(t testing.TB, text string) *Card {
	t.Helper()
	Only(t, "kernels of the test's own")
	return start(t, load(t, library(t, nil, text)))
}

func start(t testing.TB, c *Card) *Card {
	t.Helper()
	var err error
	if c.Driver, err = cuda.OpenAt(c.Path); err != nil {
		t.Fatal(err)
	}
	if c.Device, err = c.Driver.Start(0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := c.Close()
		if Real() {
			if err != nil {
				t.Errorf("close the device: %v", err)
			}
			return
		}
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

// Load is Open without a driver and a device: for what opens Path itself.
func Load(t testing.TB, files ...string) *Card {
	t.Helper()
	if Real() {
		return &Card{Path: realPath()}
	}
	return load(t, Library(t, files...))
}

func load(t testing.TB, from string) *Card {
	t.Helper()
	c := &Card{Path: filepath.Join(t.TempDir(), "libcuda.so")}
	if err := copyFile(c.Path, from); err != nil { // the loader knows libraries by file
		t.Fatal(err)
	}
	if err := c.bind(); err != nil {
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

// Set changes a setting: order of blocks, and warps (forward, reverse, random), seed, memory (bytes of the card), oom (k: the k-th allocation from now fails),
// fail (name:k:code: the k-th call of a driver's function from now fails), devices, version, cc (80), sms, async (1: a kernel's
// fault is told by the next call), lost (1: after fail's call every further one fails too), late (1: streams do their work as late as what
// the host waits for allows), report (a file), lt_version, lt_align (leading dimensions of which cuBLASLt has no algorithm), lt_states (1:
// its first algorithm is none). On a card order, seed and late change nothing, and the others skip the test.
func (c *Card) Set(t testing.TB, name, value string) {
	t.Helper()
	if Real() && (name == "order" || name == "seed" || name == "late") {
		return
	}
	Only(t, name+"="+value)
	if c.set(name, value) != 0 {
		t.Fatalf("the stand-in does not know %s=%s", name, value)
	}
}

// Report is what the stand-in has counted.
type Report struct {
	Allocations, Bytes, Peak, Asked                    int64 // alive; Asked: allocations asked for, pinned ones included
	Pinned, Modules, Streams, Events, Graphs, Contexts int64 // alive
	Products                                           int64 // of cuBLASLt: handles, descriptors, layouts, preferences that are alive
	Faults                                             int64 // of kernels; the context is lost after one
	Launches, Calls                                    map[string]int64
}

// Left says what is alive, "" where nothing is.
func (r Report) Left() string {
	var s []string
	for _, e := range []struct {
		n    int64
		what string
	}{{r.Allocations, "allocations"}, {r.Pinned, "pinned allocations"}, {r.Modules, "modules"}, {r.Streams, "streams"}, {r.Events, "events"}, {r.Graphs, "graphs"}, {r.Contexts, "contexts"}, {r.Products, "objects of cuBLASLt"}} {
		if e.n != 0 {
			s = append(s, fmt.Sprintf("%d %s", e.n, e.what))
		}
	}
	return strings.Join(s, ", ")
}

// Report asks the stand-in what it has counted. On a card it skips the rest of the test.
func (c *Card) Report(t testing.TB) Report {
	t.Helper()
	Only(t, "counts of calls, memory and launches")
	b := make([]byte, c.report(nil, 0)+1024)
	c.report(&b[0], int32(len(b)))
	var r Report
	if err := json.Unmarshal(b[:bytes.IndexByte(b, 0)], &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// ReadReport reads what a program under test left in the file of SN3_STANDIN_REPORT.
func ReadReport(t testing.TB, file string) Report {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r Report
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	return r
}
