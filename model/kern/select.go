package kern

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
)

// level is the instruction set of the float32 code.
type level uint8

const (
	portable level = iota
	avx2           // AVX2 and FMA
	avx512         // AVX-512 F, DQ, VL, BW
)

// half is how products of bfloat16 operands are computed.
type half uint8

const (
	rounded half = iota // as float32, from rounded values
	vdp                 // VDPBF16PS
	amx                 // tiles
)

// set is a choice that can be made by name.
type set struct {
	name  string
	level level
	half  half
}

// choices in order of preference where the CPU is as fast as it claims.
var choices = []set{{"amx", avx512, amx}, {"avx512bf16", avx512, vdp}, {"avx512", avx512, rounded}, {"avx2", avx2, rounded}, {"portable", portable, rounded}}

// Names lists the sets.
func Names() []string {
	var out []string
	for _, s := range choices {
		out = append(out, s.name)
	}
	return out
}

// Select returns the set with the given name, or with "" the fastest that this CPU can run and that computes rightly here: each
// micro-kernel is timed, once a process, because a CPU that has an instruction need not be good at it (VDPBF16PS is 2.0× float32
// on Zen 5, 0.5× on Sapphire Rapids).
func Select(name string) (*Kernels, error) {
	if name == "" {
		return fastest(), nil
	}
	i := slices.IndexFunc(choices, func(s set) bool { return s.name == name })
	if i < 0 {
		return nil, fmt.Errorf("unknown kernels %q; use one of %v", name, Names())
	}
	s := choices[i]
	if missing := s.missing(); missing != "" {
		return nil, fmt.Errorf("kernels %s cannot run here: this CPU or system has no %s; leave SN3_KERNELS and --kernels out to get the best that it has", name, missing)
	}
	if err := s.sound(); err != nil {
		return nil, fmt.Errorf("kernels %s compute wrongly on this CPU: %w; please report it, and leave SN3_KERNELS and --kernels out meanwhile", name, err)
	}
	return &Kernels{Name: name, Why: "forced", level: s.level, half: s.half}, nil
}

// missing names what a set needs and the machine lacks.
func (s set) missing() string {
	f := features()
	switch {
	case s.level == avx2 && !f.avx2:
		return "AVX2 and FMA"
	case s.level == avx512 && !f.avx512:
		return "AVX-512 F, BW, DQ and VL"
	case s.half == vdp && !f.vdp:
		return "AVX512-BF16"
	case s.half == amx && !f.amx:
		return "AMX tiles for bfloat16 beside AVX512-BF16"
	}
	return ""
}

// have is what the CPU and the operating system offer.
type have struct{ avx2, avx512, vdp, amx bool }

var fastest = sync.OnceValue(func() *Kernels {
	rate := map[string]float64{}
	var told []string
	for _, s := range slices.Backward(choices) {
		if s.level == portable || s.missing() != "" {
			continue
		}
		if err := s.sound(); err != nil {
			told = append(told, fmt.Sprintf("%s not used, it computes wrongly here (please report it: %v)", s.name, err))
			continue
		}
		rate[s.name] = s.time()
		told = append(told, fmt.Sprintf("%s %.0f", s.name, rate[s.name]/1e9))
	}
	best, why := choose(rate), "this CPU has neither AVX2 nor AVX-512, or there is no assembly for its architecture yet"
	if len(told) > 0 {
		why = "measured GFLOP/s of one core: " + strings.Join(told, ", ")
	}
	return &Kernels{Name: best.name, Why: why, level: best.level, half: best.half}
})

// clearly is how much faster a set must be to be taken: sets that are as fast as each other (AVX2 and AVX-512 where the CPU computes
// 256 bits at a time) must not take turns from run to run, because every set has its own bits.
const clearly = 1.1

// choose takes the fastest float32 code, of equals the first choice, and bfloat16 instructions only where they clearly pay. Sets
// without a rate cannot run.
func choose(rate map[string]float64) set {
	best := choices[len(choices)-1]
	for _, halves := range []bool{false, true} {
		for _, s := range choices {
			if (s.half != rounded) == halves && (!halves || s.level == best.level) && rate[s.name] > clearly*rate[best.name] {
				best = s
			}
		}
	}
	return best
}

// time is the set's speed in products with the operands it is for, in FLOP/s: the best of many short runs of the micro-kernel on
// data in the L1 cache, for long enough that the CPU has its clock for such code.
func (s set) time() float64 {
	const steps, runs, tries, least = 256, 8, 12, 2 * time.Millisecond
	k := (&Kernels{level: s.level, half: s.half}).shape(s.half != rounded)
	a, b, c := Alloc[float32](k.mr*steps), Alloc[float32](k.nr*steps), Alloc[float32](k.mr*k.nr)
	best, start := math.Inf(1), time.Now()
	for try := 0; try < tries || time.Since(start) < least; try++ {
		from := time.Now()
		for range runs {
			k.kernel(steps, &a[0], &b[0], &c[0], k.nr*4, 0)
		}
		best = min(best, time.Since(from).Seconds())
	}
	flops := 2 * float64(k.mr*k.nr*steps*runs*k.per)
	return flops / max(best, 1e-9)
}
