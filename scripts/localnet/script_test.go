package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"sn3/chain"
	"sn3/internal/preset"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"localnet": main}) }

// The launcher as a user types it, without starting a network.
func TestScripts(t *testing.T) { testscript.Run(t, testscript.Params{Dir: "testdata"}) }

// Every machine gets a legal schedule, slow ones longer windows, none longer than a minute unless the phases need it.
func TestSchedule(t *testing.T) {
	r, err := preset.Run("local", 24)
	if err != nil {
		t.Fatal(err)
	}
	last := chain.Block(0)
	for _, speed := range []float64{200_000, 10_000, 2_000, 300} {
		p := schedule(r, speed, 2, 4, 2)
		if err := p.Validate(); err != nil {
			t.Errorf("%v tokens/s: %v", speed, err)
		}
		if p.Length < last {
			t.Errorf("%v tokens/s: %d blocks, a faster machine has %d", speed, p.Length, last)
		}
		last = p.Length
		if w := plannedWindows(p); w < 24 || w > 67 {
			t.Errorf("%v tokens/s: %d windows", speed, w)
		}
	}
}
