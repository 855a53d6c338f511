package lt

import (
	"errors"
	"fmt"
	"unsafe"

	"sn3/model/gpu/dl"
)

// ErrNone: the library has no algorithm for the product, on this card, with this workspace, as the matrices lie. Others may have.
var ErrNone = errors.New("cuBLASLt has no algorithm")

// Status is what a call of the library gives (cublasStatus_t of cublas_api.h).
type Status int32

// The codes of failed calls.
const (
	NotInitialized  Status = 1
	AllocFailed     Status = 3
	InvalidValue    Status = 7
	ArchMismatch    Status = 8
	MappingError    Status = 11
	ExecutionFailed Status = 13
	InternalError   Status = 14
	NotSupported    Status = 15
	LicenseError    Status = 16
)

// Error is a call of the library that failed.
type Error struct {
	Call   string // the library's function
	Status Status
	Name   string // of the status, from the library
	Text   string // what the library says of it, and what we know
	Advice string // what to do next
}

// Error names call, status and next step.
func (e *Error) Error() string {
	return fmt.Sprintf("%s: %s (%d): %s; %s", e.Call, e.Name, e.Status, e.Text, e.Advice)
}

// StatusOf is the library's status in err, 0 where there is none.
func StatusOf(err error) Status {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status
	}
	return 0
}

// fail makes the error of a call from its status.
func (l *Library) fail(call string, s Status) error {
	e := &Error{Call: call, Status: s, Name: "cuBLASLt error", Text: "the library has no words for it", Advice: advice(s)}
	for _, w := range []struct {
		to   *string
		from *fn
	}{{&e.Name, &l.statusName}, {&e.Text, &l.statusString}} {
		if p := w.from.Call(uintptr(s)); p != 0 {
			*w.to = text(p)
		}
	}
	return e
}

// text copies a C string of the library's own memory, which Go's collector does not know.
func text(p uintptr) string { return dl.Text(*(**byte)(unsafe.Pointer(&p))) }

// about says in an error which product it is about.
func about(p Product, err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		e.Text += ": " + p.String()
	}
	return err
}

// advice is what to do next after a status.
func advice(s Status) string {
	switch s {
	case NotInitialized:
		return "install a driver that is as new as the library, or an older library (SN3_CUBLASLT names one); SN3_CUBLASLT=none does without"
	case AllocFailed:
		return "leave more of the card's memory to the library: a smaller --gpu-memory, a smaller micro-batch"
	case ArchMismatch, NotSupported:
		return "the library does not know this card: install a newer one, or do without by SN3_CUBLASLT=none"
	case ExecutionFailed, MappingError:
		return "look for Xid messages in dmesg; if there are none, try SN3_CUBLASLT=none, and report it with the output of miner doctor"
	}
	return "this is an error of ours or of the library: try SN3_CUBLASLT=none, and report it with the output of miner doctor"
}
