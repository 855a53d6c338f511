// Package cuda calls NVIDIA's driver API from Go without cgo: the library is opened at run time, so one binary starts everywhere. A
// Device is one goroutine locked to its thread that runs closures; a Context is what they use. Launches are checked against the
// kernel's signature. Nothing here knows what the kernels compute.
package cuda

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"sn3/model/gpu/dl"
)

// minDriver is the driver's version that takes our PTX (ISA 8.0): R525 and later.
const minDriver = 12000

// Driver is the opened library.
type Driver struct {
	calls
	path    string
	version int
}

// Open opens the library that SN3_CUDA names, else libcuda.so.1 in the loader's paths. An error is *Unavailable.
func Open() (*Driver, error) {
	if p := os.Getenv("SN3_CUDA"); p != "" {
		return OpenAt(p)
	}
	return OpenAt("libcuda.so.1")
}

// OpenAt opens the library at path and initialises it. An error is *Unavailable.
func OpenAt(path string) (*Driver, error) {
	lib, err := dl.Open(path)
	if err != nil {
		return nil, &Unavailable{"there is no NVIDIA driver (" + path + ")", "install NVIDIA's driver, or run without --gpu: the CPU engine needs none", err}
	}
	d := &Driver{path: path}
	if err := d.bind(lib); err != nil {
		return nil, &Unavailable{path + " is not a driver that we can use", "install a newer driver from NVIDIA (" + driverWords(minDriver) + " or later), or run without --gpu", err}
	}
	var v int32
	if err := d.driverGetVersion.call(d, uintptr(unsafe.Pointer(&v))); err != nil {
		return nil, &Unavailable{"the driver does not tell its version", "reinstall NVIDIA's driver, or run without --gpu", err}
	}
	d.version = int(v)
	if d.version < minDriver {
		return nil, &Unavailable{fmt.Sprintf("the driver is for %s, our kernels need %s", driverWords(d.version), driverWords(minDriver)),
			"install a newer driver from NVIDIA, or run without --gpu", nil}
	}
	if err := d.init.call(d, 0); err != nil {
		return nil, &Unavailable{"the driver does not start", "check that nvidia-smi works, or run without --gpu", err}
	}
	return d, nil
}

// Version is the newest CUDA version that the driver supports: 1000·major + 10·minor.
func (d *Driver) Version() int { return d.version }

// Path is the library's name as it was opened.
func (d *Driver) Path() string { return d.path }

// Standin says whether this is not NVIDIA's driver but the stand-in that tests use.
func (d *Driver) Standin() bool { return d.standinPart.Addr != 0 }

func driverWords(v int) string { return fmt.Sprintf("CUDA %d.%d", v/1000, v%1000/10) }

// Info describes a device.
type Info struct {
	Ordinal      int
	Name         string
	Memory       uint64 // bytes
	SMs          int    // multiprocessors
	Major, Minor int    // compute capability
	Clock        int    // of the multiprocessors, kHz
	MemoryClock  int    // kHz
	MemoryBus    int    // bits
	L2           int    // bytes
	Bus          string // PCI address
	UUID         string // as nvidia-smi prints it
	ECC          bool
}

// The attributes of devices that we ask for (CUdevice_attribute).
const (
	attrClock       = 13
	attrSMs         = 16
	attrECC         = 32
	attrMemoryClock = 36
	attrMemoryBus   = 37
	attrL2          = 38
	attrMajor       = 75
	attrMinor       = 76
)

// Devices lists the devices; none is no error.
func (d *Driver) Devices() ([]Info, error) {
	var n int32
	if err := d.deviceGetCount.call(d, uintptr(unsafe.Pointer(&n))); err != nil {
		return nil, err
	}
	list := make([]Info, n)
	for i := range list {
		info, err := d.device(i)
		if err != nil {
			return nil, err
		}
		list[i] = info
	}
	return list, nil
}

func (d *Driver) device(ordinal int) (Info, error) {
	var (
		dev   int32
		name  [256]byte
		bus   [64]byte
		uuid  [16]byte
		bytes uint64
		info  = Info{Ordinal: ordinal}
	)
	if err := d.deviceGet.call(d, uintptr(unsafe.Pointer(&dev)), uintptr(ordinal)); err != nil {
		return info, err
	}
	if err := d.deviceGetName.call(d, uintptr(unsafe.Pointer(&name[0])), uintptr(len(name)-1), uintptr(dev)); err != nil {
		return info, err
	}
	if err := d.deviceTotalMem.call(d, uintptr(unsafe.Pointer(&bytes)), uintptr(dev)); err != nil {
		return info, err
	}
	if err := d.deviceGetPCIBusID.call(d, uintptr(unsafe.Pointer(&bus[0])), uintptr(len(bus)-1), uintptr(dev)); err != nil {
		return info, err
	}
	if err := d.deviceGetUUID.call(d, uintptr(unsafe.Pointer(&uuid[0])), uintptr(dev)); err != nil {
		return info, err
	}
	info.Name, info.Bus, info.Memory = text(name[:]), text(bus[:]), bytes
	info.UUID = fmt.Sprintf("GPU-%x-%x-%x-%x-%x", uuid[:4], uuid[4:6], uuid[6:8], uuid[8:10], uuid[10:])
	var ecc int
	for _, a := range []struct {
		to   *int
		attr uintptr
	}{{&info.SMs, attrSMs}, {&info.Major, attrMajor}, {&info.Minor, attrMinor}, {&info.Clock, attrClock}, {&info.MemoryClock, attrMemoryClock},
		{&info.MemoryBus, attrMemoryBus}, {&info.L2, attrL2}, {&ecc, attrECC}} {
		var v int32
		if err := d.deviceGetAttribute.call(d, uintptr(unsafe.Pointer(&v)), a.attr, uintptr(dev)); err != nil {
			return info, err
		}
		*a.to = int(v)
	}
	info.ECC = ecc != 0
	return info, nil
}

func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// fail makes the error of a call from its code.
func (d *Driver) fail(call string, code Code) error {
	e := &Error{Call: call, Code: code, Name: "CUDA error", Text: "the driver has no words for it", Advice: advice(code)}
	var s *byte
	if d.getErrorName.Call(uintptr(code), uintptr(unsafe.Pointer(&s))) == 0 && s != nil {
		e.Name = dl.Text(s)
	}
	s = nil
	if d.getErrorString.Call(uintptr(code), uintptr(unsafe.Pointer(&s))) == 0 && s != nil {
		e.Text = dl.Text(s)
	}
	runtime.KeepAlive(s)
	return e
}
