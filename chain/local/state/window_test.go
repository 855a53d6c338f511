package state

import (
	"errors"
	"reflect"
	"testing"

	"sn3/chain"
	"sn3/chain/local"
)

func publish(body []byte) local.Op {
	return local.Publish{Record: chain.Record{Locator: []byte("here"), Digest: chain.Hash{byte(len(body))}, Body: body}}
}

func vote(t testing.TB, w chain.Window, scores ...chain.Score) local.Op {
	t.Helper()
	b, err := chain.Vote{Window: w, Root: chain.Hash{1}, Scores: scores}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return publish(b)
}

// One window: what is published by the deadline counts, votes count until ScoreBy, and the selection is that of chain.Select
// on the two snapshots, which stay as they were.
func TestSelectionOfAWindow(t *testing.T) {
	s := machine(t)
	const w = 1
	at := func(ph chain.Phase) chain.Block { return s.sched.At(w, ph) }
	sub := func(w chain.Window) local.Op { return publish(chain.SubmissionBody{Window: w}.Encode()) }
	until(s, at(chain.PhaseDeadline)-1)
	if _, err := s.Snapshot(at(chain.PhaseDeadline)); !errors.Is(err, chain.ErrNotYet) {
		t.Errorf("snapshot before the deadline: %v", err)
	}
	next(s, tx(t, 2, 0, sub(w)))                        // in the block of the deadline: in time
	next(s, tx(t, 3, 0, sub(w)), tx(t, 2, 1, sub(w+1))) // late; changes the record, not the submission
	if s.Height() != at(chain.PhaseScoreBy)-1 {
		t.Fatalf("height %d", s.Height())
	}
	// in the block of ScoreBy: in time. With stakes 3:2 the larger validator's score is the median
	next(s, tx(t, 0, 0, vote(t, w, chain.Score{UID: 2, Value: 9000}, chain.Score{UID: 3, Value: 9000})), tx(t, 1, 0, vote(t, w, chain.Score{UID: 2, Value: 8000})))
	if _, err := s.Selection(w); !errors.Is(err, chain.ErrNotYet) {
		t.Errorf("selection before its block: %v", err)
	}
	next(s, tx(t, 0, 1, vote(t, w, chain.Score{UID: 2, Value: 0}))) // late
	if s.Height() != at(chain.PhaseSelect) {
		t.Fatalf("height %d", s.Height())
	}
	got, err := s.Selection(w)
	if err != nil {
		t.Fatal(err)
	}
	deadline, err := s.Snapshot(at(chain.PhaseDeadline))
	if err != nil {
		t.Fatal(err)
	}
	scoreBy, err := s.Snapshot(at(chain.PhaseScoreBy))
	if err != nil {
		t.Fatal(err)
	}
	if want := chain.Select(chain.NewView(w, deadline, scoreBy), s.run.Rules); !reflect.DeepEqual(got, want) {
		t.Errorf("selection %+v, want %+v", got, want)
	}
	if len(got.Winners) != 1 || got.Winners[0].Hotkey != account0(2) || got.Winners[0].Score != 9000 || got.Root != (chain.Hash{1}) {
		t.Errorf("selection %+v", got)
	}
	if p, ok := deadline.Record(account0(2)); !ok || p.At != at(chain.PhaseDeadline) {
		t.Errorf("the record as of the deadline is of block %d", p.At)
	}
	if sel, err := s.Selection(0); err != nil || len(sel.Winners) != 0 {
		t.Errorf("a window nobody submitted to: %+v, %v", sel, err)
	}
}

// Phase blocks can be asked for as long as they are kept, every snapshot of the last KeepWindows windows among them.
func TestWhatIsKept(t *testing.T) {
	s := machine(t)
	until(s, 300)
	h, p := s.Height(), s.run.Schedule
	span := p.Length * chain.Block(s.params.KeepWindows)
	for w := chain.Window(0); s.sched.At(w, chain.PhaseSeed) <= h; w++ {
		for _, ph := range []chain.Phase{chain.PhaseSeed, chain.PhaseDeadline, chain.PhaseScoreBy, chain.PhaseSelect} {
			b := s.sched.At(w, ph)
			snap, err := s.Snapshot(b)
			switch {
			case b > h:
				if !errors.Is(err, chain.ErrNotYet) {
					t.Errorf("block %d to come: %v", b, err)
				}
			case b+span < h:
				if !errors.Is(err, chain.ErrPruned) {
					t.Errorf("old block %d: %v", b, err)
				}
			case err != nil || snap.Block != b || len(snap.Neurons) != 4:
				t.Errorf("block %d (%s of window %d): %v", b, ph, w, err)
			}
		}
	}
	if _, err := s.Snapshot(h - RecentBlocks - 1); !errors.Is(err, chain.ErrPruned) && s.snapshots[h-RecentBlocks-1] == nil {
		t.Errorf("a block between phases: %v", err)
	}
	for _, w := range []chain.Window{chain.NoWindow, chain.NoWindow - 1, 1 << 63, 1 << 61} { // their blocks wrap around
		if _, err := s.Selection(w); !errors.Is(err, chain.ErrNotYet) {
			t.Errorf("window %d: %v", w, err)
		}
	}
	if n := len(s.snapshots); n > 7*s.params.KeepWindows {
		t.Errorf("%d snapshots are kept", n)
	}
}

func TestBeacon(t *testing.T) {
	s := machine(t)
	for h := chain.Block(1); h <= 2; h++ {
		sig := mustSign(t, chain.Round(h-1))
		s.Finalize(Block{Height: h, Beacons: []Beacon{{chain.Round(h - 1), sig}}})
		clear(sig) // a block's memory is its maker's
	}
	if r, err := s.Beacon(1); err != nil || len(r) != 32 {
		t.Errorf("beacon of round 1: %x, %v", r, err)
	}
	if sig, err := s.BeaconSignature(1); err != nil || string(sig) != string(mustSign(t, 1)) {
		t.Errorf("signature of round 1: %x, %v", sig, err)
	}
	if _, err := s.Beacon(2); !errors.Is(err, chain.ErrNotYet) {
		t.Errorf("the beacon of the newest block before its signature is in a block: %v", err)
	}
	s.Finalize(Block{Height: 3, Beacons: []Beacon{{2, mustSign(t, 1)}}}) // of another round
	if _, err := s.Beacon(2); !errors.Is(err, chain.ErrNotYet) {
		t.Errorf("a signature of another round became a beacon: %v", err)
	}
	s.Finalize(Block{Height: 4, Beacons: []Beacon{{3, make([]byte, 48)}, {2, nil}}})
	if len(s.beacons) != 2 {
		t.Errorf("%d beacons", len(s.beacons))
	}
}

// A network without validators for longer than anything is kept: the windows in which nothing happened are known to be empty,
// and the newest in which something did are still there. Only what lies before those is pruned.
func TestSelectionsOfAQuietChain(t *testing.T) {
	s := machine(t)
	keep := chain.Window(s.params.KeepWindows)
	nonce := uint64(0)
	voted := func(w chain.Window) { // the larger validator votes alone: that is a majority's root
		until(s, s.sched.At(w, chain.PhaseScoreBy)-1)
		next(s, tx(t, 0, nonce, vote(t, w)))
		nonce++
		until(s, s.sched.At(w, chain.PhaseSelect))
	}
	for w := range keep + 3 {
		voted(w)
	}
	last := keep + 2
	until(s, s.sched.At(last+3*keep, chain.PhaseSelect))
	for w := range last + 3*keep + 1 {
		got, err := s.Selection(w)
		switch {
		case w < 3:
			if !errors.Is(err, chain.ErrPruned) {
				t.Errorf("window %d, of which more than %d others were kept: %+v, %v", w, keep, got, err)
			}
		case err != nil || got.Window != w || len(got.Winners) != 0 || (got.Root == chain.Hash{1}) != (w <= last):
			t.Errorf("window %d: %+v, %v", w, got, err)
		}
	}
	if _, err := s.Snapshot(s.sched.At(last, chain.PhaseScoreBy)); !errors.Is(err, chain.ErrPruned) {
		t.Errorf("the snapshots are not kept that long: %v", err)
	}
	if got := len(s.selections); got > 2*int(keep)+1 {
		t.Errorf("%d selections are kept", got)
	}
	if _, err := s.Selection(last + 3*keep + 1); !errors.Is(err, chain.ErrNotYet) {
		t.Errorf("a window to come: %v", err)
	}
}
