//go:build !nogpu

package dl

import "github.com/ebitengine/purego"

// Supported says that this build can open libraries.
const Supported = true

// Open opens the library that the loader finds by name, or at a path.
func Open(name string) (uintptr, error) {
	return purego.Dlopen(name, purego.RTLD_NOW|purego.RTLD_LOCAL)
}

func sym(lib uintptr, name string) (uintptr, error) { return purego.Dlsym(lib, name) }

//go:uintptrescapes
func call(fn uintptr, args ...uintptr) uintptr {
	r, _, _ := purego.SyscallN(fn, args...)
	return r
}
