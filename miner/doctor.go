package main

import (
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
		},
		Action: func(c *cli.Context) error {
			share := c.Float64("gpu-memory")
			switch {
			case c.NArg() > 0:
				return proc.Usage(fmt.Errorf("unexpected argument %q; doctor takes none", c.Args().First()))
			case !(share > 0 && share <= 1):
				return proc.Usage(fmt.Errorf("--gpu-memory %v: a share of the card's memory, above 0 and at most 1", share))
			}
			return doctor(os.Stdout, c.String("kernels"), share)
		},
	})
}

// doctor writes its findings. What is missing is a finding, no error.
func doctor(w io.Writer, kernels string, share float64) error {
	line := []string{"miner", "--version", "--verbose"}
	if kernels != "" {
		line = append(line, "--kernels", kernels)
	}
	if _, err := node.VerboseVersion(w, line); err != nil {
		return err
	}
	free := plan.FreeMemory()
	if free == plan.Unknown {
		fmt.Fprintln(w, "memory   this system does not tell how much is free")
	} else {
		fmt.Fprintf(w, "memory   %.1f GiB free for a miner\n", float64(free)/(1<<30))
	}
	fmt.Fprintf(w, "         on the CPU it has room to train %s\n", largestOnCPU(free))
	nvidia(w, share)
	found := "none was found here"
	if others := otherGPUs(os.DirFS("/"), runtime.GOOS+"/"+runtime.GOARCH); len(others) > 0 {
		found = "this machine has one of " + strings.Join(others, " and ")
	}
	fmt.Fprintf(w, "others   GPUs of AMD, Intel and Apple are not supported yet (%s); the CPU engine works\n", found)
	_, err := fmt.Fprintln(w, "engine   miner trains on the CPU; miner --gpu on one card, in bf16, classic plan, nothing recomputed: experimental, it has only run on a stand-in")
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
			return fmt.Sprintf("presets up to %s (sn3 plan %s has the parts)", name, name)
		}
	}
	return "none of the presets"
}

// otherGPUs names the makers, NVIDIA apart, of this machine's GPUs: by the bus on Linux, by the processor on macOS.
func otherGPUs(fsys fs.FS, platform string) (makers []string) {
	if platform == "darwin/arm64" {
		return []string{"Apple"}
	}
	for _, m := range []struct{ vendor, name string }{{"0x1002", "AMD"}, {"0x8086", "Intel"}} {
		if onBus(fsys, m.vendor) {
			makers = append(makers, m.name)
		}
	}
	return makers
}

// onBus says whether a display controller or GPU (PCI class 03) of that vendor is on the bus.
func onBus(fsys fs.FS, vendor string) bool {
	const devices = "sys/bus/pci/devices"
	entries, err := fs.ReadDir(fsys, devices)
	if err != nil {
		return false
	}
	for _, e := range entries {
		class, err1 := fs.ReadFile(fsys, path.Join(devices, e.Name(), "class"))
		by, err2 := fs.ReadFile(fsys, path.Join(devices, e.Name(), "vendor"))
		if err1 == nil && err2 == nil && strings.HasPrefix(string(class), "0x03") && strings.TrimSpace(string(by)) == vendor {
			return true
		}
	}
	return false
}
