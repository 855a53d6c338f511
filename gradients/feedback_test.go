package gradients

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sn3/chain"
	"sn3/model"
)

func flat(l *model.Layout, v []float32) *model.Flat {
	f := model.NewFlat(l)
	copy(f.Data, v)
	return f
}

func openAt(t testing.TB, dir string, l *model.Layout) *Feedback {
	t.Helper()
	f, err := OpenFeedback(dir, l, 0.95)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// state is everything that a reopened folder must agree on.
func state(f *Feedback) string {
	sum := func(v []float32) string {
		var b []byte
		for _, x := range v {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
		return fmt.Sprintf("%x", sha256.Sum256(b))[:12]
	}
	s := fmt.Sprintf("seq %d e %s", f.seq, sum(f.e))
	if p := f.Pending(); p != nil {
		s += fmt.Sprintf(", pending window %d payload %s e %s", p.Window(), p.Sum().Short(), sum(p.e))
	}
	return s
}

// script is a miner's life: what it does to its folder, one transaction after the other.
func script(l *model.Layout) []func(f *Feedback) error {
	r := rand.New(rand.NewPCG(2, 1))
	var out []func(f *Feedback) error
	for w, confirm := range []bool{true, false, true} {
		d := flat(l, heavy(r, l.Params()))
		out = append(out, func(f *Feedback) error {
			_, err := f.Begin(d, model.NewFlat(l), chain.Window(w), 64)
			return err
		})
		if confirm {
			out = append(out, func(f *Feedback) error { return f.Pending().Confirm() })
		} else {
			out = append(out, func(f *Feedback) error { return f.Pending().Discard() })
		}
	}
	return out
}

// killed lets n file operations happen, then none: what kill -9 does. With torn, what was not synced yet is cut in half, as a
// power cut may do.
func killed(n int, torn bool) func(op, path string) error {
	done := 0
	return func(op, path string) error {
		if done++; done <= n {
			return nil
		}
		if torn && op == "sync" && done == n+1 {
			if info, err := os.Stat(path); err != nil || os.Truncate(path, info.Size()/2) != nil {
				return errors.New("cannot tear " + path)
			}
		}
		return errKilled
	}
}

var errKilled = errors.New("killed")

// Stopping after any file operation leaves the state before the transaction or the one after it, never a torn one; and the
// life that goes on from there ends where an undisturbed one ends.
func TestFeedbackSurvivesKillAnywhere(t *testing.T) {
	l := layoutOf(t, model.Config{Vocab: 67, Width: 9, Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 4, FFN: 7, Seq: 8, Tied: true})
	life := script(l)
	f := openAt(t, t.TempDir(), l)
	want := []string{state(f)} // want[i]: after i transactions
	for _, step := range life {
		if err := step(f); err != nil {
			t.Fatal(err)
		}
		want = append(want, state(f))
	}
	for _, torn := range []bool{false, true} {
		for stop := 0; ; stop++ {
			if stop > 100 {
				t.Fatal("100 operations were not enough to get through")
			}
			dir := t.TempDir()
			f, err := openFeedback(dir, l, 0.95, killed(stop, torn))
			if err != nil {
				t.Fatal(err)
			}
			done := 0
			for ; done < len(life) && err == nil; done++ {
				err = life[done](f)
			}
			if err == nil {
				break // ran through: every stop was tried
			}
			done--
			if !errors.Is(err, errKilled) {
				t.Fatalf("stop %d: %v", stop, err)
			}
			f = openAt(t, dir, l)
			got := state(f)
			switch got {
			case want[done]:
			case want[done+1]:
				done++
			default:
				t.Fatalf("stopped after %d operations, in transaction %d: %s\nwant %s\n  or %s", stop, done, got, want[done], want[done+1])
			}
			for _, step := range life[done:] {
				if err := step(f); err != nil {
					t.Fatalf("stop %d, going on: %v", stop, err)
				}
			}
			if got := state(openAt(t, dir, l)); got != want[len(want)-1] {
				t.Fatalf("stop %d, at the end: %s, want %s", stop, got, want[len(want)-1])
			}
		}
	}
}

// A full disk, or any error of one operation, changes nothing and can be tried again in the same process.
func TestFeedbackRetriesAfterAnError(t *testing.T) {
	l := layoutOf(t, model.Config{Vocab: 67, Width: 9, Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 4, FFN: 7, Seq: 8, Tied: true})
	life := script(l)
	clean := openAt(t, t.TempDir(), l)
	for _, step := range life {
		if err := step(clean); err != nil {
			t.Fatal(err)
		}
	}
	for stop := range 22 {
		dir, n := t.TempDir(), 0
		f, err := openFeedback(dir, l, 0.95, func(string, string) error {
			if n++; n == stop+1 {
				return errKilled
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		failed := 0
		for _, step := range life {
			for step(f) != nil {
				if failed++; failed > 1 {
					t.Fatalf("stop %d: failed again", stop)
				}
			}
		}
		if failed != 1 {
			t.Fatalf("stop %d: failed %d times", stop, failed)
		}
		if got := state(openAt(t, dir, l)); got != state(clean) {
			t.Fatalf("stop %d: %s, want %s", stop, got, state(clean))
		}
	}
}

// A Confirm that failed may have changed the disk already: Discard undoes that too, in this process and for the next one.
func TestDiscardAfterFailedConfirm(t *testing.T) {
	l := layoutOf(t, model.Config{Vocab: 67, Width: 9, Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 4, FFN: 7, Seq: 8, Tied: true})
	d := flat(l, heavy(rand.New(rand.NewPCG(2, 1)), l.Params()))
	begin := func(f *Feedback, w chain.Window) *Pending {
		p, err := f.Begin(d, model.NewFlat(l), w, 64)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for confirmed := range chain.Window(3) { // none before, slot 1, slot 0
		for fail := 1; ; fail++ {
			dir, count := t.TempDir(), math.MinInt
			f, err := openFeedback(dir, l, 0.95, func(string, string) error {
				if count++; count == fail {
					return errKilled
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for w := range confirmed {
				if err := begin(f, w).Confirm(); err != nil {
					t.Fatal(err)
				}
			}
			want, p := state(f), begin(f, confirmed)
			count = 0
			if err := p.Confirm(); err == nil {
				if fail < 4 {
					t.Fatalf("Confirm has %d operations", fail-1)
				}
				break
			}
			if err := p.Discard(); err != nil {
				t.Fatal(err)
			}
			if got, again := state(f), state(openAt(t, dir, l)); got != want || again != want {
				t.Fatalf("%d confirmed, operation %d failed: %s, reopened %s, want %s", confirmed, fail, got, again, want)
			}
		}
	}
}

// A disk that is really full: the system says so for every write. Nothing changes, the error says where, nothing is left lying
// about, and with room again the same call succeeds.
func TestFeedbackOnAFullDisk(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full here")
	}
	l := tiny(t)
	d := flat(l, heavy(rand.New(rand.NewPCG(2, 1)), l.Params()))
	dir, full := t.TempDir(), true
	f, err := openFeedback(dir, l, 0.95, func(op, path string) error {
		if full && op == "create" {
			return os.Symlink("/dev/full", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	refused := func(err error) {
		t.Helper()
		left, err2 := filepath.Glob(filepath.Join(dir, "*.tmp"))
		if !errors.Is(err, syscall.ENOSPC) || err2 != nil || len(left) != 0 {
			t.Fatalf("%v, left over %v", err, left)
		}
	}
	before := state(f)
	_, err = f.Begin(d, model.NewFlat(l), 1, 64)
	if refused(err); state(f) != before || state(openAt(t, dir, l)) != before || !strings.Contains(err.Error(), dir) {
		t.Fatalf("%s became %s, on disk %s: %v", before, state(f), state(openAt(t, dir, l)), err)
	}
	full = false
	p, err := f.Begin(d, model.NewFlat(l), 1, 64)
	if err != nil {
		t.Fatal(err)
	}
	full, before = true, state(f)
	if refused(p.Confirm()); state(f) != before || state(openAt(t, dir, l)) != before {
		t.Fatalf("%s became %s, on disk %s", before, state(f), state(openAt(t, dir, l)))
	}
	full = false
	if err := p.Confirm(); err != nil || f.seq != 1 {
		t.Fatalf("confirmed %d: %v", f.seq, err)
	}
}

// Whatever length a pending slot is cut to, it counts as not there; the confirmed one is untouched.
func TestCutPendingSlotIsNone(t *testing.T) {
	l := layoutOf(t, model.Config{Vocab: 67, Width: 9, Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 4, FFN: 7, Seq: 8, Tied: true})
	d := flat(l, heavy(rand.New(rand.NewPCG(2, 1)), l.Params()))
	dir := t.TempDir()
	f := openAt(t, dir, l)
	p, err := f.Begin(d, model.NewFlat(l), 0, 64)
	if err != nil || p.Confirm() != nil {
		t.Fatal(err)
	}
	want := state(f)
	if _, err := f.Begin(d, model.NewFlat(l), 1, 64); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, "slot-0"))
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(whole); n += 1 + n/16 {
		if err := os.WriteFile(filepath.Join(dir, "slot-0"), whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if got := state(openAt(t, dir, l)); got != want {
			t.Fatalf("cut to %d of %d bytes: %s, want %s", n, len(whole), got, want)
		}
	}
}
