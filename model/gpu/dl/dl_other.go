//go:build !linux

package dl

import (
	"errors"
	"runtime"
)

var errSystem = errors.New("NVIDIA's libraries are used on Linux only, this is " + runtime.GOOS)

// Open says that there are no libraries on this system.
func Open(string) (uintptr, error) { return 0, errSystem }

func sym(uintptr, string) (uintptr, error)    { return 0, errSystem }
func call(uintptr, ...uintptr) (code uintptr) { return 999 }
