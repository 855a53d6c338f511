package cuda

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
)

// ErrClosed: the device was closed before the call.
var ErrClosed = errors.New("cuda: the device is closed")

// Device is one card: a goroutine, locked to its thread, that runs what Do gives it, one after another. Safe for concurrent use.
type Device struct {
	info  Info
	queue chan job
	once  sync.Once
	stop  chan struct{} // closed by Close
	done  chan struct{} // closed when the goroutine has ended
	err   error         // of the end; read after done
}

type job struct {
	do    func(*Context) error
	reply chan error
}

// Start starts a device with its primary context. Close it.
func (d *Driver) Start(ordinal int) (*Device, error) {
	list, err := d.Devices()
	if err != nil {
		return nil, err
	}
	if ordinal < 0 || ordinal >= len(list) {
		return nil, &Unavailable{fmt.Sprintf("there is no card %d, the driver has %d", ordinal, len(list)), "miner doctor lists the cards", nil}
	}
	v := &Device{info: list[ordinal], queue: make(chan job), stop: make(chan struct{}), done: make(chan struct{})}
	ready := make(chan error)
	go v.run(d, ready)
	if err := <-ready; err != nil {
		return nil, err
	}
	return v, nil
}

// Info describes the device.
func (v *Device) Info() Info { return v.info }

// Do runs f on the device's thread and returns its error. f must not call Do or Close, and must not keep the context.
func (v *Device) Do(f func(*Context) error) error {
	j := job{f, make(chan error, 1)}
	select {
	case v.queue <- j:
		return <-j.reply
	case <-v.done:
		return ErrClosed
	}
}

// Close waits for what runs, releases the context and ends the thread. What was not freed goes with the context, which other devices
// of this process may share. Closing again does nothing.
func (v *Device) Close() error {
	v.once.Do(func() { close(v.stop) })
	<-v.done
	return v.err
}

func (v *Device) run(d *Driver, ready chan<- error) {
	runtime.LockOSThread() // never unlocked: the thread, which has a current context, ends with the goroutine
	defer close(v.done)
	c, err := d.open(v.info)
	ready <- err
	if err != nil {
		return
	}
	for {
		select {
		case j := <-v.queue:
			j.reply <- j.do(c)
		case <-v.stop:
			v.err = c.close()
			return
		}
	}
}
