package enginetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"testing"
	"testing/iotest"

	"golang.org/x/sync/errgroup"

	"sn3/model"
)

// stateReader reads what tr saves.
func stateReader(t tb, tr model.Persister) io.Reader {
	t.Helper()
	var b bytes.Buffer
	if err := tr.Save(&b); err != nil {
		t.Fatal(err)
	}
	return &b
}

// unreadable are weights of which a part cannot be read.
type unreadable struct{ model.Weights }

// Read implements model.Weights; the last chunk fails.
func (u unreadable) Read(dst []float32, c model.ChunkRange) error {
	if c.To == u.Layout().Chunks() {
		return errDisk
	}
	return u.Weights.Read(dst, c)
}

// other are weights of another layout with as many parameters.
func other(t tb, c model.Config) model.Weights {
	t.Helper()
	a, b := c, c
	a.Vocab, b.Vocab = c.Vocab+1, c.Vocab
	if !c.Tied {
		a.Vocab, a.Tied = 2*c.Vocab, true // one matrix instead of two
	}
	return weights(t, a, 1)
}

// Reset replaces the parameters and nothing else; weights of another layout or that cannot be read to their end are errors and
// change nothing.
func (s suite) reset(t *testing.T) {
	c := small()
	w := weights(t, c, 10)
	tr := s.trainer(t, c, usual(), w)
	if got := flat(t, tr); bits(got) != bits(w.Data) {
		t.Error("Reset gives other parameters")
	}
	train(t, tr, 0, tokens(1, 2, 9, c.Vocab), tokens(2, 2, 9, c.Vocab))
	var before, after bytes.Buffer
	trained := model.NewFlat(w.Layout())
	trained.Data = flat(t, tr)
	if err := errors.Join(tr.Save(&before), tr.Reset(context.Background(), w), tr.Save(&after)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before.Bytes(), after.Bytes()) || bits(flat(t, tr)) != bits(w.Data) {
		t.Error("Reset touches the moments, or does not take the parameters")
	}
	fresh := s.trainer(t, c, usual(), w)
	train(t, fresh, 9, tokens(3, 2, 9, c.Vocab))
	if train(t, tr, 9, tokens(3, 2, 9, c.Vocab)); bits(flat(t, tr)) == bits(flat(t, fresh)) {
		t.Error("the moments make no difference")
	}
	now := state(t, tr)
	if err := tr.Reset(context.Background(), tr.Trained()); err != nil || state(t, tr) != now {
		t.Errorf("Reset to its own parameters changes them (%v)", err)
	}
	if err := tr.Reset(context.Background(), other(t, c)); err == nil || state(t, tr) != now {
		t.Errorf("weights of another layout: %v", err)
	}
	s.goesOn(t, "Reset to weights that cannot be read", tr, func() error { return tr.Reset(context.Background(), unreadable{w}) })
	if err := tr.Reset(context.Background(), trained); err != nil || bits(flat(t, tr)) != bits(trained.Data) {
		t.Errorf("after an error Reset does not work (%v)", err)
	}
}

// goesOn is a call that fails with errDisk and changes nothing: neither what the trainer carries nor, after it, what it learns.
func (s suite) goesOn(t tb, name string, tr Trainer, fails func() error) {
	t.Helper()
	c := small()
	twin := s.trainer(t, c, usual(), tr.Trained())
	if err := twin.Load(stateReader(t, tr)); err != nil {
		t.Fatal(err)
	}
	if err := fails(); !errors.Is(err, errDisk) || state(t, tr) != state(t, twin) {
		t.Errorf("%s: %v; changed: %v", name, err, state(t, tr) != state(t, twin))
	}
	for _, x := range []Trainer{tr, twin} {
		train(t, x, 9, tokens(7, 2, 9, c.Vocab))
	}
	if state(t, tr) != state(t, twin) {
		t.Errorf("%s: afterwards it learns something else", name)
	}
}

// Rebase is local + (to − from) in float32, for each parameter; moments are untouched. Its own parameters are as good as others.
// An error changes nothing.
func (s suite) rebase(t *testing.T) {
	c, ctx := small(), context.Background()
	w, from, to := weights(t, c, 11), weights(t, c, 12), weights(t, c, 13)
	tr := s.trainer(t, c, usual(), w)
	train(t, tr, 0, tokens(1, 2, 9, c.Vocab))
	local := flat(t, tr)
	var before, after bytes.Buffer
	if err := errors.Join(tr.Save(&before), tr.Rebase(ctx, from, to), tr.Save(&after)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before.Bytes(), after.Bytes()) {
		t.Error("Rebase touches the moments")
	}
	for i, x := range flat(t, tr) {
		moved := to.Data[i] - from.Data[i]
		if want := local[i] + moved; math.Float32bits(x) != math.Float32bits(want) {
			t.Fatalf("parameter %d is %v, want %v + (%v − %v) = %v", i, x, local[i], to.Data[i], from.Data[i], want)
		}
	}
	local = flat(t, tr)
	if err := tr.Rebase(ctx, tr.Trained(), w); err != nil {
		t.Fatal(err)
	}
	for i, x := range flat(t, tr) {
		moved := w.Data[i] - local[i]
		if want := local[i] + moved; math.Float32bits(x) != math.Float32bits(want) {
			t.Fatalf("from its own: parameter %d is %v, want %v", i, x, want)
		}
	}
	now := state(t, tr)
	for name, x := range map[string][2]model.Weights{"from": {other(t, c), to}, "to": {from, other(t, c)}, "both": {other(t, c), other(t, c)}} {
		if err := tr.Rebase(ctx, x[0], x[1]); err == nil || state(t, tr) != now {
			t.Errorf("%s of another layout: %v", name, err)
		}
	}
	for name, x := range map[string][2]model.Weights{"from": {unreadable{from}, to}, "to": {from, unreadable{to}}} {
		s.goesOn(t, "Rebase, "+name+" cannot be read", tr, func() error { return tr.Rebase(ctx, x[0], x[1]) })
	}
}

// A trainer that forgets is a new one: the same saved state, and it learns the same.
func (s suite) forget(t *testing.T) {
	c := small()
	w := weights(t, c, 19)
	tr, fresh := s.trainer(t, c, usual(), w), s.trainer(t, c, usual(), w)
	train(t, tr, 0, tokens(1, 2, 9, c.Vocab), tokens(2, 2, 9, c.Vocab))
	trained := flat(t, tr)
	if tr.Forget(); bits(flat(t, tr)) != bits(trained) {
		t.Error("it forgets parameters too")
	}
	if err := tr.Reset(context.Background(), w); err != nil || state(t, tr) != state(t, fresh) {
		t.Errorf("not the state of a new trainer (%v)", err)
	}
	train(t, tr, 5, tokens(3, 2, 9, c.Vocab))
	if train(t, fresh, 5, tokens(3, 2, 9, c.Vocab)); state(t, tr) != state(t, fresh) {
		t.Error("it learns something else than a new trainer")
	}
}

// Whatever changed the parameters, the next gradient is that of a new trainer with the same ones, bit for bit: no copy of them,
// rounded or packed, is left over.
func (s suite) nothingIsStale(t *testing.T) {
	c, ctx := small(), context.Background()
	w, to, b := weights(t, c, 31), weights(t, c, 32), tokens(1, 2, 9, c.Vocab)
	for _, opt := range s.variants(1) {
		tr := s.tryTrainer(t, c, usual(), opt, w)
		if tr == nil {
			t.Logf("%+v is not supported", opt)
			continue
		}
		for _, x := range []struct {
			name   string
			change func() error
		}{
			{"steps", func() error { train(t, tr, 5, b, b); return nil }},
			{"Rebase", func() error { return tr.Rebase(ctx, w, to) }},
			{"Reset", func() error { return tr.Reset(ctx, to) }},
			{"a refused batch", func() error {
				bad := clone(b)
				bad.X[0] = -1
				if _, err := tr.Train(ctx, reader(io.EOF, bad), model.Budget{Steps: 1}); err == nil {
					return errors.New("was accepted")
				}
				return nil
			}},
		} {
			if err := x.change(); err != nil {
				t.Fatalf("%+v, %s: %v", opt, x.name, err)
			}
			loss, got, err := tr.LossGrad(b)
			if err != nil {
				t.Fatal(err)
			}
			again, want, err := s.tryTrainer(t, c, usual(), opt, tr.Trained()).LossGrad(b)
			if err != nil || loss != again || bits(got) != bits(want) {
				t.Errorf("%+v, after %s: loss %v, a new trainer has %v; or the gradients differ (%v)", opt, x.name, loss, again, err)
			}
		}
	}
}

// Trained shows the parameters by any range of chunks, always the same, and refuses what is no range of them.
func (s suite) trained(t *testing.T) {
	c := small()
	tr := s.trainer(t, c, usual(), weights(t, c, 14))
	train(t, tr, 0, tokens(1, 2, 9, c.Vocab))
	all, view := flat(t, tr), tr.Trained()
	l := view.Layout()
	if want := weights(t, c, 1).Layout(); l.Hash() != want.Hash() {
		t.Fatal("another layout")
	}
	for from := range l.Chunks() + 1 {
		for _, to := range []int{from, from + 1, (from + l.Chunks() + 1) / 2, l.Chunks()} {
			r := model.ChunkRange{From: from, To: min(to, l.Chunks())}
			a, b := l.Span(r)
			got := make([]float32, b-a)
			if err := view.Read(got, r); err != nil || bits(got) != bits(all[a:b]) {
				t.Fatalf("chunks %v differ from the whole (%v)", r, err)
			}
			clear(got) // a copy is the caller's
		}
	}
	if bits(flat(t, tr)) != bits(all) {
		t.Error("reading changes the parameters")
	}
	readers, again := new(errgroup.Group), make([]float32, len(all))
	for i := range l.Chunks() { // at the same time, each its own part
		a, b := l.Span(model.ChunkRange{From: i, To: i + 1})
		readers.Go(func() error { return view.Read(again[a:b], model.ChunkRange{From: i, To: i + 1}) })
	}
	if err := readers.Wait(); err != nil || bits(again) != bits(all) {
		t.Errorf("read by several goroutines the parameters differ (%v)", err)
	}
	for _, r := range []model.ChunkRange{{From: -1, To: 1}, {From: 0, To: l.Chunks() + 1}, {From: 2, To: 1}} {
		if err := view.Read(nil, r); err == nil {
			t.Errorf("chunks %v were read", r)
		}
	}
	if err := view.Read(make([]float32, len(all)-1), l.All()); err == nil {
		t.Error("a destination too short was filled")
	}
}

// Save, restart, Load goes on bit for bit as if nothing had happened, through any reader, also after a Rebase at the same step.
func (s suite) restart(t *testing.T) {
	c, ctx := small(), context.Background()
	w, to := weights(t, c, 15), weights(t, c, 16)
	a := s.trainer(t, c, usual(), w)
	train(t, a, 0, tokens(1, 2, 9, c.Vocab), tokens(2, 2, 9, c.Vocab))
	at := model.NewFlat(w.Layout())
	at.Data = flat(t, a)
	var saved, again bytes.Buffer
	if err := errors.Join(a.Save(&saved), a.Save(&again)); err != nil || !bytes.Equal(saved.Bytes(), again.Bytes()) {
		t.Fatalf("saved twice, the bytes differ (%v)", err)
	}
	b, fresh := s.trainer(t, c, usual(), at), s.trainer(t, c, usual(), at)
	train(t, b, 0, tokens(8, 2, 9, c.Vocab)) // what Load replaces
	if err := errors.Join(b.Reset(ctx, at), b.Load(iotest.OneByteReader(bytes.NewReader(saved.Bytes())))); err != nil {
		t.Fatal(err)
	}
	for i, tr := range []Trainer{a, b, fresh} {
		train(t, tr, 2, tokens(3, 2, 9, c.Vocab))
		if err := tr.Rebase(ctx, w, to); err != nil {
			t.Fatal(err)
		}
		train(t, tr, 3, tokens(4, 2, 9, c.Vocab))
		if same := state(t, tr) == state(t, a); same != (i < 2) {
			t.Errorf("trainer %d of {first, restarted, without moments} goes on as the first: %v", i, same)
		}
	}
}

// Every truncation and every flipped bit of a saved state, one of another layout, and one that cannot be read to its end are
// refused and change nothing; a writer that fails is an error of Save.
func (s suite) damaged(t *testing.T) {
	c := model.Config{Vocab: 7, Width: 6, Layers: 1, Heads: 2, KVHeads: 1, HeadDim: 2, FFN: 5, Seq: 6, RopeTheta: 1e4, NormEps: 1e-5}
	a, b := s.trainer(t, c, usual(), weights(t, c, 17)), s.trainer(t, c, usual(), weights(t, c, 18))
	train(t, a, 0, tokens(1, 2, 6, c.Vocab))
	train(t, b, 0, tokens(2, 2, 6, c.Vocab))
	good, err := io.ReadAll(stateReader(t, a))
	if err != nil {
		t.Fatal(err)
	}
	before := state(t, b)
	refused := func(what string, r io.Reader) {
		t.Helper()
		if err := b.Load(r); err == nil {
			t.Fatalf("%s: loaded", what)
		}
		if state(t, b) != before {
			t.Fatalf("%s: refused, but something changed", what)
		}
	}
	for n := range len(good) {
		refused("truncated", bytes.NewReader(good[:n]))
	}
	for bit := range 8 * len(good) {
		if bit%64 > 7 && bit > 800 && bit < 8*len(good)-800 { // every bit of head and tail, of the middle an eighth
			continue
		}
		bad := slices.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		refused("flipped", bytes.NewReader(bad))
	}
	refused("longer", bytes.NewReader(append(slices.Clone(good), 0)))
	refused("unreadable", io.MultiReader(bytes.NewReader(good[:len(good)/2]), iotest.ErrReader(errDisk)))
	d := c
	d.FFN++
	refused("another layout", stateReader(t, s.trainer(t, d, usual(), weights(t, d, 1))))
	for _, room := range []int{0, len(good) / 2, len(good) - 1} {
		if err := a.Save(&fullDisk{room}); !errors.Is(err, errDisk) {
			t.Errorf("a disk full after %d bytes: %v", room, err)
		}
	}
	if err := b.Load(bytes.NewReader(good)); err != nil {
		t.Error(err)
	}
}

type fullDisk struct{ room int }

// Write implements io.Writer until the room is used up.
func (f *fullDisk) Write(b []byte) (int, error) {
	if f.room -= len(b); f.room < 0 {
		return 0, errDisk
	}
	return len(b), nil
}
