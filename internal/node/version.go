package node

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/cpu"

	"sn3/internal/proc"
	"sn3/model/kern"
)

// VerboseVersion handles --version together with --verbose, or -v twice, before anything else is read: it says what runs here and
// which kernels were chosen, and why. handled is false for any other command line.
func VerboseVersion(w io.Writer, args []string) (handled bool, err error) {
	version, verbose, kernels := 0, 0, os.Getenv("SN3_KERNELS")
	for i := 1; i < len(args); i++ {
		name, value, given := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		switch {
		case args[i] == "-v", name == "version" && !given:
			version++
		case args[i] == "-vv":
			version += 2
		case name == "verbose" && !given:
			verbose++
		case name == "kernels" && given:
			kernels = value
		case name == "kernels" && i+1 < len(args):
			i++
			kernels = args[i]
		default:
			return false, nil
		}
	}
	if version == 0 || version+verbose < 2 {
		return false, nil
	}
	p, err := Describe(kernels)
	if err != nil {
		return true, err
	}
	fmt.Fprintf(w, "%s version %s, %s for %s/%s\n", baseName(args[0]), proc.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return true, p.Write(w)
}

// Processor is what computes on this machine beside its cards, and with which kernels.
type Processor struct {
	Model        string    `json:"model"`
	Threads      int       `json:"threads"`
	Instructions []string  `json:"instructions"` // those that matter to the kernels; no-NAME: missing
	Kernels      []Kernels `json:"kernels"`      // the chosen ones first
}

// Kernels is a set of kernels for the CPU.
type Kernels struct {
	Name   string `json:"name"`
	Chosen bool   `json:"chosen"`
	Why    string `json:"why"`
}

// Describe looks at the processor; kernels that are named are chosen, "" chooses.
func Describe(kernels string) (Processor, error) {
	chosen, err := kern.Select(kernels)
	if err != nil {
		return Processor{}, proc.Usage(fmt.Errorf("--kernels: %w", err))
	}
	p := Processor{Model: cpuModel("/proc/cpuinfo"), Threads: runtime.NumCPU(), Instructions: instructions(), Kernels: []Kernels{{chosen.Name, true, chosen.Why}}}
	for _, name := range kern.Names() {
		if name == chosen.Name {
			continue
		}
		why := "can run here too"
		if _, err := kern.Select(name); err != nil {
			why = err.Error()
		}
		p.Kernels = append(p.Kernels, Kernels{name, false, why})
	}
	return p, nil
}

// Write writes it for people.
func (p Processor) Write(w io.Writer) error {
	fmt.Fprintf(w, "cpu      %s, %d threads; %s\n", p.Model, p.Threads, strings.Join(p.Instructions, " "))
	head := "kernels "
	for _, k := range p.Kernels {
		if _, err := fmt.Fprintf(w, "%s %s: %s\n", head, k.Name, k.Why); err != nil {
			return err
		}
		head = "        "
	}
	return nil
}

// baseName is a program's name without its folder.
func baseName(path string) string { return path[strings.LastIndexAny(path, `/\`)+1:] }

// cpuModel is the model's name as Linux tells it, or the architecture.
func cpuModel(info string) string {
	f, err := os.Open(info)
	if err != nil {
		return runtime.GOARCH
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		if key, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return proc.Printable(strings.TrimSpace(value))
		}
	}
	return runtime.GOARCH
}

// instructions are the sets that matter to the kernels, those that are missing as no-NAME.
func instructions() []string {
	x := &cpu.X86
	have := map[string]bool{"avx2": x.HasAVX2, "fma": x.HasFMA, "avx512f": x.HasAVX512F, "avx512bw": x.HasAVX512BW, "avx512dq": x.HasAVX512DQ,
		"avx512vl": x.HasAVX512VL, "avx512_bf16": x.HasAVX512BF16, "amx_tile": x.HasAMXTile, "amx_bf16": x.HasAMXBF16}
	if runtime.GOARCH != "amd64" {
		return []string{"no assembly for this architecture yet"}
	}
	var out []string
	for name, ok := range have {
		if !ok {
			name = "no-" + name
		}
		out = append(out, name)
	}
	slices.SortFunc(out, func(a, b string) int {
		return strings.Compare(strings.TrimPrefix(a, "no-"), strings.TrimPrefix(b, "no-"))
	})
	return out
}
