package gpu

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"sn3/model"
	"sn3/model/gpu/cuda"
	"sn3/model/gpu/standin"
)

// Of what can go wrong when a trainer is made, only what says that there is no driver or card for us is ErrUnsupported. Everything else
// keeps the driver's call and code, and its advice fits the code.
func TestWhatIsUnsupported(t *testing.T) {
	for _, c := range []struct {
		call        string
		code        cuda.Code
		unsupported bool
		advice      string
	}{
		{"cuInit", cuda.NoDevice, true, "nvidia-smi lists a card"},
		{"cuInit", cuda.SystemNotReady, false, "fabricmanager"},
		{"cuInit", cuda.OperatingSystem, false, "/dev/nvidia*"},
		{"cuDeviceGetCount", cuda.NoDevice, true, "nvidia-smi lists a card"},
		{"cuDeviceGetCount", 999, false, "Xid"},
		{"cuDevicePrimaryCtxRetain", cuda.InvalidDevice, true, "miner doctor"},
		{"cuDevicePrimaryCtxRetain", cuda.DeviceBusy, false, "--gpus"},
		{"cuDevicePrimaryCtxRetain", cuda.OutOfMemory, false, "free the card"},
		{"cuDevicePrimaryCtxRetain", cuda.NotLicensed, false, "licence"},
		{"cuDevicePrimaryCtxRetain", cuda.ECCUncorrectable, false, "nvidia-smi -q -d ECC"},
		{"cuDevicePrimaryCtxRetain", cuda.LinkUncorrectable, false, "nvlink"},
		{"cuDevicePrimaryCtxRetain", cuda.OperatingSystem, false, "/dev/nvidia*"},
		{"cuDevicePrimaryCtxRetain", cuda.NotPermitted, false, "/dev/nvidia*"},
		{"cuDevicePrimaryCtxRetain", cuda.SystemNotReady, false, "fabricmanager"},
		{"cuDevicePrimaryCtxRetain", cuda.DriverMismatch, false, "restart the machine"},
		{"cuDevicePrimaryCtxRetain", cuda.NoMPS, false, "nvidia-cuda-mps-control"},
		{"cuDevicePrimaryCtxRetain", cuda.InvalidContext, false, "an error of ours"},
		{"cuCtxSetCurrent", cuda.CompatUnsupported, true, "LD_LIBRARY_PATH"},
		{"cuStreamCreate", cuda.StubLibrary, true, "LD_LIBRARY_PATH"},
		{"cuModuleLoadDataEx", cuda.NewerDriver, true, "newer driver"},
		{"cuModuleLoadDataEx", cuda.NoBinary, true, "newer driver"},
		{"cuModuleLoadDataEx", cuda.InvalidPTX, true, "newer driver"},
		{"cuModuleLoadDataEx", cuda.UnsupportedPTX, true, "newer driver"},
		{"cuModuleLoadDataEx", cuda.NoCompiler, true, "libnvidia-ptxjitcompiler.so.1"},
		{"cuModuleLoadDataEx", cuda.CompilerOff, true, "CUDA_DISABLE_PTX_JIT"},
		{"cuModuleLoadDataEx", cuda.OutOfMemory, false, "free the card"},
		{"cuModuleGetFunction", cuda.NotFound, false, "an error of ours"},
		{"cuMemAlloc_v2", cuda.OutOfMemory, false, "smaller micro-batch"},
		{"cuMemAlloc_v2", cuda.IllegalAddress, false, "report it"},
	} {
		t.Run(fmt.Sprint(c.call, " ", c.code), func(t *testing.T) {
			card := standin.Load(t)
			card.Set(t, "fail", fmt.Sprintf("%s:1:%d", c.call, c.code))
			tr, err := New(Settings{Library: card.Path}).NewTrainer(shapes["odd"], optimizer(), model.Options{Precision: model.BF16, MicroBatch: 1})
			if err == nil {
				err = tr.(*Trainer).Close()
				t.Fatalf("a trainer was made, closing it: %v", err)
			}
			e, ok := errors.AsType[*cuda.Error](err)
			if !ok || e.Call != c.call || e.Code != c.code || !strings.Contains(e.Advice, c.advice) {
				t.Errorf("%v: want call %s, code %d and %q", err, c.call, c.code, c.advice)
			}
			if errors.Is(err, model.ErrUnsupported) != c.unsupported {
				t.Errorf("%v: unsupported %v", err, !c.unsupported)
			}
			if left := card.Report(t).Left(); left != "" {
				t.Errorf("left on the card: %s", left)
			}
		})
	}
}
