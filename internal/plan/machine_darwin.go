package plan

import "golang.org/x/sys/unix"

// freeMemory is all there is: macOS gives caches and compressed pages back.
func freeMemory() int64 {
	n, err := unix.SysctlUint64("hw.memsize")
	if err != nil {
		return Unknown
	}
	return int64(min(n, 1<<62))
}

func freeDisk(dir string) int64 {
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) != nil {
		return Unknown
	}
	return int64(min(s.Bavail, 1<<40)) * int64(s.Bsize)
}
