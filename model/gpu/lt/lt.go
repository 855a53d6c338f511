// Package lt makes matrix products with cuBLASLt, NVIDIA's library for them, which is opened at run time and may be missing: the
// engine then multiplies with kernels of its own, and so it does a product for which the library has no algorithm (ErrNone).
//
// The same card and the same version of the library give the same bits: the algorithm is the first of the library's heuristic, never
// one found by measuring time, and of those that split a sum over several blocks only the ones that keep the parts in float32 in
// the workspace and add them up in a step of their own are allowed; parts that are added in place, in the order in which blocks
// come, or rounded to bfloat16 between are not.
package lt

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sn3/model/gpu/cuda"
	"sn3/model/gpu/dl"
)

// Unavailable says why there is no library to use, and what to do about it.
type Unavailable = cuda.Unavailable

// Library is the opened library.
type Library struct {
	calls
	path    string
	version uint64
	standin bool
	others  []string // to be tried where this one does not start: it may be too new for the driver
}

// oldest is the least version that is taken: 10000·major + 100·minor + patch, as cublasLtGetVersion tells it.
const oldest = 120000

const install = "install libcublas of CUDA 12 or 13 (from NVIDIA's packages, or pip install nvidia-cublas-cu12), or name its libcublasLt.so by SN3_CUBLASLT;" +
	" without it products are slower, nothing else changes"

// Open opens the library that SN3_CUBLASLT names, "none" for none, else the first of CUDA 13's and CUDA 12's that is there (places). An error
// is *Unavailable.
func Open() (*Library, error) {
	switch p := os.Getenv("SN3_CUBLASLT"); p {
	case "":
		return first(places(os.Getenv, filepath.Glob))
	case "none":
		return nil, &Unavailable{Reason: "cuBLASLt is switched off by SN3_CUBLASLT=none", Advice: "unset it for faster products"}
	default:
		return OpenAt(p)
	}
}

// first opens the first library that can be used.
func first(names []string) (*Library, error) {
	var unusable error
	for i, name := range names {
		l, missing, err := open(name)
		if err == nil {
			l.others = names[i+1:]
			return l, nil
		}
		if !missing && unusable == nil { // says more than that others are not there
			unusable = err
		}
	}
	if unusable != nil {
		return nil, unusable
	}
	return nil, &Unavailable{Reason: "there is no cuBLASLt (" + strings.Join(names, ", ") + ")", Advice: install}
}

// OpenAt opens the library at path. An error is *Unavailable.
func OpenAt(path string) (*Library, error) {
	l, _, err := open(path)
	return l, err
}

func open(path string) (l *Library, missing bool, err error) {
	lib, err := dl.Open(path)
	if err != nil {
		return nil, true, &Unavailable{Reason: "there is no cuBLASLt (" + path + ")", Advice: install, Err: err}
	}
	l = &Library{path: path}
	if err := l.bind(lib); err != nil {
		return nil, false, &Unavailable{Reason: path + " is no cuBLASLt that we can use", Advice: install, Err: err}
	}
	if l.version = uint64(l.getVersion.Call()); l.version < oldest {
		return nil, false, &Unavailable{Reason: fmt.Sprintf("%s has version %s, %s is the least", path, l.Version(), words(oldest)), Advice: install}
	}
	_, err = dl.Find(lib, "sn3StandinPart")
	l.standin = err == nil
	return l, false, nil
}

// Version is the library's version in words, as 13.1.0.
func (l *Library) Version() string { return words(l.version) }

// Path is the library's name as it was opened.
func (l *Library) Path() string { return l.path }

func words(v uint64) string { return fmt.Sprintf("%d.%d.%d", v/10000, v%10000/100, v%100) }
