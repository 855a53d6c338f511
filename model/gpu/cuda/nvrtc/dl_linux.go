//go:build !nogpu

package nvrtc

import "github.com/ebitengine/purego"

func (c *Compiler) bind(path string) error {
	lib, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return err
	}
	for name, to := range map[string]any{
		"nvrtcVersion": &c.version, "nvrtcCreateProgram": &c.create, "nvrtcCompileProgram": &c.compile, "nvrtcDestroyProgram": &c.destroy,
		"nvrtcGetPTXSize": &c.sizeOfPTX, "nvrtcGetPTX": &c.ptx, "nvrtcGetProgramLogSize": &c.sizeOfLog, "nvrtcGetProgramLog": &c.log,
		"nvrtcGetErrorString": &c.words,
	} {
		addr, err := purego.Dlsym(lib, name)
		if err != nil {
			return err
		}
		purego.RegisterFunc(to, addr)
	}
	return nil
}
