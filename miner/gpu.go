package main

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/ebitengine/purego"

	"sn3/internal/proc"
)

// probeGPU looks for NVIDIA's driver at run time, without cgo, and says exactly what it found. This build has no GPU engine:
// it never pretends to.
func probeGPU() error {
	names := []string{"libcuda.so.1", "libcuda.so"}
	if runtime.GOOS != "linux" {
		return proc.Refused(fmt.Errorf("--gpu needs Linux with NVIDIA's driver; on %s run miner without --gpu, it trains on the CPU", runtime.GOOS))
	}
	for _, name := range names {
		lib, err := purego.Dlopen(name, purego.RTLD_NOW|purego.RTLD_LOCAL)
		if err != nil {
			continue
		}
		return proc.Refused(fmt.Errorf("found NVIDIA's driver (%s%s), but this build has no GPU engine yet; run miner without --gpu to train on the CPU",
			name, driverVersion(lib)))
	}
	return proc.Refused(fmt.Errorf("no CUDA driver: looked for %s in the loader's paths; install NVIDIA's driver, or run miner without --gpu, it trains on the CPU",
		strings.Join(names, " and ")))
}

// driverVersion asks the driver for its version: CUDA driver API, cuDriverGetVersion (major·1000 + minor·10).
func driverVersion(lib uintptr) string {
	sym, err := purego.Dlsym(lib, "cuDriverGetVersion")
	if err != nil {
		return ""
	}
	var get func(*int32) int32
	purego.RegisterFunc(&get, sym)
	var v int32
	if get(&v) != 0 {
		return ""
	}
	return fmt.Sprintf(", CUDA %d.%d", v/1000, v%1000/10)
}
