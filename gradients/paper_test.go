package gradients

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"sn3/chain"
	"sn3/model"
)

func flat(l *model.Layout, v []float32) *model.Flat {
	f := model.NewFlat(l)
	copy(f.Data, v)
	return f
}

// Error feedback conserves (CCLoco §3): what was accumulated is what was sent plus what is kept, to rounding.
func TestFeedbackConserves(t *testing.T) {
	l := tiny(t)
	f, err := OpenFeedback(t.TempDir(), l, 0.95)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(5, 5))
	start := model.NewFlat(l)
	want := make([]float64, l.Params()) // β-discounted sum of Δ minus sent, in float64
	for w := range chain.Window(4) {
		d := heavy(r, l.Params())
		end := model.NewFlat(l)
		for i := range d {
			end.Data[i] = -d[i]
		}
		p, err := f.Begin(start, end, w, 200)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Begin(start, end, w, 200); !errors.Is(err, ErrPending) {
			t.Fatalf("second Begin: %v", err)
		}
		for i := range want {
			want[i] = float64(float32(0.95))*want[i] + float64(d[i])
		}
		eachSent(l, p.Payload(), func(at int, v float32) { want[at] -= float64(v) })
		if err := p.Confirm(); err != nil {
			t.Fatal(err)
		}
	}
	for i, e := range f.e {
		if math.Abs(float64(e)-want[i]) > 1e-8 {
			t.Fatalf("value %d: residual %v, want %v", i, e, want[i])
		}
	}
}

func eachSent(l *model.Layout, p *Payload, f func(at int, v float32)) {
	idx, val := make([]uint16, model.ChunkSize), make([]float32, model.ChunkSize)
	for i := range l.Chunks() {
		n := p.Chunk(i, idx, val)
		for j := range n {
			f(l.Chunk(i).Start+int(idx[j]), val[j])
		}
	}
}

// Discard leaves the feedback as it was; a reopened folder knows pending and confirmed payloads.
func TestFeedbackSurvivesReopening(t *testing.T) {
	l := tiny(t)
	dir := t.TempDir()
	d := heavy(rand.New(rand.NewPCG(8, 8)), l.Params())
	open := func() *Feedback {
		f, err := OpenFeedback(dir, l, 0.95)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	f := open()
	p, err := f.Begin(flat(l, d), model.NewFlat(l), 7, 64)
	if err != nil {
		t.Fatal(err)
	}
	sum := p.Sum()
	f = open()
	if p = f.Pending(); p == nil || p.Sum() != sum || p.Window() != 7 {
		t.Fatalf("pending after reopening: %+v", p)
	}
	if err := p.Discard(); err != nil {
		t.Fatal(err)
	}
	if f = open(); f.Pending() != nil || f.e[1] != 0 {
		t.Fatal("discarded payload left something")
	}
	if p, err = f.Begin(flat(l, d), model.NewFlat(l), 8, 64); err != nil {
		t.Fatal(err)
	}
	if err := p.Confirm(); err != nil {
		t.Fatal(err)
	}
	if err := p.Confirm(); err == nil {
		t.Fatal("confirmed twice")
	}
	e := f.e
	if f = open(); f.Pending() != nil {
		t.Fatal("confirmed payload is pending again")
	}
	for i := range e {
		if f.e[i] != e[i] {
			t.Fatal("error feedback differs after reopening")
		}
	}
}

// Stopping before any file operation leaves the old or the new state, never a torn one.
func TestFeedbackCrashAnywhere(t *testing.T) {
	l := tiny(t)
	d := heavy(rand.New(rand.NewPCG(2, 1)), l.Params())
	type crash struct{}
	for stop := range 64 {
		dir := t.TempDir()
		n, completed := 0, 0
		life := func(limit int) (done bool) {
			defer func() {
				if r := recover(); r != nil {
					if _, ok := r.(crash); !ok {
						panic(r)
					}
				}
			}()
			f, err := openFeedback(dir, l, 0.95, func(string) {
				if n++; n > limit {
					panic(crash{})
				}
			})
			if err != nil {
				t.Fatalf("stop %d: %v", stop, err)
			}
			for w := range chain.Window(3) {
				p, err := f.Begin(flat(l, d), model.NewFlat(l), w, 64)
				if err != nil {
					t.Fatal(err)
				}
				if w == 1 {
					err = p.Discard()
				} else {
					err = p.Confirm()
				}
				if err != nil {
					t.Fatal(err)
				}
				completed++
			}
			return true
		}
		done := life(stop)
		f, err := OpenFeedback(dir, l, 0.95)
		if err != nil {
			t.Fatalf("stop %d: %v", stop, err)
		}
		if p := f.Pending(); p != nil && int(p.Window()) != completed && int(p.Window()) != completed-1 {
			t.Fatalf("stop %d: pending window %d after %d completed", stop, p.Window(), completed)
		}
		if done {
			return
		}
	}
	t.Fatal("64 operations were not enough to get through")
}

// A clip brings a payload down to the lower median norm and never up (DESIGN §5, "Aggregate").
func TestClips(t *testing.T) {
	for _, c := range []struct {
		norms []float64
		want  []float32
	}{
		{nil, []float32{}},
		{[]float64{0, 0}, []float32{1, 1}},
		{[]float64{1, 2, 4}, []float32{1, 1, 0.5}},
		{[]float64{1, 2, 4, 8}, []float32{1, 1, 0.5, 0.25}},
		{[]float64{0, 5, 10}, []float32{1, 1, 0.5}},
	} {
		got := Clips(c.norms)
		for i := range c.want {
			if got[i] != c.want[i] {
				t.Errorf("Clips(%v) = %v, want %v", c.norms, got, c.want)
				break
			}
		}
	}
}

// A coordinate that one of 15 sends alone moves by 1/15 of what it sent: the divisor is R, not the number of senders
// (notes/security.md, "support capture").
func TestLoneSenderIsNotAveragedOverItself(t *testing.T) {
	theta := []float32{1, 1}
	parts := make([]Part, 15)
	clip := make([]float32, 15)
	for i := range parts {
		clip[i] = 1
		parts[i] = Part{[]uint16{0}, []float32{0.5}}
	}
	parts[3] = Part{[]uint16{1}, []float32{15}}
	AggregateChunk(theta, parts, clip, 1, 15)
	if theta[1] != 0 || math.Abs(float64(theta[0])-(1-14*0.5/15)) > 1e-6 {
		t.Fatalf("got %v", theta)
	}
}

// One sign-flipped payload among 15 cannot turn the step around.
func TestSignFlipDoesNotReverse(t *testing.T) {
	theta := []float32{0}
	parts := make([]Part, 15)
	clip := make([]float32, 15)
	for i := range parts {
		clip[i], parts[i] = 1, Part{[]uint16{0}, []float32{1}}
	}
	parts[0].Val[0] = -1
	AggregateChunk(theta, parts, clip, 1, 15)
	if theta[0] >= -0.8 {
		t.Fatalf("step %v", theta[0])
	}
}

// goldenRoot is the state after three fixed outer steps. It must be the same under every GOAMD64 and on every platform:
// a fused multiply-add in the aggregation changes it.
const goldenRoot = "2b346de6d66f1bd524dd02ca70d20d890fe2105b2fe38e03ffcd9889f41d76f2"

func TestGoldenOuterSteps(t *testing.T) {
	l := tiny(t)
	theta := model.NewFlat(l)
	theta.Init(42)
	twin := append([]float32(nil), theta.Data...)
	r := rand.New(rand.NewPCG(11, 13))
	var root chain.Hash
	for step := range 3 {
		var parts []*Payload
		for range 4 {
			parts = append(parts, payloadOf(t, l, heavy(r, l.Params()), 128<<step))
		}
		var err error
		if root, err = OuterStep(theta, parts, 1.7, 2); err != nil {
			t.Fatal(err)
		}
		naiveStep(l, twin, parts, 1.7, 4)
	}
	for i := range twin {
		if twin[i] != theta.Data[i] {
			t.Fatalf("value %d: %v, the naive twin has %v", i, theta.Data[i], twin[i])
		}
	}
	if again, err := Root(theta); err != nil || again != root {
		t.Fatalf("Root gives %s, OuterStep gave %s (%v)", again, root, err)
	}
	if root.String() != goldenRoot {
		t.Fatalf("root %s, want %s", root, goldenRoot)
	}
}

func naiveStep(l *model.Layout, theta []float32, parts []*Payload, alpha, div float32) {
	norms := make([]float64, len(parts))
	for i, p := range parts {
		norms[i] = p.Norm()
	}
	clip := Clips(norms)
	sum := make([]float32, len(theta))
	for i, p := range parts {
		eachSent(l, p, func(at int, v float32) {
			x := clip[i] * v
			sum[at] += x
		})
	}
	for i := range theta {
		q := sum[i] / div
		x := float32(alpha * q)
		theta[i] -= x
	}
}

func payloadOf(t testing.TB, l *model.Layout, v []float32, k int) *Payload {
	t.Helper()
	raw, _ := encode(t, l, v, k)
	dir, err := os.CreateTemp(t.TempDir(), "p")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if _, err := dir.Write(raw); err != nil {
		t.Fatal(err)
	}
	p, err := NewCodec(l).Open(dir, int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}
