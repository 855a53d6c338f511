package cuda

import (
	"fmt"
	"math"
	"strings"
	"unsafe"
)

// Module is a loaded image.
type Module struct {
	c      *Context
	handle uintptr
}

// Func is a kernel of a module.
type Func struct {
	handle uintptr
	kernel Kernel
}

// The options of cuModuleLoadDataEx that we use (CUjit_option).
const (
	jitErrorLog     = 5
	jitErrorLogSize = 6
)

// Load loads an image: PTX, which the driver compiles, so it may take seconds the first time.
func (c *Context) Load(image []byte) (*Module, error) {
	if len(image) == 0 {
		return nil, fmt.Errorf("load kernels: there are none for compute capability %d.%d", c.info.Major, c.info.Minor)
	}
	m := &Module{c: c}
	src := make([]byte, len(image)+1) // with its zero
	copy(src, image)
	j := &jit{options: [2]int32{jitErrorLog, jitErrorLogSize}} // on the heap, as the call refers to it: its address does not change
	j.values = [2]uintptr{uintptr(unsafe.Pointer(&j.log[0])), uintptr(len(j.log) - 1)}
	err := c.d.moduleLoad.call(c.d, uintptr(unsafe.Pointer(&m.handle)), uintptr(unsafe.Pointer(&src[0])), 2, uintptr(unsafe.Pointer(&j.options[0])),
		uintptr(unsafe.Pointer(&j.values[0])))
	if e, ok := err.(*Error); ok {
		if said := strings.TrimSpace(text(j.log[:])); said != "" {
			e.Text += ": " + said
		}
		e.Text += fmt.Sprintf(" (compute capability %d.%d, driver for %s)", c.info.Major, c.info.Minor, driverWords(c.d.version))
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// jit is what the driver's compiler reads and writes.
type jit struct {
	options [2]int32
	values  [2]uintptr
	log     [4096]byte
}

// Unload ends a module; its functions are invalid afterwards.
func (m *Module) Unload() error { return m.c.d.moduleUnload.call(m.c.d, m.handle) }

// Func finds a kernel and, where the driver can tell (CUDA 12.4), compares its parameters with k's.
func (m *Module) Func(k Kernel) (*Func, error) {
	if len(k.Params) > len(m.c.values) {
		return nil, fmt.Errorf("find kernel %s: it has %d parameters, at most %d can be", k.Name, len(k.Params), len(m.c.values))
	}
	name := append([]byte(k.Name), 0)
	f := &Func{kernel: k}
	if err := m.c.d.moduleGetFunction.call(m.c.d, uintptr(unsafe.Pointer(&f.handle)), m.handle, uintptr(unsafe.Pointer(&name[0]))); err != nil {
		if e, ok := err.(*Error); ok {
			e.Text += ": kernel " + k.Name
		}
		return nil, err
	}
	if m.c.d.funcGetParamInfo.Addr == 0 {
		return f, nil
	}
	for i, p := range k.Params {
		var offset, size uint64
		if err := m.c.d.funcGetParamInfo.call(m.c.d, f.handle, uintptr(i), uintptr(unsafe.Pointer(&offset)), uintptr(unsafe.Pointer(&size))); err != nil {
			return nil, fmt.Errorf("kernel %s has no parameter %d (%s): the image and the table differ: %w", k.Name, i, p.Name, err)
		}
		if int(size) != p.Type.Size() {
			return nil, fmt.Errorf("kernel %s takes %d bytes for parameter %d (%s), the table says %d: the image and the table differ", k.Name, size, i, p.Name, p.Type.Size())
		}
	}
	var offset, size uint64
	if m.c.d.funcGetParamInfo.call(m.c.d, f.handle, uintptr(len(k.Params)), uintptr(unsafe.Pointer(&offset)), uintptr(unsafe.Pointer(&size))) == nil {
		return nil, fmt.Errorf("kernel %s has more parameters than the table's %d: the image and the table differ", k.Name, len(k.Params))
	}
	return f, nil
}

// Launch enqueues f on the current stream with grid blocks. An argument is a Ptr, int32, uint32, float32, int64, uint64 as the
// kernel's parameter, or an int where that holds it.
func (c *Context) Launch(f *Func, grid [3]int, args ...any) error {
	if err := c.bind(f, args); err != nil {
		return err
	}
	for i, n := range grid {
		if n < 1 || n > math.MaxInt32 || i > 0 && n > 65535 {
			return fmt.Errorf("launch %s: a grid of %d×%d×%d blocks is not possible", f.kernel.Name, grid[0], grid[1], grid[2])
		}
	}
	c.args = [11]uintptr{f.handle, uintptr(grid[0]), uintptr(grid[1]), uintptr(grid[2]), uintptr(f.kernel.Threads), 1, 1, 0, c.stream.handle,
		uintptr(unsafe.Pointer(&c.params[0])), 0}
	return c.d.launchKernel.call(c.d, c.args[:]...)
}

// bind puts the arguments where the driver reads them.
func (c *Context) bind(f *Func, args []any) error {
	if len(args) != len(f.kernel.Params) {
		return fmt.Errorf("launch %s: %d arguments for %d parameters", f.kernel.Name, len(args), len(f.kernel.Params))
	}
	for i := range args {
		v, ok := word(f.kernel.Params[i].Type, args[i])
		if !ok {
			return mistyped(&f.kernel, i, args[i])
		}
		c.values[i] = v
	}
	return nil
}

// word is an argument as the kernel reads it.
func word(t Type, arg any) (uint64, bool) {
	switch v := arg.(type) {
	case Ptr:
		return uint64(v), t == Pointer
	case int32:
		return uint64(uint32(v)), t == Int32
	case uint32:
		return uint64(v), t == Uint32
	case float32:
		return uint64(math.Float32bits(v)), t == Float32
	case int64:
		return uint64(v), t == Int64
	case uint64:
		return v, t == Uint64
	case int:
		switch t {
		case Int32:
			return uint64(uint32(int32(v))), int(int32(v)) == v
		case Uint32:
			return uint64(uint32(v)), v >= 0 && int(uint32(v)) == v
		case Int64:
			return uint64(v), true
		case Uint64:
			return uint64(v), v >= 0
		}
	}
	return 0, false
}

// mistyped must not keep arg, or every launch would allocate.
func mistyped(k *Kernel, i int, arg any) error {
	kind := "a value of another type"
	switch v := arg.(type) {
	case Ptr:
		kind = "a cuda.Ptr"
	case int:
		kind = fmt.Sprintf("the int %d", v)
	case float32:
		kind = "a float32"
	case int32, int64, uint32, uint64:
		kind = "an integer of another type"
	}
	return fmt.Errorf("launch %s: parameter %d (%s) is %s, the argument is %s", k.Name, i, k.Params[i].Name, k.Params[i].Type, kind)
}
