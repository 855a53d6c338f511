package gpu

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"sn3/model"
	"sn3/model/gpu/cuda"
	"sn3/model/gpu/memory"
	"sn3/model/gpu/standin"
)

// planned is a trainer with a plan and recomputation, at the parameters that pair has.
func planned(t *testing.T, c model.Config, s Settings, opt model.Options) *Trainer {
	t.Helper()
	s.Library = standin.Library(t)
	x, err := New(s).NewTrainer(c, optimizer(), opt)
	if err != nil {
		t.Fatal(err)
	}
	tr := x.(*Trainer)
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	w := model.NewFlat(tr.net.layout)
	w.Init(7)
	if err := tr.Reset(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	return tr
}

// What is recomputed has the bits of what is kept: loss and gradient are the same, whatever is recomputed.
func TestRecomputedIsKept(t *testing.T) {
	for _, name := range []string{"even", "tied", "odd"} {
		c := shapes[name]
		c.Layers = 3
		b := batch(5, c, 3, c.Seq)
		for _, p := range memory.Plans() {
			var loss float64
			var want []float32
			for _, r := range memory.Recomputes() {
				tr := planned(t, c, Settings{Plan: p, Recompute: r}, model.Options{Precision: model.BF16, MicroBatch: 2})
				l, g, err := tr.LossGrad(b)
				if err != nil {
					t.Fatal(err)
				}
				if r == memory.None {
					loss, want = l, g
				}
				if l != loss || !slices.Equal(g, want) {
					t.Errorf("%s, %s: with recomputation %s loss or gradient are others", name, p, r)
				}
			}
		}
	}
}

// The gradients of lean and offload are those of classic, rounded to bfloat16: once where a product makes them whole.
func TestShortGradients(t *testing.T) {
	for name, c := range shapes {
		b := batch(6, c, 2, c.Seq)
		opt := model.Options{Precision: model.BF16}
		_, want, err := planned(t, c, Settings{}, opt).LossGrad(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []memory.Plan{memory.Lean, memory.Offload} {
			_, got, err := planned(t, c, Settings{Plan: p}, opt).LossGrad(b)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range c.Tensors() { // rows of the embedding add up copies of the residual stream's gradient that are rounded first
				if d := apart(got[x.Off:][:x.Len()], want[x.Off:][:x.Len()], 0.02*length(want[x.Off:][:x.Len()])); !(d <= 0x1p-8) {
					t.Errorf("%s, %s: gradient of %s is %.1e away", name, p, x.Name, d)
				}
			}
		}
	}
}

// With the host's AdamW a step has the bits of the card's, from the same gradient: here all of it is exact in bfloat16 at the first step.
func TestOffloadSteps(t *testing.T) {
	c := shapes["tied"]
	off, twin := planned(t, c, Settings{Plan: memory.Offload}, model.Options{Precision: model.BF16, Threads: 2}), planned(t, c, Settings{}, model.Options{Precision: model.BF16})
	for i := range uint64(3) {
		b := batch(i, c, 2, c.Seq)
		_, grad, err := off.LossGrad(b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := off.Train(t.Context(), endless{b}, model.Budget{First: i, Steps: 1}); err != nil {
			t.Fatal(err)
		}
		// the twin steps with the gradient that the other had
		if err := twin.net.do(func(q *queue) {
			twin.tell(q, twin.opt.WarmRate(i, 0), 1)
			twin.net.put(q, grad, 0, rowMajor{twin.net.g, false, twin.k})
			q.run("squares", twin.pieces(), 1, 1, twin.net.at["sums of pieces"], twin.net.g, twin.net.at["pieces"])
			q.run("clip", 1, 1, 1, twin.net.outcome(), twin.net.at["sums of pieces"], twin.net.table(), twin.pieces())
			twin.update(q)
		}); err != nil {
			t.Fatal(err)
		}
		twin.step++
		twin.cache.drop()
		if !slices.Equal(flat(t, off.Trained()), flat(t, twin.Trained())) {
			t.Fatalf("step %d: other parameters", i)
		}
	}
	var a, b bytes.Buffer
	if err := errors.Join(off.Save(&a), twin.Save(&b)); err != nil || !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Errorf("%v; the moments are the same: %v", err, bytes.Equal(a.Bytes(), b.Bytes()))
	}
}

// Lean and offload reach the loss that classic reaches, on data that can be learnt.
func TestPlansLearnAlike(t *testing.T) {
	c := shapes["tied"]
	const steps = 30
	loss := map[memory.Plan]float64{}
	for _, p := range memory.Plans() {
		tr := planned(t, c, Settings{Plan: p}, model.Options{Precision: model.BF16})
		data := endless{batch(8, c, 2, c.Seq)}
		if _, err := tr.Train(t.Context(), data, model.Budget{Steps: steps}); err != nil {
			t.Fatal(err)
		}
		l, _, err := tr.LossGrad(data.b)
		if err != nil {
			t.Fatal(err)
		}
		loss[p] = l
	}
	t.Logf("after %d steps: %v", steps, loss)
	first := math.Log(float64(c.Vocab))
	for p, l := range loss {
		if gain, want := first-l, first-loss[memory.Classic]; !(want > 1) || math.Abs(gain-want) > 0.03*want {
			t.Errorf("%s gains %.4f nats, classic %.4f", p, gain, want)
		}
	}
}

// Moments move between plans: bfloat16 ones are exact in float32, float32 ones are rounded to nearest.
func TestMomentsMoveBetweenPlans(t *testing.T) {
	c := shapes["odd"]
	opt := model.Options{Precision: model.BF16}
	lean, classic, off := planned(t, c, Settings{Plan: memory.Lean}, opt), planned(t, c, Settings{}, opt), planned(t, c, Settings{Plan: memory.Offload}, opt)
	save := func(tr *Trainer) []byte {
		var b bytes.Buffer
		if err := tr.Save(&b); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	if _, err := lean.Train(t.Context(), endless{batch(1, c, 2, c.Seq)}, model.Budget{Steps: 3}); err != nil {
		t.Fatal(err)
	}
	saved := save(lean)
	for _, tr := range []*Trainer{classic, off} {
		if err := tr.Load(bytes.NewReader(saved)); err != nil || !bytes.Equal(save(tr), saved) {
			t.Errorf("%s: %v; the same: %v", tr.net.request.Plan, err, bytes.Equal(save(tr), saved))
		}
	}
	lean.Forget()
	if err := lean.Load(bytes.NewReader(save(off))); err != nil || !bytes.Equal(save(lean), saved) {
		t.Errorf("and back: %v", err)
	}
	off.Forget()
	if bytes.Equal(save(off), saved) || off.step != 0 {
		t.Error("forgotten moments are there")
	}
}

// Chunks read one by one, from several goroutines, are those that are read at once, also where groups leave the cache.
func TestChunksOneByOne(t *testing.T) {
	l, err := model.NewLayout(model.Config{Vocab: 512, Width: 256, Layers: 14, Heads: 4, KVHeads: 4, HeadDim: 64, FFN: 640, Seq: 8, RopeTheta: 1e4, NormEps: 1e-5})
	if err != nil {
		t.Fatal(err)
	}
	w := model.NewFlat(l)
	w.Init(3)
	if l.Chunks() < (mostGroups+2)*groupChunks {
		t.Fatalf("only %d chunks", l.Chunks())
	}
	var held cache
	var fetched atomic.Int64
	fetch := func(dst []float32, r model.ChunkRange) error { fetched.Add(1); return w.Read(dst, r) }
	var wait sync.WaitGroup
	for g := range 3 {
		wait.Go(func() {
			var buf [3 * model.ChunkSize]float32
			for i := range l.Chunks() {
				r := model.ChunkRange{From: i, To: min(i+1+g, l.Chunks())}
				from, to := l.Span(r)
				if err := held.read(buf[:to-from], l, r, fetch); err != nil || !slices.Equal(buf[:to-from], w.Data[from:to]) {
					t.Errorf("chunks %v are others: %v", r, err)
					return
				}
			}
		})
	}
	wait.Wait()
	if n := fetched.Load(); n > 3*int64(l.Chunks()/groupChunks+1) || len(held.groups) != mostGroups || len(held.order) != mostGroups {
		t.Errorf("%d groups were fetched, %d are held", n, len(held.groups))
	}
	held.drop()
	if err := held.read(make([]float32, l.Chunk(0).Len), l, model.ChunkRange{To: 1}, func([]float32, model.ChunkRange) error { return errRead }); !errors.Is(err, errRead) || len(held.groups) != 0 {
		t.Errorf("%v, and %d groups are held", err, len(held.groups))
	}
}

// After a step, or new parameters, chunks are the new ones.
func TestChunksAfterAStep(t *testing.T) {
	c := shapes["even"]
	for _, p := range memory.Plans() {
		tr := planned(t, c, Settings{Plan: p}, model.Options{Precision: model.BF16})
		first := model.ChunkRange{To: 1}
		before := make([]float32, tr.net.layout.Chunk(0).Len)
		if err := tr.Trained().Read(before, first); err != nil {
			t.Fatal(err)
		}
		w := model.NewFlat(tr.net.layout)
		w.Init(8)
		for name, change := range map[string]func() error{
			"step": func() error {
				_, err := tr.Train(t.Context(), endless{batch(1, c, 1, 4)}, model.Budget{Steps: 1})
				return err
			},
			"reset": func() error { return tr.Reset(t.Context(), w) },
		} {
			after := make([]float32, len(before))
			if err := errors.Join(change(), tr.Trained().Read(after, first)); err != nil || slices.Equal(before, after) || !slices.Equal(after, flat(t, tr.Trained())[:len(after)]) {
				t.Errorf("%s, after a %s: stale chunks, or %v", p, name, err)
			}
			before = after
		}
	}
}

// failing are weights that cannot be read from some chunk on.
type failing struct {
	model.Weights
	from int
}

var errRead = errors.New("no such chunk")

func (f failing) Read(dst []float32, r model.ChunkRange) error {
	if r.To > f.from {
		return errRead
	}
	return f.Weights.Read(dst, r)
}

// Parameters that fail to come change nothing, wherever they wait; what is trained on afterwards has the same bits.
func TestResetIsAllOrNothing(t *testing.T) {
	c := shapes["even"]
	b := batch(1, c, 1, 3)
	for _, p := range memory.Plans() {
		tr, twin := planned(t, c, Settings{Plan: p}, model.Options{Precision: model.BF16}), planned(t, c, Settings{Plan: p}, model.Options{Precision: model.BF16})
		l := tr.net.layout
		tr.net.stretch = 3 // so that it comes in several
		w := model.NewFlat(l)
		w.Init(9)
		bad := failing{w, l.Chunks() - 1}
		for name, err := range map[string]error{"reset": tr.Reset(t.Context(), bad), "rebase from": tr.Rebase(t.Context(), bad, w), "rebase to": tr.Rebase(t.Context(), w, bad)} {
			if !errors.Is(err, errRead) {
				t.Errorf("%s, %s: %v", p, name, err)
			}
		}
		step := func(tr *Trainer) []float32 {
			if _, err := tr.Train(t.Context(), endless{b}, model.Budget{Steps: 1}); err != nil {
				t.Fatalf("%s: %v", p, err)
			}
			return flat(t, tr.Trained())
		}
		if !slices.Equal(step(tr), step(twin)) {
			t.Errorf("%s: it trains on differently", p)
		}
		// of itself: its own card is asked for what it is given
		before := flat(t, tr.Trained())
		if err := errors.Join(tr.Reset(t.Context(), tr.Trained()), tr.Rebase(t.Context(), tr.Trained(), tr.Trained())); err != nil || !slices.Equal(before, flat(t, tr.Trained())) {
			t.Errorf("%s: it is not what it was: %v", p, err)
		}
	}
}

// After a step that failed half way, or parameters that did, there is nothing to train, read or save until a Reset; then all is as of a new trainer.
func TestTorn(t *testing.T) {
	standin.Only(t, "calls that fail")
	c := shapes["odd"]
	for _, p := range memory.Plans() {
		for name, fail := range map[string]string{"step": "cuMemcpyDtoHAsync_v2:1:719", "reset": "cuMemcpyDtoDAsync_v2:1:719"} {
			if p == memory.Offload && name == "reset" { // it copies nothing on the card
				fail = "cuMemcpyHtoDAsync_v2:1:719"
			}
			card := standin.Load(t)
			x, err := New(Settings{Library: card.Path, Plan: p}).NewTrainer(c, optimizer(), model.Options{Precision: model.BF16})
			if err != nil {
				t.Fatal(err)
			}
			tr := x.(*Trainer)
			w := model.NewFlat(tr.net.layout)
			w.Init(7)
			data := endless{batch(1, c, 1, 4)}
			step := func(tr *Trainer) error {
				_, err := tr.Train(t.Context(), data, model.Budget{Steps: 1})
				return err
			}
			if err := errors.Join(tr.Reset(t.Context(), w), step(tr), step(tr)); err != nil {
				t.Fatal(err)
			}
			card.Set(t, "fail", fail)
			if name == "step" {
				err = step(tr)
			} else {
				err = tr.Reset(t.Context(), w)
			}
			if cuda.ErrorCode(err) != cuda.LaunchFailed {
				t.Fatalf("%s, %s: %v", p, name, err)
			}
			for what, err := range map[string]error{"step": step(tr), "read": tr.Trained().Read(make([]float32, tr.net.layout.Params()), tr.net.layout.All()),
				"save": tr.Save(io.Discard), "rebase": tr.Rebase(t.Context(), w, w)} {
				if !errors.Is(err, model.ErrNoWeights) {
					t.Errorf("%s, after a %s that failed, %s: %v", p, name, what, err)
				}
			}
			fresh := planned(t, c, Settings{Plan: p}, model.Options{Precision: model.BF16})
			if err := errors.Join(tr.Reset(t.Context(), w), step(tr), step(fresh)); err != nil || !slices.Equal(flat(t, tr.Trained()), flat(t, fresh.Trained())) {
				t.Errorf("%s, after a %s that failed and a reset: %v", p, name, err)
			}
			if err := tr.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// Lean's moments are rounded by another noise in every step, a function of its number alone.
func TestNoise(t *testing.T) {
	tr := planned(t, shapes["odd"], Settings{Plan: memory.Lean}, model.Options{Precision: model.BF16})
	seen := map[uint64]bool{}
	for step := range uint64(4) {
		if _, err := tr.Train(t.Context(), endless{batch(1, shapes["odd"], 1, 4)}, model.Budget{Steps: 1}); err != nil {
			t.Fatal(err)
		}
		var state [1]uint64
		if err := tr.net.do(func(q *queue) { get(q, state[:], tr.net.seed()) }); err != nil {
			t.Fatal(err)
		}
		if state[0] != noise(step) || seen[state[0]] {
			t.Errorf("step %d has the state %x", step, state[0])
		}
		seen[state[0]] = true
	}
}
