package lt_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sn3/model/gpu/cuda"
	"sn3/model/gpu/lt"
	"sn3/model/gpu/standin"
)

// dense is a product without gaps between rows.
func dense(f lt.Form, m, n, k int, half, acc bool) lt.Product {
	p := lt.Product{Form: f, M: m, N: n, K: k, LdC: n, Half: half, Acc: acc}
	_, p.LdA, _, p.LdB = sizes(p)
	return p
}

// Every form and kind of C, with sizes that are odd and one, is what float64 says.
func TestProducts(t *testing.T) {
	try(t, func(r *rig) error {
		for _, s := range [][3]int{{1, 1, 1}, {1, 7, 3}, {5, 1, 130}, {33, 17, 65}, {16, 32, 64}, {3, 50, 1}} {
			for _, f := range []lt.Form{lt.NT, lt.NN, lt.TN} {
				for _, kind := range [][2]bool{{false, false}, {true, false}, {false, true}, {true, true}} {
					p := dense(f, s[0], s[1], s[2], kind[0], kind[1])
					if err := newProblem(p, 1).check(r); err != nil {
						return err
					}
					p.LdA, p.LdB, p.LdC = p.LdA+1, p.LdB+8, p.LdC+3
					if err := newProblem(p, 2).check(r); err != nil {
						return err
					}
				}
			}
		}
		return nil
	})
}

// Random products are what float64 says, whatever was made before.
func TestRandomProducts(t *testing.T) {
	card := standin.Open(t, "scale.cu")
	rapid.Check(t, func(t *rapid.T) { // a check may end its goroutine, which must not be the device's
		size := func(name string) int { return rapid.IntRange(1, 70).Draw(t, name) }
		p := dense(lt.Form(rapid.IntRange(0, 2).Draw(t, "form")), size("m"), size("n"), size("k"), rapid.Bool().Draw(t, "half"), rapid.Bool().Draw(t, "acc"))
		for _, ld := range []*int{&p.LdA, &p.LdB, &p.LdC} {
			*ld += rapid.IntRange(0, 9).Draw(t, "pad")
		}
		x := newProblem(p, rapid.Uint64().Draw(t, "seed"))
		if err := on(t, card, x.check); err != nil {
			t.Fatal(err)
		}
	})
}

// The same product has the same bits each time, also from another handle. The stand-in sees to it that it would not, had the
// library been left to add parts of a sum in place.
func TestSameBits(t *testing.T) {
	x := newProblem(dense(lt.NT, 20, 30, 600, false, true), 4)
	card, first := standin.Open(t, "scale.cu"), []float32(nil)
	for range 3 {
		err := on(t, card, func(r *rig) error {
			for range 3 {
				got, err := x.run(r)
				if err != nil {
					return err
				}
				if first == nil {
					first = got
				}
				if !slices.EqualFunc(first, got, func(a, b float32) bool { return a == b || a != a && b != b }) {
					return errors.New("other bits")
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if calls := card.Report(t).Calls; calls["cublasLtMatmulAlgoGetHeuristic"] != 3 || calls["cublasLtMatmul"] != 9 {
		t.Errorf("an algorithm is not chosen once a handle: %v", calls)
	}
}

// What the library has no algorithm for is ErrNone, asked for once, and nothing else changes.
func TestNone(t *testing.T) {
	for _, c := range []struct {
		name, value string
		odd, even   bool // it has an algorithm for rows of 9, of 8
	}{{"lt_align", "8", false, true}, {"lt_states", "1", true, true}, {"cc", "75", false, false}} {
		card := standin.Open(t, "scale.cu")
		card.Set(t, c.name, c.value)
		err := on(t, card, func(r *rig) error {
			for k, has := range map[int]bool{9: c.odd, 8: c.even} {
				p := dense(lt.NT, 3, 5, k, false, false)
				for range 2 {
					if has {
						if err := newProblem(p, 1).check(r); err != nil {
							return err
						}
						continue
					}
					for _, err := range []error{r.h.Prepare(p), r.h.Run(p, 256, 256, 256)} {
						if !errors.Is(err, lt.ErrNone) || !strings.Contains(err.Error(), fmt.Sprintf("product nt to float32 of 3×5 over %d", k)) {
							return fmt.Errorf("not ErrNone: %w", err)
						}
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if n := card.Report(t).Calls["cublasLtMatmulAlgoGetHeuristic"]; n != 2 {
			t.Errorf("%s: the library was asked %d times", c.name, n)
		}
	}
}

// Matrices that begin elsewhere than the algorithm may count on are for others.
func TestAlignment(t *testing.T) {
	card := try(t, func(r *rig) error {
		p := dense(lt.NN, 4, 4, 4, false, false)
		for _, at := range [][3]cuda.Ptr{{8, 0, 0}, {0, 2, 0}, {0, 0, 4}} {
			if err := r.h.Run(p, 1024+at[0], 2048+at[1], 4096+at[2]); !errors.Is(err, lt.ErrNone) {
				t.Errorf("%v: %v", at, err)
			}
		}
		return nil
	})
	if n := card.Report(t).Calls["cublasLtMatmul"]; n != 0 {
		t.Errorf("the library was called %d times", n)
	}
}

// What is no product is refused before the library sees it.
func TestNoProduct(t *testing.T) {
	card := try(t, func(r *rig) error {
		for _, change := range []func(*lt.Product){
			func(p *lt.Product) { p.Form = 3 },
			func(p *lt.Product) { p.Form = -1 },
			func(p *lt.Product) { p.M = 0 },
			func(p *lt.Product) { p.K = -1 },
			func(p *lt.Product) { p.N = 1 << 31 },
			func(p *lt.Product) { p.LdA = 8 },
			func(p *lt.Product) { p.LdB = 8 },
			func(p *lt.Product) { p.LdC = 9 },
		} {
			p := dense(lt.NT, 8, 10, 9, false, false)
			change(&p)
			if err := r.h.Prepare(p); err == nil || errors.Is(err, lt.ErrNone) {
				t.Errorf("%v: %v", p, err)
			}
		}
		return nil
	})
	if n := card.Report(t).Calls["cublasLtMatmulDescCreate"]; n != 0 {
		t.Errorf("the library was called %d times", n)
	}
}

// A captured product is made at each replay, with the memory as it is then, on the stream that was current.
func TestCapture(t *testing.T) {
	for _, late := range []string{"0", "1"} {
		card := standin.Open(t, "scale.cu")
		card.Set(t, "late", late)
		if err := on(t, card, replays); err != nil {
			t.Errorf("late %s: %v", late, err)
		}
		if r := card.Report(t); r.Calls["cublasLtMatmul"] != 2 || r.Launches["cublasLtMatmul"] != 6 {
			t.Errorf("late %s: %d calls, %d products", late, r.Calls["cublasLtMatmul"], r.Launches["cublasLtMatmul"])
		}
	}
}

// replays captures two products on a stream and replays them three times.
func replays(r *rig) error {
	p := dense(lt.NN, 1, 8, 2, false, true)
	x, err := r.Alloc(4096)
	if err != nil {
		return err
	}
	a, b, out := x, x.Add(256), x.Add(512)
	side, err := r.NewStream()
	if err != nil {
		return err
	}
	r.Use(side)
	got := make([]float32, 8)
	if err := errors.Join(r.h.Prepare(p), cuda.Put(r.Context, a, []uint16{0x3F80, 0x4000}), cuda.Put(r.Context, b, make([]uint16, 16)), cuda.Put(r.Context, out, got)); err != nil {
		return err
	}
	g, err := r.Capture(func() error { return errors.Join(r.h.Run(p, a, b, out), r.h.Run(p, a, b, out)) })
	if err != nil {
		return err
	}
	ones := slices.Repeat([]uint16{0x3F80}, 16)
	if err := cuda.Put(r.Context, b, ones); err != nil { // changed after the capture
		return err
	}
	for n := range 3 {
		if err := cuda.Get(r.Context, got, out); err != nil {
			return err
		}
		if want := slices.Repeat([]float32{6 * float32(n)}, 8); !slices.Equal(got, want) {
			return fmt.Errorf("after %d replays %v, not %v", n, got, want)
		}
		if err := r.Replay(g); err != nil {
			return err
		}
	}
	return errors.Join(r.FreeGraph(g), r.FreeStream(side), r.Free(x))
}

// Run makes no garbage once the algorithm is chosen.
func TestNoGarbage(t *testing.T) {
	try(t, func(r *rig) error {
		p := dense(lt.NT, 8, 8, 8, false, false)
		x, err := r.Alloc(1024)
		if err != nil {
			return err
		}
		if err := errors.Join(r.Memset(x, 0, 1024), r.h.Run(p, x, x.Add(256), x.Add(512))); err != nil {
			return err
		}
		if n := testing.AllocsPerRun(50, func() { err = errors.Join(err, r.h.Run(p, x, x.Add(256), x.Add(512))) }); n > 0 {
			t.Errorf("%g allocations", n)
		}
		return errors.Join(err, r.Free(x))
	})
}

// A closed handle says so, and closing it again does nothing.
func TestClosed(t *testing.T) {
	try(t, func(r *rig) error {
		p := dense(lt.NT, 8, 8, 8, false, false)
		if err := errors.Join(r.h.Prepare(p), r.h.Close(), r.h.Close()); err != nil {
			return err
		}
		if err := r.h.Prepare(p); err == nil || !strings.Contains(err.Error(), "closed") {
			t.Error(err)
		}
		return nil
	})
}
