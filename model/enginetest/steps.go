package enginetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"testing"

	"sn3/model"
)

// A naive AdamW in float64 (arXiv 1711.05101, with the decay inside the step): clipping by the global norm, bias correction by
// the steps made, the rate of the global step, decay where the optimizer says. It is given the trainer's own gradient, so that
// every parameter can be compared: the step divides by √v, and a gradient's rounding would come back at full size.
func (s suite) adamW(t *testing.T) {
	c := small()
	norms := func(x model.Tensor) bool { return len(x.Shape) == 1 }
	for _, x := range []struct {
		clip     float64
		schedule string
		decays   func(model.Tensor) bool
	}{{0, "", nil}, {0.05, "wsd", nil}, {1e9, "", norms}, {1, "cosine", func(model.Tensor) bool { return true }}} {
		o := usual()
		if o.Clip, o.Schedule, o.Decays = x.clip, x.schedule, x.decays; x.schedule == "cosine" {
			o.Decay = 0
		}
		w := weights(t, c, 3)
		tr := s.trainer(t, c, o, w)
		p := wideRows(w)
		m, v := make(vec, len(p)), make(vec, len(p))
		for step := range 4 {
			b, first := tokens(uint64(step), 2, 9, c.Vocab), uint64(40*step) // up, flat, down, on the floor
			_, grad, err := tr.LossGrad(b)
			if err != nil {
				t.Fatal(err)
			}
			adamStep(c, o, step+1, o.Rate(first), wide(grad), p, m, v)
			train(t, tr, first, b)
			got := model.NewFlat(w.Layout())
			got.Data = flat(t, tr)
			for i, x := range wideRows(got) {
				most := 1e-6 * math.Max(math.Abs(p[i]), 10*o.LR)
				if s.o.ShortMoments { // after four steps each moment is up to 5 ulps of 2⁻⁷ away, and a step is of the size of the rate
					most += 0.08 * o.LR
				}
				if !(math.Abs(x-p[i]) <= most) {
					t.Fatalf("clip %v, schedule %q, step %d: parameter %d is %v, want %v", o.Clip, o.Schedule, step, i, x, p[i])
				}
			}
			p = wideRows(got) // differences of rounding do not add up
		}
	}
}

func adamStep(c model.Config, o model.Optimizer, n int, rate float64, g, p, m, v vec) {
	factor := 1.0
	if o.Clip > 0 {
		factor = math.Min(1, o.Clip/(norm(g)+1e-6))
	}
	for _, x := range c.Tensors() {
		decay := 0.0
		if o.Decays == nil && decays(x) || o.Decays != nil && o.Decays(x) {
			decay = o.WeightDecay
		}
		for i := x.Off; i < x.Off+x.Len(); i++ {
			m[i] = o.Beta1*m[i] + (1-o.Beta1)*factor*g[i]
			v[i] = o.Beta2*v[i] + (1-o.Beta2)*factor*factor*g[i]*g[i]
			p[i] -= rate * (m[i]/(1-math.Pow(o.Beta1, float64(n)))/(math.Sqrt(v[i]/(1-math.Pow(o.Beta2, float64(n))))+o.Eps) + decay*p[i])
		}
	}
}

// Without a gradient only decay moves: matrices shrink by lr·λ, norms and the embedding keep every bit, the loss is 0.
func (s suite) decay(t *testing.T) {
	for _, tied := range []bool{true, false} {
		c, o := small(), usual()
		c.Tied = tied
		w := weights(t, c, 4)
		tr := s.trainer(t, c, o, w)
		b := tokens(1, 2, 9, c.Vocab)
		ignore(b.Y)
		if rep := train(t, tr, 10, b); rep.Loss != 0 {
			t.Errorf("loss %v although nothing counts", rep.Loss)
		}
		after := model.NewFlat(w.Layout())
		after.Data = flat(t, tr)
		before, got := wideRows(w), wideRows(after)
		for _, x := range c.Tensors() {
			for i := x.Off; i < x.Off+x.Len(); i++ {
				want := before[i]
				if decays(x) {
					want *= 1 - o.LR*o.WeightDecay
				}
				if !decays(x) && got[i] != want || math.Abs(got[i]-want) > 1e-6*math.Abs(want) {
					t.Fatalf("%s: %v became %v, want %v", x.Name, before[i], got[i], want)
				}
			}
		}
	}
}

// Steps in one call or in several are the same bits, and it is First that fixes the rate.
func (s suite) scheduleGoesOn(t *testing.T) {
	c := small()
	w := weights(t, c, 5)
	var steps []model.Batch
	for i := range uint64(4) {
		steps = append(steps, tokens(i, 2, 9, c.Vocab))
	}
	once, twice, late := s.trainer(t, c, usual(), w), s.trainer(t, c, usual(), w), s.trainer(t, c, usual(), w)
	train(t, once, 1, steps...)
	train(t, twice, 1, steps[:1]...)
	train(t, twice, 2, steps[1:]...)
	if state(t, once) != state(t, twice) {
		t.Error("four steps differ from one and three")
	}
	if train(t, late, 80, steps...); state(t, late) == state(t, once) {
		t.Error("the global step makes no difference")
	}
}

// With cold moments the rate is a part of the schedule's that grows with every step: of 20 steps the first is made at a twentieth
// of it, the last at all of it, and in one call as in several.
func (s suite) cold(t *testing.T) {
	c, o := small(), usual()
	w := weights(t, c, 5)
	const first = 30 // the schedule is flat there
	var steps []model.Batch
	for i := range uint64(4) {
		steps = append(steps, tokens(i, 2, 9, c.Vocab))
	}
	for _, left := range few(s, 3, 3, model.ColdSteps+5, 0, model.ColdSteps, 11, 1, -1) {
		once, each := s.trainer(t, c, o, w), s.trainer(t, c, o, w)
		budget := model.Budget{First: first, Steps: len(steps), Cold: left}
		if rep, err := once.Train(context.Background(), reader(io.EOF, steps...), budget); err != nil || rep.Steps != len(steps) {
			t.Fatalf("%+v, %v", rep, err)
		}
		for i, b := range steps { // every step by a trainer whose schedule is that rate
			part := o
			part.LR *= min(1, max(1, float64(model.ColdSteps+1-(left-i)))/model.ColdSteps)
			next := s.trainer(t, c, part, each.Trained())
			if err := next.Load(stateReader(t, each)); err != nil {
				t.Fatal(err)
			}
			train(t, next, first, b)
			each = next
		}
		if state(t, once) != state(t, each) {
			t.Errorf("%d cold steps left: not the rates that they should have", left)
		}
	}
}

var errDisk = errors.New("disk on fire")

// Train ends by its budget, the end of the batches or of ctx, at any moment, with a nil error; an error of the reader comes
// through. What it did before counts, whole steps each, and is the same as if it had been asked for just that.
func (s suite) trainEnds(t *testing.T) {
	c, first := small(), uint64(2)
	w := weights(t, c, 6)
	batches := []model.Batch{tokens(0, 1, 9, c.Vocab), tokens(1, 3, 5, c.Vocab), tokens(2, 2, 9, c.Vocab)}
	for _, x := range []struct {
		name     string
		budget   int
		end      error // of the reader
		cancel   int   // ctx ends in this call of Next; −1 before the first, 9 never
		min, max int   // steps
		err      error
	}{
		{"budget", 2, io.EOF, 9, 2, 2, nil}, {"no budget", 0, io.EOF, 9, 0, 0, nil}, {"negative budget", -1, io.EOF, 9, 0, 0, nil},
		{"batches used up", 7, io.EOF, 9, 3, 3, nil}, {"wrapped end", 7, fmt.Errorf("assignment: %w", io.EOF), 9, 3, 3, nil},
		{"reader fails", 7, errDisk, 9, 3, 3, errDisk}, {"ctx ended before", 7, io.EOF, -1, 0, 0, nil},
		{"ctx ends while a batch comes", 7, io.EOF, 1, 1, 2, nil}, {"reader says that ctx ended", 7, context.Canceled, 3, 3, 3, nil},
	} {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		if x.cancel < 0 {
			cancel()
		}
		r := reader(x.end, batches...)
		r.next = func(call int) {
			if call == x.cancel {
				cancel()
			}
		}
		tr, twin := s.trainer(t, c, usual(), w), s.trainer(t, c, usual(), w)
		rep, err := tr.Train(ctx, r, model.Budget{First: first, Steps: x.budget})
		if !errors.Is(err, x.err) || rep.Steps < x.min || rep.Steps > x.max {
			t.Errorf("%s: %+v, %v; want %d to %d steps, %v", x.name, rep, err, x.min, x.max, x.err)
			continue
		}
		s.sameAsTwin(t, x.name, tr, twin, rep, first, batches[:rep.Steps])
	}
}

// sameAsTwin makes the same steps one by one and compares parameters, moments and the report.
func (s suite) sameAsTwin(t tb, name string, tr, twin Trainer, rep model.Report, first uint64, batches []model.Batch) {
	t.Helper()
	var want model.Report
	for i, b := range batches {
		one := train(t, twin, first+uint64(i), b)
		want.Steps, want.Tokens, want.Loss = want.Steps+1, want.Tokens+b.B*b.T, want.Loss+one.Loss/float64(len(batches))
		if one.Tokens != b.B*b.T {
			t.Errorf("%s: a step says %d tokens, want %d", name, one.Tokens, b.B*b.T)
		}
	}
	if rep.Tokens != want.Tokens || !(math.Abs(rep.Loss-want.Loss) <= 1e-9*want.Loss) {
		t.Errorf("%s: reported %+v, step by step it is %+v", name, rep, want)
	}
	if state(t, tr) != state(t, twin) {
		t.Errorf("%s: %d steps in one call are not those one by one", name, rep.Steps)
	}
}

// Train never reads ahead of its steps: what it has read and not trained on would be lost to the next call.
func (s suite) trainReads(t *testing.T) {
	c := small()
	tr := s.trainer(t, c, usual(), weights(t, c, 7))
	var all []model.Batch
	for i := range uint64(5) {
		all = append(all, tokens(i, 2, 9, c.Vocab))
	}
	r := reader(io.EOF, all...)
	for i, steps := range []int{2, 0, 1, 2} {
		rep, err := tr.Train(context.Background(), r, model.Budget{First: uint64(i), Steps: steps})
		if want := []int{2, 2, 3, 5}[i]; err != nil || rep.Steps != steps || r.calls != want {
			t.Errorf("call %d: %+v, %v, %d batches read so far, want %d", i, rep, err, r.calls, want)
		}
	}
}

// A batch that does not fit is refused and changes nothing; the steps before it count. A sequence longer than the model's is
// refused or right, never something else.
func (s suite) badBatches(t *testing.T) {
	c := small()
	w := weights(t, c, 8)
	tr, good := s.trainer(t, c, usual(), w), tokens(1, 2, 9, c.Vocab)
	for name, change := range map[string]func(b *model.Batch){
		"token below": func(b *model.Batch) { b.X[3] = -1 }, "token above": func(b *model.Batch) { b.X[3] = int32(c.Vocab) },
		"token far above": func(b *model.Batch) { b.X[17] = math.MaxInt32 }, "target below": func(b *model.Batch) { b.Y[3] = -1 },
		"target above": func(b *model.Batch) { b.Y[3] = int32(c.Vocab) }, "target far below": func(b *model.Batch) { b.Y[17] = ignored - 1 },
		"short x": func(b *model.Batch) { b.X = b.X[1:] }, "short y": func(b *model.Batch) { b.Y = b.Y[1:] }, "long x": func(b *model.Batch) { b.X = append(b.X, 1) },
		"empty": func(b *model.Batch) { *b = model.Batch{} }, "no sequences": func(b *model.Batch) { *b = model.Batch{T: 9} },
		"no tokens": func(b *model.Batch) { *b = model.Batch{B: 2} }, "negative": func(b *model.Batch) { b.B, b.T = -2, -9 },
		"overflow": func(b *model.Batch) { b.B, b.T, b.X, b.Y = math.MaxInt/2+5, 4, b.X[:16], b.Y[:16] }, // B·T is 16 again
	} {
		bad := clone(good)
		change(&bad)
		before, twin := state(t, tr), s.trainer(t, c, usual(), tr.Trained())
		if err := twin.Load(stateReader(t, tr)); err != nil {
			t.Fatal(err)
		}
		rep, err := tr.Train(context.Background(), reader(io.EOF, bad), model.Budget{Steps: 1})
		if err == nil || errors.Is(err, model.ErrDiverged) || rep.Steps != 0 || state(t, tr) != before {
			t.Errorf("%s: %+v, %v; changed: %v", name, rep, err, state(t, tr) != before)
		}
		rep, err = tr.Train(context.Background(), reader(io.EOF, good, bad, good), model.Budget{Steps: 3})
		if train(t, twin, 0, good); err == nil || rep.Steps != 1 || state(t, tr) != state(t, twin) {
			t.Errorf("%s after a good one: %+v, %v", name, rep, err)
		}
	}
	long := solve(c, w, tokens(2, 1, c.Seq+3, c.Vocab), s.how)
	if _, _, err := s.trainer(t, c, usual(), w).LossGrad(long.b); err == nil {
		long.check(t, "longer than the model's sequence", s.trainer(t, c, usual(), w))
	}
	nothing := slices.Repeat([]int32{ignored}, 18)
	if loss, grad, err := tr.LossGrad(model.Batch{B: 2, T: 9, X: good.X, Y: nothing}); err != nil || loss != 0 || slices.ContainsFunc(grad, func(g float32) bool { return g != 0 }) {
		t.Errorf("a batch without targets has the loss %v and a gradient (%v)", loss, err)
	}
}

// A step whose loss or gradient is not finite is not made: parameters and moments are what they were, the steps before count,
// and from good parameters the trainer goes on as if nothing had been.
func (s suite) diverged(t *testing.T) {
	c := small()
	w, good := weights(t, c, 9), tokens(1, 2, 9, c.Vocab)
	b := tokens(2, 2, 9, c.Vocab)
	b.X[0], b.Y[1] = 0, int32(c.Vocab-1)
	for name, bad := range map[string]float32{"NaN": float32(math.NaN()), "infinite": float32(math.Inf(1))} {
		for _, last := range []bool{false, true} { // a token's embedding, or the output of the last token
			broken := model.NewFlat(w.Layout())
			if copy(broken.Data, w.Data); last {
				broken.Data[len(broken.Data)-1] = bad
			} else {
				broken.Data[5] = bad
			}
			tr, twin := s.trainer(t, c, usual(), w), s.trainer(t, c, usual(), w)
			train(t, tr, 0, good)
			train(t, twin, 0, good)
			after := model.NewFlat(w.Layout())
			after.Data = flat(t, tr)
			if err := tr.Reset(context.Background(), broken); err != nil {
				continue // refused even earlier
			}
			before := state(t, tr)
			rep, err := tr.Train(context.Background(), reader(io.EOF, b, good), model.Budget{First: 1, Steps: 3})
			if !errors.Is(err, model.ErrDiverged) || rep.Steps != 0 || state(t, tr) != before {
				t.Errorf("%s: %+v, %v; changed: %v", name, rep, err, state(t, tr) != before)
			}
			if err := tr.Reset(context.Background(), after); err != nil {
				t.Fatal(err)
			}
			train(t, tr, 1, b)
			if train(t, twin, 1, b); state(t, tr) != state(t, twin) {
				t.Errorf("%s: goes on differently", name)
			}
		}
	}
}
