package kernels_test

import (
	"testing"

	"sn3/model/gpu/kernels"
	signatures "sn3/model/gpu/kernels/source"
)

// The stand-in runs what g++ makes of the source; that the card rounds as well is in the PTX: what nodes must agree on is computed by
// instructions that round every result to nearest, and nothing flushes subnormals, fuses, or approximates.
func TestProtocolRoundsInPTX(t *testing.T) {
	for _, card := range [][2]int{{8, 0}, {9, 0}} {
		if err := signatures.CheckExact(kernels.Image(card[0], card[1]), kernels.Exact); err != nil {
			t.Errorf("compute capability %d.%d: %v", card[0], card[1], err)
		}
	}
}
