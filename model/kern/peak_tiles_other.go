//go:build amd64 && !linux

package kern

// peakTiles: how another system grants AMX tiles was never tried.
func peakTiles() bool { return false }
