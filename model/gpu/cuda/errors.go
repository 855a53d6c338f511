package cuda

import (
	"errors"
	"fmt"
)

// Unavailable says why there is no driver or no device to use, and what to do about it.
type Unavailable struct {
	Reason, Advice string
	Err            error // what the loader or the driver said, if it did
}

// Error is the reason and the advice.
func (u *Unavailable) Error() string {
	s := u.Reason
	if u.Err != nil {
		s += ": " + u.Err.Error()
	}
	return s + "; " + u.Advice
}

// Unwrap is what the loader or the driver said.
func (u *Unavailable) Unwrap() error { return u.Err }

// Code is an error code of the driver (CUresult).
type Code int32

// The codes that callers decide by. ErrorCode finds them in an error.
const (
	InvalidValue       Code = 1
	OutOfMemory        Code = 2
	NotInitialized     Code = 3
	NoDevice           Code = 100
	InvalidDevice      Code = 101
	DeviceBusy         Code = 46
	InvalidContext     Code = 201
	NoBinary           Code = 209
	ECCUncorrectable   Code = 214
	InvalidPTX         Code = 218
	UnsupportedPTX     Code = 222
	InvalidHandle      Code = 400
	NotFound           Code = 500
	IllegalAddress     Code = 700
	OutOfResources     Code = 701
	LaunchTimeout      Code = 702
	Misaligned         Code = 716
	LaunchFailed       Code = 719
	SystemNotReady     Code = 802
	DriverMismatch     Code = 803
	CaptureUnsupported Code = 900
)

// Error is a call of the driver that failed.
type Error struct {
	Call   string // the driver's function
	Code   Code
	Name   string // of the code, from the driver
	Text   string // what the driver says of it, and what we know
	Advice string // what to do next
}

// Error names call, code and next step.
func (e *Error) Error() string {
	return fmt.Sprintf("%s: %s (%d): %s; %s", e.Call, e.Name, e.Code, e.Text, e.Advice)
}

// ErrorCode is the driver's code in err, 0 where there is none.
func ErrorCode(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return 0
}

// advice is what to do next after a code.
func advice(c Code) string {
	switch c {
	case OutOfMemory:
		return "use a smaller micro-batch or a leaner plan (sn3 plan shows what fits), or free the card: nvidia-smi lists who holds it"
	case NoDevice:
		return "check that nvidia-smi lists a card and that CUDA_VISIBLE_DEVICES does not hide it, or run without --gpu"
	case InvalidDevice:
		return "miner doctor lists the cards"
	case NoBinary, InvalidPTX, UnsupportedPTX:
		return "install a newer driver from NVIDIA (" + driverWords(minDriver) + " or later), or run without --gpu"
	case DeviceBusy:
		return "another process holds the card for itself (nvidia-smi shows it, and the compute mode): end it, or choose another card with --gpus"
	case SystemNotReady:
		return "machines with NVSwitch need the fabric manager: systemctl start nvidia-fabricmanager, and see nvidia-smi -q for its state"
	case ECCUncorrectable:
		return "the card's memory has an error that cannot be corrected: nvidia-smi -q -d ECC shows it; reset or replace the card"
	case DriverMismatch:
		return "the driver's kernel module and library differ: restart the machine after the driver's update"
	case IllegalAddress, LaunchFailed, Misaligned, OutOfResources, LaunchTimeout:
		return "this is an error of ours or of the card: restart, and if it comes again report it with the output of miner doctor"
	case NotInitialized, InvalidContext, InvalidHandle, InvalidValue, NotFound, CaptureUnsupported:
		return "this is an error of ours: report it with the output of miner doctor"
	}
	return "look for Xid messages in dmesg, run nvidia-smi, and restart the machine if it fails too"
}
