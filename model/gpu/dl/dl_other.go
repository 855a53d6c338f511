//go:build !linux || nogpu

package dl

import (
	"errors"
	"runtime"
)

var errSystem = errors.New(map[bool]string{true: "this program was built without support for cards (-tags nogpu)",
	false: "NVIDIA's libraries are used on Linux only, this is " + runtime.GOOS}[runtime.GOOS == "linux"])

// Supported says that this build can open libraries.
const Supported = false

// Open says that there are no libraries on this system, or for this build.
func Open(string) (uintptr, error) { return 0, errSystem }

func sym(uintptr, string) (uintptr, error)    { return 0, errSystem }
func call(uintptr, ...uintptr) (code uintptr) { return 999 }
