package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/internal/events"
	"sn3/storage"
)

// signedWindow puts a window file into a validator's bucket.
func (f *fixture) signedWindow(t *testing.T, validator string, w chain.Window, change func(*WindowFile)) {
	t.Helper()
	file := WindowFile{Network: f.cfg.Run.Network, Run: f.run, Window: w, Before: chain.Hash{1}, After: chain.Hash{2}, Selection: chain.Selection{Window: w}}
	if change != nil {
		change(&file)
	}
	b, err := seal(local.Signer{Key: keyOf(t, validator)}, domainWindow, file)
	if err != nil {
		t.Fatal(err)
	}
	f.put(t, validator, windowKey(w), b)
}

// quorumFix is a fixture with three validators of stake 300, 200 and 200: two of them are needed. Its blocks go by
// themselves, so that what is waited for comes or the wait is seen.
func quorumFix(t *testing.T) (*fixture, context.Context) {
	t.Helper()
	f := fix(t, func(f *fixture, _ *Config) { f.chain.seat(t, "val-3", 200) })
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	return f, ctx
}

// signedCase is what validators have in their buckets for window 4, and what becomes of it.
type signedCase struct {
	files   func(t *testing.T, f *fixture)
	want    byte   // After of the file that is taken; 0: none is
	refused string // who is named
}

func signedCases() map[string]signedCase {
	after := func(x byte) func(*WindowFile) { return func(w *WindowFile) { w.After = chain.Hash{x} } }
	tampered := func(t *testing.T, f *fixture, v string) {
		b := f.get(t, v, windowKey(4))
		f.put(t, v, windowKey(4), bytes.Replace(b, []byte(`"window":4`), []byte(`"window":5`), 1))
	}
	return map[string]signedCase{
		"all three": {func(t *testing.T, f *fixture) {
			for _, v := range []string{"val-1", "val-2", "val-3"} {
				f.signedWindow(t, v, 4, after(9))
			}
		}, 9, ""},
		"the two smaller against the largest": {func(t *testing.T, f *fixture) {
			f.signedWindow(t, "val-1", 4, after(8))
			f.signedWindow(t, "val-2", 4, after(9))
			f.signedWindow(t, "val-3", 4, after(9))
		}, 9, ""},
		"the largest alone": {func(t *testing.T, f *fixture) { f.signedWindow(t, "val-1", 4, after(8)) }, 0, ""},
		"three opinions": {func(t *testing.T, f *fixture) {
			f.signedWindow(t, "val-1", 4, after(7))
			f.signedWindow(t, "val-2", 4, after(8))
			f.signedWindow(t, "val-3", 4, after(9))
		}, 0, ""},
		"one tampered, enough left": {func(t *testing.T, f *fixture) {
			for _, v := range []string{"val-1", "val-2", "val-3"} {
				f.signedWindow(t, v, 4, after(9))
			}
			tampered(t, f, "val-2")
		}, 9, "val-2"},
		"one tampered, too few left": {func(t *testing.T, f *fixture) {
			f.signedWindow(t, "val-2", 4, after(9))
			f.signedWindow(t, "val-3", 4, after(9))
			tampered(t, f, "val-3")
		}, 0, "val-3"},
		"of another run": {func(t *testing.T, f *fixture) {
			for _, v := range []string{"val-1", "val-2"} {
				f.signedWindow(t, v, 4, func(w *WindowFile) { w.Run[0]++ })
			}
		}, 0, "val-1"},
		"of another network": {func(t *testing.T, f *fixture) {
			for _, v := range []string{"val-1", "val-2"} {
				f.signedWindow(t, v, 4, func(w *WindowFile) { w.Network = "other" })
			}
		}, 0, "val-1"},
		"of another window": {func(t *testing.T, f *fixture) {
			for _, v := range []string{"val-1", "val-2"} {
				f.signedWindow(t, v, 4, func(w *WindowFile) { w.Window = 3 })
			}
		}, 0, "val-1"},
		"selection of another window": {func(t *testing.T, f *fixture) {
			for _, v := range []string{"val-1", "val-2"} {
				f.signedWindow(t, v, 4, func(w *WindowFile) { w.Selection.Window = 3 })
			}
		}, 0, "val-1"},
		"copied from another's bucket": {func(t *testing.T, f *fixture) {
			f.signedWindow(t, "val-2", 4, after(9))
			f.put(t, "val-3", windowKey(4), f.get(t, "val-2", windowKey(4)))
		}, 0, "val-3"},
		"of one without a permit": {func(t *testing.T, f *fixture) {
			f.signedWindow(t, "miner-1", 4, after(9))
			f.signedWindow(t, "val-1", 4, after(9))
		}, 0, ""},
	}
}

// A window file counts only as more than half of the stake signed it; a tampered, foreign or minority one is refused and
// named.
func TestWindowFileNeedsAQuorum(t *testing.T) {
	for name, c := range signedCases() {
		t.Run(name, func(t *testing.T) {
			f, ctx := quorumFix(t)
			c.files(t, f)
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			f.cfg.Events = func(e events.Event) { // it waits: that is the answer
				if e.Kind == events.Waiting {
					cancel()
				}
			}
			go func() {
				for b := chain.Block(2); ctx.Err() == nil; b++ {
					f.clock.Advance(chain.Head{Block: b})
				}
			}()
			file, err := f.windowFile(ctx, 4)
			switch {
			case c.want == 0 && err == nil:
				t.Errorf("took a file with After %s", file.After.Short())
			case c.want != 0 && (err != nil || file.After != chain.Hash{c.want}):
				t.Errorf("got %+v, %v", file, err)
			}
			if c.refused != "" && !strings.Contains(f.log(), "refused a file of a validator\" hotkey="+hotkey(t, c.refused).Short()) {
				t.Errorf("%s is not named in %q", c.refused, f.log())
			}
		})
	}
}

// When half of the stake says that it has no such file any more, replaying is over: only a checkpoint helps.
func TestWindowFileIsGone(t *testing.T) {
	f, ctx := quorumFix(t)
	f.signedWindow(t, "val-2", 4, nil)
	if _, err := f.windowFile(ctx, 4); !errors.Is(err, errBehind) {
		t.Errorf("got %v", err)
	}
}

// quorum finds the content that more than half of the stake signed, and none where there is none.
func TestQuorumProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		stakes := rapid.SliceOfN(rapid.Uint64Range(0, 5), 1, 8).Draw(rt, "stakes")
		groups := map[chain.Hash]*signed[int]{}
		var total, best chain.Amount
		by := map[int]chain.Amount{}
		for i, s := range stakes {
			total += chain.Amount(s)
			content := rapid.IntRange(0, 3).Draw(rt, fmt.Sprint("content of ", i)) // 3: says nothing
			if content == 3 {
				continue
			}
			collect(groups, chain.Hash{byte(content)}, content, source{stake: chain.Amount(s)})
			by[content] += chain.Amount(s)
			best = max(best, by[content])
		}
		q, ok := quorum(groups, total)
		if ok != (2*best > total) || ok && 2*by[q.body] <= total {
			rt.Fatalf("got %+v, %v of %d, by content %v", q, ok, total, by)
		}
	})
}

// signedCheckpoint publishes a checkpoint of s in a validator's bucket.
func (f *fixture) signedCheckpoint(t *testing.T, validator string, s *state) {
	t.Helper()
	signer := f.cfg.Signer
	defer func() { f.cfg.Signer = signer }()
	f.cfg.Signer = local.Signer{Key: keyOf(t, validator)}
	if err := f.eachCheckpointFile(s, func(name string, b []byte) error {
		f.put(t, validator, checkpointKey(s.window, name), b)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// A checkpoint is taken only if more than half of the stake signed its manifest and the weights have the root it names.
// Another validator's copy of the weights will do; an older checkpoint is better than none.
func TestCheckpointIsChecked(t *testing.T) {
	key := checkpointKey(7, modelFile)
	for name, c := range map[string]struct {
		damage func(t *testing.T, f *fixture)
		want   chain.Window // NoWindow: none
	}{
		"as published": {func(*testing.T, *fixture) {}, 7},
		"one flipped weight": {func(t *testing.T, f *fixture) {
			b := f.get(t, "val-1", key)
			b[len(b)-1] ^= 1
			f.put(t, "val-1", key, b)
		}, 7},
		"one without weights": {func(t *testing.T, f *fixture) { f.del(t, "val-1", key) }, 7},
		"flipped weights in all": {func(t *testing.T, f *fixture) {
			f.all(func(v string) { b := f.get(t, v, key); b[len(b)-1] ^= 1; f.put(t, v, key, b) })
		}, 3},
		"cut in all": {func(t *testing.T, f *fixture) { f.all(func(v string) { f.put(t, v, key, f.get(t, v, key)[:1000]) }) }, 3},
		"manifests of a minority": {func(t *testing.T, f *fixture) {
			f.del(t, "val-2", checkpointKey(7, "manifest.json"))
			f.del(t, "val-3", checkpointKey(7, "manifest.json"))
		}, 3},
		"manifest of another": {func(t *testing.T, f *fixture) {
			b := f.get(t, "val-1", checkpointKey(7, "manifest.json"))
			f.all(func(v string) { f.put(t, v, checkpointKey(7, "manifest.json"), b) })
		}, 3},
		"manifest under a new name": {func(t *testing.T, f *fixture) {
			f.all(func(v string) {
				f.put(t, v, checkpointKey(8, "manifest.json"), f.get(t, v, checkpointKey(7, "manifest.json")))
			})
		}, 7},
		"everything gone": {func(t *testing.T, f *fixture) { f.all(func(v string) { f.del(t, v, f.keys(t, v, "checkpoint/")...) }) }, chain.NoWindow},
		"a root that is not theirs": {func(t *testing.T, f *fixture) {
			wrong := f.someState(t, 7)
			wrong.root[0]++
			f.all(func(v string) { f.signedCheckpoint(t, v, wrong) })
		}, 3},
		"a liar of the future": {func(t *testing.T, f *fixture) { f.signedCheckpoint(t, "val-1", f.someState(t, 900)) }, 7},
	} {
		t.Run(name, func(t *testing.T) {
			f, ctx := quorumFix(t)
			f.all(func(v string) {
				f.signedCheckpoint(t, v, f.someState(t, 3))
				f.signedCheckpoint(t, v, f.someState(t, 7))
			})
			c.damage(t, f)
			s, err := f.checkpoint(ctx, 0, 1000)
			switch {
			case c.want == chain.NoWindow:
				if !errors.Is(err, errNoCheckpoint) {
					t.Errorf("got %+v, %v", s, err)
				}
			case err != nil || s.window != c.want || s.root != f.someState(t, c.want).root:
				t.Errorf("got %+v, %v; log %s", s, err, f.log())
			}
		})
	}
}

func (f *fixture) all(do func(validator string)) {
	for _, v := range []string{"val-1", "val-2", "val-3"} {
		do(v)
	}
}

func (f *fixture) del(t *testing.T, bucket string, keys ...string) {
	t.Helper()
	if err := f.mem.Bucket(bucket, true).Delete(context.Background(), keys...); err != nil {
		t.Fatal(err)
	}
}

// What a smaller part of the stake lists is not even looked at: a validator cannot keep a joiner busy with a list of
// checkpoints that nobody else has.
func TestOfferedNeedsAQuorum(t *testing.T) {
	f, ctx := quorumFix(t)
	for w := range chain.Window(50) {
		f.put(t, "val-1", checkpointKey(w, "manifest.json"), []byte("{}"))
	}
	f.put(t, "val-2", "checkpoint/07/manifest.json", []byte("{}")) // another name of window 7
	f.put(t, "val-2", checkpointKey(8, "manifest.json"), []byte("{}"))
	f.put(t, "val-3", checkpointKey(9, "model.safetensors"), []byte("{}"))
	sources, total, err := f.sources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.offered(ctx, sources, total); fmt.Sprint(got) != "[8]" {
		t.Errorf("got %v, want window 8 alone", got)
	}
}

// A node whose own bucket refuses it says so and, when that lasts, ends with what to check.
func TestOwnBucketRefuses(t *testing.T) {
	f := fix(t, func(f *fixture, _ *Config) {
		f.own = func(d storage.Driver) storage.Driver {
			return storage.NewFaulty(d, func(storage.Op, string, int) storage.Fault { return storage.Fault{Err: storage.ErrDenied} })
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		for b := chain.Block(2); ctx.Err() == nil; b++ {
			f.clock.Advance(chain.Head{Block: b})
		}
	}()
	err := f.ownBucket(ctx, 0)
	if !errors.Is(err, errRefused) || !errors.Is(err, storage.ErrDenied) || !strings.Contains(err.Error(), "access key") {
		t.Errorf("got %v", err)
	}
	if said := f.said(events.Waiting); len(said) != 1 || !strings.Contains(said[0], "own bucket") {
		t.Errorf("said %q", said)
	}
}

// After a crash between saving a state and queueing its checkpoint, the checkpoint is queued at the start.
func TestCheckpointAfterCrash(t *testing.T) {
	f := fix(t, nil)
	for w, due := range map[chain.Window]bool{0: true, 1: false, 3: true, 4: false, 7: true} {
		f.outbox.todo = nil
		if err := f.saveState(f.someState(t, w)); err != nil {
			t.Fatal(err)
		}
		f.states = nil
		if err := f.begin(context.Background()); err != nil {
			t.Fatal(err)
		}
		if queued := len(f.outbox.todo) > 0; queued != due {
			t.Errorf("window %d: queued %v", w, queued)
		}
		if due && f.outbox.todo[len(f.outbox.todo)-1].key != checkpointKey(w, "manifest.json") {
			t.Error("the manifest is not last")
		}
	}
}
