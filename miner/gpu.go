package main

import (
	"fmt"

	"sn3/internal/proc"
	"sn3/model/gpu/cuda"
)

// probeGPU looks for NVIDIA's driver at run time, without cgo, and says exactly what it found. This build has no GPU engine: it
// never pretends to.
func probeGPU() error {
	driver, err := cuda.Open()
	if err != nil {
		return proc.Refused(fmt.Errorf("--gpu: %w", err))
	}
	return proc.Refused(fmt.Errorf("found NVIDIA's driver (%s, CUDA %d.%d), but this build has no GPU engine yet; run miner without --gpu to train on the CPU (miner doctor says what the cards have room for)",
		driver.Path(), driver.Version()/1000, driver.Version()%1000/10))
}
