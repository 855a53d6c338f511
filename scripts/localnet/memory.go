package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// processMemory is what a node takes, in bytes, measured with the local preset.
const processMemory = 180 << 20

// crowded warns if so many processes need more memory than is free. It says nothing where that cannot be known.
func crowded(processes int) string {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return ""
	}
	return shortage(processes, string(b))
}

// shortage reads Linux's meminfo.
func shortage(processes int, meminfo string) string {
	for _, line := range strings.Split(meminfo, "\n") {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "MemAvailable:" {
			continue
		}
		kib, err := strconv.ParseInt(f[1], 10, 64)
		need := int64(processes) * processMemory
		if err != nil || need <= kib<<10 {
			return ""
		}
		return fmt.Sprintf("%d processes need about %.1f GiB of memory, %.1f GiB are free: with fewer MINERS or VALIDATORS it will run", processes,
			float64(need)/(1<<30), float64(kib)/(1<<20))
	}
	return ""
}
