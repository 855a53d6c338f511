//go:build !linux

package cuda

import (
	"errors"
	"runtime"
)

var errSystem = errors.New("NVIDIA's driver is used on Linux only, this is " + runtime.GOOS)

func dlopen(string) (uintptr, error)              { return 0, errSystem }
func dlsym(uintptr, string) (uintptr, error)      { return 0, errSystem }
func syscalln(uintptr, ...uintptr) (code uintptr) { return 999 }
