package gpu

import (
	"testing"

	"sn3/model"
	"sn3/model/enginetest"
	"sn3/model/gpu/standin"
)

// The engine keeps the contract of model.Engine, shown on the stand-in for the card.
func TestConformance(t *testing.T) {
	enginetest.Run(t, New(standin.Library(t), 0), enginetest.Options{Precision: model.BF16, Checks: 10, Slow: true})
}
