package cpu

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"sn3/model"
)

// randomTrainer has weights far from special values: norms away from 1, nothing tiny. rows are they, row-major.
func randomTrainer(t testing.TB, kernels string, c model.Config, threads int, o model.Optimizer) (tr *Trainer, rows []float32) {
	t.Helper()
	x, err := New(kernels).NewTrainer(c, o, model.Options{Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	tr = x.(*Trainer)
	if err := tr.Reset(context.Background(), randomWeights(t, c)); err != nil {
		t.Fatal(err)
	}
	return tr, slices.Clone(tr.net.w.flat)
}

func randomWeights(t testing.TB, c model.Config) *model.Flat {
	t.Helper()
	l, err := model.NewLayout(c)
	if err != nil {
		t.Fatal(err)
	}
	w := model.NewFlat(l)
	w.Init(3)
	r := rand.New(rand.NewPCG(uint64(l.Params()), 5))
	for i := range w.Data {
		w.Data[i] += float32(0.15 * r.NormFloat64())
	}
	return w
}

func tokens(seed uint64, B, T, V int) model.Batch {
	r := rand.New(rand.NewPCG(seed, 2))
	b := model.Batch{B: B, T: T, X: make([]int32, B*T), Y: make([]int32, B*T)}
	for i := range b.X {
		b.X[i], b.Y[i] = int32(r.IntN(V)), int32(r.IntN(V))
	}
	return b
}

// script yields batches, then an error.
type script struct {
	batches []model.Batch
	err     error
	next    func() // called before a batch is given out
}

func (s *script) Next(context.Context) (model.Batch, error) {
	if len(s.batches) == 0 {
		return model.Batch{}, s.err
	}
	b := s.batches[0]
	s.batches = s.batches[1:]
	if s.next != nil {
		s.next()
	}
	return b, nil
}

func usual() model.Optimizer {
	return model.Optimizer{LR: 3e-3, MinLR: 0.1, Decay: 0.3, Warmup: 3, Total: 100, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, Clip: 1}
}

// state is everything that a trainer carries from step to step, bit for bit.
func (t *Trainer) state() string {
	var b bytes.Buffer
	if err := t.Save(&b); err != nil {
		return err.Error()
	}
	for _, x := range t.net.w.flat {
		b.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(x)))
	}
	return b.String()
}

func train(t testing.TB, tr *Trainer, first uint64, batches ...model.Batch) model.Report {
	t.Helper()
	rep, err := tr.Train(context.Background(), &script{batches: batches, err: io.EOF}, model.Budget{First: first, Steps: len(batches)})
	if err != nil || rep.Steps != len(batches) {
		t.Fatalf("%+v, %v", rep, err)
	}
	return rep
}

// Save, restart, Load goes on bit for bit as if nothing had happened; Reset leaves the moments alone, and they matter.
func TestRestartGoesOnBitForBit(t *testing.T) {
	c := shape(12, 4, 2, 6)
	kernelSets(t, func(t *testing.T, kernels string) {
		a, _ := randomTrainer(t, kernels, c, 2, usual())
		train(t, a, 0, tokens(1, 2, 9, c.Vocab), tokens(2, 2, 9, c.Vocab))
		at := model.NewFlat(a.net.layout)
		var saved, again bytes.Buffer
		if err := errors.Join(at.CopyFrom(a.Trained()), a.Save(&saved), a.Reset(context.Background(), at), a.Save(&again)); err != nil || !bytes.Equal(saved.Bytes(), again.Bytes()) {
			t.Fatalf("Reset touches the moments (%v)", err)
		}
		b, _ := randomTrainer(t, kernels, c, 1, usual())
		fresh, _ := randomTrainer(t, kernels, c, 1, usual())
		if err := errors.Join(b.Load(bytes.NewReader(saved.Bytes())), b.Reset(context.Background(), at), fresh.Reset(context.Background(), at)); err != nil {
			t.Fatal(err)
		}
		for i := range uint64(3) {
			for _, tr := range []*Trainer{a, b, fresh} {
				train(t, tr, 2+i, tokens(3+i, 2, 9, c.Vocab))
			}
		}
		if a.state() != b.state() {
			t.Error("goes on differently after a restart")
		}
		if slices.Equal(a.net.w.flat, fresh.net.w.flat) {
			t.Error("the moments make no difference here, so this test shows nothing")
		}
	})
}

func TestLoadRefuses(t *testing.T) {
	c := shape(12, 4, 2, 6)
	tr, _ := randomTrainer(t, "", c, 1, usual())
	train(t, tr, 0, tokens(1, 2, 9, c.Vocab))
	var b bytes.Buffer
	if err := tr.Save(&b); err != nil {
		t.Fatal(err)
	}
	want, good := tr.state(), b.Bytes()
	bad := map[string][]byte{"empty": nil, "cut": good[:len(good)-1], "longer": append(slices.Clone(good), 0)}
	for i := 0; i < len(good); i += 1 + i/3 {
		x := slices.Clone(good)
		x[i] ^= 4
		bad[fmt.Sprintf("byte %d", i)] = x
	}
	for name, x := range bad {
		if err := tr.Load(bytes.NewReader(x)); !errors.Is(err, model.ErrMoments) || tr.state() != want {
			t.Errorf("%s: %v, state changed: %v", name, err, tr.state() != want)
		}
	}
	other, _ := randomTrainer(t, "", shape(13, 4, 2, 6), 1, usual())
	if err := other.Load(bytes.NewReader(good)); !errors.Is(err, model.ErrMoments) {
		t.Errorf("another model: %v", err)
	}
	broken := io.MultiReader(bytes.NewReader(good[:50]), brokenReader{})
	if err := tr.Load(broken); !errors.Is(err, io.ErrNoProgress) || tr.state() != want {
		t.Errorf("a reader's error: %v", err)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error)  { return 0, io.ErrNoProgress }
func (brokenReader) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

// local += to − from, bit for bit; moments are untouched, also when from is the trainer's own live view.
func TestRebase(t *testing.T) {
	c, ctx := shape(70, 4, 2, 6), context.Background()
	tr, _ := randomTrainer(t, "", c, 1, usual())
	train(t, tr, 0, tokens(1, 2, 9, c.Vocab))
	l := tr.net.layout
	from, to, local := model.NewFlat(l), model.NewFlat(l), model.NewFlat(l)
	from.Init(7)
	to.Init(8)
	var before, after bytes.Buffer
	if err := errors.Join(local.CopyFrom(tr.Trained()), tr.Save(&before), tr.Rebase(ctx, from, to), tr.Save(&after)); err != nil || !bytes.Equal(before.Bytes(), after.Bytes()) {
		t.Fatalf("moments changed, or %v", err)
	}
	got := model.NewFlat(l)
	if err := got.CopyFrom(tr.Trained()); err != nil {
		t.Fatal(err)
	}
	for i, x := range local.Data {
		if want := x + (to.Data[i] - from.Data[i]); got.Data[i] != want {
			t.Fatalf("value %d is %v, want %v", i, got.Data[i], want)
		}
	}
	if err := tr.Rebase(ctx, tr.Trained(), to); err != nil || got.CopyFrom(tr.Trained()) != nil {
		t.Fatal(err)
	}
	for i, x := range got.Data {
		if math.Abs(float64(x-to.Data[i])) > 1e-6 {
			t.Fatalf("value %d is %v, want %v", i, x, to.Data[i])
		}
	}
	other := randomWeights(t, shape(12, 4, 2, 6))
	state := tr.state()
	for name, err := range map[string]error{"from": tr.Rebase(ctx, other, to), "to": tr.Rebase(ctx, to, other), "reset": tr.Reset(ctx, other)} {
		if err == nil || tr.state() != state {
			t.Errorf("%s: weights of another layout were accepted", name)
		}
	}
}

// Train ends after a whole step, without an error, when the budget is spent, the batches are used up or ctx ends; the steps
// count whatever ended it.
func TestTrainEnds(t *testing.T) {
	c := shape(12, 4, 2, 6)
	b := []model.Batch{tokens(1, 2, 9, c.Vocab), tokens(2, 1, 7, c.Vocab), tokens(3, 3, 5, c.Vocab)}
	lost := errors.New("bucket is gone")
	for _, x := range []struct {
		name   string
		steps  int
		src    script
		cancel int // ctx ends while the batch of this number is handed out
		want   int
		err    error
	}{
		{"budget", 2, script{batches: b}, 0, 2, nil},
		{"no budget", 0, script{batches: b}, 0, 0, nil},
		{"used up", 9, script{batches: b, err: io.EOF}, 0, 3, nil},
		{"used up, wrapped", 9, script{batches: b, err: fmt.Errorf("read: %w", io.EOF)}, 0, 3, nil},
		{"ctx ends within a step", 9, script{batches: b, err: io.EOF}, 2, 2, nil},
		{"ctx ended before", 9, script{batches: b}, -1, 0, nil},
		{"source fails", 9, script{batches: b[:1], err: lost}, 0, 1, lost},
	} {
		tr, _ := randomTrainer(t, "", c, 1, usual())
		ctx, cancel := context.WithCancel(context.Background())
		if x.cancel < 0 {
			cancel()
		}
		n := 0
		x.src.next = func() {
			if n++; n == x.cancel {
				cancel()
			}
		}
		rep, err := tr.Train(ctx, &x.src, model.Budget{Steps: x.steps})
		cancel()
		tok := []int{0, 18, 25, 40}[x.want]
		if !errors.Is(err, x.err) || rep.Steps != x.want || rep.Tokens != tok || tr.step != uint64(x.want) || (rep.Loss > 0) != (x.want > 0) {
			t.Errorf("%s: %+v, %v; want %d steps, %d tokens, %v", x.name, rep, err, x.want, tok, x.err)
		}
	}
}

func TestBadBatchesAreErrors(t *testing.T) {
	c := shape(12, 4, 2, 6)
	tr, _ := randomTrainer(t, "", c, 1, usual())
	before := tr.state()
	good := tokens(1, 2, 9, c.Vocab)
	for name, change := range map[string]func(b *model.Batch){
		"token below": func(b *model.Batch) { b.X[3] = -1 }, "token above": func(b *model.Batch) { b.X[3] = int32(c.Vocab) },
		"target below": func(b *model.Batch) { b.Y[3] = -1 }, "target above": func(b *model.Batch) { b.Y[3] = int32(c.Vocab) },
		"short x": func(b *model.Batch) { b.X = b.X[1:] }, "short y": func(b *model.Batch) { b.Y = b.Y[1:] },
		"empty": func(b *model.Batch) { *b = model.Batch{} }, "negative": func(b *model.Batch) { b.B, b.T = -2, -9 },
		"too long": func(b *model.Batch) {
			b.B, b.T, b.X, b.Y = 1, 1<<24+1, make([]int32, 1<<24+1), make([]int32, 1<<24+1)
		},
	} {
		b := model.Batch{B: good.B, T: good.T, X: slices.Clone(good.X), Y: slices.Clone(good.Y)}
		change(&b)
		if rep, err := tr.Train(context.Background(), endless{b}, model.Budget{Steps: 1}); err == nil || rep.Steps != 0 || tr.state() != before {
			t.Errorf("%s: %+v, %v", name, rep, err)
		}
	}
}

// A gradient is that of its own batch alone, whatever its memory held: gradients of other batches, in parts or not, weights that
// were read into it.
func TestGradientIsOfItsBatchAlone(t *testing.T) {
	kernelSets(t, func(t *testing.T, kernels string) {
		for _, tied := range []bool{true, false} {
			c := shape(12, 4, 2, 6)
			c.Tied = tied
			a, b := tokens(1, 4, 9, c.Vocab), tokens(2, 1, 3, c.Vocab)
			fresh, _ := randomTrainer(t, kernels, c, 1, usual())
			_, grad, err := fresh.LossGrad(b)
			if err != nil {
				t.Fatal(err)
			}
			tr, _ := randomTrainer(t, kernels, c, 1, usual())
			for what, before := range map[string]func() error{
				"a batch":          func() error { tr.micro = 0; _, _, err := tr.LossGrad(a); return err },
				"a batch in parts": func() error { tr.micro = 3; _, _, err := tr.LossGrad(a); return err },
				"weights":          func() error { return tr.Reset(t.Context(), randomWeights(t, c)) },
				"a shift": func() error {
					w := randomWeights(t, c)
					return tr.Rebase(t.Context(), w, w)
				},
			} {
				err := before()
				if err != nil {
					t.Fatal(err)
				}
				if _, got, err := tr.LossGrad(b); err != nil || !slices.Equal(got, grad) {
					t.Errorf("tied %v: after %s the gradient is another (%v)", tied, what, err)
				}
			}
		}
	})
}
