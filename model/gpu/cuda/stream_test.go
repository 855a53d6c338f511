package cuda_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"sn3/model/gpu/cuda"
	"sn3/model/gpu/standin"
)

var one = [3]int{1, 1, 1}

// ones allocates n floats of 1.
func ones(c *cuda.Context, n int) (cuda.Ptr, error) {
	p, err := c.Alloc(int64(4 * n))
	if err != nil {
		return 0, err
	}
	s := make([]float32, n)
	for i := range s {
		s[i] = 1
	}
	return p, cuda.Put(c, p, s)
}

// A graph does what was captured, no more, as often as it is replayed, with the memory as it is then.
func TestGraph(t *testing.T) {
	card := on(t, func(c *cuda.Context, k *cuda.Func) error {
		x, err := ones(c, 64)
		if err != nil {
			return err
		}
		y, err := c.Alloc(256)
		if err != nil {
			return err
		}
		if err := c.Launch(k, one, y, x, 64, float32(5)); err != nil { // not captured
			return err
		}
		factor := float32(2)
		g, err := c.Capture(func() error {
			return errors.Join(c.Launch(k, one, x, x, 64, factor), c.Copy(y, x, 128), c.Memset(y.Add(128), 0, 128))
		})
		if err != nil {
			return err
		}
		factor = 7 // too late
		got := make([]float32, 64)
		for n := range 4 {
			if err := cuda.Get(c, got, x); err != nil {
				return err
			}
			if want := float32(int(1) << n); got[0] != want || got[63] != want {
				return fmt.Errorf("after %d replays x is %g, not %g", n, got[0], want)
			}
			if err := cuda.Get(c, got, y); err != nil {
				return err
			}
			if n > 0 && (got[31] != float32(int(1)<<n) || got[32] != 0) {
				return fmt.Errorf("after %d replays y is %v", n, got)
			}
			if err := c.Replay(g); err != nil {
				return err
			}
		}
		return errors.Join(c.FreeGraph(g), c.Free(x), c.Free(y))
	})
	if standin.Real() {
		return
	}
	if n := card.Report(t).Launches["scale"]; n != 5 {
		t.Errorf("%d launches, not 1 and 4 replayed", n)
	}
}

// A replay after the memory is gone is a fault, as on the card.
func TestGraphOfFreedMemory(t *testing.T) {
	standin.Only(t, "access to freed memory")
	card := standin.Open(t, "scale.cu")
	err := card.Do(func(c *cuda.Context) error {
		m, err := c.Load(standin.Image(c))
		if err != nil {
			return err
		}
		k, err := scale(m)
		if err != nil {
			return err
		}
		x, err := ones(c, 64)
		if err != nil {
			return err
		}
		g, err := c.Capture(func() error { return c.Launch(k, one, x, x, 64, float32(2)) })
		if err != nil {
			return err
		}
		if err := errors.Join(c.Replay(g), c.Sync(), c.Free(x)); err != nil {
			return err
		}
		return errors.Join(c.Replay(g), c.Sync())
	})
	if cuda.ErrorCode(err) != cuda.IllegalAddress || !strings.Contains(err.Error(), "kernel scale, argument 0: address") || !strings.Contains(err.Error(), "that was freed") {
		t.Fatal(err)
	}
}

// A fault that the card tells late is told by the next call, whatever it is.
func TestAsynchronousFault(t *testing.T) {
	card := standin.Open(t, "scale.cu")
	card.Set(t, "async", "1")
	err := card.Do(func(c *cuda.Context) error {
		m, err := c.Load(standin.Image(c))
		if err != nil {
			return err
		}
		k, err := scale(m)
		if err != nil {
			return err
		}
		x, err := ones(c, 64)
		if err != nil {
			return err
		}
		if err := c.Launch(k, one, x, x, 65, float32(2)); err != nil {
			t.Errorf("the launch itself fails: %v", err)
		}
		return c.Sync()
	})
	if e, ok := errors.AsType[*cuda.Error](err); !ok || e.Call != "cuStreamSynchronize" || e.Code != cuda.IllegalAddress || !strings.Contains(e.Text, "kernel scale, block (0, 0, 0), thread 64") {
		t.Error(err)
	}
}

// What may not be captured breaks the capture, and the next one works.
func TestWhatMayNotBeCaptured(t *testing.T) {
	standin.Only(t, "the codes of broken captures")
	on(t, func(c *cuda.Context, k *cuda.Func) error {
		x, err := ones(c, 64)
		if err != nil {
			return err
		}
		for what, f := range map[string]func() error{
			"alloc":    func() error { _, err := c.Alloc(8); return err },
			"free":     func() error { return c.Free(x) },
			"sync":     c.Sync,
			"sync all": c.SyncAll,
			"put":      func() error { return cuda.Put(c, x, []float32{1}) },
			"capture":  func() error { _, err := c.Capture(func() error { return nil }); return err },
		} {
			_, err := c.Capture(f)
			if cuda.ErrorCode(err) != cuda.CaptureUnsupported {
				t.Errorf("%s: %v", what, err)
			}
			_, err = c.Capture(func() error {
				_ = f() // whoever ignores it learns at the end
				return nil
			})
			if e, ok := errors.AsType[*cuda.Error](err); !ok || e.Call != "cuStreamEndCapture" || e.Name != "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED" {
				t.Errorf("%s, ignored: %v", what, err)
			}
		}
		if _, err := c.Capture(func() error { return cuda.PutAsync(c, x, []float32{1}) }); cuda.ErrorCode(err) != cuda.CaptureUnsupported || !strings.Contains(err.Error(), "pinned host memory") {
			t.Error(err)
		}
		pin, err := c.Pin(4)
		if err != nil {
			return err
		}
		p, err := c.Capture(func() error { return cuda.PutAsync(c, x, cuda.Slice[float32](pin)) })
		if err != nil {
			return err
		}
		if err := errors.Join(c.FreeGraph(p), c.FreePinned(pin)); err != nil {
			return err
		}
		mine := errors.New("mine")
		if _, err := c.Capture(func() error { return mine }); err == nil || !errors.Is(err, mine) {
			t.Error(err)
		}
		g, err := c.Capture(func() error { return c.Launch(k, one, x, x, 64, float32(2)) })
		if err != nil {
			return err
		}
		return errors.Join(c.Replay(g), c.FreeGraph(g), c.Free(x))
	})
}

// Two devices, on threads of their own, capture at the same time and do not disturb each other.
func TestCapturesOfTwoDevices(t *testing.T) {
	card := standin.Open(t, "scale.cu")
	other, err := card.Driver.Start(0)
	if err != nil {
		t.Fatal(err)
	}
	captured := make(chan struct{})
	err = card.Do(func(c *cuda.Context) error {
		x, err := ones(c, 64)
		if err != nil {
			return err
		}
		g, err := c.Capture(func() error {
			return errors.Join(c.Memset(x, 0, 256), other.Do(func(o *cuda.Context) error {
				defer close(captured)
				y, err := ones(o, 64) // allocates, copies and waits, on another thread
				if err != nil {
					return err
				}
				g, err := o.Capture(func() error { return o.Memset(y, 0, 256) })
				if err != nil {
					return err
				}
				return errors.Join(o.FreeGraph(g), o.Free(y))
			}))
		})
		<-captured
		if err != nil {
			return err
		}
		return errors.Join(c.Replay(g), c.Sync(), c.FreeGraph(g), c.Free(x))
	})
	if err := errors.Join(err, other.Close()); err != nil {
		t.Error(err)
	}
}

// A stream that waits for an event of a captured one is captured too, and free again afterwards.
func TestCaptureForks(t *testing.T) {
	card := on(t, func(c *cuda.Context, k *cuda.Func) error {
		x, err := ones(c, 64)
		if err != nil {
			return err
		}
		side, err := c.NewStream()
		if err != nil {
			return err
		}
		fork, err := c.NewEvent()
		if err != nil {
			return err
		}
		join, err := c.NewEvent()
		if err != nil {
			return err
		}
		g, err := c.Capture(func() error {
			if err := c.Record(fork); err != nil {
				return err
			}
			main := c.Use(side)
			err := errors.Join(c.WaitFor(fork), c.Launch(k, one, x, x, 64, float32(3)), c.Record(join))
			c.Use(main)
			return errors.Join(err, c.WaitFor(join))
		})
		if err != nil {
			return err
		}
		got := make([]float32, 1)
		if err := cuda.Get(c, got, x); err != nil || got[0] != 1 {
			return fmt.Errorf("a launch on the side was not captured: %v %w", got, err)
		}
		if err := errors.Join(c.Replay(g), cuda.Get(c, got, x)); err != nil || got[0] != 3 {
			return fmt.Errorf("%v %w", got, err)
		}
		c.Use(side)
		if err := errors.Join(c.Launch(k, one, x, x, 64, float32(3)), cuda.Get(c, got, x)); err != nil || got[0] != 9 {
			return fmt.Errorf("%v %w", got, err)
		}
		return errors.Join(c.FreeGraph(g), c.FreeStream(side), c.FreeEvent(fork), c.FreeEvent(join), c.Free(x))
	})
	if standin.Real() {
		return
	}
	if left := card.Report(t).Launches["scale"]; left != 2 {
		t.Errorf("%d launches", left)
	}
}

// What is wrong with memory is said, and changes nothing.
func TestMemory(t *testing.T) {
	standin.Only(t, "bounds of copies")
	on(t, func(c *cuda.Context, k *cuda.Func) error {
		x, err := ones(c, 64)
		if err != nil {
			return err
		}
		freed, err := ones(c, 64)
		if err != nil {
			return err
		}
		if err := c.Free(freed); err != nil {
			return err
		}
		for what, err := range map[string]error{
			"copy to the device: 260 bytes at offset 0 of an allocation of 256": cuda.Put(c, x, make([]float32, 65)),
			"copy from the device: 4 bytes at offset 256":                       cuda.Get(c, make([]float32, 1), x.Add(256)),
			"copy on the device, to: 8 bytes at offset 252":                     c.Copy(x.Add(252), x, 8),
			"copy on the device, from: 16 bytes at offset 244":                  c.Copy(x, x.Add(244), 16),
			"fill: 257 bytes":                    c.Memset(x, 1, 257),
			"is in memory that was freed":        cuda.Put(c, freed, []float32{1}),
			"free: address":                      c.Free(freed),
			"not the beginning of an allocation": c.Free(x.Add(4)),
			"is in no allocation":                cuda.Get(c, make([]byte, 1), 64),
		} {
			if cuda.ErrorCode(err) != cuda.InvalidValue || !strings.Contains(err.Error(), what) {
				t.Errorf("%v, not: %s", err, what)
			}
		}
		for _, n := range []int64{0, -1} {
			if _, err := c.Alloc(n); err == nil || !strings.Contains(err.Error(), "positive") {
				t.Error(err)
			}
			if _, err := c.Pin(n); err == nil || !strings.Contains(err.Error(), "positive") {
				t.Error(err)
			}
		}
		got := make([]float32, 64)
		if err := errors.Join(cuda.Put(c, x, []float32(nil)), cuda.Get(c, []byte{}, x), c.Copy(x, x, 0), c.Memset(x, 1, 0), c.Free(0), cuda.Get(c, got, x)); err != nil {
			return err
		}
		for i, v := range got {
			if v != 1 {
				return fmt.Errorf("x[%d] is %g", i, v)
			}
		}
		return c.Free(x)
	})
}

// A part of an allocation has its own bounds, and begins as not known.
func TestPart(t *testing.T) {
	standin.Only(t, "bounds of parts")
	for _, c := range []struct {
		name, says string
		n          int
		from, to   int64 // in bytes
	}{
		{"within", "", 32, 0, 128},
		{"beyond its end", "thread 32, scale.cu:6: reads 4 bytes at offset 128 of first of 128 bytes", 33, 0, 128},
		{"before it is written", "reads at offset 0 of second, which was never written", 32, 128, 0},
		{"outside of parts", "", 16, 256, 256},
	} {
		t.Run(c.name, func(t *testing.T) {
			card := standin.Open(t, "scale.cu")
			err := card.Do(func(x *cuda.Context) error {
				m, err := x.Load(standin.Image(x))
				if err != nil {
					return err
				}
				k, err := scale(m)
				if err != nil {
					return err
				}
				p, err := ones(x, 80)
				if err != nil {
					return err
				}
				if err := errors.Join(x.Part(p, 256, "both"), x.Part(p, 128, "first"), x.Part(p.Add(128), 128, "second"), x.Memset(p, 0, 128)); err != nil {
					return err
				}
				if err := x.Launch(k, one, p.Add(c.to), p.Add(c.from), c.n, float32(2)); err != nil {
					return err
				}
				return errors.Join(x.Free(p), m.Unload())
			})
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%v, not: %s", err, c.says)
			}
		})
	}
	on(t, func(c *cuda.Context, _ *cuda.Func) error {
		p, err := c.Alloc(256)
		if err != nil {
			return err
		}
		for _, err := range []error{c.Part(p, 0, "empty"), c.Part(p.Add(8), 16, "not at 16 bytes"), c.Part(p.Add(128), 129, "too long"), c.Part(1<<20, 16, "nowhere")} {
			if cuda.ErrorCode(err) != cuda.InvalidValue {
				t.Error(err)
			}
		}
		return c.Free(p)
	})
}

// PTX is taken by the rules of the driver: the version, the exact target of sm_90a, older targets by newer cards.
func TestLoad(t *testing.T) {
	ptx := func(version, target string) []byte {
		return []byte("//\n.version " + version + "\n.target " + target + "\n.visible .entry scale(\n")
	}
	for _, c := range []struct {
		version, cc string
		image       []byte
		code        cuda.Code
	}{
		{"12000", "80", ptx("8.0", "sm_80"), 0},
		{"13000", "100", ptx("8.0", "sm_80"), 0},
		{"12000", "80", ptx("8.1", "sm_80"), cuda.UnsupportedPTX},
		{"12000", "75", ptx("8.0", "sm_80"), cuda.NoBinary},
		{"12000", "90", ptx("8.0", "sm_90a"), 0},
		{"12000", "100", ptx("8.0", "sm_90a"), cuda.NoBinary},
		{"12000", "80", []byte("ELF"), cuda.InvalidPTX},
	} {
		card := standin.Load(t, "scale.cu")
		card.Set(t, "version", c.version)
		card.Set(t, "cc", c.cc)
		d, err := cuda.OpenAt(card.Path)
		if err != nil {
			t.Fatal(err)
		}
		v, err := d.Start(0)
		if err != nil {
			t.Fatal(err)
		}
		err = v.Do(func(x *cuda.Context) error {
			m, err := x.Load(c.image)
			if err != nil {
				return err
			}
			return m.Unload()
		})
		if cuda.ErrorCode(err) != c.code || c.code == 0 && err != nil {
			t.Errorf("%+v: %v", c, err)
		}
		if c.code != 0 && (!strings.Contains(err.Error(), "no PTX that this device takes") || !strings.Contains(err.Error(), "install a newer driver")) {
			t.Error(err)
		}
		if err := v.Do(func(x *cuda.Context) error { _, err := x.Load(nil); return err }); err == nil || !strings.Contains(err.Error(), "there are none for compute capability") {
			t.Error(err)
		}
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}
}
