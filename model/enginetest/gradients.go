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
	c     model.Config
	w     *model.Flat
	b     model.Batch
	how   precise
	loss  float64
	grad  vec
	moved []moved
}

// moved are loss and gradient with other roundings.
type moved struct {
	loss float64
	grad vec
}

// of are one figure of every moved.
func (p problem) of(figure func(moved) vec) (out []vec) {
	for _, m := range p.moved {
		out = append(out, figure(m))
	}
	return out
}

func drawProblem(t *rapid.T, how precise) problem {
	c := configs.Draw(t, "config")
	b := batches(c).Draw(t, "batch")
	return solve(c, weights(t, c, rapid.Uint64().Draw(t, "weights")), b, how)
}

func solve(c model.Config, w *model.Flat, b model.Batch, how precise) problem {
	rows := wideRows(w)
	p := problem{c: c, w: w, b: b, how: how}
	p.loss, p.grad = newReference(c, rows).lossGrad(b)
	for i := range how.draws {
		loss, grad := newRounded(c, rows, how, i).lossGrad(b)
		p.moved = append(p.moved, moved{loss, grad})
	}
	return p
}

// check compares a trainer's loss and every tensor's gradient with the reference's.
func (p problem) check(t failer, what string, tr model.Gradienter) (grad []float32) {
	t.Helper()
	loss, grad, err := tr.LossGrad(p.b)
	if err != nil {
		t.Fatalf("%s, %+v: %v", what, p.c, err)
	}
	if len(grad) != len(p.grad) {
		t.Fatalf("%s: %d gradients of %d parameters", what, len(grad), len(p.grad))
	}
	if off, most := math.Abs(loss-p.loss), p.how.bound(vec{p.loss}, p.of(func(m moved) vec { return vec{m.loss} }), 1); !(off <= most) {
		t.Fatalf("%s, %+v: the loss is %v, want %v to %.1g", what, p.c, loss, p.loss, most)
	}
	whole := norm(p.grad)
	for _, x := range p.c.Tensors() {
		from, to := x.Off, x.Off+x.Len()
		got, want := wide(grad[from:to]), p.grad[from:to]
		if off, most := distance(got, want), p.how.bound(want, p.of(func(m moved) vec { return m.grad[from:to] }), whole); !(off <= most) {
			t.Fatalf("%s, %+v, batch %d×%d: the gradient of %s, of norm %.3g, is off by %.2g, want %.2g", what, p.c, p.b.B, p.b.T, x.Name, norm(want), off, most)
		}
	}
	return grad
}

// The loss and every gradient are those of the reference, on configurations nobody chose; a second call gives the same bits.
func (s suite) gradients(t *testing.T) {
	checks(t, s.o.Checks)
	rapid.Check(t, func(t *rapid.T) {
		p := drawProblem(t, s.how)
		tr := s.trainer(t, p.c, usual(), p.w)
		before := state(t, tr)
		grad := slices.Clone(p.check(t, string(s.o.Precision), tr))
		if again := p.check(t, "again", tr); bits(grad) != bits(again) {
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
	rapid.Check(t, func(t *rapid.T) {
		p := drawProblem(t, s.how)
		j := s.judge(t, p.c, p.w)
		dst := make([]float32, p.b.B*p.b.T*p.c.Vocab)
		if err := j.Logits(dst, p.b.X, p.b.B, p.b.T); err != nil {
			t.Fatal(err)
		}
		p.checkLogits(t, string(s.o.Precision), dst)
	})
}

func (p problem) checkLogits(t failer, what string, dst []float32) {
	t.Helper()
	rows := wideRows(p.w)
	for i := range p.b.B {
		x := p.b.X[i*p.b.T : (i+1)*p.b.T]
		want := slices.Concat(newReference(p.c, rows).logits(x)...)
		var others []vec
		for k := range p.how.draws {
			others = append(others, slices.Concat(newRounded(p.c, rows, p.how, k).logits(x)...))
		}
		got := wide(dst[i*len(want) : (i+1)*len(want)])
		if off, most := distance(got, want), p.how.bound(want, others, norm(want)); !(off <= most) {
			t.Fatalf("%s, %+v: the logits of sequence %d, of norm %.3g, are off by %.2g, want %.2g", what, p.c, i, norm(want), off, most)
		}
	}
}

// Loss, gradients and logits of more rows, longer sequences and wider heads than engines take in one block, whole and in parts.
// Attention is far from flat, so that what a block of keys adds to those before it is scaled by much.
func (s suite) long(t *testing.T) {
	for _, x := range []struct{ head, B, T int }{{6, 4, 140}, {40, 2, 70}, {72, 1, 66}, {128, 2, 9}} {
		c := model.Config{Vocab: 19, Width: 10, Layers: 1, Heads: 4, KVHeads: 2, HeadDim: x.head, FFN: 11, Seq: x.T, RopeTheta: 1e4, NormEps: 1e-5}
		b := tokens(1, x.B, x.T, c.Vocab)
		p := solve(c, sharp(weights(t, c, 40)), b, s.how)
		p.check(t, "whole", s.trainer(t, c, usual(), p.w))
		if parts := s.tryTrainer(t, c, usual(), s.parts(3), p.w); parts != nil && x.B > 3 {
			p.check(t, "in parts", parts)
		}
		dst := make([]float32, b.B*b.T*c.Vocab)
		if err := s.judge(t, c, p.w).Logits(dst, b.X, b.B, b.T); err != nil {
			t.Fatal(err)
		}
		p.checkLogits(t, "whole", dst)
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
	c, half := small(), suite{s.e, Options{Checks: s.o.Checks, Precision: model.BF16}, precisions[model.BF16]}
	w, b := weights(t, c, 1), tokens(1, 3, 9, c.Vocab)
	tr := s.tryTrainer(t, c, usual(), half.options(), w)
	if tr == nil {
		if s.tryJudge(t, c, half.options(), w) != nil {
			t.Fatal("the engine judges in bf16 but does not train in it")
		}
		t.Skip("the engine has no bf16")
	}
	_, exact := newReference(c, wideRows(w)).lossGrad(b)
	if s.o.Precision == model.F32 { // what it says itself is nearer
		t.Run("gradients", half.gradients)
		t.Run("logits", half.logits)
		_, grad, err := s.trainer(t, c, usual(), w).LossGrad(b)
		if err != nil {
			t.Fatal(err)
		}
		exact = wide(grad)
	}
	_, rounded, err := tr.LossGrad(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := apart(wide(rounded), exact); d < 1e-5 {
		t.Errorf("the gradient is that of float32 to %.2g: nothing was rounded", d)
	}
	if got := flat(t, tr); bits(got) != bits(w.Data) {
		t.Error("the master parameters were rounded")
	}
}

// A batch in parts of any size is the whole batch: targets are counted over all of it.
func (s suite) microBatches(t *testing.T) {
	c := small()
	if s.tryTrainer(t, c, usual(), s.parts(1), weights(t, c, 1)) == nil {
		t.Skip("the engine has no micro-batches")
	}
	checks(t, s.o.Checks)
	rapid.Check(t, func(t *rapid.T) {
		p := drawProblem(t, s.how)
		opt := s.parts(rapid.IntRange(1, 4).Draw(t, "micro"))
		p.check(t, "in parts", s.tryTrainer(t, p.c, usual(), opt, p.w))
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
	c := small()
	for _, empty := range few(s, 2, []int{0, 1, 3, 4}, []int{4}, []int{1, 2}, []int{0}) {
		b := tokens(7, 5, 9, c.Vocab)
		for _, row := range empty {
			ignore(b.Y[row*9 : (row+1)*9])
		}
		p := solve(c, weights(t, c, 2), b, s.how)
		whole := s.trainer(t, c, usual(), p.w)
		for _, size := range few(s, 2, 1, 3, 9) {
			parts := s.tryTrainer(t, c, usual(), s.parts(size), p.w)
			if parts == nil {
				t.Skip("the engine has no micro-batches")
			}
			p.check(t, "in parts", parts)
			if size == 1 {
				train(t, whole, 5, p.b)
			}
			if rep := train(t, parts, 5, p.b); rep.Tokens != 45 {
				t.Errorf("parts of %d: %d tokens, want 45", size, rep.Tokens)
			}
			most := 1e-5
			if s.o.ShortGradients { // the largest seen is 5e-4; a part left out moves parameters by several per cent
				most = 2e-3
			}
			if d := apart(wide(flat(t, parts)), wide(flat(t, whole))); d > most {
				t.Errorf("parts of %d: after a step the parameters differ by %.2g", size, d)
			}
		}
	}
}
