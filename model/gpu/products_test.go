package gpu

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"sn3/model"
	"sn3/model/enginetest"
	"sn3/model/gpu/lt"
	"sn3/model/gpu/memory"
	"sn3/model/gpu/standin"
)

// withLibrary is a stand-in that is cuBLASLt too, and the engine's.
func withLibrary(t *testing.T, settings ...string) *standin.Card {
	t.Helper()
	standin.Only(t, "cuBLASLt of the test's own")
	card := standin.Load(t)
	for i := 0; i < len(settings); i += 2 {
		card.Set(t, settings[i], settings[i+1])
	}
	t.Setenv("SN3_CUBLASLT", card.Path)
	return card
}

// madeBy is how many products the library made and how many our kernels.
func madeBy(r standin.Report) (library, own int64) {
	for name, n := range r.Launches {
		if strings.HasPrefix(name, "gemm_") {
			own += n
		}
	}
	return r.Launches["cublasLtMatmul"], own
}

// parts are those of the engine's contract that products matter to.
var parts = []string{"gradients", "logits", "precision", "micro-batches without targets", "AdamW", "judge and trainer agree", "delta", "restart", "determinism"}

// The engine keeps its contract with the products of cuBLASLt, all of them, and gives it back.
func TestConformanceWithCuBLASLt(t *testing.T) {
	card := withLibrary(t)
	e := New(Settings{Library: card.Path})
	if got := e.Products(); got != "cuBLASLt 13.10.0" {
		t.Fatalf("products by %s", got)
	}
	enginetest.Run(t, e, enginetest.Options{Precision: model.BF16, Checks: 5, Slow: true, Parts: parts})
	t.Run("offload", func(t *testing.T) {
		e := New(Settings{Library: card.Path, Plan: memory.Offload, Recompute: memory.Full})
		enginetest.Run(t, e, enginetest.Options{Precision: model.BF16, Checks: 1, Slow: true, ShortGradients: true, Parts: []string{"gradients", "AdamW"}})
	})
	if library, own := madeBy(card.Report(t)); library == 0 || own != 0 {
		t.Errorf("%d products by the library, %d by our kernels", library, own)
	}
}

// The golden models, with the products of cuBLASLt.
func TestGoldenWithCuBLASLt(t *testing.T) {
	standin.Only(t, "cuBLASLt of the test's own")
	t.Setenv("SN3_CUBLASLT", standin.Library(t))
	if got := New(Settings{Library: os.Getenv("SN3_CUBLASLT")}).Products(); got != "cuBLASLt 13.10.0" {
		t.Fatalf("products by %s", got)
	}
	t.Run("llama", TestGoldenLlama)
	t.Run("train", TestGoldenTrain)
}

// Training and judging have the same bits each time, others than with our kernels, leave nothing, and products for which the library has no
// algorithm are our kernels'.
func TestProducts(t *testing.T) {
	bits := map[string]bool{}
	for _, c := range []struct {
		settings []string
		library  bool // makes products
		own      bool
	}{
		{nil, true, false},
		{[]string{"order", "random"}, true, false},
		{[]string{"late", "1"}, true, false},
		{[]string{"lt_align", "3"}, true, true},
		{[]string{"lt_align", "8192"}, false, true},
		{[]string{"fail", "cublasLtCreate:1:1"}, true, true},
		{[]string{"lt_version", "110000"}, false, true},
	} {
		card := withLibrary(t, c.settings...)
		got, err := work(t, card.Path, shapes["odd"])
		if err != nil {
			t.Errorf("%v: %v", c.settings, err)
		}
		r := card.Report(t)
		if library, own := madeBy(r); library > 0 != c.library || own > 0 != c.own {
			t.Errorf("%v: %d products by the library, %d by our kernels", c.settings, library, own)
		}
		if left := r.Left(); left != "" {
			t.Errorf("%v: left on the card: %s", c.settings, left)
		}
		bits[got] = true
	}
	if len(bits) != 4 { // all by the library, some, none, and all but the trainer's, whose handle was the first
		t.Errorf("%d different results", len(bits))
	}
}

// A trace has the library's products under its name, with the arguments of our kernels.
func TestTracedLibrary(t *testing.T) {
	card, c := withLibrary(t), shapes["odd"]
	tr := trainerOn(t, card, c)
	launches, err := tr.Traced(func() error {
		_, err := tr.Train(t.Context(), endless{batch(1, c, 2, c.Seq)}, model.Budget{Steps: 1})
		return err
	})
	if err := errors.Join(err, tr.Close()); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, l := range launches {
		if strings.HasPrefix(l.Kernel, "gemm_") {
			t.Errorf("%s makes a product", l.Kernel)
		}
		if strings.HasPrefix(l.Kernel, "cublaslt_") {
			seen[l.Kernel]++
			if a := l.Args; a[0] != 0 || min(a[3], a[4], a[5], a[6], a[7], a[8]) < 1 || a[9] > 1 || l.Took < 0 {
				t.Errorf("%+v", l)
			}
		}
	}
	N, F := int64(2*c.Seq), int64(c.FFN)
	// forward four products a layer and the logits, backward twice as many
	if want := map[string]int{"cublaslt_nt_bf16": 4, "cublaslt_nt": 1, "cublaslt_nn_bf16": 5, "cublaslt_tn": 5}; !maps.Equal(seen, want) {
		t.Errorf("%v, not %v", seen, want)
	}
	if !slices.ContainsFunc(launches, func(l Launch) bool {
		return l.Kernel == "cublaslt_nt_bf16" && l.Args[3] == N && l.Args[4] == 2*F && l.Args[5] == int64(c.Width)
	}) {
		t.Error("no product for gate and up")
	}
}

// Why our kernels multiply is said.
func TestWhyOwnKernels(t *testing.T) {
	card := withLibrary(t)
	for _, c := range []struct {
		settings []string
		library  string
		want     string
	}{
		{nil, "none", "own kernels: cuBLASLt is switched off by SN3_CUBLASLT=none"},
		{nil, "/nowhere/libcublasLt.so", "own kernels: there is no cuBLASLt (/nowhere/libcublasLt.so)"},
		{[]string{"fail", "cublasLtCreate:1:1"}, card.Path, "own kernels: cuBLASLt 13.10.0 does not start on this card"},
		{[]string{"fail", "cublasLtMatmulAlgoGetHeuristic:1:8"}, card.Path, "own kernels: cuBLASLt has no algorithm for product nt to bf16 of 1024"},
		{[]string{"fail", "cuInit:1:100"}, card.Path, "own kernels: "},
		{nil, card.Path, "cuBLASLt 13.10.0"},
	} {
		for i := 0; i < len(c.settings); i += 2 {
			card.Set(t, c.settings[i], c.settings[i+1])
		}
		t.Setenv("SN3_CUBLASLT", c.library)
		if got := New(Settings{Library: card.Path}).Products(); !strings.HasPrefix(got, c.want) {
			t.Errorf("%v: %s, not %s", c.settings, got, c.want)
		}
	}
	if left := card.Report(t).Left(); left != "" {
		t.Errorf("left on the card: %s", left)
	}
}

// Every call of the library that fails, at its first, middle or last, is an error that names it, or our kernels multiply.
func TestEveryCallOfTheLibraryCanFail(t *testing.T) {
	card := withLibrary(t)
	if _, err := work(t, card.Path, shapes["odd"]); err != nil {
		t.Fatal(err)
	}
	for name, n := range card.Report(t).Calls {
		if !strings.HasPrefix(name, "cublasLt") || name == "cublasLtCreate" {
			continue
		}
		for _, k := range []int64{1, n} {
			card := withLibrary(t, "fail", fmt.Sprintf("%s:%d:%d", name, k, lt.InternalError))
			_, err := work(t, card.Path, shapes["odd"])
			if e, ok := errors.AsType[*lt.Error](err); !ok || e.Call != name || e.Status != lt.InternalError {
				t.Errorf("call %d of %d of %s: %v", k, n, name, err)
			}
			if left := card.Report(t).Left(); left != "" && !strings.Contains(name, "Destroy") {
				t.Errorf("call %d of %d of %s: left on the card: %s", k, n, name, left)
			}
		}
	}
}
