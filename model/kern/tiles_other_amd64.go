//go:build amd64 && !linux

package kern

// tilesAllowed: other systems have other ways to ask, which nobody has tried.
func tilesAllowed() bool { return false }
