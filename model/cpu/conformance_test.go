package cpu

import (
	"testing"

	"sn3/model/enginetest"
)

// The engine keeps the contract of model.Engine with every set of kernels.
func TestConformance(t *testing.T) {
	kernelSets(t, func(t *testing.T, kernels string) { enginetest.Run(t, New(kernels), enginetest.Options{}) })
}
