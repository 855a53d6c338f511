package replica

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
	"sn3/gradients"
)

// someState is a state with values that a sloppy format would change.
func (f *fixture) someState(t testing.TB, w chain.Window) *state {
	t.Helper()
	s, err := f.initial()
	if err != nil {
		t.Fatal(err)
	}
	s.window, s.transition = w, chain.Hash{1, 2, 3}
	s.theta.Data[0], s.theta.Data[1], s.theta.Data[2] = float32(math.Copysign(0, -1)), math.SmallestNonzeroFloat32, math.MaxFloat32
	if s.root, err = gradients.Root(s.theta); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStateComesBack(t *testing.T) {
	f := fix(t, nil)
	if s, err := f.loadState(); s != nil || err != nil {
		t.Fatalf("without a file: %v, %v", s, err)
	}
	want := f.someState(t, 41)
	if err := f.saveState(want); err != nil {
		t.Fatal(err)
	}
	got, err := f.loadState()
	if err != nil || got == nil || got.window != 41 || got.root != want.root || got.transition != want.transition {
		t.Fatalf("got %+v, %v", got, err)
	}
	for i, x := range want.theta.Data {
		if math.Float32bits(got.theta.Data[i]) != math.Float32bits(x) {
			t.Fatalf("value %d is %x, was %x", i, got.theta.Data[i], x)
		}
	}
}

// A damaged file is never used: it is set aside, said, and the node starts without it.
func TestDamagedStateIsSetAside(t *testing.T) {
	f := fix(t, nil)
	if err := f.saveState(f.someState(t, 3)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(f.dir, stateFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(t interface{ Fatalf(string, ...any) }, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatalf("%v", err)
		}
		s, err := f.loadState()
		if s != nil || err != nil {
			t.Fatalf("took it: %v, %v", s, err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("it is still in its place: %v", err)
		}
		if kept, err := os.ReadFile(path + ".damaged"); err != nil || len(kept) != len(b) {
			t.Fatalf("it was not kept: %d bytes, %v", len(kept), err)
		}
	}
	for _, n := range []int{0, 1, len(stateMagic), len(stateMagic) + 104, len(whole) - 1} {
		refused(t, whole[:n])
	}
	refused(t, append(append([]byte(nil), whole...), 0))
	rapid.Check(t, func(rt *rapid.T) {
		b := append([]byte(nil), whole...)
		at := rapid.IntRange(0, len(b)-1).Draw(rt, "at")
		if at >= len(stateMagic) && at < len(stateMagic)+32 {
			at = len(stateMagic) + 32 // the run's hash: TestOtherRunIsRefused
		}
		b[at] ^= 1 << rapid.IntRange(0, 7).Draw(rt, "bit")
		refused(rt, b)
	})
	if !strings.Contains(f.log(), "saved model is damaged") {
		t.Errorf("log %q", f.log())
	}
}

// A folder of another run is refused with both runs and a way out, and nothing in it changes.
func TestOtherRunIsRefused(t *testing.T) {
	f := fix(t, nil)
	if err := f.saveState(f.someState(t, 3)); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(f.dir, stateFile))
	if err != nil {
		t.Fatal(err)
	}
	_, err = tryFix(t, func(_ *fixture, c *Config) {
		c.Dir = f.dir
		c.Run, _ = runOf(t, func(r *chain.Run) { r.Seed = 99 })
	})
	if !errors.Is(err, ErrOtherRun) || !strings.Contains(err.Error(), f.run.Short()) || !strings.Contains(err.Error(), "another folder") {
		t.Errorf("got %v", err)
	}
	if after, err := os.ReadFile(filepath.Join(f.dir, stateFile)); err != nil || string(after) != string(before) {
		t.Errorf("the file changed: %v", err)
	}
	if _, err := tryFix(t, func(_ *fixture, c *Config) { c.Dir = f.dir }); err != nil {
		t.Errorf("the same run: %v", err)
	}
}

// A full disk leaves the old state and no half-written file.
func TestFullDiskKeepsTheOldState(t *testing.T) {
	f := fix(t, nil)
	if err := f.saveState(f.someState(t, 3)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(f.dir, stateFile)
	fullDisk(t, path)
	if err := f.saveState(f.someState(t, 4)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v, want no space left", err)
	}
	if _, err := os.Lstat(path + ".tmp"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary file is still there: %v", err)
	}
	if s, err := f.loadState(); err != nil || s == nil || s.window != 3 {
		t.Errorf("the old state: %+v, %v", s, err)
	}
	if err := f.saveState(f.someState(t, 4)); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// What a crash in the middle of writing leaves is written over, not collected.
func TestLeftoverOfACrash(t *testing.T) {
	f := fix(t, nil)
	path := filepath.Join(f.dir, stateFile)
	if err := os.WriteFile(path+".tmp", make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.saveState(f.someState(t, 3)); err != nil {
		t.Fatal(err)
	}
	if got := files(t, f.dir); strings.Contains(strings.Join(got, " "), ".tmp") {
		t.Errorf("left in the folder: %v", got)
	}
	if s, err := f.loadState(); err != nil || s == nil || s.window != 3 {
		t.Errorf("got %+v, %v", s, err)
	}
}

// Snapshots are immutable and counted: memory of one that is read is not reused, and what is no longer kept is ErrGone.
func TestSnapshots(t *testing.T) {
	f := fix(t, nil)
	ctx := context.Background()
	first, err := f.initial()
	if err != nil {
		t.Fatal(err)
	}
	f.publishState(first)
	held, err := f.At(ctx, chain.NoWindow)
	if err != nil {
		t.Fatal(err)
	}
	before := held.Weights().Data[100]
	for w := range chain.Window(6) {
		next := &state{window: w, theta: f.copyOf(f.current())}
		next.theta.Data[100]++
		f.publishState(next)
	}
	if held.Weights().Data[100] != before || held.Window() != chain.NoWindow || held.Root() != first.root {
		t.Error("a snapshot changed while it was held")
	}
	again, err := f.At(ctx, chain.NoWindow)
	if err != nil {
		t.Error("what is held can be had again:", err)
	}
	again.Release()
	held.Release()
	for w, want := range map[chain.Window]error{chain.NoWindow: ErrGone, 2: ErrGone, 3: nil, 5: nil} {
		s, err := f.At(ctx, w)
		if !errors.Is(err, want) {
			t.Errorf("θ of window %d: %v, want %v", w, err, want)
		}
		if err == nil {
			s.Release()
		}
	}
	if n, ok := f.Applied(); n != 6 || !ok {
		t.Errorf("applied %d, %v", n, ok)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := f.At(ended, 6); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for a window to come: %v", err)
	}
}
