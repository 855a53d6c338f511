package cpu

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"sn3/model"
)

// sparse is a Delta: for every chunk some indices and values.
type sparse struct {
	idx [][]uint16
	val [][]float32
}

func (s sparse) Chunk(i int, idx []uint16, val []float32) int {
	copy(idx, s.idx[i])
	return copy(val, s.val[i])
}

func randomDelta(l *model.Layout, seed uint64) (s sparse) {
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range l.Chunks() {
		var idx []uint16
		var val []float32
		for x := range l.Chunk(i).Len {
			if r.IntN(9) == 0 {
				idx, val = append(idx, uint16(x)), append(val, float32(0.1*r.NormFloat64()))
			}
		}
		s.idx, s.val = append(s.idx, idx), append(s.val, val)
	}
	return s
}

func newJudge(t *testing.T, c model.Config, w model.Weights) *Judge {
	t.Helper()
	x, err := New("").NewJudge(c, model.Options{Threads: 2})
	if err == nil {
		err = x.Reset(context.Background(), w)
	}
	if err != nil {
		t.Fatal(err)
	}
	return x.(*Judge)
}

// Losses with a delta are those of θ − scale·delta, bit for bit; without, those of θ; and they are the twin's.
func TestJudgeLosses(t *testing.T) {
	c, ctx := shape(70, 4, 2, 6), context.Background()
	w := randomWeights(t, c)
	j, d := newJudge(t, c, w), randomDelta(w.Layout(), 3)
	b := tokens(1, 3, 9, c.Vocab)
	for i := range b.Y[:12] {
		b.Y[i] = ignored // the first sequence does not count, the second in part
	}
	sets := [][]model.Batch{{b, tokens(2, 1, 5, c.Vocab)}, {}, {tokens(3, 2, 9, c.Vocab)}}
	moved := model.NewFlat(w.Layout())
	copy(moved.Data, w.Data)
	for i := range w.Layout().Chunks() {
		for k, x := range d.idx[i] {
			moved.Data[w.Layout().Chunk(i).Start+int(x)] -= float32(0.7 * d.val[i][k])
		}
	}
	for name, x := range map[string]struct {
		weights *model.Flat
		delta   model.Delta
	}{"θ": {w, nil}, "θ − scale·delta": {moved, d}} {
		got, err := j.Losses(ctx, x.delta, 0.7, sets)
		if err != nil {
			t.Fatal(err)
		}
		want, err := newJudge(t, c, x.weights).Losses(ctx, nil, 0, sets)
		if err != nil {
			t.Fatal(err)
		}
		rows := make([]float32, len(w.Data))
		x.weights.Rows(rows)
		tw := newTwin(c, rows)
		for i, set := range sets {
			if !slices.Equal(got[i], want[i]) {
				t.Errorf("%s: set %d is %v, a judge of it says %v", name, i, got[i], want[i])
			}
			at := 0
			for _, b := range set {
				each := tw.losses(b)
				for s := range b.B {
					sum, n := 0.0, 0.0
					for k := s * b.T; k < (s+1)*b.T; k++ {
						if b.Y[k] != ignored {
							sum, n = sum+each[k], n+1
						}
					}
					if exact := sum / math.Max(1, n); math.Abs(got[i][at]-exact) > 3e-6*(1+exact) {
						t.Errorf("%s: set %d sequence %d has %v, want %v", name, i, at, got[i][at], exact)
					}
					at++
				}
			}
			if at != len(got[i]) {
				t.Errorf("%s: set %d has %d losses, want %d", name, i, len(got[i]), at)
			}
		}
	}
}

// Whatever ends Losses, θ is bit for bit what it was: done, a batch that does not fit, a ctx that ended before or between, a
// delta that names a position twice.
func TestJudgeLeavesThetaAlone(t *testing.T) {
	c := shape(70, 4, 2, 6)
	w := randomWeights(t, c)
	w.Data[3] = float32(math.Copysign(0, -1))
	j, d := newJudge(t, c, w), randomDelta(w.Layout(), 3)
	twice := randomDelta(w.Layout(), 4)
	for i := range twice.idx {
		twice.idx[i], twice.val[i] = append(twice.idx[i], 0, 0, 0), append(twice.val[i], 1, 2, 3)
	}
	before := slices.Clone(j.net.w.flat)
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
		{"twice", context.Background(), twice, [][]model.Batch{{good}}, false},
		{"nothing to measure", context.Background(), d, nil, false},
		{"bad batch", context.Background(), d, [][]model.Batch{{good}, {bad}}, true},
		{"bad batch, no delta", context.Background(), nil, [][]model.Batch{{bad}}, true},
		{"ended", ended, d, [][]model.Batch{{good}}, true},
		{"ends between", &endsAfter{Context: context.Background(), n: 1}, d, [][]model.Batch{{good, good}}, true},
	} {
		l, err := j.Losses(x.ctx, x.delta, 0.7, x.sets)
		if (err != nil) != x.fails || (l == nil) != x.fails {
			t.Errorf("%s: %v, %v", x.name, l, err)
		}
		for i, v := range j.net.w.flat {
			if math.Float32bits(v) != math.Float32bits(before[i]) {
				t.Fatalf("%s: parameter %d is %v, was %v", x.name, i, v, before[i])
			}
		}
	}
}

// endsAfter is a context whose Err is nil n times.
type endsAfter struct {
	context.Context
	n int
}

func (c *endsAfter) Err() error {
	if c.n--; c.n < 0 {
		return context.Canceled
	}
	return nil
}

func TestLogitsRefuses(t *testing.T) {
	c := shape(12, 4, 2, 6)
	j := newJudge(t, c, randomWeights(t, c))
	for name, err := range map[string]error{
		"short dst": j.Logits(make([]float32, 3*c.Vocab-1), []int32{1, 2, 3}, 1, 3),
		"token":     j.Logits(make([]float32, c.Vocab), []int32{int32(c.Vocab)}, 1, 1),
		"tokens":    j.Logits(make([]float32, 2*c.Vocab), []int32{1}, 1, 2),
		"empty":     j.Logits(nil, nil, 0, 0),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := j.Reset(context.Background(), randomWeights(t, shape(13, 4, 2, 6))); err == nil {
		t.Error("weights of another layout were accepted")
	}
}

// What a position says depends on nothing after it, and on no other sequence of the batch.
func TestLogitsAreCausal(t *testing.T) {
	c := shape(12, 4, 2, 6)
	kernelSets(t, func(t *testing.T, _ string) {
		j := newJudge(t, c, randomWeights(t, c))
		x := tokens(1, 2, 9, c.Vocab).X
		a, b := make([]float32, 18*c.Vocab), make([]float32, 18*c.Vocab)
		if err := j.Logits(a, x, 2, 9); err != nil {
			t.Fatal(err)
		}
		x[6], x[9] = (x[6]+1)%int32(c.Vocab), (x[9]+1)%int32(c.Vocab) // position 6 of the first, all of the second
		if err := j.Logits(b, x, 2, 9); err != nil {
			t.Fatal(err)
		}
		for pos := range 9 {
			same := slices.Equal(a[pos*c.Vocab:(pos+1)*c.Vocab], b[pos*c.Vocab:(pos+1)*c.Vocab])
			if same != (pos < 6) {
				t.Errorf("position %d: changed %v", pos, !same)
			}
		}
	})
}
