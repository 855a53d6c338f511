//go:build !nogpu

package standin

import "github.com/ebitengine/purego"

// bind opens the library and finds the entry points that are not the driver's.
func (c *Card) bind() error {
	h, err := purego.Dlopen(c.Path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return err
	}
	purego.RegisterLibFunc(&c.set, h, "sn3StandinSet")
	purego.RegisterLibFunc(&c.report, h, "sn3StandinReport")
	return nil
}
