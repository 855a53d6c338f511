package cuda_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"sn3/model/gpu/cuda"
	"sn3/model/gpu/kernels"
	"sn3/model/gpu/standin"
)

// desk is a device with two floats' places x and y, pinned memory for one, a second stream and two events.
type desk struct {
	*cuda.Context
	scale *cuda.Func
	m     *cuda.Module
	x, y  cuda.Ptr
	pin   *cuda.Pinned
	host  []float32
	side  *cuda.Stream
	a, b  *cuda.Event
}

// times launches y = f·x.
func (d *desk) times(y, x cuda.Ptr, f float32) error { return d.Launch(d.scale, one, y, x, 1, f) }

// on the second stream
func (d *desk) aside(f func() error) error {
	main := d.Use(d.side)
	defer d.Use(main)
	return f()
}

// value is what lies at p once the current stream is done.
func (d *desk) value(p cuda.Ptr) float32 {
	v := []float32{-1}
	if err := cuda.Get(d.Context, v, p); err != nil {
		return float32(math.NaN())
	}
	return v[0]
}

// atDesk runs f where streams do their work as late as they may, or at once; x is 1, y 5, as the host sees it too. An error of f's is returned.
func atDesk(t *testing.T, late bool, f func(d *desk) error) error {
	t.Helper()
	standin.Only(t, "work that comes late")
	card := standin.Open(t, "scale.cu")
	if late {
		card.Set(t, "late", "1")
	}
	return card.Do(func(c *cuda.Context) (err error) {
		d := &desk{Context: c}
		k, _ := kernels.Named("scale")
		for _, step := range []func() error{
			func() error { d.m, err = c.Load(kernels.Image(8, 0)); return err },
			func() error { d.scale, err = d.m.Func(k); return err },
			func() error { d.x, err = c.Alloc(4); return err },
			func() error { d.y, err = c.Alloc(4); return err },
			func() error { d.pin, err = c.Pin(4); return err },
			func() error { d.host = cuda.Slice[float32](d.pin); d.host[0] = 1; return nil },
			func() error { d.side, err = c.NewStream(); return err },
			func() error { d.a, err = c.NewEvent(); return err },
			func() error { d.b, err = c.NewEvent(); return err },
			func() error { return errors.Join(cuda.Put(c, d.x, []float32{1}), cuda.Put(c, d.y, []float32{5})) },
		} {
			if err := step(); err != nil {
				return err
			}
		}
		if err := f(d); err != nil {
			return err
		}
		if d.pin != nil {
			err = c.FreePinned(d.pin)
		}
		if d.m != nil {
			err = errors.Join(err, d.m.Unload())
		}
		return errors.Join(err, c.Free(d.x), c.Free(d.y), c.FreeStream(d.side), c.FreeEvent(d.a), c.FreeEvent(d.b))
	})
}

// is fails unless got is want, NaN being itself.
func is(what string, got, want float32) error {
	if got == want || got != got && want != want {
		return nil
	}
	return fmt.Errorf("%s is %v, not %v", what, got, want)
}

// What a program gets wrong with streams is not seen while they work at once, and is when they work late: got is what it finds then.
func TestLateShowsWhatIsWrong(t *testing.T) {
	nan := float32(math.NaN())
	for _, c := range []struct {
		name           string
		atOnce, atLast float32
		f              func(d *desk) (float32, error)
	}{
		{"the host changes pinned memory before its copy is done", 1, 7, func(d *desk) (float32, error) {
			err := cuda.PutAsync(d.Context, d.y, d.host)
			d.host[0] = 7
			return d.value(d.y), err
		}},
		{"the host reads before the copy is done", 5, nan, func(d *desk) (float32, error) {
			err := cuda.GetAsync(d.Context, d.host, d.y)
			got := d.host[0]
			return got, errors.Join(err, d.Sync(), is("the copy", d.host[0], 5))
		}},
		{"the host reads before the replay is done", 5, nan, func(d *desk) (float32, error) {
			g, err := d.Capture(func() error { return cuda.GetAsync(d.Context, d.host, d.y) })
			if err != nil {
				return 0, err
			}
			err = d.Replay(g)
			got := d.host[0]
			return got, errors.Join(err, d.Sync(), is("the copy", d.host[0], 5), d.FreeGraph(g))
		}},
		{"a stream reads what another one is to write", 2, 10, func(d *desk) (float32, error) {
			return 0, errors.Join(d.aside(func() error { return d.times(d.y, d.x, 1) }), d.times(d.x, d.y, 2))
		}},
		{"a stream overwrites what another one is to read", 1, 4, func(d *desk) (float32, error) {
			return 0, errors.Join(d.times(d.y, d.x, 1), d.aside(func() error { return errors.Join(d.times(d.x, d.x, 4), d.Sync()) }), d.times(d.x, d.y, 1))
		}},
		{"branches of a graph are not in order", 2, 6, func(d *desk) (float32, error) {
			g, err := d.Capture(func() error {
				return errors.Join(d.Record(d.a), d.times(d.y, d.x, 2), d.aside(func() error { return errors.Join(d.WaitFor(d.a), d.times(d.x, d.x, 3), d.Record(d.b)) }), d.WaitFor(d.b))
			})
			if err != nil {
				return 0, err
			}
			return 0, errors.Join(d.Replay(g), d.times(d.x, d.y, 1), d.FreeGraph(g))
		}},
	} {
		for _, late := range []bool{false, true} {
			err := atDesk(t, late, func(d *desk) error {
				got, err := c.f(d)
				if got == 0 {
					got = d.value(d.x)
				}
				want := c.atOnce
				if late {
					want = c.atLast
				}
				return errors.Join(err, is("it", got, want), d.SyncAll())
			})
			if err != nil {
				t.Errorf("%s, late %v: %v", c.name, late, err)
			}
		}
	}
}

// A program that waits as it must gets the same at once and late.
func TestLateIsTheSameForWhoWaits(t *testing.T) {
	for _, late := range []bool{false, true} {
		err := atDesk(t, late, func(d *desk) error {
			v := []float32{3}
			if err := cuda.PutAsync(d.Context, d.x, v); err != nil { // not pinned: it may change when the call returns
				return err
			}
			v[0] = 8
			if err := errors.Join(d.Record(d.a), d.aside(func() error {
				return errors.Join(d.WaitFor(d.a), d.times(d.y, d.x, 2), d.Record(d.b))
			}), d.WaitFor(d.b), d.times(d.x, d.y, 10), cuda.GetAsync(d.Context, v, d.x), is("x", v[0], 60)); err != nil {
				return err
			}
			// pinned memory is read anew by every replay, and written when it is done
			g, err := d.Capture(func() error {
				return errors.Join(cuda.PutAsync(d.Context, d.x, d.host), d.times(d.y, d.x, 2), cuda.GetAsync(d.Context, d.host, d.y))
			})
			if err != nil {
				return err
			}
			for i := range 3 {
				if err := errors.Join(is("host", d.host[0], float32(int(1)<<i)), d.Replay(g), d.Sync()); err != nil {
					return err
				}
			}
			// what a replay has yet to read stays, although a copy to it is enqueued
			d.host[0] = 7
			if err := errors.Join(d.Replay(g), cuda.GetAsync(d.Context, d.host, d.x), d.Sync(), is("host", d.host[0], 7)); err != nil {
				return err
			}
			// a stream, a graph and memory that are in use stay until they are not
			if err := errors.Join(d.Replay(g), d.FreeGraph(g), d.aside(func() error { return d.times(d.y, d.y, 2) })); err != nil {
				return err
			}
			z, err := ones(d.Context, 1)
			return errors.Join(err, d.times(d.x, z, 30), d.Free(z), is("x", d.value(d.x), 30))
		})
		if err != nil {
			t.Errorf("late %v: %v", late, err)
		}
	}
}

// An event has happened when its stream has come there: only then is it a time, and waiting for it is waiting for no more.
func TestLateEvents(t *testing.T) {
	err := atDesk(t, true, func(d *desk) error {
		if err := errors.Join(d.SyncEvent(d.a), d.WaitFor(d.a)); err != nil { // recorded never: nothing to wait for
			return err
		}
		if _, err := d.Between(d.a, d.a); cuda.ErrorCode(err) != cuda.InvalidHandle {
			t.Errorf("the time of what was never recorded: %v", err)
		}
		if err := errors.Join(d.Record(d.a), d.times(d.x, d.x, 2), d.Record(d.b), d.SyncEvent(d.a)); err != nil {
			return err
		}
		if _, err := d.Between(d.a, d.b); cuda.ErrorCode(err) != 600 {
			t.Errorf("the time of what has not happened: %v", err)
		}
		if err := d.SyncEvent(d.b); err != nil {
			return err
		}
		_, err := d.Between(d.a, d.b)
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// What is gone when work comes to it costs the context: memory, pinned memory, a module.
func TestLateOfWhatIsGone(t *testing.T) {
	captured := func(d *desk, then func() error) error {
		g, err := d.Capture(func() error {
			return errors.Join(d.Memset(d.y, 0, 4), d.Copy(d.y, d.x, 4), cuda.PutAsync(d.Context, d.x, d.host), d.times(d.y, d.x, 2))
		})
		return errors.Join(err, d.Replay(g), d.Sync(), then(), d.Replay(g), d.Sync())
	}
	for _, late := range []bool{false, true} {
		for says, f := range map[string]func(d *desk) error{
			"fill: address":                                 func(d *desk) error { return captured(d, func() error { return d.Free(d.y) }) },
			"copy on the device, from: address":             func(d *desk) error { return captured(d, func() error { return d.Free(d.x) }) },
			"pinned host memory was freed":                  func(d *desk) error { return captured(d, func() error { return d.FreePinned(d.pin) }) },
			"kernel scale is of a module that was unloaded": func(d *desk) error { return captured(d, d.m.Unload) },
		} {
			err := atDesk(t, late, f)
			if cuda.ErrorCode(err) != cuda.IllegalAddress || !strings.Contains(err.Error(), says) {
				t.Errorf("late %v: %v, not: %s", late, err, says)
			}
		}
	}
	if err := atDesk(t, true, func(d *desk) error {
		return errors.Join(cuda.PutAsync(d.Context, d.x, d.host), d.FreePinned(d.pin), d.Sync())
	}); err == nil || !strings.Contains(err.Error(), "pinned host memory was freed before it was done") {
		t.Errorf("a copy from memory that is gone: %v", err)
	}
	if err := atDesk(t, true, func(d *desk) error {
		f := d.scale
		if err := d.m.Unload(); err != nil {
			return err
		}
		err := d.Launch(f, one, d.y, d.x, 1, float32(1))
		if cuda.ErrorCode(err) != cuda.InvalidHandle {
			t.Errorf("a kernel of a module that is gone: %v", err)
		}
		d.m = nil
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// A kernel's fault is told by who waits for it, and by every call after that.
func TestLateFault(t *testing.T) {
	err := atDesk(t, true, func(d *desk) error {
		if err := errors.Join(d.Launch(d.scale, one, d.y, d.x, 2, float32(1)), d.Memset(d.x, 0, 4)); err != nil {
			t.Errorf("the launch is not done, and fails: %v", err)
		}
		return d.Sync()
	})
	if e, ok := errors.AsType[*cuda.Error](err); !ok || e.Call != "cuStreamSynchronize" || e.Code != cuda.IllegalAddress || !strings.Contains(e.Text, "kernel scale, block (0, 0, 0), thread 1") {
		t.Error(err)
	}
}

// A capture is refused what would make it depend on what lies outside of it, or outside depend on it, and the next one works.
func TestStrictCapture(t *testing.T) {
	for what, c := range map[string]struct {
		f    func(d *desk) error
		says string
	}{
		"pinned memory":              {func(d *desk) error { _, err := d.Pin(4); return err }, "cuMemHostAlloc: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
		"pinned memory freed":        {func(d *desk) error { return d.FreePinned(d.pin) }, "cuMemFreeHost: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
		"a module":                   {func(d *desk) error { return d.m.Unload() }, "cuModuleUnload: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
		"waiting for an event":       {func(d *desk) error { return d.SyncEvent(d.a) }, "cuEventSynchronize: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
		"waiting for another stream": {func(d *desk) error { return d.aside(d.Sync) }, "cuStreamSynchronize: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
		"an event from outside":      {func(d *desk) error { return d.WaitFor(d.a) }, "cuStreamWaitEvent: CUDA_ERROR_STREAM_CAPTURE_ISOLATION"},
		"a stream left alone": {func(d *desk) error {
			return errors.Join(d.Record(d.b), d.aside(func() error { return errors.Join(d.WaitFor(d.b), d.times(d.y, d.x, 1)) }))
		}, "cuStreamEndCapture: CUDA_ERROR_STREAM_CAPTURE_UNJOINED"},
		"a stream left alone after it was joined": {func(d *desk) error {
			return errors.Join(d.Record(d.b), d.aside(func() error { return errors.Join(d.WaitFor(d.b), d.times(d.y, d.x, 1), d.Record(d.b)) }),
				d.WaitFor(d.b), d.aside(func() error { return d.times(d.y, d.y, 1) }))
		}, "cuStreamEndCapture: CUDA_ERROR_STREAM_CAPTURE_UNJOINED"},
	} {
		err := atDesk(t, true, func(d *desk) error {
			if err := d.Record(d.a); err != nil {
				return err
			}
			pin, m := *d.pin, d.m
			_, err := d.Capture(func() error { return c.f(d) })
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v, not: %s", what, err, c.says)
			}
			*d.pin, d.m = pin, m
			g, err := d.Capture(func() error { return d.times(d.y, d.x, 2) })
			if err != nil {
				return err
			}
			return errors.Join(d.Replay(g), is("y", d.value(d.y), 2), d.FreeGraph(g), d.SyncAll())
		})
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}
