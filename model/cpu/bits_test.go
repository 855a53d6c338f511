package cpu

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"testing"

	"sn3/model"
)

// precisions runs f with every set of kernels and both precisions.
func precisions(t *testing.T, f func(t *testing.T, kernels string, p model.Precision)) {
	kernelSets(t, func(t *testing.T, kernels string) {
		for _, p := range []model.Precision{model.F32, model.BF16} {
			t.Run(string(p), func(t *testing.T) { f(t, kernels, p) })
		}
	})
}

// trainerOf is a new trainer at w.
func trainerOf(t *testing.T, kernels string, w model.Weights, opt model.Options) *Trainer {
	t.Helper()
	x, err := New(kernels).NewTrainer(w.Layout().Config(), usual(), opt)
	if err == nil {
		err = x.Reset(context.Background(), w)
	}
	if err != nil {
		t.Fatal(err)
	}
	return x.(*Trainer)
}

// The same bits for any number of threads and in every run, also while the garbage collector never rests; sizes are such that work
// is really divided, and that there are several blocks of keys and of queries.
func TestBitsDoNotDependOnThreads(t *testing.T) {
	c := model.Config{Vocab: 301, Width: 44, Layers: 1, Heads: 6, KVHeads: 3, HeadDim: 12, FFN: 130, Seq: 300, Tied: true, RopeTheta: 1e4, NormEps: 1e-5}
	w := randomWeights(t, c)
	precisions(t, func(t *testing.T, kernels string, p model.Precision) {
		for _, micro := range []int{0, 2} {
			var want string
			for run, threads := range []int{1, 1, 2, 3, 4, 5} {
				if run > 2 && testing.Short() {
					break // too slow under the race detector
				}
				opt := model.Options{Threads: threads, Precision: p, MicroBatch: micro}
				got := func() string {
					if run == 1 {
						defer debug.SetGCPercent(debug.SetGCPercent(1))
					}
					tr := trainerOf(t, kernels, w, opt)
					train(t, tr, 0, tokens(1, 5, 30, c.Vocab))
					train(t, tr, 1, tokens(2, 1, 300, c.Vocab))
					j, err := New(kernels).NewJudge(c, opt)
					if err != nil || j.Reset(context.Background(), tr.Trained()) != nil {
						t.Fatal(err)
					}
					l, err := j.Losses(context.Background(), nil, 0, [][]model.Batch{{tokens(9, 3, 30, c.Vocab), tokens(8, 1, 270, c.Vocab)}})
					if err != nil {
						t.Fatal(err)
					}
					return tr.state() + fmt.Sprintf("%b", l)
				}()
				if run == 0 {
					want = got
				}
				if got != want {
					t.Fatalf("micro-batch %d, run %d with %d threads gives other bits", micro, run, threads)
				}
			}
		}
	})
}

// A gradient depends on the batch and the parameters, not on the batches before, whose memory is used again: smaller, larger, longer.
func TestBitsDoNotDependOnBatchesBefore(t *testing.T) {
	c := shape(20, 4, 2, 6)
	w := randomWeights(t, c)
	sizes := [][2]int{{3, 9}, {1, 1}, {2, 70}, {9, 16}, {1, 2}, {2, 257}, {1, 600}, {3, 9}, {1, 300}, {4, 1}}
	precisions(t, func(t *testing.T, kernels string, p model.Precision) {
		opt := model.Options{Threads: 2, Precision: p}
		old, mem := trainerOf(t, kernels, w, opt), 0
		for i, s := range sizes {
			b := tokens(uint64(i), s[0], s[1], c.Vocab)
			loss, grad, err := old.LossGrad(b)
			if err != nil {
				t.Fatal(err)
			}
			again, want, err := trainerOf(t, kernels, w, opt).LossGrad(b)
			if err != nil || loss != again || !slices.Equal(grad, want) {
				t.Errorf("%v after %v: loss %v, a new trainer has %v; or the gradients differ (%v)", s, sizes[:i], loss, again, err)
			}
			if s[1] == 600 {
				mem = old.net.rows
			}
			if mem > 0 && old.net.rows != mem {
				t.Errorf("%v takes more memory than %v", s, sizes[:i])
			}
		}
	})
}

// Nor do the blocks of rows in which the output matrix is multiplied, which are the order of a sum.
func TestHeadBlocks(t *testing.T) {
	c := shape(4, 1, 1, 2)
	c.Vocab = 2*mostLogits/leastHeadRows + 1
	one, more := bare(t, "", c, 1, 1), bare(t, "", c, 1, 1)
	for _, N := range []int{1, leastHeadRows - 1, leastHeadRows, 2*leastHeadRows + 8, leastHeadRows + 1} {
		more.reserve(1, N)
		one.rows = 0 // as if it had seen no batch
		one.reserve(1, N)
		a, b := one.headBlock(N), more.headBlock(N)
		if a != b || a > one.headRows || b > more.headRows || ceil(N, a) != ceil(N, min(N, leastHeadRows)) {
			t.Errorf("%d rows go in blocks of %d, after larger batches %d; there is room for %d and %d", N, a, b, one.headRows, more.headRows)
		}
	}
}

// A judge's θ, and the copy of it that is multiplied, are bit for bit what they were after a delta that names positions twice.
func TestUndoRestoresTheCopyToo(t *testing.T) {
	c := shape(70, 4, 2, 6)
	w := randomWeights(t, c)
	d := randomDelta(w.Layout(), 4)
	for i := range d.idx {
		d.idx[i], d.val[i] = append(d.idx[i], 0, 0, 0), append(d.val[i], 1, 2, 3)
	}
	precisions(t, func(t *testing.T, kernels string, p model.Precision) {
		x, err := New(kernels).NewJudge(c, model.Options{Precision: p})
		if err == nil {
			err = x.Reset(context.Background(), w)
		}
		if err != nil {
			t.Fatal(err)
		}
		j := x.(*Judge)
		flat, f, h := slices.Clone(j.net.w.flat), slices.Clone(j.net.p.flat.f), slices.Clone(j.net.p.flat.h)
		sets := [][]model.Batch{{tokens(1, 2, 9, c.Vocab)}}
		before, err := j.Losses(context.Background(), nil, 0, sets)
		if err != nil {
			t.Fatal(err)
		}
		moved, err := j.Losses(context.Background(), d, 1, sets)
		if err != nil || slices.Equal(moved[0], before[0]) {
			t.Errorf("the delta makes no difference (%v)", err)
		}
		if !slices.Equal(j.net.w.flat, flat) || !slices.Equal(j.net.p.flat.f, f) || !slices.Equal(j.net.p.flat.h, h) {
			t.Error("something of the delta is left")
		}
	})
}

// A step that is not finite is not made: parameters and moments are what they were, so the trainer can go on from a good state.
func TestDivergenceLeavesNoTrace(t *testing.T) {
	c := shape(16, 4, 2, 16)
	precisions(t, func(t *testing.T, kernels string, p model.Precision) {
		for name, bad := range map[string]float32{"NaN": float32(math.NaN()), "infinite": float32(math.Inf(1)), "overflow": 3e38} {
			tr := trainerOf(t, kernels, randomWeights(t, c), model.Options{Precision: p})
			rows := slices.Clone(tr.net.w.flat)
			train(t, tr, 0, tokens(1, 2, 9, c.Vocab))
			for _, at := range []int{5, len(rows) - 1} { // a token's embedding, the output of the last token
				if name == "overflow" && at == 5 {
					continue // the norm makes zeros of it
				}
				tr.net.w.flat[at] = bad
				tr.net.refresh(at, at+1)
				b, before := tokens(2, 2, 9, c.Vocab), tr.state()
				b.X[0], b.Y[1] = 0, int32(c.Vocab-1)
				rep, err := tr.Train(context.Background(), endless{b}, model.Budget{Steps: 3})
				if !errors.Is(err, model.ErrDiverged) || rep.Steps != 0 || tr.state() != before {
					t.Errorf("%s at %d: %+v, %v; state changed: %v", name, at, rep, err, tr.state() != before)
				}
				tr.net.w.flat[at] = rows[at]
				tr.net.refresh(at, at+1)
			}
			train(t, tr, 1, tokens(3, 2, 9, c.Vocab))
		}
	})
}

// Where all keys are alike, queries and keys have no gradient: what is subtracted must be rounded as what it is subtracted from.
func TestAlikeKeysHaveNoGradient(t *testing.T) {
	c := shape(24, 2, 1, 16)
	w := randomWeights(t, c)
	b := tokens(3, 2, 3, c.Vocab)
	for i := range b.X {
		b.X[i] = 1
	}
	precisions(t, func(t *testing.T, kernels string, p model.Precision) {
		tr := trainerOf(t, kernels, w, model.Options{Precision: p})
		if _, _, err := tr.LossGrad(b); err != nil {
			t.Fatal(err)
		}
		d, Q, K := tr.grad.layers[0].qkv, c.Heads*c.HeadDim*c.Width, c.KVHeads*c.HeadDim*c.Width
		squares := tr.net.k.SumSquares
		if qk, v := squares(d[:Q+K]), squares(d[Q+K:]); !(qk <= 1e-10*v) {
			t.Errorf("gradients of queries and keys have the norm %v, those of values %v", math.Sqrt(qk), math.Sqrt(v))
		}
	})
}
