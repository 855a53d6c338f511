package graph

import (
	"testing"

	"sn3/model/enginetest"
)

// The engine keeps the contract of model.Engine; building and running its graphs is slow.
func TestConformance(t *testing.T) { enginetest.Run(t, New(), enginetest.Options{Checks: 10}) }
