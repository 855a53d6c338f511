package standin

import (
	"cmp"
	"os"
	"testing"

	"sn3/model/gpu/cuda"
	"sn3/model/gpu/kernels"
)

// Real says whether the tests run on a card, behind NVIDIA's driver, instead of the stand-in: SN3_GPU_CHECK is set. The driver is the one
// that SN3_CUDA names, else the system's, and the card its first. Tests of what only the stand-in can do are skipped then; blocks and
// warps come in the order of the card, whatever is set.
func Real() bool { return os.Getenv("SN3_GPU_CHECK") != "" }

// Only skips a test of what only the stand-in can do, where the tests run on a card.
func Only(t testing.TB, what string) {
	t.Helper()
	if Real() {
		t.Skip("only the stand-in for a card: " + what)
	}
}

// realPath is the driver of Real.
func realPath() string { return cmp.Or(os.Getenv("SN3_CUDA"), "libcuda.so.1") }

// every is an image of the stand-in that has every kernel which was built in, a test's own too.
var every = []byte("// standin")

// Image is what a module with the kernels can be loaded from: on a card its PTX.
func Image(c *cuda.Context) []byte {
	if Real() {
		info := c.Info()
		return kernels.Image(info.Major, info.Minor)
	}
	return every
}
