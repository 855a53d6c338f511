package model_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/iotest"

	"sn3/model"
)

func moments(t testing.TB) (l *model.Layout, m, v []float32, saved []byte) {
	t.Helper()
	l = layout(t, model.Config{Vocab: 5, Width: 3, Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 2, FFN: 2, Seq: 4, RopeTheta: 1e4, NormEps: 1e-5})
	m, v = make([]float32, l.Params()), make([]float32, l.Params())
	for i := range m {
		m[i], v[i] = float32(i)-3.5, float32(i)/7
	}
	m[0], v[1] = float32(math.Copysign(0, -1)), float32(math.Inf(1))
	var b bytes.Buffer
	if err := model.SaveMoments(&b, l, 1<<40+5, m, v); err != nil {
		t.Fatal(err)
	}
	return l, m, v, b.Bytes()
}

// Save and Load are inverse to each other, through any reader and in the middle of one; the magic and layout stand in front.
func TestMomentsComeBack(t *testing.T) {
	l, m, v, saved := moments(t)
	middle := bytes.NewReader(append([]byte("window 8"), saved...))
	if _, err := middle.Seek(8, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "moments"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Write(append([]byte("window 8"), saved...)); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Seek(8, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]io.Reader{"file": file, "bytes": bytes.NewReader(saved), "middle": middle, "stream": iotest.OneByteReader(bytes.NewReader(saved))} {
		a, b := make([]float32, l.Params()), make([]float32, l.Params())
		step, err := model.LoadMoments(r, l, a, b)
		if err != nil || step != 1<<40+5 || !slices.Equal(a, m) || !slices.Equal(b, v) || !math.Signbit(float64(a[0])) {
			t.Errorf("%s: step %d, %v, %v; %v", name, step, a, b, err)
		}
		if n, _ := r.Read(make([]byte, 1)); n != 0 {
			t.Errorf("%s: not read to the end", name)
		}
	}
	h := l.Hash()
	if string(saved[:8]) != "sn3adam1" || !bytes.Equal(saved[8:40], h[:]) {
		t.Errorf("starts with %x", saved[:40])
	}
}

// Every truncation, every flipped bit and whatever follows is refused, and nothing is changed.
func TestMomentsRefuse(t *testing.T) {
	l, _, _, saved := moments(t)
	m, v := make([]float32, l.Params()), make([]float32, l.Params())
	refused := func(what string, r io.Reader, want error) {
		t.Helper()
		step, err := model.LoadMoments(r, l, m, v)
		if err == nil || want != nil && !errors.Is(err, want) || step != 0 {
			t.Fatalf("%s: step %d, %v", what, step, err)
		}
		if slices.ContainsFunc(append(m, v...), func(x float32) bool { return x != 0 }) {
			t.Fatalf("%s: changed", what)
		}
	}
	for n := range len(saved) {
		refused("cut", bytes.NewReader(saved[:n]), model.ErrMoments)
	}
	refused("more", bytes.NewReader(append(slices.Clone(saved), 0)), model.ErrMoments)
	for i := range 8 * len(saved) {
		bad := slices.Clone(saved)
		bad[i/8] ^= 1 << (i % 8)
		refused("flip", bytes.NewReader(bad), model.ErrMoments)
	}
	for _, left := range []int{0, 1, 60, len(saved) - 1, len(saved), len(saved) + 1, 2*len(saved) - 48 - 32 - 1} { // then the moments a second time
		refused("file", &dying{Reader: bytes.NewReader(saved), left: left}, errDisk)
	}
	broken := errors.New("disk")
	refused("reader", io.MultiReader(bytes.NewReader(saved[:50]), iotest.ErrReader(broken)), broken)
	other := layout(t, model.Config{Vocab: 5, Width: 3, Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 2, FFN: 3, Seq: 4, RopeTheta: 1e4, NormEps: 1e-5})
	if _, err := model.LoadMoments(bytes.NewReader(saved), other, m, v); err == nil {
		t.Error("moments of another number of parameters")
	}
	if err := model.SaveMoments(io.Discard, l, 1, m[1:], v); err == nil {
		t.Error("short moments were saved")
	}
}

var errDisk = errors.New("disk on fire")

// dying is a file that fails after some bytes.
type dying struct {
	*bytes.Reader
	left int
}

// Read implements io.Reader.
func (d *dying) Read(b []byte) (int, error) {
	if d.left <= 0 {
		return 0, errDisk
	}
	n, err := d.Reader.Read(b[:min(len(b), d.left)])
	d.left -= n
	return n, err
}

// A writer that fails at any byte is an error of Save.
func TestMomentsFullDisk(t *testing.T) {
	l, m, v, saved := moments(t)
	for _, room := range []int64{0, 7, 100, int64(len(saved)) - 1} {
		if err := model.SaveMoments(&fullDisk{room}, l, 1, m, v); !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("after %d bytes: %v", room, err)
		}
	}
}

type fullDisk struct{ room int64 }

func (f *fullDisk) Write(b []byte) (int, error) {
	if f.room -= int64(len(b)); f.room < 0 {
		return 0, io.ErrShortWrite
	}
	return len(b), nil
}

// What loads is written again in the same bytes, and nothing panics.
func FuzzLoadMoments(f *testing.F) {
	l, m, v, saved := moments(f)
	f.Add(saved)
	f.Add(saved[:40])
	f.Add([]byte("sn3adam1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		step, err := model.LoadMoments(bytes.NewReader(b), l, m, v)
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := model.SaveMoments(&again, l, step, m, v); err != nil || !bytes.Equal(again.Bytes(), b) {
			t.Fatalf("other bytes (%v)", err)
		}
	})
}
