//go:build !linux || nogpu

package nvrtc

import "errors"

func (*Compiler) bind(string) error { return errors.New("it is used on Linux only") }
