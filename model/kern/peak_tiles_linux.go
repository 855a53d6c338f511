//go:build amd64

package kern

import "syscall"

// peakTiles asks the system for the use of AMX tiles by this process, once for all of its threads (arch_prctl(2),
// ARCH_REQ_XCOMP_PERM of XFEATURE_XTILEDATA); without it the first tile instruction kills.
func peakTiles() bool {
	_, _, e := syscall.RawSyscall(syscall.SYS_ARCH_PRCTL, 0x1023, 18, 0)
	return e == 0
}
