package kernels_test

import (
	"regexp"
	"strings"
	"testing"

	"sn3/model/gpu/kernels"
)

// The stand-in runs what g++ makes of the source; that the card rounds as well is in the PTX: what nodes must agree on is computed by
// instructions that round every result to nearest, and nothing flushes subnormals, fuses, or approximates.
func TestProtocolRoundsInPTX(t *testing.T) {
	arithmetic := regexp.MustCompile(`^\s*((?:add|sub|mul|div|fma|mad|sqrt|rcp|neg|abs|min|max|cvt|ex2|lg2|rsqrt|tanh|testp|copysign)[.\w]*\.(?:f32|f64|f16|bf16)(?:\.[\w.]+)?)\s`)
	exact := regexp.MustCompile(`^(?:(?:add|sub|mul|div)\.rn\.f(?:32|64)|cvt\.f64\.f32|cvt\.rn\.f64\.[su](?:32|64))$`)
	for _, card := range [][2]int{{8, 0}, {9, 0}} {
		_, entries, _ := strings.Cut(string(kernels.Image(card[0], card[1])), ".entry ")
		found := map[string]int{}
		for _, text := range strings.Split(entries, ".entry ") {
			name, _, _ := strings.Cut(text, "(")
			for _, line := range strings.Split(text, "\n") {
				m := arithmetic.FindStringSubmatch(line)
				if _, ours := protocol[name]; !ours || m == nil {
					continue
				}
				found[name]++
				if !exact.MatchString(m[1]) {
					t.Errorf("compute capability %d.%d, %s: %s", card[0], card[1], name, strings.TrimSpace(line))
				}
			}
		}
		for name, least := range protocol {
			if found[name] < least {
				t.Errorf("compute capability %d.%d, %s: %d instructions are not what it computes", card[0], card[1], name, found[name])
			}
		}
	}
}

// protocol are the kernels with arithmetic whose bits nodes agree on, and the least instructions that it takes.
var protocol = map[string]int{"feedback": 3, "compress": 12, "outer_step": 5, "delta_apply": 2}
