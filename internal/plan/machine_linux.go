package plan

import (
	"os"

	"golang.org/x/sys/unix"
)

func freeMemory() int64 { return linuxMemory(os.DirFS("/")) }

func freeDisk(dir string) int64 {
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) != nil {
		return Unknown
	}
	return int64(min(s.Bavail, 1<<40)) * int64(s.Bsize)
}
