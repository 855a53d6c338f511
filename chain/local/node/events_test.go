package node

import (
	"fmt"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"sn3/chain"
	"sn3/chain/local"
)

// History is bounded where events are frequent and whole where they are rare; pages meet without a gap or an overlap.
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
	const blocks = local.KeptEvents + 300
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
	if n := count(a); n[local.EventEpoch] != local.KeptEvents || n[local.EventStaked] != blocks/100 {
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
