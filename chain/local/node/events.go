package node

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"sn3/chain"
	"sn3/chain/local"
)

// Buckets of events. Those that come in every window are bounded per hotkey, the others cost money and are kept for good.
var (
	bucketEvent = []byte("event") // hotkey ‖ class u8 ‖ height u64 ‖ number in the block u16 -> JSON
	bucketCount = []byte("count") // hotkey -> number of its frequent events u32; "from" -> first height
	keyFrom     = []byte("from")
)

// Classes of events.
const (
	rare byte = iota
	frequent
)

func eventPrefix(h chain.Hotkey, class byte) []byte { return append(bytes.Clone(h[:]), class) }

// putEvents stores the events of a block.
func putEvents(tx *bolt.Tx, at chain.Block, events []local.Event) error {
	b, counts := tx.Bucket(bucketEvent), tx.Bucket(bucketCount)
	if counts.Get(keyFrom) == nil {
		if err := counts.Put(keyFrom, binary.BigEndian.AppendUint64(nil, uint64(at))); err != nil {
			return err
		}
	}
	for i, e := range events {
		class := rare
		if local.Frequent(e.Kind) {
			class = frequent
		}
		raw, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("store event: %w", err)
		}
		key := binary.BigEndian.AppendUint64(eventPrefix(e.Hotkey, class), uint64(at))
		if err := b.Put(binary.BigEndian.AppendUint16(key, uint16(i)), raw); err != nil {
			return err
		}
		if class == frequent {
			if err := bound(b, counts, e.Hotkey); err != nil {
				return err
			}
		}
	}
	return nil
}

// bound counts one more frequent event of a hotkey and drops its oldest one if that is too many.
func bound(b, counts *bolt.Bucket, h chain.Hotkey) error {
	n := uint32(1)
	if v := counts.Get(h[:]); len(v) == 4 {
		n += binary.BigEndian.Uint32(v)
	}
	if n > local.KeptEvents {
		prefix := eventPrefix(h, frequent)
		if k, _ := b.Cursor().Seek(prefix); bytes.HasPrefix(k, prefix) {
			if err := b.Delete(k); err != nil {
				return err
			}
			n--
		}
	}
	return counts.Put(h[:], binary.BigEndian.AppendUint32(nil, n))
}

// Page implements ledger.History.
func (s *store) Page(h chain.Hotkey, before chain.Block) (p local.HistoryPage, err error) {
	p.Events = []local.Event{}
	err = s.db.View(func(tx *bolt.Tx) error {
		if v := tx.Bucket(bucketCount).Get(keyFrom); len(v) == 8 {
			p.From = chain.Block(binary.BigEndian.Uint64(v))
		}
		b := tx.Bucket(bucketEvent)
		a, c := newWalk(b, eventPrefix(h, rare), before), newWalk(b, eventPrefix(h, frequent), before)
		for a.ok() || c.ok() {
			w := a
			if !a.ok() || c.ok() && bytes.Compare(c.at(), a.at()) > 0 { // the newer of the two
				w = c
			}
			var e local.Event
			if err := json.Unmarshal(w.v, &e); err != nil {
				return fmt.Errorf("read event: %w", err)
			}
			if n := len(p.Events); n >= local.EventsAPage && e.Block != p.Events[n-1].Block {
				return nil
			}
			p.Events = append(p.Events, e)
			w.back()
		}
		return nil
	})
	return p, err
}

// walk goes back through the events of one class.
type walk struct {
	c      *bolt.Cursor
	prefix []byte
	k, v   []byte
}

func newWalk(b *bolt.Bucket, prefix []byte, before chain.Block) *walk {
	if before == 0 {
		before--
	}
	w := &walk{c: b.Cursor(), prefix: prefix}
	if k, _ := w.c.Seek(binary.BigEndian.AppendUint64(bytes.Clone(prefix), uint64(before))); k == nil {
		w.k, w.v = w.c.Last()
		return w
	}
	w.back()
	return w
}

func (w *walk) ok() bool   { return bytes.HasPrefix(w.k, w.prefix) }
func (w *walk) at() []byte { return w.k[len(w.prefix):] }
func (w *walk) back()      { w.k, w.v = w.c.Prev() }
