package cuda

import (
	"fmt"
	"runtime"
	"unsafe"
)

// Context is a device as the closures of Do see it. Copies, fills and launches go to the current stream, in order.
type Context struct {
	d      *Driver
	info   Info
	main   *Stream
	stream *Stream // the current one
	values [16]uint64
	params [16]unsafe.Pointer // to values; what the driver reads a launch's arguments from
	args   [11]uintptr        // of cuLaunchKernel, here so that a launch makes no garbage
}

// Ptr is an address of device memory.
type Ptr uint64

// Add is the address n bytes on.
func (p Ptr) Add(n int64) Ptr { return Ptr(int64(p) + n) }

// Stream is a queue of work on the device.
type Stream struct{ handle uintptr }

// nonBlocking keeps streams apart from the null stream, which nobody uses.
const nonBlocking = 1

func (d *Driver) open(info Info) (*Context, error) {
	c := &Context{d: d, info: info}
	var h uintptr
	if err := d.primaryCtxRetain.call(d, uintptr(unsafe.Pointer(&h)), uintptr(info.Ordinal)); err != nil {
		return nil, err
	}
	err := d.ctxSetCurrent.call(d, h)
	if err == nil {
		c.main, err = c.NewStream()
	}
	if err != nil {
		_ = d.primaryCtxRelease.call(d, uintptr(info.Ordinal)) // the first error says more
		return nil, err
	}
	c.stream = c.main
	for i := range c.values {
		c.params[i] = unsafe.Pointer(&c.values[i])
	}
	return c, nil
}

func (c *Context) close() error {
	err := c.d.streamDestroy.call(c.d, c.main.handle)
	for _, f := range []func() error{
		func() error { return c.d.ctxSetCurrent.call(c.d, 0) },
		func() error { return c.d.primaryCtxRelease.call(c.d, uintptr(c.info.Ordinal)) },
	} {
		if e := f(); err == nil {
			err = e
		}
	}
	return err
}

// Info describes the device.
func (c *Context) Info() Info { return c.info }

// Alloc allocates device memory, aligned to 256 bytes. What it holds is not known. Without room the error has OutOfMemory and says how
// much was asked and is free.
func (c *Context) Alloc(bytes int64) (Ptr, error) {
	if bytes <= 0 {
		return 0, fmt.Errorf("allocate %d bytes on the device: give a positive number", bytes)
	}
	var p Ptr
	err := c.d.memAlloc.call(c.d, uintptr(unsafe.Pointer(&p)), uintptr(bytes))
	return p, c.outOfMemory(err, bytes)
}

// outOfMemory adds to an error what was asked and what is free.
func (c *Context) outOfMemory(err error, bytes int64) error {
	e, ok := err.(*Error)
	if !ok || e.Code != OutOfMemory {
		return err
	}
	e.Text += fmt.Sprintf(": asked for %d bytes of the card", bytes)
	if free, total, err := c.Memory(); err == nil {
		e.Text += fmt.Sprintf(", on which %d of %d are free", free, total)
	}
	return e
}

// Free frees what Alloc gave; 0 is nothing.
func (c *Context) Free(p Ptr) error { return c.d.memFree.call(c.d, uintptr(p)) }

// Part names bytes bytes at p, a multiple of 16, as one part of an allocation. The driver knows nothing of it; the stand-in then keeps
// accesses through a pointer into the part within it, and takes what it held as not known.
func (c *Context) Part(p Ptr, bytes int64, name string) error {
	if c.d.standinPart.Addr == 0 {
		return nil
	}
	s := append([]byte(name), 0)
	return c.d.standinPart.call(c.d, uintptr(p), uintptr(bytes), uintptr(unsafe.Pointer(&s[0])))
}

// Standin says that the driver is the stand-in.
func (c *Context) Standin() bool { return c.d.standinPart.Addr != 0 }

// Memory is the free and the whole memory of the device in bytes.
func (c *Context) Memory() (free, total uint64, err error) {
	err = c.d.memGetInfo.call(c.d, uintptr(unsafe.Pointer(&free)), uintptr(unsafe.Pointer(&total)))
	return free, total, err
}

// Value is what device memory can hold.
type Value interface {
	~uint8 | ~uint16 | ~int32 | ~uint32 | ~int64 | ~uint64 | ~float32
}

func size[T Value](s []T) uintptr {
	var v T
	return uintptr(len(s)) * unsafe.Sizeof(v)
}

// Put copies s to the device and waits for it.
func Put[T Value](c *Context, dst Ptr, s []T) error {
	err := PutAsync(c, dst, s)
	if err == nil {
		err = c.Sync()
	}
	runtime.KeepAlive(s)
	return err
}

// Get copies from the device to s and waits for it.
func Get[T Value](c *Context, s []T, src Ptr) error {
	err := GetAsync(c, s, src)
	if err == nil {
		err = c.Sync()
	}
	runtime.KeepAlive(s)
	return err
}

// PutAsync enqueues a copy to the device. s must not change or go away before the stream has come there: give pinned memory, from
// other memory the copy is not asynchronous, and a capture does not take it.
func PutAsync[T Value](c *Context, dst Ptr, s []T) error {
	if len(s) == 0 {
		return nil
	}
	return c.d.memcpyHtoD.call(c.d, uintptr(dst), uintptr(unsafe.Pointer(&s[0])), size(s), c.stream.handle)
}

// GetAsync enqueues a copy from the device; s as for PutAsync.
func GetAsync[T Value](c *Context, s []T, src Ptr) error {
	if len(s) == 0 {
		return nil
	}
	return c.d.memcpyDtoH.call(c.d, uintptr(unsafe.Pointer(&s[0])), uintptr(src), size(s), c.stream.handle)
}

// Copy enqueues a copy on the device.
func (c *Context) Copy(dst, src Ptr, bytes int64) error {
	if bytes == 0 {
		return nil
	}
	return c.d.memcpyDtoD.call(c.d, uintptr(dst), uintptr(src), uintptr(bytes), c.stream.handle)
}

// Memset enqueues setting bytes bytes to value.
func (c *Context) Memset(dst Ptr, value byte, bytes int64) error {
	if bytes == 0 {
		return nil
	}
	return c.d.memsetAsync.call(c.d, uintptr(dst), uintptr(value), uintptr(bytes), c.stream.handle)
}

// Pinned is host memory that the device can reach, for asynchronous copies. Free it with FreePinned.
type Pinned struct {
	p unsafe.Pointer
	n int64
}

// Pin allocates pinned host memory.
func (c *Context) Pin(bytes int64) (*Pinned, error) {
	if bytes <= 0 {
		return nil, fmt.Errorf("allocate %d bytes of pinned memory: give a positive number", bytes)
	}
	m := &Pinned{n: bytes}
	if err := c.d.memHostAlloc.call(c.d, uintptr(unsafe.Pointer(&m.p)), uintptr(bytes), 0); err != nil {
		if e, ok := err.(*Error); ok && e.Code == OutOfMemory {
			e.Text += fmt.Sprintf(": asked for %d bytes of pinned memory", bytes)
			e.Advice = "free memory of this machine, or raise the limit of locked memory (ulimit -l)"
		}
		return nil, err
	}
	return m, nil
}

// FreePinned frees it; slices of it are invalid afterwards.
func (c *Context) FreePinned(m *Pinned) error {
	p := m.p
	m.p, m.n = nil, 0
	return c.d.memFreeHost.call(c.d, uintptr(p))
}

// Slice is the pinned memory as values.
func Slice[T Value](m *Pinned) []T {
	var v T
	return unsafe.Slice((*T)(m.p), uintptr(m.n)/unsafe.Sizeof(v))
}

// Sync waits for the current stream; errors of what ran on it appear here.
func (c *Context) Sync() error { return c.d.streamSynchronize.call(c.d, c.stream.handle) }

// SyncAll waits for all streams.
func (c *Context) SyncAll() error { return c.d.ctxSynchronize.call(c.d) }
