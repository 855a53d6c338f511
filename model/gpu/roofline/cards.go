package roofline

import (
	"slices"
	"strings"
)

// Card is a kind of GPU by its maker's data sheet; nothing here is measured. Speeds are per second: floating point operations of dense
// bfloat16 products with float32 sums, bytes of its own memory, of the link to its neighbours and of the bus to the host, each way.
type Card struct {
	Name   string
	Memory int64 // bytes; 1 GB is 1e9, so a driver reports a little more
	FLOPs  float64
	Bytes  float64
	Link   float64
	Bus    float64
}

// pcie4 and pcie5 are 16 lanes, each way; cards without a link of their own exchange over them.
const (
	pcie4 = 32e9
	pcie5 = 64e9
)

// cards, from the smallest memory: NVIDIA's data sheets of A100, H100, H200, HGX B200 and L40S, its white papers on GA102, Ada and
// Blackwell for the GeForce cards (bfloat16 with float32 sums, which there is half as fast as with float16's).
var cards = []Card{
	{"3090", 24e9, 71e12, 936e9, pcie4, pcie4},
	{"4090", 24e9, 165.2e12, 1008e9, pcie4, pcie4},
	{"5090", 32e9, 209.5e12, 1792e9, pcie5, pcie5},
	{"A100-40", 40e9, 312e12, 1555e9, 300e9, pcie4},
	{"L40S", 48e9, 362e12, 864e9, pcie4, pcie4},
	{"A100-80", 80e9, 312e12, 2039e9, 300e9, pcie4},
	{"H100", 80e9, 989e12, 3350e9, 450e9, pcie5},
	{"H200", 141e9, 989e12, 4800e9, 450e9, pcie5},
	{"B200", 180e9, 2250e12, 7700e9, 900e9, pcie5},
}

// Cards lists the known cards, from the smallest memory to the largest.
func Cards() []Card { return slices.Clone(cards) }

// Named returns the card of that name, in upper or lower case.
func Named(name string) (Card, bool) {
	for _, c := range cards {
		if strings.EqualFold(c.Name, name) {
			return c, true
		}
	}
	return Card{}, false
}

// Recognised returns the card that a driver's name of it means, such as "NVIDIA H100 80GB HBM3"; memory, in bytes, tells the A100s
// apart. Another edition of a chip, on PCI Express or in a laptop, has other speeds and is not recognised.
func Recognised(name string, memory int64) (Card, bool) {
	words := strings.FieldsFunc(strings.ToUpper(name), func(r rune) bool { return r == ' ' || r == '-' })
	for _, other := range []string{"PCIE", "NVL", "LAPTOP", "D", "TI", "SUPER", "MIG", "H100L"} {
		if slices.Contains(words, other) {
			return Card{}, false
		}
	}
	for _, c := range cards {
		kind, _, _ := strings.Cut(c.Name, "-")
		if slices.Contains(words, kind) && float64(memory) > 0.9*float64(c.Memory) && float64(memory) < 1.2*float64(c.Memory) {
			return c, true
		}
	}
	return Card{}, false
}
