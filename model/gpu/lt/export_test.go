package lt

import (
	"errors"
	"reflect"
	"unsafe"
)

// First opens the first usable library of the names.
var First = first

// Names are the library's functions that the package binds.
func Names(l *Library) (names []string) {
	v := reflect.ValueOf(l.calls)
	for i := range v.NumField() {
		names = append(names, v.Field(i).FieldByName("Name").String())
	}
	return names
}

// Numbers are what we give the library, by the headers' names.
var Numbers = map[string]int{
	"CUDA_R_32F": typeFloat32, "CUDA_R_16BF": typeBF16, "CUBLAS_COMPUTE_32F": compute32, "CUBLAS_OP_N": opN, "CUBLAS_OP_T": opT,
	"CUBLASLT_MATMUL_DESC_TRANSA": descTransA, "CUBLASLT_MATMUL_DESC_TRANSB": descTransB,
	"CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES": prefWorkspace, "CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK": prefReduction,
	"CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES": prefAlignA, "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES": prefAlignB,
	"CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES": prefAlignC, "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES": prefAlignD,
	"CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE": reductionCompute, "CUBLASLT_REDUCTION_SCHEME_NONE": 0, "CUBLAS_STATUS_SUCCESS": 0,
	"CUBLAS_STATUS_NOT_INITIALIZED": int(NotInitialized), "CUBLAS_STATUS_ALLOC_FAILED": int(AllocFailed), "CUBLAS_STATUS_INVALID_VALUE": int(InvalidValue),
	"CUBLAS_STATUS_ARCH_MISMATCH": int(ArchMismatch), "CUBLAS_STATUS_MAPPING_ERROR": int(MappingError), "CUBLAS_STATUS_EXECUTION_FAILED": int(ExecutionFailed),
	"CUBLAS_STATUS_INTERNAL_ERROR": int(InternalError), "CUBLAS_STATUS_NOT_SUPPORTED": int(NotSupported), "CUBLAS_STATUS_LICENSE_ERROR": int(LicenseError),
}

// Found is what the heuristic fills.
type Found = found

// Algorithm is the part that a product is given.
func (f found) Algorithm() algorithm { return f.algorithm }

// Offsets are where algorithm, workspace and state begin.
func Offsets(f *found) [3]uintptr {
	return [3]uintptr{unsafe.Offsetof(f.algorithm), unsafe.Offsetof(f.workspace), unsafe.Offsetof(f.state)}
}

// Describe makes what describes a product and the preference, and frees it.
func Describe(l *Library, p Product) error {
	var (
		x    plan
		pref uintptr
	)
	err := l.describe(&x, p.translate())
	if err == nil {
		err = l.prefer(&pref, 1<<20)
	}
	if pref != 0 {
		err = errors.Join(err, l.prefDestroy.call(l, pref))
	}
	return errors.Join(err, l.free(&x))
}

// Misdescribe sets an attribute with a size that it does not have.
func Misdescribe(l *Library) error {
	var (
		x plan
		v int64
	)
	if err := l.descCreate.call(l, uintptr(unsafe.Pointer(&x.desc)), compute32, typeFloat32); err != nil {
		return err
	}
	err := l.descSet.call(l, x.desc, descTransA, uintptr(unsafe.Pointer(&v)), 8)
	if e := l.free(&x); e != nil {
		return e
	}
	return err
}
