//go:build !linux || nogpu

package standin

import "errors"

func (c *Card) bind() error { return errors.New("the stand-in for the GPU is built on Linux only") }
