package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"sn3/model/kern"
)

// Machine says where figures come from, without naming the machine.
type Machine struct {
	CPU     string   `json:"cpu"`  // as the system calls it
	Sets    []string `json:"sets"` // instruction sets that the kernels know
	Cores   int      `json:"cores"`
	Memory  int64    `json:"memory_bytes,omitempty"`
	Go      string   `json:"go"`
	System  string   `json:"system"`
	Kernels string   `json:"kernels"` // those our engine uses
	Why     string   `json:"why"`
}

// describe looks at this machine. Unknown or impossible kernels are an error.
func describe(kernels string) (Machine, error) {
	k, err := kern.Select(kernels)
	if err != nil {
		return Machine{}, err
	}
	m := Machine{CPU: runtime.GOARCH, Cores: runtime.NumCPU(), Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, Kernels: k.Name, Why: k.Why}
	for _, p := range kern.Peaks() {
		if slices.Contains(kern.Names(), p) {
			m.Sets = append(m.Sets, p)
		}
	}
	if info := procFile("/proc/cpuinfo"); info["model name"] != "" {
		m.CPU = strings.TrimSpace(info["model name"] + " family " + info["cpu family"] + " model " + info["model"])
	}
	var kib int64
	if _, err := fmt.Sscanf(procFile("/proc/meminfo")["MemTotal"], "%d kB", &kib); err == nil {
		m.Memory = kib << 10
	}
	return m, nil
}

// freeMemory is what the system could give out, where it says so.
func freeMemory() (bytes int64, ok bool) {
	var kib int64
	_, err := fmt.Sscanf(procFile("/proc/meminfo")["MemAvailable"], "%d kB", &kib)
	return kib << 10, err == nil
}

func (m Machine) String() string {
	return fmt.Sprintf("%s, %s, %d cores, %d GB, %s, %s\nkernels %s: %s", m.CPU, strings.Join(m.Sets, " "), m.Cores, m.Memory>>30, m.System, m.Go, m.Kernels, m.Why)
}

// procFile reads "name: value" lines, the first of each name; nothing where the system has no such file.
func procFile(name string) map[string]string {
	out := map[string]string{}
	raw, err := os.ReadFile(name)
	if err != nil {
		return out
	}
	for s := bufio.NewScanner(bytes.NewReader(raw)); s.Scan(); {
		k, v, _ := strings.Cut(s.Text(), ":")
		if k = strings.TrimSpace(k); out[k] == "" {
			out[k] = strings.TrimSpace(v)
		}
	}
	return out
}

// resetPeak forgets the most memory that this process has had, where the system can.
func resetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

// peakMemory is the most resident memory of this process since resetPeak, in bytes; elsewhere than on Linux what Go holds now.
func peakMemory() int64 {
	var kib int64
	if _, err := fmt.Sscanf(procFile("/proc/self/status")["VmHWM"], "%d kB", &kib); err == nil {
		return kib << 10
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.Sys)
}
