package replica

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"sn3/chain"
	"sn3/gradients"
	"sn3/internal/events"
	"sn3/model"
	"sn3/storage"
)

// writer is a chain.Writer that puts records into a ledger, or fails.
type writer struct {
	l     *ledger
	self  chain.Hotkey
	at    chain.Block
	err   error
	lost  bool // the record is included, the answer is not heard
	calls int
	after func() // what happens before the answer is there
}

func (w *writer) Publish(ctx context.Context, r chain.Record) (chain.Receipt, error) {
	w.calls++
	if ctx.Err() != nil {
		return chain.Receipt{}, ctx.Err()
	}
	if w.err == nil || w.lost {
		w.l.mu.Lock()
		defer w.l.mu.Unlock()
		for i, p := range w.l.snap.Records {
			if p.Hotkey == w.self {
				w.l.snap.Records[i].Record, w.l.snap.Records[i].At = r, w.at
			}
		}
	}
	if w.after != nil {
		w.after()
	}
	return chain.Receipt{Block: w.at}, w.err
}

func (w *writer) SetWeights(context.Context, []chain.Weight) (chain.Receipt, error) {
	return chain.Receipt{}, nil
}

// miner makes the replica of miner-1, its feedback with a payload of window 0 pending, and its writer; the clock stands in
// window 0.
func miner(t *testing.T, change func(*fixture, *Config)) (*fixture, *gradients.Feedback, *gradients.Pending, *writer) {
	t.Helper()
	var w *writer
	f := fix(t, func(f *fixture, c *Config) {
		w = &writer{l: f.chain, self: hotkey(t, "miner-1")}
		c.Self, c.Validator, c.Writer = w.self, false, w
		if change != nil {
			change(f, c)
		}
	})
	w.at = f.sched.At(0, chain.PhaseDeadline)
	f.clock.Advance(chain.Head{Block: w.at - 1})
	fb, err := gradients.OpenFeedback(filepath.Join(f.dir, "feedback"), f.Layout(), 0.95)
	if err != nil {
		t.Fatal(err)
	}
	return f, fb, begin(t, f, fb, 0), w
}

func begin(t *testing.T, f *fixture, fb *gradients.Feedback, w chain.Window) *gradients.Pending {
	t.Helper()
	start, end := model.NewFlat(f.Layout()), model.NewFlat(f.Layout())
	end.Init(7 + uint64(w))
	p, err := fb.Begin(start, end, w, 512)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func work() Work {
	return Work{Base: chain.Hash{1}, Assignment: chain.Hash{2}, Consumed: 40, Steps: 10}
}

// A submission counts, and its feedback is confirmed, exactly if the record is final at or before the deadline.
func TestPublishSettles(t *testing.T) {
	for name, c := range map[string]struct {
		change          func(f *fixture, w *writer)
		counts, settled bool
		err             error
	}{
		"in time":                {func(*fixture, *writer) {}, true, true, nil},
		"a block late":           {func(_ *fixture, w *writer) { w.at++ }, false, true, nil},
		"refused as too late":    {func(f *fixture, w *writer) { w.err, w.after = chain.ErrTooLate, f.passed }, false, true, nil},
		"answer lost, in time":   {func(f *fixture, w *writer) { w.err, w.lost, w.after = chain.ErrTooLate, true, f.passed }, true, true, nil},
		"answer lost, too late":  {func(f *fixture, w *writer) { w.err, w.lost, w.after = chain.ErrTooLate, true, f.passed; w.at++ }, false, true, nil},
		"deadline already past":  {func(f *fixture, _ *writer) { f.passed() }, false, true, nil},
		"chain away":             {func(_ *fixture, w *writer) { w.err = chain.ErrUnavailable }, false, false, chain.ErrUnavailable},
		"no seat":                {func(_ *fixture, w *writer) { w.err = chain.ErrNotRegistered }, false, false, chain.ErrNotRegistered},
		"bucket away":            {func(f *fixture, _ *writer) { f.cfg.Bucket = storage.NewBucket(f.mem.Driver("val-1", false)) }, false, false, storage.ErrDenied},
		"bucket away until then": {func(f *fixture, _ *writer) { f.cfg.Bucket = storage.NewBucket(late{nil, f}) }, false, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f, fb, p, w := miner(t, nil)
			c.change(f, w)
			o, err := f.Publish(context.Background(), p, work())
			if !errors.Is(err, c.err) || o.Counts != c.counts {
				t.Errorf("got %+v, %v", o, err)
			}
			if settled := fb.Pending() == nil; settled != c.settled {
				t.Errorf("settled: %v", settled)
			}
			if again, err := gradients.OpenFeedback(filepath.Join(f.dir, "feedback"), f.Layout(), 0.95); err != nil || (again.Pending() == nil) != c.settled {
				t.Errorf("after a restart: %v, %v", again.Pending(), err)
			}
			if c.settled || w.err == nil {
				return
			}
			w.err = nil // it comes back: Resume publishes the same again
			r, err := f.Resume(context.Background(), fb)
			if err != nil || r == nil || !r.Counts {
				t.Errorf("resumed: %+v, %v", r, err)
			}
		})
	}
}

// passed lets the deadline of window 0 pass.
func (f *fixture) passed() {
	f.clock.Advance(chain.Head{Block: f.sched.At(0, chain.PhaseDeadline) + 1})
}

// late is a bucket that does not answer before the deadline of window 0.
type late struct {
	storage.Driver
	f *fixture
}

func (l late) Put(ctx context.Context, _ string, _ io.ReaderAt, _ int64, _ storage.PutOptions) error {
	l.f.passed()
	<-ctx.Done()
	return ctx.Err()
}

// What a crash left pending is published if there is time, confirmed if its record made it, else discarded; what was never
// uploaded is discarded without a word to the chain.
func TestResume(t *testing.T) {
	for name, c := range map[string]struct {
		crash  func(t *testing.T, f *fixture, w *writer, manifest string)
		counts bool
		calls  int // of the chain's writer after the crash
	}{
		"before the manifest": {func(t *testing.T, _ *fixture, _ *writer, m string) {
			if err := os.Remove(m); err != nil {
				t.Fatal(err)
			}
		}, false, 0},
		"manifest of an earlier payload": {func(t *testing.T, _ *fixture, _ *writer, m string) {
			edit(t, m, func(m *gradients.Manifest) { m.Payload[0]++ })
		}, false, 0},
		"manifest of another window": {func(t *testing.T, _ *fixture, _ *writer, m string) {
			edit(t, m, func(m *gradients.Manifest) { m.Window++ })
		}, false, 0},
		"manifest of another run": {func(t *testing.T, _ *fixture, _ *writer, m string) {
			edit(t, m, func(m *gradients.Manifest) { m.Run[0]++ })
		}, false, 0},
		"damaged manifest": {func(t *testing.T, _ *fixture, _ *writer, m string) {
			if err := os.WriteFile(m, []byte("SN3M"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, false, 0},
		"before the upload, in time":   {func(*testing.T, *fixture, *writer, string) {}, true, 1},
		"before the upload, too late":  {func(_ *testing.T, f *fixture, _ *writer, _ string) { f.passed() }, false, 0},
		"after the record, too late":   {func(_ *testing.T, f *fixture, w *writer, m string) { f.recorded(w, m); f.passed() }, true, 0},
		"after a record that was late": {func(_ *testing.T, f *fixture, w *writer, m string) { w.at++; f.recorded(w, m); f.passed() }, false, 0},
		"after the record, windows later": {func(_ *testing.T, f *fixture, w *writer, m string) {
			f.recorded(w, m)
			f.chain.pruned = w.at
			f.clock.Advance(chain.Head{Block: 1000})
		}, true, 0},
		"after a late record, windows later": {func(_ *testing.T, f *fixture, w *writer, m string) {
			w.at++
			f.recorded(w, m)
			f.chain.pruned = w.at
			f.clock.Advance(chain.Head{Block: 1000})
		}, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f, fb, p, w := miner(t, nil)
			w.err = errors.New("crash")
			if _, err := f.Publish(context.Background(), p, work()); err == nil {
				t.Fatal("no crash")
			}
			w.err, w.calls = nil, 0
			c.crash(t, f, w, filepath.Join(f.dir, manifestFile))
			o, err := f.Resume(context.Background(), fb)
			if err != nil || fb.Pending() != nil {
				t.Fatalf("got %+v, %v, pending %v", o, err, fb.Pending())
			}
			if counts := o != nil && o.Counts; counts != c.counts || w.calls != c.calls {
				t.Errorf("counts %v after %d records, want %v after %d", counts, w.calls, c.counts, c.calls)
			}
			if o, err := f.Resume(context.Background(), fb); o != nil || err != nil {
				t.Errorf("with nothing pending: %+v, %v", o, err)
			}
		})
	}
}

// recorded puts the record of the manifest on chain.
func (f *fixture) recorded(w *writer, manifest string) {
	b, err := os.ReadFile(manifest)
	if err != nil {
		panic(err)
	}
	r := chain.Record{Locator: f.cfg.Locator.Encode(), Digest: sha256.Sum256(b), Body: chain.SubmissionBody{}.Encode()}
	if _, err := w.Publish(context.Background(), r); err != nil {
		panic(err)
	}
	w.calls = 0
}

func edit(t *testing.T, path string, change func(*gradients.Manifest)) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := gradients.ParseManifest(b)
	if err != nil {
		t.Fatal(err)
	}
	change(&m)
	if err := os.WriteFile(path, m.Encode(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A vote leaves although the own bucket is away: its evidence follows when it can.
func TestVoteWithoutBucket(t *testing.T) {
	var w *writer
	f := fix(t, func(f *fixture, c *Config) {
		w = &writer{l: f.chain, self: hotkey(t, "val-1"), at: 5}
		c.Writer = w
		f.own = func(d storage.Driver) storage.Driver {
			return storage.NewFaulty(d, func(storage.Op, string, int) storage.Fault { return storage.Fault{Err: storage.ErrUnavailable} })
		}
	})
	s, err := f.initial()
	if err != nil {
		t.Fatal(err)
	}
	f.publishState(s)
	o, err := f.Vote(context.Background(), 0, []chain.Score{{UID: 2, Value: 9000}}, []byte("evidence"))
	if err != nil || !o.Counts || w.calls != 1 {
		t.Fatalf("got %+v, %v", o, err)
	}
	p, _ := f.chain.snap.Record(w.self)
	v, err := chain.ParseVote(p.Record.Body)
	if err != nil || v.Root != s.root || len(v.Scores) != 1 || p.Record.Digest != sha256.Sum256([]byte("evidence")) {
		t.Errorf("on chain is %+v, %v", v, err)
	}
	if len(f.outbox.todo) != 1 || f.outbox.todo[0].key != evidenceKey(p.Record.Digest) {
		t.Errorf("queued: %+v", f.outbox.todo)
	}
}

// A vote whose answer is not there by ScoreBy counts if the chain has it by then, and only then.
func TestVoteWithoutAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		lost   bool
		late   chain.Block
		counts bool
	}{
		"in time":      {true, 0, true},
		"a block late": {true, 1, false},
		"not included": {false, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			var w *writer
			f := fix(t, func(f *fixture, cfg *Config) {
				w = &writer{l: f.chain, self: hotkey(t, "val-1"), err: chain.ErrUnavailable, lost: c.lost}
				cfg.Writer = w
			})
			by := f.sched.At(0, chain.PhaseScoreBy)
			w.at, w.after = by+c.late, func() { f.clock.Advance(chain.Head{Block: by + 1}) }
			s, err := f.initial()
			if err != nil {
				t.Fatal(err)
			}
			f.publishState(s)
			o, err := f.Vote(context.Background(), 0, []chain.Score{{UID: 2, Value: 9000}}, []byte("evidence"))
			if o.Counts != c.counts || errors.Is(err, chain.ErrUnavailable) == c.counts || c.counts && o.Block != by {
				t.Errorf("got %+v, %v", o, err)
			}
		})
	}
}

// A beacon that is late is waited for, block by block, and the operator is told once if it is very late; what else is wrong with
// it is told at once.
func TestLateBeacon(t *testing.T) {
	for late, told := range map[int][]events.Kind{patient: nil, patient + 4: {events.Waiting, events.Resumed}} {
		var said []events.Kind
		f := fix(t, func(_ *fixture, c *Config) { c.Events = func(e events.Event) { said = append(said, e.Kind) } })
		f.chain.late = late
		done := make(chan error, 1)
		go func() {
			b, err := f.Beacon(context.Background(), 0, chain.PhaseDeadline)
			if err == nil && string(b) != "beacon" {
				err = fmt.Errorf("beacon %q", b)
			}
			done <- err
		}()
		for b, here := f.clock.Now().Block+1, false; !here; b++ {
			select {
			case err := <-done:
				if here = true; err != nil || f.chain.late != 0 || !slices.Equal(said, told) {
					t.Errorf("%d times late: %v; %d left, told %v", late, err, f.chain.late, said)
				}
			default:
				f.clock.Advance(chain.Head{Block: b})
				runtime.Gosched()
			}
		}
	}
}
