package kernels_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"sn3/model/gpu/cuda"
	"sn3/model/gpu/kernels"
	signatures "sn3/model/gpu/kernels/source"
	"sn3/model/gpu/standin"
)

// launched are the kernels that tests have run.
var launched = map[string]bool{}

// TestMain says which kernels no test has run, after all of them have.
func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	some := flag.Lookup("test.run").Value.String() != "" || flag.Lookup("test.skip").Value.String() != "" || flag.Lookup("test.list").Value.String() != ""
	if code == 0 && len(launched) > 0 && !some {
		for _, k := range kernels.Table {
			if !launched[k.Name] {
				fmt.Println("no test runs kernel", k.Name)
				code = 1
			}
		}
	}
	os.Exit(code)
}

// bench is the stand-in with some kernels, for tests of them. Its methods end the test where something fails.
type bench struct {
	testing.TB
	card    *standin.Card
	module  *cuda.Module
	kernels map[string]cuda.Kernel
}

// on opens the stand-in, or a card, with the kernels of these files. Settings of the card: b.card.Set(t, "order", "reverse").
func on(t testing.TB, files ...string) *bench {
	t.Helper()
	b := &bench{TB: t, card: standin.Open(t, files...), kernels: map[string]cuda.Kernel{}}
	if err := b.card.Do(func(c *cuda.Context) (err error) {
		b.module, err = c.Load(standin.Image(c))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := b.card.Do(func(*cuda.Context) error { return b.module.Unload() })
		if err != nil && cuda.ErrorCode(err) != cuda.IllegalAddress { // after a fault the context is lost
			t.Errorf("unload kernels: %v", err)
		}
	})
	for _, f := range files {
		text, err := kernels.Sources.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		list, err := signatures.Parse(string(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range list {
			b.kernels[k.Name] = k
		}
	}
	return b
}

// run does f on the card with everything that it allocates freed afterwards.
func (b *bench) run(f func(r *runner) error) error {
	b.Helper()
	return b.card.Do(func(c *cuda.Context) (err error) {
		r := &runner{Context: c, b: b}
		defer func() {
			switch f := recover().(type) {
			case nil:
			case failure:
				err = f.error
			default:
				panic(f)
			}
			for _, p := range r.ptrs {
				if e := c.Free(p); err == nil {
					err = e
				}
			}
		}()
		return f(r)
	})
}

// must is run for what may not fail.
func (b *bench) must(f func(r *runner) error) {
	b.Helper()
	if err := b.run(f); err != nil {
		b.Fatal(err)
	}
}

// orders runs f with the blocks forward, in reverse, and at random with two seeds; the results must not depend on it. On a card, whose
// order cannot be set, it is four times the same.
func (b *bench) orders(f func(order string)) {
	for _, o := range [][2]string{{"forward", "1"}, {"reverse", "1"}, {"random", "1"}, {"random", "2"}} {
		b.card.Set(b, "order", o[0])
		b.card.Set(b, "seed", o[1])
		f(o[0] + " " + o[1])
	}
}

// failure is what methods of a runner end f with: it runs on the device's goroutine, which a test must not end.
type failure struct{ error }

// check ends f where something fails.
func (r *runner) check(err error) {
	if err != nil {
		panic(failure{err})
	}
}

// runner is the card within run. Its methods end f where something fails.
type runner struct {
	*cuda.Context
	b    *bench
	ptrs []cuda.Ptr
}

// room allocates bytes that are not written yet, freed after run.
func (r *runner) room(bytes int) cuda.Ptr {
	p, err := r.Alloc(int64(bytes))
	r.check(err)
	r.ptrs = append(r.ptrs, p)
	return p
}

// put allocates room for s and copies it there.
func put[T cuda.Value](r *runner, s []T) cuda.Ptr {
	var v T
	p := r.room(max(1, len(s)*sizeOf(v)))
	r.check(cuda.Put(r.Context, p, s))
	return p
}

// get copies n values from the card.
func get[T cuda.Value](r *runner, p cuda.Ptr, n int) []T {
	s := make([]T, n)
	r.check(cuda.Get(r.Context, s, p))
	return s
}

func sizeOf(v any) int {
	switch v.(type) {
	case uint8:
		return 1
	case uint16:
		return 2
	case int32, uint32, float32:
		return 4
	}
	return 8
}

// launch runs a kernel and waits for it.
func (r *runner) launch(name string, grid [3]int, args ...any) error {
	k, ok := r.b.kernels[name]
	if !ok {
		return fmt.Errorf("there is no kernel %s in the files of this test", name)
	}
	launched[name] = true
	f, err := r.b.module.Func(k)
	if err != nil {
		return err
	}
	if err := r.Launch(f, grid, args...); err != nil {
		return err
	}
	return r.Sync()
}
