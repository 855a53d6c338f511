package main

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"sn3/internal/node"
	"sn3/internal/plan"
	"sn3/internal/preset"
	"sn3/internal/proc"
	"sn3/model"
	"sn3/model/cpu"
	"sn3/model/data"
)

// doctorApp is "miner doctor": what this machine has, and what it could train. It needs no network and no key.
func doctorApp() *cli.App {
	return proc.Frame(&cli.App{
		Name: "miner doctor", Usage: "say what this machine has, which kernels were chosen and why, and what it could train",
		HideHelpCommand: true, HideVersion: true,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "kernels", Usage: "as if these CPU `KERNELS` were forced"},
			&cli.Float64Flag{Name: "gpu-memory", Value: 0.9, Usage: "`SHARE` of a card's memory that may be taken"},
			&cli.BoolFlag{Name: "json", Usage: "print one JSON object"},
		},
		Action: func(c *cli.Context) error {
			share := c.Float64("gpu-memory")
			switch {
			case c.NArg() > 0:
				return proc.Usage(fmt.Errorf("unexpected argument %q; doctor takes none", c.Args().First()))
			case !(share > 0 && share <= 1):
				return proc.Usage(fmt.Errorf("--gpu-memory %v: a share of the card's memory, above 0 and at most 1", share))
			}
			return doctor(os.Stdout, c.String("kernels"), share, c.Bool("json"))
		},
	})
}

// findings are what doctor found. What is missing is a finding, no error. Fields are only ever added.
type findings struct {
	Version    string         `json:"version"`
	Go         string         `json:"go"`
	Platform   string         `json:"platform"`
	Processor  node.Processor `json:"cpu"`
	FreeMemory *int64         `json:"free_memory,omitempty"` // bytes, where the system tells
	OnCPU      string         `json:"largest_on_cpu"`        // the largest preset that fits there; "" if none does
	NVIDIA     nvidiaFindings `json:"nvidia"`
	Others     []string       `json:"other_gpus"` // makers of GPUs that are here and not supported yet
}

// doctor writes its findings.
func doctor(w io.Writer, kernels string, share float64, asJSON bool) error {
	f := findings{Version: proc.Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	var err error
	if f.Processor, err = node.Describe(kernels); err != nil {
		return err
	}
	free := plan.FreeMemory()
	if free != plan.Unknown {
		f.FreeMemory = &free
	}
	f.OnCPU, f.NVIDIA = largestOnCPU(free), nvidia(share, free)
	f.Others = append([]string{}, otherGPUs(os.DirFS("/"), f.Platform)...)
	if !asJSON {
		return f.write(w)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(f)
}

// write writes them for people.
func (f findings) write(w io.Writer) error {
	fmt.Fprintf(w, "miner version %s, %s for %s\n", f.Version, f.Go, f.Platform)
	if err := f.Processor.Write(w); err != nil {
		return err
	}
	if f.FreeMemory == nil {
		fmt.Fprintln(w, "memory   this system does not tell how much is free")
	} else {
		fmt.Fprintf(w, "memory   %.1f GiB free for a miner\n", float64(*f.FreeMemory)/(1<<30))
	}
	room := "none of the presets"
	if f.OnCPU != "" {
		room = fmt.Sprintf("presets up to %s (sn3 plan %s has the parts)", f.OnCPU, f.OnCPU)
	}
	fmt.Fprintf(w, "         on the CPU it has room to train %s\n", room)
	f.NVIDIA.write(w)
	found := "none was found here"
	if len(f.Others) > 0 {
		found = "this machine has one of " + strings.Join(f.Others, " and ")
	}
	fmt.Fprintf(w, "others   GPUs of AMD, Intel and Apple are not supported yet (%s); the CPU engine works\n", found)
	_, err := fmt.Fprintln(w, "engine   miner trains on the CPU; miner --gpu on one card, in bf16: experimental, it has only run on a stand-in")
	return err
}

// largestOnCPU names the largest preset that fits into free bytes of memory on one thread, one sequence at a time; whether it is
// fast enough is another question.
func largestOnCPU(free int64) string {
	for _, name := range slices.Backward(preset.Names()) {
		run, err := preset.Run(name, 0)
		if err != nil {
			continue
		}
		p := plan.Make(plan.Request{Name: name, Run: run, Engine: cpu.New(""), Wait: true, Cache: data.DefaultCache,
			Options: model.Options{Threads: 1, MicroBatch: 1}})
		if p.Check(plan.Machine{Memory: free, Disk: plan.Unknown}) == nil {
			return name
		}
	}
	return ""
}

// otherGPUs names the makers, NVIDIA apart, of this machine's GPUs: by the bus or the driver's device on Linux, by the system on macOS.
func otherGPUs(fsys fs.FS, platform string) (makers []string) {
	switch platform {
	case "darwin/arm64":
		return []string{"Apple"}
	case "darwin/amd64":
		return []string{"AMD or Intel"}
	}
	_, err := fs.Stat(fsys, "dev/kfd") // of AMD's driver for computing; a container may see it without the bus
	if err == nil || onBus(fsys, "0x1002") {
		makers = append(makers, "AMD")
	}
	if onBus(fsys, "0x8086") {
		makers = append(makers, "Intel")
	}
	return makers
}

// onBus says whether a display controller (PCI class 03) or accelerator (class 12) of that vendor is on the bus.
func onBus(fsys fs.FS, vendor string) bool {
	const devices = "sys/bus/pci/devices"
	entries, err := fs.ReadDir(fsys, devices)
	if err != nil {
		return false
	}
	for _, e := range entries {
		class, err1 := fs.ReadFile(fsys, path.Join(devices, e.Name(), "class"))
		by, err2 := fs.ReadFile(fsys, path.Join(devices, e.Name(), "vendor"))
		gpu := strings.HasPrefix(string(class), "0x03") || strings.HasPrefix(string(class), "0x12")
		if err1 == nil && err2 == nil && gpu && strings.TrimSpace(string(by)) == vendor {
			return true
		}
	}
	return false
}
