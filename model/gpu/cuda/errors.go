package cuda

import (
	"errors"
	"fmt"
	"slices"
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
	StubLibrary        Code = 34
	NewerDriver        Code = 36
	DeviceBusy         Code = 46
	NoDevice           Code = 100
	InvalidDevice      Code = 101
	NotLicensed        Code = 102
	InvalidContext     Code = 201
	NoBinary           Code = 209
	ECCUncorrectable   Code = 214
	InvalidPTX         Code = 218
	LinkUncorrectable  Code = 220
	NoCompiler         Code = 221
	UnsupportedPTX     Code = 222
	CompilerOff        Code = 223
	OperatingSystem    Code = 304
	InvalidHandle      Code = 400
	NotFound           Code = 500
	IllegalAddress     Code = 700
	OutOfResources     Code = 701
	LaunchTimeout      Code = 702
	Misaligned         Code = 716
	LaunchFailed       Code = 719
	NotPermitted       Code = 800
	SystemNotReady     Code = 802
	DriverMismatch     Code = 803
	CompatUnsupported  Code = 804
	NoMPS              Code = 805
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

// missing are the codes that say that there is no driver, no card, or none that our kernels run on.
var missing = []Code{StubLibrary, NewerDriver, NoDevice, InvalidDevice, NoBinary, InvalidPTX, NoCompiler, UnsupportedPTX, CompilerOff, CompatUnsupported}

// Missing says whether err means that this machine, as it is set up, has no driver or card for us, so that trying again is no use. Other
// errors, of a card that is held, full or lost, may be over when it is tried again.
func Missing(err error) bool {
	if c := ErrorCode(err); c != 0 {
		return slices.Contains(missing, c)
	}
	_, ok := errors.AsType[*Unavailable](err)
	return ok
}

// advice is what to do next after a code.
func advice(c Code) string {
	switch c {
	case OutOfMemory:
		return "use a smaller micro-batch or a leaner plan (sn3 plan shows what fits), or free the card: nvidia-smi lists who holds it"
	case NoDevice:
		return "check that nvidia-smi lists a card (in MIG mode also an instance) and that CUDA_VISIBLE_DEVICES does not hide it, or run without --gpu"
	case StubLibrary:
		return "the loader found the stub that comes with the CUDA toolkit: take its folder out of LD_LIBRARY_PATH, so that the driver's own libcuda.so.1 is found"
	case NoCompiler:
		return "the driver's compiler libnvidia-ptxjitcompiler.so.1 is missing: install the whole driver, or in a container ask for its capability compute"
	case CompilerOff:
		return "CUDA_DISABLE_PTX_JIT or CUDA_DISABLE_JIT forbids the driver to compile our kernels: unset it"
	case OperatingSystem, NotPermitted:
		return "the system refused: check that this user may open /dev/nvidia*, and that the container was given the card"
	case NotLicensed:
		return "this virtual GPU has no licence for computing: ask whoever runs the machine"
	case NoMPS:
		return "CUDA_MPS_PIPE_DIRECTORY names a server that does not answer: start nvidia-cuda-mps-control, or unset it"
	case CompatUnsupported:
		return "a compatibility package hides the driver's own libcuda.so.1, and this card does not take it: take its folder out of LD_LIBRARY_PATH"
	case InvalidDevice:
		return "miner doctor lists the cards"
	case NoBinary, InvalidPTX, UnsupportedPTX, NewerDriver:
		return "install a newer driver from NVIDIA (" + driverWords(minDriver) + " or later), or run without --gpu"
	case DeviceBusy:
		return "another process holds the card for itself, or its compute mode is prohibited (nvidia-smi -q shows which): end that process, or choose another card with --gpus"
	case SystemNotReady:
		return "machines with NVSwitch need the fabric manager: systemctl start nvidia-fabricmanager, and see nvidia-smi -q for its state"
	case ECCUncorrectable:
		return "the card's memory has an error that cannot be corrected: nvidia-smi -q -d ECC shows it; reset or replace the card"
	case LinkUncorrectable:
		return "the link between cards has an error that cannot be corrected: nvidia-smi nvlink --status shows it; reset the cards"
	case DriverMismatch:
		return "the driver's kernel module and library differ: restart the machine after the driver's update"
	case IllegalAddress, LaunchFailed, Misaligned, OutOfResources, LaunchTimeout:
		return "this is an error of ours or of the card: restart, and if it comes again report it with the output of miner doctor"
	case NotInitialized, InvalidContext, InvalidHandle, InvalidValue, NotFound, CaptureUnsupported:
		return "this is an error of ours: report it with the output of miner doctor"
	}
	return "look for Xid messages in dmesg, run nvidia-smi, and restart the machine if it fails too"
}
