package enginetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"

	"sn3/model"
)

// A judge's losses are the reference's, each sequence by itself; their mean over counted targets is the trainer's loss.
func (s suite) judgeAgrees(t *testing.T) {
	checks(t, s.o.Checks)
	rapid.Check(t, func(t *rapid.T) {
		p := drawProblem(t, s.how)
		j, tr := s.judge(t, p.c, p.w), s.trainer(t, p.c, usual(), p.w)
		loss, _, err := tr.LossGrad(p.b)
		if err != nil {
			t.Fatal(err)
		}
		rows := wideRows(p.w)
		want, counted := newReference(p.c, rows).losses(p.b)
		var moved []vec
		for i := range s.how.draws {
			each, _ := newRounded(p.c, rows, s.how, i).losses(p.b)
			moved = append(moved, each)
		}
		got := losses(t, j, nil, 0, []model.Batch{p.b})[0]
		if len(got) != p.b.B {
			t.Fatalf("%d losses of %d sequences", len(got), p.b.B)
		}
		total, all := 0.0, 0
		for i, l := range got {
			if off, most := math.Abs(l-want[i]), s.how.bound(vec{want[i]}, column(moved, i), 1); !(off <= most) {
				t.Fatalf("%+v: sequence %d has the loss %v, want %v", p.c, i, l, want[i])
			}
			total, all = total+l*float64(counted[i]), all+counted[i]
		}
		if mean := total / float64(max(1, all)); math.Abs(mean-loss) > 2e-6*(1+loss) {
			t.Fatalf("%+v: the trainer has the loss %v, the judge's mean is %v", p.c, loss, mean)
		}
	})
}

// column is value i of every row.
func column(rows []vec, i int) (out []vec) {
	for _, r := range rows {
		out = append(out, r[i:i+1])
	}
	return out
}

// judged are sets of batches with an empty set, a row and a batch that do not count, and lengths that differ.
func judged(V int) [][]model.Batch {
	b, none := tokens(1, 3, 9, V), tokens(4, 1, 3, V)
	ignore(b.Y[:12])
	ignore(none.Y)
	return [][]model.Batch{{b, tokens(2, 1, 5, V)}, {}, {none, tokens(3, 2, 9, V)}}
}

// Losses with a delta are those of θ − scale·delta, bit for bit, for every set and sequence in order, in every precision and in
// parts; and θ is untouched.
func (s suite) delta(t *testing.T) {
	c := small()
	w, sets := weights(t, c, 19), judged(c.Vocab)
	d := randomDelta(w.Layout(), 3)
	for _, opt := range s.variants(1) {
		j := s.tryJudge(t, c, opt, w)
		if j == nil {
			t.Logf("%+v is not supported", opt)
			continue
		}
		base := losses(t, j, nil, 0, sets...)
		for _, scale := range []float32{0.7, -2, 0} {
			moved := d.take(w, scale)
			got, want := losses(t, j, d, scale, sets...), losses(t, s.tryJudge(t, c, opt, moved), nil, 0, sets...)
			for i, exact := range exactly(moved, sets) {
				if len(got[i]) != len(exact) {
					t.Fatalf("%+v: set %d has %d losses, want %d", opt, i, len(got[i]), len(exact))
				}
				for k, l := range got[i] {
					if off := math.Abs(l - exact[k]); l != want[i][k] || !(off <= precisions[precisionOf(opt)].near*(1+exact[k])) {
						t.Errorf("%+v, scale %v, set %d, sequence %d: %v, a judge of θ − scale·delta says %v, the reference %v", opt, scale, i, k, l, want[i][k], exact[k])
					}
					if scale != 0 && exact[k] != 0 && l == base[i][k] {
						t.Errorf("%+v, scale %v, set %d, sequence %d: the delta makes no difference", opt, scale, i, k)
					}
				}
			}
			if again := losses(t, j, nil, 0, sets...); fmt.Sprint(again) != fmt.Sprint(base) {
				t.Fatalf("%+v, scale %v: afterwards θ has the losses %v, before they were %v", opt, scale, again, base)
			}
		}
	}
}

// exactly are the reference's losses of every sequence of every set.
func exactly(w *model.Flat, sets [][]model.Batch) (out []vec) {
	r := newReference(w.Layout().Config(), wideRows(w))
	for _, set := range sets {
		var exact vec
		for _, b := range set {
			each, _ := r.losses(b)
			exact = append(exact, each...)
		}
		out = append(out, exact)
	}
	return out
}

func precisionOf(o model.Options) model.Precision {
	if o.Precision == "" {
		return model.F32
	}
	return o.Precision
}

// endsAfter is a context whose Err is nil n times.
type endsAfter struct {
	context.Context
	n int
}

// Err implements context.Context.
func (c *endsAfter) Err() error {
	if c.n--; c.n < 0 {
		return context.Canceled
	}
	return nil
}

// Whatever ends Losses, θ is what it was: a batch that does not fit, a ctx that ended before or between. Deltas are large, so
// that a rounding left behind would show in the logits.
func (s suite) judgeLeavesTheta(t *testing.T) {
	c := small()
	w := weights(t, c, 20)
	j, d := s.judge(t, c, w), randomDelta(w.Layout(), 5)
	logits := func() string {
		dst := make([]float32, 9*c.Vocab)
		if err := j.Logits(dst, tokens(6, 1, 9, c.Vocab).X, 1, 9); err != nil {
			t.Fatal(err)
		}
		return bits(dst)
	}
	before := logits()
	good, bad := tokens(1, 2, 9, c.Vocab), tokens(2, 2, 9, c.Vocab)
	bad.X[4] = int32(c.Vocab)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, x := range []struct {
		name  string
		ctx   context.Context
		delta model.Delta
		sets  [][]model.Batch
		fails bool
	}{
		{"done", context.Background(), d, [][]model.Batch{{good}}, false},
		{"nothing to measure", context.Background(), d, nil, false},
		{"bad batch", context.Background(), d, [][]model.Batch{{good}, {bad}}, true},
		{"bad batch, no delta", context.Background(), nil, [][]model.Batch{{bad}}, true},
		{"ended", ended, d, [][]model.Batch{{good}}, true},
		{"ends between", &endsAfter{Context: context.Background(), n: 1}, d, [][]model.Batch{{good, good, good}}, true},
	} {
		l, err := j.Losses(x.ctx, x.delta, 1e4, x.sets)
		if (err != nil) != x.fails || x.fails && l != nil || !x.fails && len(l) != len(x.sets) {
			t.Errorf("%s: %v, %v", x.name, l, err)
		}
		if logits() != before {
			t.Fatalf("%s: θ changed", x.name)
		}
	}
	if err := j.Reset(context.Background(), other(t, c)); err == nil || logits() != before {
		t.Errorf("weights of another layout: %v", err)
	}
	if err := j.Reset(context.Background(), unreadable{d.take(w, 1)}); !errors.Is(err, errDisk) {
		t.Errorf("weights that cannot be read: %v", err)
	}
	if _, err := j.Losses(context.Background(), nil, 0, [][]model.Batch{{good}}); err == nil && logits() != before {
		t.Error("after a Reset that failed half way it measures a model that nobody gave it")
	} else if err != nil && (!errors.Is(err, model.ErrNoWeights) || !errors.Is(j.Logits(make([]float32, 9*c.Vocab), tokens(6, 1, 9, c.Vocab).X, 1, 9), model.ErrNoWeights)) {
		t.Errorf("after a Reset that failed half way: %v", err)
	}
	if err := j.Reset(context.Background(), d.take(w, 1)); err != nil || logits() == before {
		t.Errorf("Reset does not take the parameters (%v)", err)
	}
}
