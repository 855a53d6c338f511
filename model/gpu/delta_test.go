package gpu

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"sn3/model"
	"sn3/model/gpu/cuda"
	"sn3/model/gpu/standin"
	"sn3/model/kern"
)

// entries is a Delta of any indices.
type entries map[int]struct {
	idx []uint16
	val []float32
}

func (e entries) Chunk(i int, idx []uint16, val []float32) int {
	copy(idx, e[i].idx)
	return copy(val, e[i].val)
}

// scattered names about one position in nine, none of some chunks.
func scattered(l *model.Layout, seed uint64) entries {
	r, out := rand.New(rand.NewPCG(seed, 8)), entries{}
	for i := range l.Chunks() {
		e := out[i]
		for x := range l.Chunk(i).Len {
			if i%4 != 3 && r.IntN(9) == 0 {
				e.idx, e.val = append(e.idx, uint16(x)), append(e.val, float32(r.NormFloat64()))
			}
		}
		out[i] = e
	}
	return out
}

// newJudge is a judge on the stand-in, which sn3StandinSet can make fail.
func newJudge(t *testing.T, c model.Config) (*Judge, *standin.Card) {
	t.Helper()
	card := standin.Load(t)
	x, err := New(Settings{Library: card.Path}).NewJudge(c, model.Options{Precision: model.BF16})
	if err != nil {
		t.Fatal(err)
	}
	j := x.(*Judge)
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j, card
}

// onCard is θ and its copies as they are on the card, gaps included.
func onCard(t *testing.T, j *Judge) (w []uint32, half []uint16) {
	t.Helper()
	w, half = make([]uint32, j.net.vec.size), make([]uint16, j.net.vec.size)
	if err := j.net.do(func(q *queue) {
		get(q, w, j.net.w)
		get(q, half, j.net.half)
	}); err != nil {
		t.Fatal(err)
	}
	return w, half
}

// A delta moves θ as model/cpu's judge moves it, in every bit, and back: also where θ is no number; a smaller and a larger one after it.
func TestDeltaOnTheCard(t *testing.T) {
	for name, c := range shapes {
		j, _ := newJudge(t, c)
		l := j.net.layout
		w := model.NewFlat(l)
		w.Init(5)
		for i, x := range []float64{math.NaN(), math.Inf(1), math.Copysign(0, -1), 1e-42} {
			w.Data[i*7] = float32(x)
		}
		if err := j.Reset(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		before, halfBefore := onCard(t, j)
		for seed, d := range []entries{scattered(l, 1), {0: {idx: []uint16{0}, val: []float32{2}}}, {}, scattered(l, 2)} {
			moved := model.NewFlat(l)
			copy(moved.Data, w.Data)
			for i, e := range d {
				for k, x := range e.idx {
					moved.Data[l.Chunk(i).Start+int(x)] -= float32(0.3 * e.val[k])
				}
			}
			rows := make([]float32, l.Params())
			moved.Rows(rows)
			if err := errors.Join(j.deltas.collect(l, d), j.net.do(j.deltas.send), j.change(func(q *queue) { j.deltas.apply(q, j.net, 0.3) })); err != nil {
				t.Fatal(err)
			}
			got, half := onCard(t, j)
			for _, s := range j.net.vec.segments {
				for i, x := range rows[s.host:][:s.n] {
					if y := math.Float32frombits(got[s.card+i]); math.Float32bits(x) != got[s.card+i] && (x == x || y == y) || half[s.card+i] != uint16(kern.RoundBF16(x)) {
						t.Fatalf("%s, delta %d: value %d is %v and %04x, want %v", name, seed, s.host+i, y, half[s.card+i], x)
					}
				}
			}
			if err := j.change(func(q *queue) { j.deltas.undo(q, j.net) }); err != nil {
				t.Fatal(err)
			}
			if after, halfAfter := onCard(t, j); !slices.Equal(after, before) || !slices.Equal(halfAfter, halfBefore) {
				t.Fatalf("%s, delta %d: θ or its copies are not what they were", name, seed)
			}
		}
	}
}

// A delta that cannot be applied, or memory for it that cannot be had, leaves θ alone, and the judge works on.
func TestDeltaRefused(t *testing.T) {
	standin.Only(t, "an allocation that fails")
	c := shapes["odd"]
	j, card := newJudge(t, c)
	l := j.net.layout
	w := model.NewFlat(l)
	w.Init(5)
	if err := j.Reset(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	before, _ := onCard(t, j)
	sets := [][]model.Batch{{batch(1, c, 1, 4)}}
	want, err := j.Losses(t.Context(), nil, 0, sets)
	if err != nil {
		t.Fatal(err)
	}
	two := []float32{1, 1}
	for name, d := range map[string]entries{
		"twice":      {1: {idx: []uint16{3, 3}, val: two}},
		"descending": {1: {idx: []uint16{4, 3}, val: two}},
		"outside":    {l.Chunks() - 1: {idx: []uint16{0, uint16(l.Chunk(l.Chunks() - 1).Len)}, val: two}},
	} {
		if got, err := j.Losses(t.Context(), d, 1, sets); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
	card.Set(t, "oom", strconv.Itoa(1))
	if got, err := j.Losses(t.Context(), scattered(l, 1), 1, sets); cuda.ErrorCode(err) != cuda.OutOfMemory {
		t.Errorf("without memory: %v, %v", got, err)
	}
	card.Set(t, "oom", "0")
	if got, err := j.Losses(t.Context(), scattered(l, 1), 1, sets); err != nil || slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("with a delta: %v, %v", got, err)
	}
	if got, err := j.Losses(t.Context(), nil, 0, sets); err != nil || !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("afterwards: %v, want %v (%v)", got, want, err)
	}
	if after, _ := onCard(t, j); !slices.Equal(after, before) {
		t.Error("θ is not what it was")
	}
}

// A judge has nothing to measure before its first parameters. A delta for which the card has no memory is an error that changes nothing: a smaller one is judged
// as before it.
func TestDeltaBeyondMemory(t *testing.T) {
	standin.Only(t, "an allocation that fails")
	card, c := standin.Load(t), shapes["even"]
	x, err := New(Settings{Library: card.Path}).NewJudge(c, model.Options{Precision: model.BF16})
	if err != nil {
		t.Fatal(err)
	}
	j := x.(*Judge)
	defer func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	}()
	sets := [][]model.Batch{{batch(1, c, 1, 5)}}
	if _, err := j.Losses(t.Context(), nil, 0, sets); !errors.Is(err, model.ErrNoWeights) {
		t.Errorf("without parameters: %v", err)
	}
	w := model.NewFlat(j.net.layout)
	w.Init(7)
	if err := j.Reset(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	want, err := j.Losses(t.Context(), first{}, 0.1, sets)
	if err != nil {
		t.Fatal(err)
	}
	card.Set(t, "oom", "1")
	if _, err := j.Losses(t.Context(), scattered(j.net.layout, 1), 0.1, sets); cuda.ErrorCode(err) != cuda.OutOfMemory {
		t.Errorf("a delta without memory: %v", err)
	}
	card.Set(t, "oom", "0")
	for range 2 {
		if got, err := j.Losses(t.Context(), first{}, 0.1, sets); err != nil || got[0][0] != want[0][0] {
			t.Errorf("afterwards: %v, %v, before %v", got, err, want)
		}
	}
}
