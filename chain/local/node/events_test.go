package node

import (
	"fmt"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"sn3/chain"
	"sn3/chain/local"
)

// History is bounded where events are frequent; pages meet without a gap or an overlap.
func TestHistory(t *testing.T) {
	s, err := openStore(filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	a, b := chain.Hotkey{1}, chain.Hotkey{2}
	const blocks = 2300 // 300 more than are kept of what is frequent
	err = s.db.Update(func(tx *bolt.Tx) error {
		for h := chain.Block(5); h < 5+blocks; h++ {
			events := []local.Event{{Block: h, Kind: local.EventEpoch, Hotkey: a, Amount: chain.Amount(h)}}
			if h%100 == 0 {
				events = append(events, local.Event{Block: h, Kind: local.EventStaked, Hotkey: a}, local.Event{Block: h, Kind: local.EventScored, Hotkey: b},
					local.Event{Block: h, Kind: local.EventParam})
			}
			if err := putEvents(tx, h, events); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	count := func(h chain.Hotkey) map[string]int {
		n, seen, last, before := map[string]int{}, map[string]bool{}, ^chain.Block(0), chain.Block(0)
		for {
			p, err := s.Page(h, before)
			if err != nil {
				t.Fatal(err)
			}
			if p.From != 5 {
				t.Fatalf("known from block %d, want 5", p.From)
			}
			for _, e := range p.Events {
				id := fmt.Sprint(e.Kind, e.Block)
				if e.Hotkey != h || e.Block > last || seen[id] {
					t.Fatalf("event %+v after block %d, seen before: %v", e, last, seen[id])
				}
				seen[id] = true
				last = e.Block
				n[e.Kind]++
			}
			if len(p.Events) == 0 {
				return n
			}
			if len(p.Events) > local.EventsAPage+2 {
				t.Fatalf("a page of %d events", len(p.Events))
			}
			before = last
		}
	}
	if n := count(a); n[local.EventEpoch] != local.EventsFrequent.Kept() || n[local.EventStaked] != blocks/100 {
		t.Errorf("kept %v", n)
	}
	if n := count(b); n[local.EventScored] != blocks/100 || len(n) != 1 {
		t.Errorf("another hotkey's: %v", n)
	}
	if n := count(chain.Hotkey{}); n[local.EventParam] != blocks/100 || len(n) != 1 {
		t.Errorf("the network's: %v", n)
	}
	if n := count(chain.Hotkey{3}); len(n) != 0 {
		t.Errorf("nobody's: %v", n)
	}
}

// kept counts what is kept of a hotkey, by kind.
func kept(t *testing.T, s *store, h chain.Hotkey) map[string]int {
	t.Helper()
	n := map[string]int{}
	for before := chain.Block(0); ; {
		p, err := s.Page(h, before)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Events) == 0 {
			return n
		}
		for _, e := range p.Events {
			n[e.Kind]++
			before = e.Block
		}
	}
}

// What anybody can cause for a fee crowds nothing else out, and no diary of another hotkey but those that are quiet for longest; the
// network's own stays.
func TestDiariesAreBounded(t *testing.T) {
	s, err := openStore(filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	hotkey := func(i int) chain.Hotkey { return chain.Hotkey{1, byte(i), byte(i >> 8)} }
	put := func(at chain.Block, events ...local.Event) {
		t.Helper()
		if err := s.db.Update(func(tx *bolt.Tx) error { return putEvents(tx, at, events) }); err != nil {
			t.Fatal(err)
		}
	}
	count := func(h chain.Hotkey) map[string]int { return kept(t, s, h) }
	put(1, local.Event{Block: 1, Kind: local.EventRegistered, Hotkey: hotkey(0)}, local.Event{Block: 1, Kind: local.EventParam})
	most := local.EventsOfStake.Kept()
	for at := chain.Block(2); at < 12; at++ { // two tenths too many
		var flood []local.Event
		for range most / 10 * 6 / 5 {
			flood = append(flood, local.Event{Block: at, Kind: local.EventStaked, Hotkey: hotkey(0)})
		}
		put(at, flood...)
	}
	if n := count(hotkey(0)); n[local.EventStaked] != most || n[local.EventRegistered] != 1 {
		t.Errorf("a flood of stakes leaves %v", n)
	}
	err = s.db.Update(func(tx *bolt.Tx) error {
		for i := range local.KeptDiaries + 2 { // with 0, which comes again, three more than are kept
			at := chain.Block(20 + i)
			events := []local.Event{{Block: at, Kind: local.EventRegistered, Hotkey: hotkey(1 + i)}, {Block: at, Kind: local.EventEpoch, Hotkey: hotkey(1 + i)}}
			if i == local.KeptDiaries-5 {
				events = append(events, local.Event{Block: at, Kind: local.EventEpoch, Hotkey: hotkey(0)})
			}
			if err := putEvents(tx, at, events); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range map[int]int{0: 2 + most, 1: 0, 2: 0, 3: 0, 4: 2, local.KeptDiaries + 2: 2} {
		if n := count(hotkey(i)); n[local.EventRegistered]+n[local.EventEpoch]+n[local.EventStaked] != want {
			t.Errorf("hotkey %d has %v, want %d", i, n, want)
		}
	}
	if n := count(chain.Hotkey{}); n[local.EventParam] != 1 {
		t.Errorf("the network's: %v", n)
	}
	err = s.db.View(func(tx *bolt.Tx) error {
		if n := tx.Bucket(bucketQuiet).Stats().KeyN; n != local.KeptDiaries {
			t.Errorf("%d hotkeys have a diary", n)
		}
		if n := tx.Bucket(bucketCount).Stats().KeyN; n != local.KeptDiaries+3 {
			t.Errorf("%d counts", n)
		}
		if n := tx.Bucket(bucketEvent).Stats().KeyN; n != 2*(local.KeptDiaries-1)+2+most+1 {
			t.Errorf("%d events", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
