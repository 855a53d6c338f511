package cpu

import (
	"testing"

	"sn3/model"
	"sn3/model/enginetest"
)

// The engine keeps the contract of model.Engine with every set of kernels, in float32 and in bfloat16.
func TestConformance(t *testing.T) {
	kernelSets(t, func(t *testing.T, kernels string) { enginetest.Run(t, New(kernels), enginetest.Options{}) })
}

// The same in bfloat16.
func TestConformanceBF16(t *testing.T) {
	kernelSets(t, func(t *testing.T, kernels string) {
		enginetest.Run(t, New(kernels), enginetest.Options{Precision: model.BF16, Checks: 30})
	})
}
