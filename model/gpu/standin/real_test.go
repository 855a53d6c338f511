package standin

import (
	"bytes"
	"testing"

	"sn3/model/gpu/cuda"
	"sn3/model/gpu/kernels"
)

// With SN3_GPU_CHECK the driver is that of SN3_CUDA, here a stand-in that passes for one, kernels are loaded as PTX, and what only a
// stand-in can do skips the test.
func TestReal(t *testing.T) {
	lib := library(t, []string{"scale.cu"}, "")
	if Real() {
		t.Skip("it is about the setting that this run has")
	}
	t.Setenv("SN3_GPU_CHECK", "1")
	t.Setenv("SN3_CUDA", lib)
	if got := Library(t, "gemm.cu"); got != lib {
		t.Errorf("the driver is %s, not %s", got, lib)
	}
	card := Open(t)
	card.Set(t, "order", "random")
	card.Set(t, "seed", "3")
	if err := card.Do(func(c *cuda.Context) error {
		if !bytes.Equal(Image(c), kernels.Image(8, 0)) {
			t.Error("the image is not the PTX of this card")
		}
		m, err := c.Load(Image(c))
		if err != nil {
			return err
		}
		return m.Unload()
	}); err != nil {
		t.Error(err)
	}
	for name, f := range map[string]func(t *testing.T){
		"text":   func(t *testing.T) { OpenText(t, "") },
		"oom":    func(t *testing.T) { card.Set(t, "oom", "1") },
		"report": func(t *testing.T) { card.Report(t) },
		"only":   func(t *testing.T) { Only(t, "this") },
	} {
		gone := true
		t.Run(name, func(t *testing.T) {
			defer func() { gone = t.Skipped() }()
			f(t)
		})
		if !gone {
			t.Errorf("%s does not skip", name)
		}
	}
	t.Setenv("SN3_CUDA", "")
	if got := Library(t); got != "libcuda.so.1" {
		t.Errorf("without SN3_CUDA the driver is %s", got)
	}
}
