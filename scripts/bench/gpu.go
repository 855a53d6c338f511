package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"sn3/internal/proc"
	"sn3/model/gpu/cuda"
	"sn3/model/gpu/roofline"
)

// GPUReport is what bench gpu writes as JSON.
type GPUReport struct {
	Version  string       `json:"version"`
	Machine  Machine      `json:"machine"`
	Card     GPUCard      `json:"card"`
	Defined  []string     `json:"defined"` // what the figures mean
	Copy     GPUKernel    `json:"copy"`    // on the card, from one place to another
	Protocol []GPUKernel  `json:"protocol"`
	Products []GPUProduct `json:"products"`
	Library  string       `json:"cublaslt"` // its version, or why there is none
	Models   []GPUModel   `json:"models"`
	Torch    []Row        `json:"torch"`
	NoTorch  string       `json:"no_torch,omitempty"` // why there is nothing to compare with
	Errors   []string     `json:"errors"`             // what could not be measured
}

// GPUCard is the card, as its driver and its data sheet describe it.
type GPUCard struct {
	Name       string  `json:"name"`
	Memory     uint64  `json:"memory_bytes"`
	SMs        int     `json:"multiprocessors"`
	Capability string  `json:"compute_capability"`
	Driver     string  `json:"driver_cuda"` // the newest CUDA that the driver supports
	Sheet      string  `json:"data_sheet"`  // its name in model/gpu/roofline; "" where it is not known
	FLOPs      float64 `json:"sheet_flops,omitempty"`
	Bytes      float64 `json:"sheet_bytes,omitempty"`
}

// defined are the figures in words.
var defined = []string{
	"tokens/s: tokens of a step's batch over the time of the step on the host's clock: forward, backward, norm, AdamW, loss on the host",
	"FLOP a token: 6 for every parameter that a product meets (the embedding only where it is the output matrix too), and 6·layers·width of the queries·sequence for causal attention; recomputation does not count (model/gpu/roofline, FLOPsPerToken)",
	"MFU: FLOP a token · tokens/s over the data sheet's dense bf16 rate",
	"a kernel's FLOP and bytes: what it has to do at least, each value read and written once (model/gpu/roofline, Launch.Work); its time: between two events, which adds some µs to a launch",
	"of the sheet: operations a second of products and attention, bytes a second of the others, over the data sheet's",
	"over prediction: the time over that of model/gpu/roofline; 1.5 is half as long again",
	"memory: arena is what the plan says, driver what the driver's free memory went down by",
}

func gpuCommand(shared []cli.Flag) *cli.Command {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "shapes", Value: "160m,1b,8b", Usage: "models: presets or paths of them"},
		&cli.IntFlag{Name: "gpu", Usage: "`NUMBER` of the card"},
		&cli.Float64Flag{Name: "gpu-memory", Value: 0.9, Usage: "`SHARE` of the card's memory that may be taken"},
		&cli.StringFlag{Name: "card", DefaultText: "as the driver names it", Usage: "data sheet to compare with: one of " + strings.Join(sheets(), ", ")},
		&cli.IntFlag{Name: "seq", Usage: "tokens of a sequence instead of the shape's"},
		&cli.IntFlag{Name: "batch", Usage: "sequences of a batch instead of the shape's"},
		&cli.IntFlag{Name: "passes", Value: 8, Usage: "micro-batches of a step at most; 0: as many as the batch has"},
		&cli.IntFlag{Name: "values", Value: 100_000_000, Usage: "values that the protocol's kernels work on"},
		&cli.StringFlag{Name: "products", Value: "4096x4096x4096,8192x8192x8192,16384x4096x2048,16384x16384x2048,2048x28672x4096", Usage: "products to time, `MxNxK`,..."},
		&cli.IntFlag{Name: "steps", Usage: "steps of a round beside torch (default: about a second)"},
		&cli.StringFlag{Name: "python", Value: "python3", Usage: "interpreter that may have torch; \"\": none. Nothing is installed"},
		&cli.BoolFlag{Name: "look", Usage: "only say which card would be measured"},
		&cli.StringFlag{Name: "markdown", Usage: "write the tables to `FILE` too"},
	}
	return &cli.Command{Name: "gpu", Usage: "the train step, its kernels and the protocol's on a card, beside the prediction and torch", Flags: append(flags, shared...), Action: reportGPU}
}

func sheets() (names []string) {
	for _, c := range roofline.Cards() {
		names = append(names, c.Name)
	}
	return names
}

// gpuBench is one run of bench gpu.
type gpuBench struct {
	*bench
	info   cuda.Info
	sheet  roofline.Card // no Name where the card is not known
	shapes [][3]int      // of products
	idle   *cuda.Device  // asks for free memory, once it was asked for
	out    *GPUReport
}

// reportGPU measures, and writes what it has whatever went wrong.
func reportGPU(c *cli.Context) error {
	b, done, err := newBench(c)
	if err != nil {
		return err
	}
	defer done()
	g := &gpuBench{bench: b, out: &GPUReport{Version: proc.Version, Machine: b.report.Machine, Defined: defined}}
	if err := g.open(); err != nil {
		return err
	}
	if c.Bool("look") {
		g.lookForLt()
		return nil
	}
	page := c.String("markdown")
	if page != "" { // what cannot be written is said before minutes of measuring
		if err := os.WriteFile(page, nil, 0o644); err != nil {
			return fmt.Errorf("write tables: %w", err)
		}
	}
	out, err := newOutput(c.String("json"))
	if err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		do   func() error
	}{{"protocol", g.protocol}, {"products", g.products}, {"models", g.models}, {"torch", g.torch}} {
		if b.ctx.Err() != nil {
			break
		}
		if e := part.do(); e != nil {
			e = fmt.Errorf("%s: %w", part.name, e)
			g.out.Errors, err = append(g.out.Errors, e.Error()), errors.Join(err, e)
		}
	}
	err = errors.Join(err, out.write(g.out, false))
	if page != "" {
		err = errors.Join(err, os.WriteFile(page, []byte(g.out.markdown()), 0o644))
	}
	g.say("\n%s", g.out.markdown())
	return proc.Ended(b.ctx, err)
}

// open finds the card and its data sheet. A machine without one is refused: there is nothing to measure.
func (g *gpuBench) open() error {
	d, err := cuda.Open()
	if err != nil {
		return proc.Refused(err)
	}
	list, err := d.Devices()
	if err != nil {
		return err
	}
	i := g.flags.Int("gpu")
	if len(list) == 0 {
		return proc.Refused(errors.New("the driver lists no card; check nvidia-smi and CUDA_VISIBLE_DEVICES"))
	}
	if i < 0 || i >= len(list) {
		return proc.Usage(fmt.Errorf("there is no card %d, the driver lists %d", i, len(list)))
	}
	g.info = list[i]
	if name := g.flags.String("card"); name != "" {
		var ok bool
		if g.sheet, ok = roofline.Named(name); !ok {
			return proc.Usage(fmt.Errorf("--card %s: known are %s", name, strings.Join(sheets(), ", ")))
		}
	} else {
		g.sheet, _ = roofline.Recognised(g.info.Name, int64(g.info.Memory))
	}
	if g.shapes, err = readProducts(g.flags.String("products")); err != nil {
		return proc.Usage(err)
	}
	if x := g.flags.Float64("gpu-memory"); !(x > 0 && x <= 1) {
		return proc.Usage(errors.New("--gpu-memory is a share of the card's memory, above 0 and at most 1"))
	}
	g.out.Card = GPUCard{Name: g.info.Name, Memory: g.info.Memory, SMs: g.info.SMs, Capability: fmt.Sprintf("%d.%d", g.info.Major, g.info.Minor),
		Driver: fmt.Sprintf("%d.%d", d.Version()/1000, d.Version()%1000/10), Sheet: g.sheet.Name, FLOPs: g.sheet.FLOPs, Bytes: g.sheet.Bytes}
	g.say("%s, %.1f GB, compute capability %s, driver for CUDA %s", g.info.Name, float64(g.info.Memory)/1e9, g.out.Card.Capability, g.out.Card.Driver)
	if g.sheet.Name == "" {
		g.say("its data sheet is not known: no MFU and no shares; give --card if it is one of %s", strings.Join(sheets(), ", "))
	}
	return nil
}
