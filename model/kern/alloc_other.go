//go:build !linux

package kern

func adviseHuge([]byte) {}
