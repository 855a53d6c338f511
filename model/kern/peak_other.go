//go:build !amd64

package kern

// peakLoops: there is no assembly for this platform.
func peakLoops() []peakLoop { return nil }

func peakReader() func(n int, src *byte) { return nil }
