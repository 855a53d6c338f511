package gradients

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sn3/chain"
	"sn3/model"
	"strings"
	"testing"
)

// A slot is read back as it was written or not at all; the checksum is put right so that the parser behind it is tried too.
func FuzzSlot(f *testing.F) {
	l := layoutOf(f, model.Config{Vocab: 3, Width: 2, Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 2, FFN: 2, Seq: 8, Tied: true})
	fb := openAt(f, f.TempDir(), l)
	p, err := fb.Begin(flat(l, heavy(rand.New(rand.NewPCG(2, 1)), l.Params())), model.NewFlat(l), 5, 4096)
	if err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(fb.files.path(slotName(1)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:len(b)-sha256.Size])
	f.Add(b[:slotHead])
	f.Fuzz(func(t *testing.T, b []byte) {
		sum := sha256.Sum256(b)
		b = append(b, sum[:]...)
		got, err := fb.parseSlot(bytes.NewReader(b), int64(len(b)), p.seq)
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := got.encode(&again); err != nil || !bytes.Equal(again.Bytes(), b) {
			t.Fatalf("parses, but encodes to other bytes (%v)", err)
		}
	})
}

func TestFeedbackRules(t *testing.T) {
	l, dir := tiny(t), t.TempDir()
	d := flat(l, heavy(rand.New(rand.NewPCG(8, 8)), l.Params()))
	f := openAt(t, dir, l)
	p, err := f.Begin(d, model.NewFlat(l), 7, 64)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Begin(d, model.NewFlat(l), 8, 64); !errors.Is(err, ErrPending) {
		t.Errorf("second Begin: %v", err)
	}
	if p.Stats() != p.Payload().Stats() || p.Size() != p.Payload().Len() || p.Stats().Kept == 0 {
		t.Errorf("pending says %+v and %d bytes, its payload %+v", p.Stats(), p.Size(), p.Payload().Stats())
	}
	if err := p.Discard(); err != nil {
		t.Fatal(err)
	}
	for name, again := range map[string]func() error{"discard": p.Discard, "confirm": p.Confirm} {
		if again() == nil {
			t.Errorf("%s of a discarded payload", name)
		}
	}
	for i, x := range f.e {
		if x != 0 {
			t.Fatalf("discarded payload left %v at %d", x, i)
		}
	}
	v := heavy(rand.New(rand.NewPCG(8, 8)), l.Params())
	v[5] = float32(math.Inf(1))
	if _, err := f.Begin(flat(l, v), model.NewFlat(l), 8, 64); !errors.Is(err, ErrNotFinite) || f.Pending() != nil {
		t.Errorf("an infinite Δ: %v", err)
	}
	if _, err := f.Begin(model.NewFlat(local(t)), model.NewFlat(l), 8, 64); err == nil {
		t.Error("weights of another layout were accepted")
	}
}

// What a crash cannot do is an error that says what to do, and never a silent restart from zero.
func TestFeedbackRefusesDamage(t *testing.T) {
	l, d := tiny(t), heavy(rand.New(rand.NewPCG(2, 1)), tiny(t).Params())
	for name, harm := range map[string]func(dir string) error{
		"head changed":   func(dir string) error { return change(filepath.Join(dir, headFile), 12) },
		"head cut":       func(dir string) error { return os.Truncate(filepath.Join(dir, headFile), 8) },
		"slot changed":   func(dir string) error { return change(filepath.Join(dir, "slot-1"), 4000) },
		"slot cut":       func(dir string) error { return os.Truncate(filepath.Join(dir, "slot-1"), 400) },
		"slot too long":  func(dir string) error { return os.Truncate(filepath.Join(dir, "slot-1"), 1<<20) },
		"slot is gone":   func(dir string) error { return os.Remove(filepath.Join(dir, "slot-1")) },
		"slot is an old": func(dir string) error { return os.Rename(filepath.Join(dir, "slot-0"), filepath.Join(dir, "slot-1")) },
	} {
		dir := t.TempDir()
		f := openAt(t, dir, l)
		for w := range chain.Window(3) { // slot-1, slot-0, slot-1
			p, err := f.Begin(flat(l, d), model.NewFlat(l), w, 64)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Confirm(); err != nil {
				t.Fatal(err)
			}
		}
		if err := harm(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenFeedback(dir, l, 0.95); !errors.Is(err, errDamaged) && !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "delete") {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := t.TempDir()
	if p, err := openAt(t, dir, l).Begin(flat(l, d), model.NewFlat(l), 0, 64); err != nil || p.Confirm() != nil {
		t.Fatal(err)
	}
	if _, err := OpenFeedback(dir, local(t), 0.95); !errors.Is(err, errDamaged) {
		t.Errorf("folder of another model: %v", err)
	}
}

func change(path string, at int) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	b[at] ^= 1
	return os.WriteFile(path, b, 0o600)
}
