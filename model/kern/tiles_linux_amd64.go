package kern

import (
	"sync"

	"golang.org/x/sys/unix"
)

// tilesAllowed asks the kernel, once, for the right to use tile registers: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
var tilesAllowed = sync.OnceValue(func() bool {
	_, _, e := unix.RawSyscall(unix.SYS_ARCH_PRCTL, 0x1023, 18, 0)
	return e == 0
})
