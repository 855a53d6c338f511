//go:build !linux

package nvrtc

import "errors"

func (*Compiler) bind(string) error { return errors.New("it is used on Linux only") }
