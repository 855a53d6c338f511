//go:build !linux && !darwin

package plan

func freeMemory() int64 { return Unknown }

func freeDisk(string) int64 { return Unknown }
