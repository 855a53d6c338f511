package kern

import "golang.org/x/sys/unix"

// adviseHuge is a hint: a kernel without huge pages refuses it, and nothing is lost but speed.
func adviseHuge(b []byte) { _ = unix.Madvise(b, unix.MADV_HUGEPAGE) }
