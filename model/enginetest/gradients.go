package enginetest

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/model"
)

// problem is a configuration with parameters and a batch, and what the reference says of them.
type problem struct {
	c         model.Config
	w         *model.Flat
	b         model.Batch
	loss      float64
	grad      vec
	roundLoss float64 // the same with other roundings of the parameters
	roundGrad vec
	unit      float64 // of these roundings
}

func drawProblem(t *rapid.T, unit float64) problem {
	c := configs.Draw(t, "config")
	b := batches(c).Draw(t, "batch")
	return solve(c, weights(t, c, rapid.Uint64().Draw(t, "weights")), b, unit)
}

func solve(c model.Config, w *model.Flat, b model.Batch, unit float64) problem {
	rows := wideRows(w)
	p := problem{c: c, w: w, b: b, unit: unit}
	p.loss, p.grad = newReference(c, rows).lossGrad(b)
	p.roundLoss, p.roundGrad = newRounded(c, rows, unit).lossGrad(b)
	return p
}

// check compares a trainer's loss and every tensor's gradient with the reference's.
func (p problem) check(t tb, what string, tr Trainer, how precise) (grad []float32) {
	t.Helper()
	loss, grad, err := tr.LossGrad(p.b)
	if err != nil {
		t.Fatalf("%s, %+v: %v", what, p.c, err)
	}
	if len(grad) != len(p.grad) {
		t.Fatalf("%s: %d gradients of %d parameters", what, len(grad), len(p.grad))
	}
	if off, most := math.Abs(loss-p.loss), how.bound(vec{p.loss}, vec{p.roundLoss}, 1); !(off <= most) {
		t.Fatalf("%s, %+v: the loss is %v, want %v to %.1g", what, p.c, loss, p.loss, most)
	}
	whole := norm(p.grad)
	for _, x := range p.c.Tensors() {
		from, to := x.Off, x.Off+x.Len()
		got, want := wide(grad[from:to]), p.grad[from:to]
		if off, most := distance(got, want), how.bound(want, p.roundGrad[from:to], whole); !(off <= most) {
			t.Fatalf("%s, %+v, batch %d×%d: the gradient of %s, of norm %.3g, is off by %.2g, want %.2g", what, p.c, p.b.B, p.b.T, x.Name, norm(want), off, most)
		}
	}
	return grad
}

// The loss and every gradient are those of the reference, on configurations nobody chose; a second call gives the same bits.
func (s suite) gradients(t *testing.T) {
	checks(t, s.o.Checks)
	how := precisions[model.F32]
	rapid.Check(t, func(t *rapid.T) {
		p := drawProblem(t, how.unit)
		tr := s.trainer(t, p.c, usual(), p.w)
		before := state(t, tr)
		grad := slices.Clone(p.check(t, "f32", tr, how))
		if again := p.check(t, "f32 again", tr, how); bits(grad) != bits(again) {
			t.Fatal("the second time the gradient has other bits")
		}
		if state(t, tr) != before {
			t.Fatal("LossGrad changed the trainer")
		}
	})
}

// Logits are those of the reference, for inputs of any shape.
func (s suite) logits(t *testing.T) {
	checks(t, s.o.Checks)
	how := precisions[model.F32]
	rapid.Check(t, func(t *rapid.T) {
		p := drawProblem(t, how.unit)
		j := s.judge(t, p.c, p.w)
		dst := make([]float32, p.b.B*p.b.T*p.c.Vocab)
		if err := j.Logits(dst, p.b.X, p.b.B, p.b.T); err != nil {
			t.Fatal(err)
		}
		p.checkLogits(t, "f32", dst, how)
	})
}

func (p problem) checkLogits(t tb, what string, dst []float32, how precise) {
	t.Helper()
	rows := wideRows(p.w)
	r, moved := newReference(p.c, rows), newRounded(p.c, rows, p.unit)
	for i := range p.b.B {
		x := p.b.X[i*p.b.T : (i+1)*p.b.T]
		want, other := slices.Concat(r.logits(x)...), slices.Concat(moved.logits(x)...)
		got := wide(dst[i*len(want) : (i+1)*len(want)])
		if off, most := distance(got, want), how.bound(want, other, norm(want)); !(off <= most) {
			t.Fatalf("%s, %+v: the logits of sequence %d, of norm %.3g, are off by %.2g, want %.2g", what, p.c, i, norm(want), off, most)
		}
	}
}

// What a position says depends on nothing after it, and on no other sequence of the batch; a wrong call is refused.
func (s suite) causal(t *testing.T) {
	c := small()
	j := s.judge(t, c, weights(t, c, 1))
	x, V := tokens(1, 2, 9, c.Vocab).X, c.Vocab
	a, b := make([]float32, 18*V), make([]float32, 18*V)
	if err := j.Logits(a, x, 2, 9); err != nil {
		t.Fatal(err)
	}
	x[6], x[9] = (x[6]+1)%int32(V), (x[9]+1)%int32(V) // position 6 of the first, all of the second
	if err := j.Logits(b, x, 2, 9); err != nil {
		t.Fatal(err)
	}
	for pos := range 18 {
		if same := bits(a[pos*V:(pos+1)*V]) == bits(b[pos*V:(pos+1)*V]); same != (pos < 6) {
			t.Errorf("position %d: changed %v", pos, !same)
		}
	}
	for name, err := range map[string]error{
		"short dst":   j.Logits(a[1:], x, 2, 9),
		"token above": j.Logits(a[:V], []int32{int32(V)}, 1, 1),
		"token below": j.Logits(a[:V], []int32{-1}, 1, 1),
		"few tokens":  j.Logits(a[:2*V], []int32{1}, 1, 2),
		"empty":       j.Logits(nil, nil, 0, 0),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Mixed precision is near the reference, really rounds, and differs from float32 in nothing but precision.
func (s suite) precision(t *testing.T) {
	c, how := small(), precisions[model.BF16]
	opt := model.Options{Precision: model.BF16}
	w := weights(t, c, 1)
	if s.tryTrainer(t, c, usual(), opt, w) == nil {
		if s.tryJudge(t, c, opt, w) != nil {
			t.Fatal("the engine judges in bf16 but does not train in it")
		}
		t.Skip("the engine has no bf16")
	}
	checks(t, s.o.Checks)
	rapid.Check(t, func(t *rapid.T) {
		p := drawProblem(t, how.unit)
		p.check(t, "bf16", s.tryTrainer(t, p.c, usual(), opt, p.w), how)
		dst := make([]float32, p.b.B*p.b.T*p.c.Vocab)
		if err := s.tryJudge(t, p.c, opt, p.w).Logits(dst, p.b.X, p.b.B, p.b.T); err != nil {
			t.Fatal(err)
		}
		p.checkLogits(t, "bf16", dst, how)
	})
	b := tokens(1, 3, 9, c.Vocab)
	_, exact, err := s.trainer(t, c, usual(), w).LossGrad(b)
	if err != nil {
		t.Fatal(err)
	}
	_, rounded, err := s.tryTrainer(t, c, usual(), opt, w).LossGrad(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := apart(wide(rounded), wide(exact)); d < 1e-5 {
		t.Errorf("the gradient is that of float32 to %.2g: nothing was rounded", d)
	}
	tr := s.tryTrainer(t, c, usual(), opt, w)
	if got := flat(t, tr); bits(got) != bits(w.Data) {
		t.Error("the master parameters were rounded")
	}
}

// A batch in parts of any size is the whole batch: targets are counted over all of it.
func (s suite) microBatches(t *testing.T) {
	c := small()
	if s.tryTrainer(t, c, usual(), model.Options{MicroBatch: 1}, weights(t, c, 1)) == nil {
		t.Skip("the engine has no micro-batches")
	}
	checks(t, s.o.Checks)
	how := precisions[model.F32]
	rapid.Check(t, func(t *rapid.T) {
		p := drawProblem(t, how.unit)
		opt := model.Options{MicroBatch: rapid.IntRange(1, 4).Draw(t, "micro")}
		p.check(t, "in parts", s.tryTrainer(t, p.c, usual(), opt, p.w), how)
		sets := []model.Batch{p.b}
		whole, parts := losses(t, s.judge(t, p.c, p.w), nil, 0, sets)[0], losses(t, s.tryJudge(t, p.c, opt, p.w), nil, 0, sets)[0]
		for i := range whole {
			if math.Abs(whole[i]-parts[i]) > 1e-6*(1+whole[i]) {
				t.Fatalf("a judge says %v of sequence %d, in parts %v", whole[i], i, parts[i])
			}
		}
	})
}

// Parts in which nothing counts add nothing, wherever they are; whole steps in parts are whole steps.
func (s suite) microBatchesWithoutTargets(t *testing.T) {
	c, how := small(), precisions[model.F32]
	for _, empty := range [][]int{{0}, {1, 2}, {4}, {0, 1, 3, 4}} {
		b := tokens(7, 5, 9, c.Vocab)
		for _, row := range empty {
			ignore(b.Y[row*9 : (row+1)*9])
		}
		p := solve(c, weights(t, c, 2), b, how.unit)
		whole := s.trainer(t, c, usual(), p.w)
		for _, size := range []int{1, 3, 9} {
			parts := s.tryTrainer(t, c, usual(), model.Options{MicroBatch: size}, p.w)
			if parts == nil {
				t.Skip("the engine has no micro-batches")
			}
			p.check(t, "in parts", parts, how)
			if size == 1 {
				train(t, whole, 5, p.b)
			}
			if rep := train(t, parts, 5, p.b); rep.Tokens != 45 {
				t.Errorf("parts of %d: %d tokens, want 45", size, rep.Tokens)
			}
			if d := apart(wide(flat(t, parts)), wide(flat(t, whole))); d > 1e-5 {
				t.Errorf("parts of %d: after a step the parameters differ by %.2g", size, d)
			}
		}
	}
}
