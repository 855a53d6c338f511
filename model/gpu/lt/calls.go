package lt

import "sn3/model/gpu/dl"

// fn is a function of the library.
type fn struct{ dl.Func }

// call calls it; what is not 0 becomes an *Error.
//
//go:uintptrescapes
func (f *fn) call(l *Library, args ...uintptr) error {
	if s := Status(int32(f.Call(args...))); s != 0 {
		return l.fail(f.Name, s)
	}
	return nil
}

// calls are the functions of the library that we use.
type calls struct {
	getVersion, statusName, statusString, create, destroy fn
	descCreate, descDestroy, descSet                      fn
	layoutCreate, layoutDestroy                           fn
	prefCreate, prefDestroy, prefSet, heuristic, matmul   fn
}

// bind finds the functions in the library.
func (c *calls) bind(lib uintptr) error {
	for _, s := range []struct {
		to   *fn
		name string
	}{
		{&c.getVersion, "cublasLtGetVersion"}, {&c.statusName, "cublasLtGetStatusName"}, {&c.statusString, "cublasLtGetStatusString"},
		{&c.create, "cublasLtCreate"}, {&c.destroy, "cublasLtDestroy"},
		{&c.descCreate, "cublasLtMatmulDescCreate"}, {&c.descDestroy, "cublasLtMatmulDescDestroy"}, {&c.descSet, "cublasLtMatmulDescSetAttribute"},
		{&c.layoutCreate, "cublasLtMatrixLayoutCreate"}, {&c.layoutDestroy, "cublasLtMatrixLayoutDestroy"},
		{&c.prefCreate, "cublasLtMatmulPreferenceCreate"}, {&c.prefDestroy, "cublasLtMatmulPreferenceDestroy"},
		{&c.prefSet, "cublasLtMatmulPreferenceSetAttribute"}, {&c.heuristic, "cublasLtMatmulAlgoGetHeuristic"}, {&c.matmul, "cublasLtMatmul"},
	} {
		f, err := dl.Find(lib, s.name)
		if err != nil {
			return err
		}
		s.to.Func = f
	}
	return nil
}

// What the calls take, from NVIDIA's headers, in which the values are the same for CUDA 12 and 13 (TestHeaders compares them).
const (
	typeFloat32 = 0  // CUDA_R_32F, cudaDataType of library_types.h
	typeBF16    = 14 // CUDA_R_16BF
	compute32   = 68 // CUBLAS_COMPUTE_32F, cublasComputeType_t of cublas_api.h
	opN         = 0  // CUBLAS_OP_N, cublasOperation_t of cublas_api.h
	opT         = 1  // CUBLAS_OP_T

	descTransA = 3 // CUBLASLT_MATMUL_DESC_TRANSA, cublasLtMatmulDescAttributes_t of cublasLt.h: an int32
	descTransB = 4 // CUBLASLT_MATMUL_DESC_TRANSB: an int32

	prefWorkspace = 1 // CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, cublasLtMatmulPreferenceAttributes_t of cublasLt.h: a uint64
	prefReduction = 3 // CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: a uint32
	prefAlignA    = 5 // CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: a uint32, and so the next three
	prefAlignB    = 6
	prefAlignC    = 7
	prefAlignD    = 8

	reductionCompute = 2 // CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, cublasLtReductionScheme_t of cublasLt.h; no reduction is always allowed
)

// algorithm is cublasLtMatmulAlgo_t of cublasLt.h.
type algorithm struct{ data [8]uint64 }

// found is cublasLtMatmulHeuristicResult_t of cublasLt.h.
type found struct {
	algorithm algorithm
	workspace uint64 // bytes that it needs
	state     int32  // a Status
	waves     float32
	_         [4]int32
}
