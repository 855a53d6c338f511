package lt_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sn3/model/gpu/cuda"
	"sn3/model/gpu/lt"
	"sn3/model/gpu/standin"
)

// scenario makes every call of the library.
func scenario(r *rig) error {
	for _, p := range []lt.Product{dense(lt.NT, 5, 6, 7, false, true), dense(lt.TN, 8, 8, 16, true, false)} {
		if err := newProblem(p, 5).check(r); err != nil {
			return err
		}
	}
	return nil
}

// bare is a stand-in on which something may be left.
func bare(t *testing.T) *standin.Card {
	t.Helper()
	standin.Only(t, "calls that fail")
	card := standin.Load(t, "scale.cu")
	d, err := cuda.OpenAt(card.Path)
	if err != nil {
		t.Fatal(err)
	}
	if card.Device, err = d.Start(0); err != nil {
		t.Fatal(err)
	}
	return card
}

// Every call that fails, whichever, is an error that names it, its status, the product where there is one, and what to do; what was
// made before is freed.
func TestEveryCallCanFail(t *testing.T) {
	whole := try(t, scenario).Report(t)
	if left := whole.Left(); left != "1 streams, 1 contexts" {
		t.Fatalf("left: %s", left)
	}
	l := library(t, standin.Load(t, "scale.cu"))
	for _, name := range lt.Names(l) {
		n := whole.Calls[name]
		if name == "cublasLtGetVersion" || strings.HasPrefix(name, "cublasLtGetStatus") {
			continue
		}
		if n == 0 {
			t.Errorf("the scenario never calls %s", name)
		}
		for k := range n {
			for _, status := range []lt.Status{lt.InvalidValue, lt.ExecutionFailed, lt.NotSupported, lt.ArchMismatch, 12345} {
				card := bare(t)
				card.Set(t, "fail", fmt.Sprintf("%s:%d:%d", name, k+1, status))
				err := errors.Join(on(t, card, scenario), card.Close())
				if name == "cublasLtMatmulAlgoGetHeuristic" && (status == lt.NotSupported || status == lt.ArchMismatch) {
					if !errors.Is(err, lt.ErrNone) || lt.StatusOf(err) != 0 {
						t.Errorf("%v", err)
					}
					continue
				}
				e, ok := errors.AsType[*lt.Error](err)
				if !ok || e.Call != name || e.Status != status || e.Advice == "" || lt.StatusOf(err) != status {
					t.Errorf("call %d of %s fails with %d: %v", k+1, name, status, err)
				}
				if e != nil && !strings.Contains(err.Error(), fmt.Sprintf("%s: %s (%d): ", name, e.Name, status)) {
					t.Errorf("%v", err)
				}
				if about := strings.Contains(name, "Matmul") || strings.Contains(name, "Layout"); about && !strings.Contains(name, "Destroy") && !strings.Contains(fmt.Sprint(err), ": product ") {
					t.Errorf("which product? %v", err)
				}
				if left := card.Report(t).Products; left != 0 && !strings.Contains(name, "Destroy") { // what cannot be destroyed stays
					t.Errorf("call %d of %s fails with %d: %d objects of cuBLASLt are left", k+1, name, status, left)
				}
			}
		}
	}
}

// Without words from the library there is still the call, the status and what to do.
func TestErrorsWithoutWords(t *testing.T) {
	standin.Only(t, "calls that fail")
	for name, says := range map[string]string{
		"cublasLtGetStatusName":   "cublasLtMatmul: cuBLASLt error (7): the stream is none: product nn",
		"cublasLtGetStatusString": "cublasLtMatmul: CUBLAS_STATUS_INVALID_VALUE (7): the library has no words for it: product nn",
	} {
		card := standin.Open(t, "scale.cu")
		err := on(t, card, func(r *rig) error {
			p := dense(lt.NN, 8, 8, 8, false, false)
			s, err := r.NewStream()
			if err != nil {
				return err
			}
			if err := errors.Join(r.h.Prepare(p), r.FreeStream(s)); err != nil {
				return err
			}
			r.Use(s)
			defer r.Use(nil)
			card.Set(t, "fail", name+":1:1")
			return r.h.Run(p, 256, 512, 1024)
		})
		if err == nil || !strings.HasPrefix(err.Error(), says) || lt.StatusOf(err) != lt.InvalidValue {
			t.Errorf("%v, not: %s", err, says)
		}
	}
}

// What is wrong with a product's memory is found, wherever the matrix lies, as for a kernel.
func TestMemoryFaults(t *testing.T) {
	standin.Only(t, "what it finds in memory")
	p := dense(lt.NN, 8, 8, 8, false, true) // A and B of 128 bytes, C of 256
	for _, c := range []struct {
		name, says string
		a, b, out  int64
		in         func(r *rig, x cuda.Ptr) error
	}{
		{"beyond the part", "the first factor of 128 bytes at offset 16 of b of 128", 0, 256 + 16, 512, nil},
		{"before it is written", "the second factor has a value at offset 0 of new that was never written", 2048, 256, 512, func(r *rig, x cuda.Ptr) error { return r.Part(x.Add(2048), 128, "new") }},
		{"C before it is written", "the result has a value at offset 0 of new that was never written", 0, 256, 2048, func(r *rig, x cuda.Ptr) error { return r.Part(x.Add(2048), 256, "new") }},
		{"beyond the allocation", "the result: 256 bytes at offset 3968 of an allocation of 4096", 0, 256, 4096 - 128, nil},
		{"into a factor", "the second factor and the result overlap", 512, 256, 512, nil},
		{"in the workspace", "the result and the workspace overlap", 0, 256, -1, nil},
		{"freed", "is in memory that was freed", 0, 256, -2, nil},
		{"none", "", 0, 256, 512, nil},
	} {
		for _, captured := range []bool{false, true} {
			card := standin.Open(t, "scale.cu")
			err := on(t, card, func(r *rig) error {
				x, err := r.Alloc(4096)
				if err != nil {
					return err
				}
				freed, err := r.Alloc(4096)
				if err != nil {
					return err
				}
				if err := errors.Join(r.Free(freed), r.Part(x, 128, "a"), r.Part(x.Add(256), 128, "b"), r.Memset(x, 0, 4096), r.Memset(r.w, 0, workspace)); err != nil {
					return err
				}
				if c.in != nil {
					if err := c.in(r, x); err != nil {
						return err
					}
				}
				out := x.Add(c.out)
				if c.out < 0 {
					out = []cuda.Ptr{r.w.Add(workspace - 256), freed}[-1-c.out]
				}
				f := func() error { return r.h.Run(p, x.Add(c.a), x.Add(c.b), out) }
				if captured {
					g, err := r.Capture(f)
					if err != nil {
						return err
					}
					return errors.Join(r.Replay(g), r.FreeGraph(g), r.Free(x))
				}
				return errors.Join(f(), r.Free(x))
			})
			if c.says == "" {
				if err != nil {
					t.Error(err)
				}
				continue
			}
			if cuda.ErrorCode(err) != cuda.IllegalAddress || !strings.Contains(err.Error(), c.says) || !captured && lt.StatusOf(err) != lt.ExecutionFailed {
				t.Errorf("%s, captured %v: %v, not: %s", c.name, captured, err, c.says)
			}
		}
	}
}

// A fault that the card tells late is told by the next call, whatever it is.
func TestLateFault(t *testing.T) {
	card := standin.Open(t, "scale.cu")
	card.Set(t, "async", "1")
	err := on(t, card, func(r *rig) error {
		if err := r.h.Run(dense(lt.NT, 8, 8, 8, false, false), 256, 512, 1024); err != nil {
			t.Errorf("the product itself fails: %v", err)
		}
		return r.Sync()
	})
	if e, ok := errors.AsType[*cuda.Error](err); !ok || e.Call != "cuStreamSynchronize" || !strings.Contains(e.Text, "the first factor") {
		t.Error(err)
	}
}

// A captured product is not made any more once its handle is closed.
func TestReplayAfterClose(t *testing.T) {
	standin.Only(t, "that a handle was closed")
	card := standin.Open(t, "scale.cu")
	err := on(t, card, func(r *rig) error {
		p := dense(lt.NT, 8, 8, 8, false, false)
		x, err := r.Alloc(1024)
		if err != nil {
			return err
		}
		g, err := r.Capture(func() error { return r.h.Run(p, x, x.Add(256), x.Add(512)) })
		if err != nil {
			return err
		}
		if err := errors.Join(r.Memset(x, 0, 1024), r.Replay(g), r.h.Close()); err != nil {
			return err
		}
		return r.Replay(g)
	})
	if cuda.ErrorCode(err) != cuda.IllegalAddress || !strings.Contains(err.Error(), "the handle was destroyed") {
		t.Error(err)
	}
}

// Each name is bound once.
func TestNames(t *testing.T) {
	l := library(t, standin.Load(t, "scale.cu"))
	names := lt.Names(l)
	slices.Sort(names)
	if len(slices.Compact(slices.Clone(names))) != len(names) || slices.Contains(names, "") {
		t.Errorf("a name is missing or twice: %v", names)
	}
}
