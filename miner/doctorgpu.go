package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unsafe"

	"sn3/chain"
	"sn3/internal/plan"
	"sn3/internal/preset"
	"sn3/internal/spec"
	"sn3/model"
	"sn3/model/data"
	"sn3/model/gpu"
	"sn3/model/gpu/cuda"
	"sn3/model/gpu/dl"
	"sn3/model/gpu/kernels"
	"sn3/model/gpu/memory"
	"sn3/model/gpu/roofline"
)

// nvidiaFindings are what there is of NVIDIA.
type nvidiaFindings struct {
	Driver    string            `json:"driver,omitempty"` // the library
	CUDA      string            `json:"cuda,omitempty"`   // the newest version that the driver takes
	StandIn   bool              `json:"stand_in,omitempty"`
	Problem   string            `json:"problem,omitempty"` // why there is no driver, or no list of cards
	OnBus     bool              `json:"on_bus"`
	Libraries []libraryFindings `json:"libraries,omitempty"`
	Cards     []cardFindings    `json:"cards,omitempty"`
}

// libraryFindings are what was found of a library.
type libraryFindings struct {
	Name    string `json:"name,omitempty"`
	Version string `json:"version,omitempty"`
	Text    string `json:"text"`
}

// cardFindings are what a card is, how fast it is and what it could train.
type cardFindings struct {
	Number     int        `json:"number"`
	Name       string     `json:"name"`
	Memory     uint64     `json:"memory"` // bytes
	Free       *uint64    `json:"free,omitempty"`
	SMs        int        `json:"multiprocessors"`
	MHz        int        `json:"mhz"`
	Capability string     `json:"capability"`
	ECC        bool       `json:"ecc"`
	Bus        string     `json:"bus"`
	UUID       string     `json:"uuid"`
	Kernels    string     `json:"kernels,omitempty"` // "" where none run
	Why        string     `json:"why"`
	Problem    string     `json:"problem,omitempty"` // why nothing was measured
	Copies     []speed    `json:"copies,omitempty"`
	Products   []speed    `json:"products,omitempty"`
	Multiplies string     `json:"multiplies,omitempty"`       // who makes the engine's products
	NoFast     string     `json:"cublaslt_problem,omitempty"` // why cuBLASLt, which is there, was not measured
	Trains     []training `json:"trains,omitempty"`           // the largest presets first
}

// training is a preset that a card has room for, and how.
type training struct {
	Preset     string           `json:"preset"`
	Plan       memory.Plan      `json:"plan"`
	Recompute  memory.Recompute `json:"recompute"`
	MicroBatch int              `json:"micro_batch"`
	Bytes      int64            `json:"bytes"`
	Allowed    int64            `json:"allowed"`
	Host       int64            `json:"host_bytes"`                           // of this machine's memory
	Short      bool             `json:"host_too_small,omitempty"`             // so much is not free
	OnPaper    float64          `json:"tokens_per_second_on_paper,omitempty"` // at most; 0 where the card's speeds are not known
}

// nvidia looks for driver, libraries and cards.
func nvidia(share float64, host int64) (f nvidiaFindings) {
	f.OnBus = onBus(os.DirFS("/"), "0x10de")
	driver, err := cuda.Open()
	if err != nil {
		f.Problem = err.Error()
		return f
	}
	f.Driver, f.CUDA, f.StandIn = driver.Path(), fmt.Sprintf("%d.%d", driver.Version()/1000, driver.Version()%1000/10), driver.Standin()
	f.Libraries = append(f.Libraries, fastProducts())
	for _, l := range libraries {
		f.Libraries = append(f.Libraries, l.look())
	}
	cards, err := driver.Devices()
	switch {
	case err != nil:
		f.Problem = "cards cannot be listed: " + err.Error()
	case len(cards) == 0:
		f.Problem = "the driver lists no card; check nvidia-smi and CUDA_VISIBLE_DEVICES"
	}
	for _, c := range cards {
		f.Cards = append(f.Cards, examine(driver, c, share, host))
	}
	return f
}

// examine says what a card is, which kernels it gets, how fast it is, and what it could train.
func examine(driver *cuda.Driver, c cuda.Info, share float64, host int64) cardFindings {
	f := cardFindings{Number: c.Ordinal, Name: c.Name, Memory: c.Memory, SMs: c.SMs, MHz: c.Clock / 1000, Capability: fmt.Sprintf("%d.%d", c.Major, c.Minor),
		ECC: c.ECC, Bus: c.Bus, UUID: c.UUID}
	switch {
	case kernels.Image(c.Major, c.Minor) == nil:
		f.Why = "too old for our kernels, which need compute capability 8.0: the CPU engine works"
		return f
	case c.Major == 9 && c.Minor == 0:
		f.Kernels, f.Why = "sm_90a", "which are for this capability only"
	default:
		f.Kernels, f.Why = "sm_80", "which the driver compiles for every card from 8.0 on"
	}
	if err := f.measure(driver); err != nil {
		f.Problem = err.Error()
	} else {
		f.Multiplies = gpu.New(gpu.Settings{Ordinal: c.Ordinal}).Products()
	}
	f.Trains = trainable(c, share, host)
	return f
}

// write writes them for people.
func (f nvidiaFindings) write(w io.Writer) {
	if f.Driver == "" {
		fmt.Fprintf(w, "nvidia   %s\n", f.Problem)
		if f.OnBus {
			fmt.Fprintln(w, "         a card of NVIDIA is on the bus: with the driver it could be used")
		}
		return
	}
	fmt.Fprintf(w, "nvidia   driver %s, for CUDA up to %s\n", f.Driver, f.CUDA)
	if f.StandIn {
		fmt.Fprintln(w, "         it is not NVIDIA's but the stand-in of the tests, which computes on the CPU: what is measured says nothing about a card")
	}
	for _, l := range f.Libraries {
		fmt.Fprintf(w, "         %s\n", l.Text)
	}
	if f.Problem != "" {
		fmt.Fprintf(w, "         %s\n", f.Problem)
	}
	for _, c := range f.Cards {
		c.write(w)
	}
}

// write writes them for people.
func (f cardFindings) write(w io.Writer) {
	ecc := "no ECC"
	if f.ECC {
		ecc = "ECC"
	}
	fmt.Fprintf(w, "card %-3d %s, %.1f GB, %d multiprocessors of %d MHz, compute capability %s, %s, bus %s, %s\n", f.Number, f.Name, float64(f.Memory)/1e9, f.SMs, f.MHz,
		f.Capability, ecc, f.Bus, f.UUID)
	if f.Kernels == "" {
		fmt.Fprintf(w, "         %s\n", f.Why)
		return
	}
	fmt.Fprintf(w, "         kernels: those for %s, %s\n", f.Kernels, f.Why)
	if f.Free != nil {
		fmt.Fprintf(w, "         %.1f GB of its memory are free\n", float64(*f.Free)/1e9)
	}
	for _, x := range []struct {
		what string
		list []speed
	}{{"copies, GB/s", f.Copies}, {"products in bf16, TFLOP/s", f.Products}} {
		if len(x.list) > 0 {
			fmt.Fprintf(w, "         %s, measured: %s\n", x.what, join(x.list))
		}
	}
	if f.Multiplies != "" {
		fmt.Fprintf(w, "         the engine multiplies by %s\n", f.Multiplies)
	}
	if f.NoFast != "" {
		fmt.Fprintf(w, "         cuBLASLt's products cannot be measured: %s\n", f.NoFast)
	}
	if f.Problem != "" {
		fmt.Fprintf(w, "         its speed cannot be measured: %s\n", f.Problem)
	}
	if len(f.Trains) == 0 {
		fmt.Fprintln(w, "         room for none of the presets with miner --gpu")
	}
	for _, x := range f.Trains {
		fmt.Fprintf(w, "         %s\n", x)
	}
}

// library is one that a GPU engine uses where it is there.
type library struct {
	names   []string // in the order in which they are tried
	version string   // the function that tells it
	of      func(f dl.Func) string
	without string // what its absence means
}

// libraries are looked for in this order, after cuBLASLt.
var libraries = []library{
	{[]string{"libnccl.so.2"}, "ncclGetVersion", func(f dl.Func) string {
		v := new(int32)
		if int32(f.Call(uintptr(unsafe.Pointer(v)))) != 0 || *v < 0 {
			return ""
		}
		return decimal(uint64(*v), 10000)
	}, "nothing is lost: it is for several cards, which come with a later release"},
	{[]string{"libnvidia-ptxjitcompiler.so.1"}, "", nil, "the driver cannot compile our kernels without it: install the whole driver, or in a container ask for its capability compute"},
}

// decimal writes a version that is one number, major·unit + minor·100 + patch.
func decimal(v, unit uint64) string { return fmt.Sprintf("%d.%d.%d", v/unit, v%unit/100, v%100) }

// look opens the library and says what it found.
func (l library) look() (f libraryFindings) {
	for _, name := range l.names {
		lib, err := dl.Open(name)
		if err != nil {
			continue
		}
		f.Name, f.Text = name, name
		if l.version == "" {
			return f
		}
		if fn, err := dl.Find(lib, l.version); err == nil {
			f.Version = l.of(fn)
		}
		if f.Text += " " + f.Version; f.Version == "" {
			f.Text += "that does not tell its version"
		}
		return f
	}
	f.Text = fmt.Sprintf("no %s: %s", strings.Join(l.names, " and no "), l.without)
	return f
}

// trainable says what a card has room to train with miner --gpu beside a host with so much free memory: the largest presets, until two fit
// both.
func trainable(c cuda.Info, share float64, host int64) (out []training) {
	fit := 0
	for _, name := range slices.Backward(preset.Names()) {
		run, err := preset.Run(name, 0)
		if err != nil {
			continue
		}
		x, ok := roomFor(c, name, run, share, host)
		if !ok {
			continue
		}
		if out = append(out, x); !x.Short {
			fit++
		}
		if fit == 2 {
			break
		}
	}
	return out
}

// roomFor says how a card has room for a preset, what its host takes, and on paper how fast it is.
func roomFor(c cuda.Info, name string, run *chain.Run, share float64, host int64) (x training, ok bool) {
	allowed := int64(share * float64(c.Memory))
	r := memory.Request{Model: spec.Config(run.Model), Ranks: 1}
	if r, ok = r.Choose(allowed, min(run.Train.Batch, max(1, memory.FullCard/r.Model.Seq))); !ok {
		return x, false
	}
	need := func(model.Config) model.Need { return r.HostNeed() }
	node := plan.Make(plan.Request{Name: name, Run: run, Host: need, Wait: true, Cache: data.DefaultCache})
	x = training{Preset: name, Plan: r.Plan, Recompute: r.Recompute, MicroBatch: r.MicroBatch, Bytes: r.Arena().Size, Allowed: allowed, Host: plan.Sum(node.Memory)}
	x.Short = host != plan.Unknown && x.Host > host
	if card, known := roofline.Recognised(c.Name, int64(c.Memory)); known {
		if p, err := roofline.Predict(card, r, run.Train.Batch); err == nil {
			x.OnPaper = p.PerSecond
		}
	}
	return x, true
}

// String is for people.
func (x training) String() string {
	speed, short := "", ""
	if x.OnPaper > 0 {
		speed = fmt.Sprintf("; with NVIDIA's products at most %.0f tokens/s, on paper", x.OnPaper)
	}
	if x.Short {
		short = ", which it has not"
	}
	return fmt.Sprintf("room to train %s: plan %s, recompute %s, --micro-batch %d, %s of %s; this machine needs %s for it%s%s", x.Preset, x.Plan, x.Recompute,
		x.MicroBatch, plan.GB(x.Bytes), plan.GB(x.Allowed), plan.GB(x.Host), short, speed)
}
