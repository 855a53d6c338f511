package lt_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"sn3/model/gpu/lt"
)

// These tests are for NVIDIA's own files, which are not with us, and no GPU: `pip install nvidia-cublas nvidia-cuda-runtime` has them.
// SN3_CUBLASLT_FILES lists folders with them, as PATH does; each may have include/cublasLt.h, lib/libcublasLt.so.13, or both, one
// include/library_types.h of the newest of them.

// files are those of a name in the folders that the variable lists.
func files(t *testing.T, patterns ...string) (list []string) {
	t.Helper()
	for _, dir := range filepath.SplitList(os.Getenv("SN3_CUBLASLT_FILES")) {
		for _, p := range patterns {
			found, err := filepath.Glob(filepath.Join(dir, p))
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, found...)
		}
	}
	if len(list) == 0 {
		t.Skipf("no folder of SN3_CUBLASLT_FILES has %s", strings.Join(patterns, " or "))
	}
	return list
}

// The numbers that we give the library and the structs that it fills are those of NVIDIA's headers.
func TestHeaders(t *testing.T) {
	headers := files(t, "include/cublasLt.h")
	types := filepath.Dir(files(t, "include/library_types.h")[0])
	dir := t.TempDir()
	for name, text := range map[string]string{ // what the headers take from others, as far as they need it
		"driver_types.h": "#include <stddef.h>\ntypedef struct CUstream_st* cudaStream_t;\n",
		"cuComplex.h":    "typedef struct { float x, y; } cuComplex;\ntypedef struct { double x, y; } cuDoubleComplex;\n",
		"cuda_fp16.h":    "struct __half;\n",
		"cuda_bf16.h":    "struct __nv_bfloat16;\n",
		"check.cpp":      assertions(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range headers {
		out, err := exec.Command("g++", "-fsyntax-only", "-I"+dir, "-I"+filepath.Dir(h), "-idirafter", types, filepath.Join(dir, "check.cpp")).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", h, err, out)
		}
	}
}

// assertions is a program that does not compile where a number differs.
func assertions() string {
	var b strings.Builder
	fmt.Fprintln(&b, "#include <cublasLt.h>\n#define SAME(x, n) static_assert((long long)(x) == n, #x)")
	for name, v := range lt.Numbers {
		fmt.Fprintf(&b, "SAME(%s, %d);\n", name, v)
	}
	var f lt.Found
	for what, n := range map[string]uintptr{
		"sizeof(cublasLtMatmulAlgo_t)":                             unsafe.Sizeof(f.Algorithm()),
		"sizeof(cublasLtMatmulHeuristicResult_t)":                  unsafe.Sizeof(f),
		"offsetof(cublasLtMatmulHeuristicResult_t, algo)":          lt.Offsets(&f)[0],
		"offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize)": lt.Offsets(&f)[1],
		"offsetof(cublasLtMatmulHeuristicResult_t, state)":         lt.Offsets(&f)[2],
		"sizeof(cublasStatus_t)":                                   4,
		"sizeof(((cublasLtMatmulHeuristicResult_t*)0)->state)":     4,
	} {
		fmt.Fprintf(&b, "SAME(%s, %d);\n", what, n)
	}
	// the types of what we call: a change does not compile
	fmt.Fprintln(&b, `
template <class T, class U> struct same { static const bool is = false; };
template <class T> struct same<T, T> { static const bool is = true; };
#define TYPE(f, ...) static_assert(same<decltype(&f), __VA_ARGS__>::is, #f)
typedef cublasStatus_t S; typedef cublasLtHandle_t H; typedef cublasLtMatmulDesc_t D; typedef cublasLtMatrixLayout_t L; typedef cublasLtMatmulPreference_t P;
static_assert(sizeof(H) == 8 && sizeof(D) == 8 && sizeof(L) == 8 && sizeof(P) == 8 && sizeof(cudaStream_t) == 8, "handles");
TYPE(cublasLtGetVersion, size_t (*)());
TYPE(cublasLtGetStatusName, const char* (*)(S));
TYPE(cublasLtGetStatusString, const char* (*)(S));
TYPE(cublasLtCreate, S (*)(H*));
TYPE(cublasLtDestroy, S (*)(H));
TYPE(cublasLtMatmulDescCreate, S (*)(D*, cublasComputeType_t, cudaDataType_t));
TYPE(cublasLtMatmulDescDestroy, S (*)(D));
TYPE(cublasLtMatmulDescSetAttribute, S (*)(D, cublasLtMatmulDescAttributes_t, const void*, size_t));
TYPE(cublasLtMatrixLayoutCreate, S (*)(L*, cudaDataType, uint64_t, uint64_t, int64_t));
TYPE(cublasLtMatrixLayoutDestroy, S (*)(L));
TYPE(cublasLtMatmulPreferenceCreate, S (*)(P*));
TYPE(cublasLtMatmulPreferenceDestroy, S (*)(P));
TYPE(cublasLtMatmulPreferenceSetAttribute, S (*)(P, cublasLtMatmulPreferenceAttributes_t, const void*, size_t));
TYPE(cublasLtMatmulAlgoGetHeuristic, S (*)(H, D, L, L, L, L, P, int, cublasLtMatmulHeuristicResult_t*, int*));
TYPE(cublasLtMatmul, S (*)(H, D, const void*, const void*, L, const void*, L, const void*, const void*, L, void*, L, const cublasLtMatmulAlgo_t*, void*, size_t, cudaStream_t));`)
	return b.String()
}

// NVIDIA's library opens, has all functions, tells its version and words, and takes our descriptors, layouts and preferences: of
// what needs no card everything but the handle.
func TestRealLibrary(t *testing.T) {
	for _, path := range files(t, "lib/libcublasLt.so.1[23]", "lib64/libcublasLt.so.1[23]") {
		l, err := lt.OpenAt(path)
		if err != nil {
			t.Error(err)
			continue
		}
		t.Logf("%s: %s", path, l.Version())
		if want := path[len(path)-2:] + "."; !strings.HasPrefix(l.Version(), want) {
			t.Errorf("%s has version %s", path, l.Version())
		}
		err = lt.Describe(l, dense(lt.NT, 30, 20, 10, true, true))
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		// a wrong size of an attribute is what the library refuses, with its own words
		if e, ok := errors.AsType[*lt.Error](lt.Misdescribe(l)); !ok || e.Status != lt.InvalidValue || e.Name != "CUBLAS_STATUS_INVALID_VALUE" || e.Text == "" {
			t.Errorf("%s: %v", path, e)
		}
	}
}
