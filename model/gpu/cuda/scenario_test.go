package cuda_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sn3/model/gpu/cuda"
	"sn3/model/gpu/kernels"
	"sn3/model/gpu/standin"
)

func scale(m *cuda.Module) (*cuda.Func, error) {
	k, ok := kernels.Named("scale")
	if !ok {
		return nil, errors.New("there is no kernel scale")
	}
	return m.Func(k)
}

// scenario makes every call of the driver at least once and ends with nothing on the device; it stops at the first error.
func scenario(path string) (err error) {
	d, err := cuda.OpenAt(path)
	if err != nil {
		return err
	}
	v, err := d.Start(0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	return v.Do(func(c *cuda.Context) error {
		if _, _, err := c.Memory(); err != nil {
			return err
		}
		m, err := c.Load(kernels.Image(c.Info().Major, c.Info().Minor))
		if err != nil {
			return err
		}
		f, err := scale(m)
		if err != nil {
			return err
		}
		x, err := c.Alloc(1024)
		if err != nil {
			return err
		}
		y, err := c.Alloc(1024)
		if err != nil {
			return err
		}
		if err := transfers(c, f, x, y); err != nil {
			return err
		}
		if err := timed(c, f, x, y); err != nil {
			return err
		}
		for _, f := range []func() error{func() error { return c.Free(x) }, func() error { return c.Free(y) }, m.Unload, c.SyncAll} {
			if err := f(); err != nil {
				return err
			}
		}
		return nil
	})
}

// transfers goes through pinned memory, a fill, a copy on the device and a launch.
func transfers(c *cuda.Context, f *cuda.Func, x, y cuda.Ptr) error {
	pin, err := c.Pin(1024)
	if err != nil {
		return err
	}
	s := cuda.Slice[float32](pin)
	for i := range s {
		s[i] = float32(i)
	}
	if err := c.Part(x, 1024, "x"); err != nil {
		return err
	}
	got := make([]float32, 256)
	for _, step := range []func() error{
		func() error { return c.Memset(y, 0, 1024) },
		func() error { return cuda.PutAsync(c, x, s) },
		func() error { return c.Copy(y, x, 512) },
		func() error { return c.Launch(f, [3]int{1, 1, 1}, x, x, 128, float32(2)) },
		func() error { return c.Copy(y.Add(512), x, 512) },
		func() error { return cuda.Get(c, got, y) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	for i, v := range got {
		want := float32(i)
		if i >= 128 {
			want = float32(i-128) * 2
		}
		if v != want {
			return fmt.Errorf("y[%d] is %g, not %g", i, v, want)
		}
	}
	return c.FreePinned(pin)
}

// timed replays a graph on another stream between two events.
func timed(c *cuda.Context, f *cuda.Func, x, y cuda.Ptr) error {
	s, err := c.NewStream()
	if err != nil {
		return err
	}
	var e [2]*cuda.Event
	for i := range e {
		if e[i], err = c.NewEvent(); err != nil {
			return err
		}
	}
	if before := c.Use(s); before == s {
		return errors.New("the stream was current before")
	}
	g, err := c.Capture(func() error { return c.Launch(f, [3]int{1, 1, 1}, y, x, 256, float32(1)) })
	if err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return c.Record(e[0]) },
		func() error { return c.WaitFor(e[0]) },
		func() error { return c.Replay(g) },
		func() error { return c.Record(e[1]) },
		func() error { return c.SyncEvent(e[1]) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	if took, err := c.Between(e[0], e[1]); err != nil || took < 0 {
		return errors.Join(err, fmt.Errorf("it took %v", took))
	}
	return errors.Join(c.FreeGraph(g), c.FreeEvent(e[0]), c.FreeEvent(e[1]), c.FreeStream(s))
}

func TestScenario(t *testing.T) {
	c := standin.Load(t, "scale.cu")
	if err := scenario(c.Path); err != nil {
		t.Fatal(err)
	}
	if standin.Real() {
		return
	}
	r := c.Report(t)
	if left := r.Left(); left != "" {
		t.Error(left)
	}
	if r.Launches["scale"] != 2 || r.Peak != 2048 || r.Asked != 3 {
		t.Errorf("%+v", r)
	}
}

// The oldest driver that is taken loads our PTX, on the oldest card and on a newer one, which has another image.
func TestOldestDriver(t *testing.T) {
	for _, cc := range []string{"80", "90"} {
		c := standin.Load(t, "scale.cu")
		c.Set(t, "version", "12000")
		c.Set(t, "cc", cc)
		if err := scenario(c.Path); err != nil {
			t.Errorf("compute capability %s: %v", cc, err)
		}
	}
}

// Every call that fails, whichever, is an error that names it, its code and what to do.
func TestEveryCallCanFail(t *testing.T) {
	first := standin.Load(t, "scale.cu")
	if err := scenario(first.Path); err != nil {
		t.Fatal(err)
	}
	calls := first.Report(t).Calls
	d, err := cuda.OpenAt(first.Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range cuda.Names(d) {
		if strings.HasPrefix(name, "cuGetError") {
			continue
		}
		if calls[name] == 0 {
			t.Errorf("the scenario never calls %s", name)
		}
		for k := range min(calls[name], 3) {
			for _, code := range []cuda.Code{cuda.InvalidValue, cuda.LaunchFailed, 999, 12345} {
				c := standin.Load(t, "scale.cu")
				c.Set(t, "fail", fmt.Sprintf("%s:%d:%d", name, k+1, code))
				err := scenario(c.Path)
				e, ok := errors.AsType[*cuda.Error](err)
				if !ok || e.Call != name || e.Code != code || e.Advice == "" || cuda.ErrorCode(err) != code {
					t.Errorf("call %d of %s fails with %d: %v", k+1, name, code, err)
				}
				if e != nil && !strings.Contains(err.Error(), fmt.Sprintf("%s: %s (%d): ", name, e.Name, code)) {
					t.Errorf("%v", err)
				}
			}
		}
	}
}

// Without words from the driver there is still the call, the code and what to do.
func TestErrorsWithoutWords(t *testing.T) {
	for name, says := range map[string]string{
		"cuGetErrorName":   "cuMemFree_v2: CUDA error (1): free: address 0x11 is in no allocation; ",
		"cuGetErrorString": "cuMemFree_v2: CUDA_ERROR_INVALID_VALUE (1): the driver has no words for it; ",
	} {
		c := standin.Open(t, "scale.cu")
		c.Set(t, "fail", name+":1:1")
		err := c.Do(func(c *cuda.Context) error { return c.Free(17) })
		if cuda.ErrorCode(err) != cuda.InvalidValue || !strings.HasPrefix(err.Error(), says) {
			t.Errorf("%v", err)
		}
	}
}

// Out of memory at every k-th allocation is an error of that allocation.
func TestOutOfMemoryAtEvery(t *testing.T) {
	for k := 1; k <= 4; k++ {
		c := standin.Load(t, "scale.cu")
		c.Set(t, "oom", fmt.Sprint(k))
		err := scenario(c.Path)
		if k == 4 {
			if err != nil {
				t.Errorf("the scenario asks three times: %v", err)
			}
			continue
		}
		words := []string{"of the card, on which ", "a smaller micro-batch"}
		if k == 3 {
			words = []string{"of pinned memory; free memory of this machine"}
		}
		if cuda.ErrorCode(err) != cuda.OutOfMemory || !strings.Contains(err.Error(), "asked for 1024 bytes "+words[0]) || !strings.Contains(err.Error(), words[len(words)-1]) {
			t.Errorf("allocation %d: %v", k, err)
		}
	}
	c := standin.Load(t, "scale.cu")
	c.Set(t, "memory", "1500")
	if err := scenario(c.Path); !strings.Contains(fmt.Sprint(err), "asked for 1024 bytes of the card, on which 476 of 1500 are free") {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	c := standin.Load(t, "scale.cu")
	d, err := cuda.OpenAt(c.Path)
	if err != nil {
		t.Fatal(err)
	}
	names := cuda.Names(d)
	slices.Sort(names)
	if len(slices.Compact(names)) != len(cuda.Names(d)) || slices.Contains(names, "") {
		t.Errorf("a name is missing or twice: %v", names)
	}
}
