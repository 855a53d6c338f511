// Package nvrtc compiles CUDA C by NVIDIA's own compiler, opened at run time: a second opinion on the kernels for tests. Nothing that
// is shipped needs it.
package nvrtc

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// Compiler is an opened libnvrtc.
type Compiler struct {
	version              func(major, minor *int32) int32
	create               func(program *uintptr, source, name string, headers int32, texts, names uintptr) int32
	compile              func(program uintptr, n int32, options **byte) int32
	destroy              func(program *uintptr) int32
	sizeOfPTX, sizeOfLog func(program uintptr, n *uint64) int32
	ptx, log             func(program uintptr, to *byte) int32
	words                func(code int32) string
}

// Open opens the library that SN3_NVRTC names, else libnvrtc.so.13 or .12 in the loader's paths.
func Open() (*Compiler, error) {
	paths := []string{"libnvrtc.so.13", "libnvrtc.so.12"}
	if p := os.Getenv("SN3_NVRTC"); p != "" {
		paths = []string{p}
	}
	var err error
	for _, p := range paths {
		c := new(Compiler)
		if err = c.bind(p); err == nil {
			return c, nil
		}
	}
	return nil, fmt.Errorf("open NVIDIA's compiler: %w", err)
}

// Version is that of the CUDA release that the compiler is of.
func (c *Compiler) Version() (major, minor int, err error) {
	var a, b int32
	if code := c.version(&a, &b); code != 0 {
		return 0, 0, c.fail("nvrtcVersion", code)
	}
	return int(a), int(b), nil
}

// Compile makes PTX of a text. log is what the compiler says, warnings as well as errors.
func (c *Compiler) Compile(name, text string, options ...string) (ptx []byte, log string, err error) {
	var program uintptr
	if code := c.create(&program, text, name, 0, 0, 0); code != 0 {
		return nil, "", c.fail("nvrtcCreateProgram", code)
	}
	defer func() {
		if code := c.destroy(&program); code != 0 && err == nil {
			err = c.fail("nvrtcDestroyProgram", code)
		}
	}()
	list := make([]*byte, len(options)+1)
	for i, o := range options {
		list[i] = &append([]byte(o), 0)[0]
	}
	code := c.compile(program, int32(len(options)), &list[0])
	runtime.KeepAlive(list)
	said, err := c.fetch(program, c.sizeOfLog, c.log)
	if err != nil {
		return nil, "", err
	}
	log = strings.TrimSpace(string(said))
	if code != 0 {
		return nil, log, c.fail("nvrtcCompileProgram", code)
	}
	ptx, err = c.fetch(program, c.sizeOfPTX, c.ptx)
	return ptx, log, err
}

// fetch reads a text whose size, its zero included, and bytes the library gives.
func (c *Compiler) fetch(program uintptr, size func(uintptr, *uint64) int32, read func(uintptr, *byte) int32) ([]byte, error) {
	var n uint64
	if code := size(program, &n); code != 0 {
		return nil, c.fail("ask NVRTC for a text's size", code)
	}
	b := make([]byte, max(n, 1))
	if code := read(program, &b[0]); code != 0 {
		return nil, c.fail("ask NVRTC for a text", code)
	}
	return b[:len(b)-1], nil
}

func (c *Compiler) fail(what string, code int32) error {
	return fmt.Errorf("%s: %s (%d)", what, c.words(code), code)
}
