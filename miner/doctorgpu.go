package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/ebitengine/purego"

	"sn3/internal/preset"
	"sn3/internal/spec"
	"sn3/model/gpu/cuda"
	"sn3/model/gpu/kernels"
	"sn3/model/gpu/memory"
	"sn3/model/gpu/roofline"
)

// nvidia writes what there is of NVIDIA: driver, libraries, cards, and what each card could train.
func nvidia(w io.Writer, share float64) {
	driver, err := cuda.Open()
	if err != nil {
		fmt.Fprintf(w, "nvidia   %v\n", err)
		if onBus(os.DirFS("/"), "0x10de") {
			fmt.Fprintln(w, "         a card of NVIDIA is on the bus: with the driver it could be used")
		}
		return
	}
	fmt.Fprintf(w, "nvidia   driver %s, for CUDA up to %d.%d\n", driver.Path(), driver.Version()/1000, driver.Version()%1000/10)
	for _, l := range libraries {
		fmt.Fprintf(w, "         %s\n", l.look())
	}
	cards, err := driver.Devices()
	if err != nil {
		fmt.Fprintf(w, "         cards cannot be listed: %v\n", err)
		return
	}
	if len(cards) == 0 {
		fmt.Fprintln(w, "         the driver lists no card; check nvidia-smi and CUDA_VISIBLE_DEVICES")
	}
	for _, c := range cards {
		writeCard(w, driver, c, share)
	}
}

// library is one that a GPU engine uses where it is there.
type library struct {
	names   []string // in the order in which they are tried
	version string   // the function that tells it
	of      func(fn uintptr) string
	without string // what its absence means
}

// libraries are looked for in this order.
var libraries = []library{
	{[]string{"libcublasLt.so.13", "libcublasLt.so.12"}, "cublasLtGetVersion", func(fn uintptr) string {
		var get func() uint64
		purego.RegisterFunc(&get, fn)
		return decimal(get(), 10000)
	}, "nothing is lost: this release multiplies with kernels of its own, a later one with this library, which comes with the CUDA toolkit"},
	{[]string{"libnccl.so.2"}, "ncclGetVersion", func(fn uintptr) string {
		var get func(*int32) int32
		purego.RegisterFunc(&get, fn)
		var v int32
		if get(&v) != 0 || v < 0 {
			return ""
		}
		return decimal(uint64(v), 10000)
	}, "nothing is lost: it is for several cards, which come with a later release"},
}

// decimal writes a version that is one number, major·unit + minor·100 + patch.
func decimal(v, unit uint64) string { return fmt.Sprintf("%d.%d.%d", v/unit, v%unit/100, v%100) }

// look opens the library and says what it found.
func (l library) look() string {
	for _, name := range l.names {
		lib, err := purego.Dlopen(name, purego.RTLD_NOW|purego.RTLD_LOCAL)
		if err != nil {
			continue
		}
		version := ""
		if fn, err := purego.Dlsym(lib, l.version); err == nil {
			version = l.of(fn)
		}
		if version == "" {
			version = "that does not tell its version"
		}
		return name + " " + version
	}
	return fmt.Sprintf("no %s: %s", strings.Join(l.names, " and no "), l.without)
}

// writeCard writes what a card is, which kernels it gets, how fast it copies, and what it could train.
func writeCard(w io.Writer, driver *cuda.Driver, c cuda.Info, share float64) {
	ecc := "no ECC"
	if c.ECC {
		ecc = "ECC"
	}
	fmt.Fprintf(w, "card %-3d %s, %.1f GB, %d multiprocessors of %d MHz, compute capability %d.%d, %s, bus %s, %s\n", c.Ordinal, c.Name, float64(c.Memory)/1e9, c.SMs,
		c.Clock/1000, c.Major, c.Minor, ecc, c.Bus, c.UUID)
	if kernels.Image(c.Major, c.Minor) == nil {
		fmt.Fprintln(w, "         too old for our kernels, which need compute capability 8.0: the CPU engine works")
		return
	}
	if c.Major == 9 && c.Minor == 0 {
		fmt.Fprintln(w, "         kernels: those for sm_90a, which are for this capability only")
	} else {
		fmt.Fprintln(w, "         kernels: those for sm_80, which the driver compiles for every card from 8.0 on")
	}
	if err := measure(w, driver, c.Ordinal); err != nil {
		fmt.Fprintf(w, "         its speed cannot be measured: %v\n", err)
	}
	for _, x := range trainable(c, share) {
		fmt.Fprintf(w, "         %s\n", x)
	}
}

// trainable says what a card has room to train with miner --gpu, the largest preset first, and what further ones it could have
// room for with plans that a later release has.
func trainable(c cuda.Info, share float64) []string {
	var now, later []string
	for _, name := range slices.Backward(preset.Names()) {
		run, err := preset.Run(name, 0)
		if err != nil {
			continue
		}
		r := memory.Request{Model: spec.Config(run.Model), Plan: memory.Classic, Recompute: memory.None, Ranks: 1}
		if x := roomFor(c, r, run.Train.Batch, share); x != "" {
			if now = append(now, "room to train "+name+x); len(now) == 2 {
				break
			}
			continue
		}
		r.Plan, r.Recompute = "", ""
		if x := roomFor(c, r, run.Train.Batch, share); x != "" {
			later = append(later, "room for "+name+x+": with a later release")
		}
	}
	if now == nil {
		now = []string{"room for none of the presets with miner --gpu of this release"}
	}
	return append(now, later...)
}

// roomFor says how a card has room for a request, and on paper how fast it is; "" if it has none.
func roomFor(c cuda.Info, r memory.Request, batch int, share float64) string {
	allowed := int64(share * float64(c.Memory))
	r, ok := r.Choose(allowed, min(batch, max(1, fullCard/r.Model.Seq)))
	if !ok {
		return ""
	}
	speed := ""
	if card, known := roofline.Recognised(c.Name, int64(c.Memory)); known {
		if p, err := roofline.Predict(card, r, batch); err == nil {
			speed = fmt.Sprintf("; with NVIDIA's products at most %.0f tokens/s, on paper", p.PerSecond)
		}
	}
	return fmt.Sprintf(": plan %s, recompute %s, --micro-batch %d, %.1f of %.1f GB%s", r.Plan, r.Recompute, r.MicroBatch,
		float64(r.Arena().Size)/1e9, float64(allowed)/1e9, speed)
}

// fullCard is how many tokens at once fill a card, as in sn3 plan.
const fullCard = 16384
