package node

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/state"
)

// Buckets of events: a diary for each hotkey, and one for the network, which has the zero hotkey. Both how many events of a
// class are kept and how many diaries are bounded, so that nobody fills disks for good by paying fees once.
var (
	bucketEvent = []byte("event") // hotkey ‖ class u8 ‖ height u64 ‖ number in the block u16 -> JSON
	bucketCount = []byte("count") // hotkey -> diary; "from" -> first height; "all" -> number of hotkeys' diaries u32
	bucketQuiet = []byte("quiet") // height of a hotkey's newest event u64 ‖ hotkey -> nothing
	keyFrom     = []byte("from")
	keyAll      = []byte("all")
)

func eventPrefix(h chain.Hotkey, class local.EventClass) []byte {
	return append(bytes.Clone(h[:]), byte(class))
}

// diary says how much is kept of a hotkey: the number of its events u32 by class, height of the newest u64.
type diary struct {
	n    [local.EventClasses]uint32
	last chain.Block // 0: there was none before
}

const diaryLen = 4*int(local.EventClasses) + 8

func (d diary) encode() (b []byte) {
	for _, n := range d.n {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return binary.BigEndian.AppendUint64(b, uint64(d.last))
}

func decodeDiary(v []byte) (d diary, err error) {
	if v == nil {
		return d, nil
	}
	if len(v) != diaryLen {
		return d, fmt.Errorf("%w: a diary's head of %d bytes; start a new network in another folder, or use the release that made it", state.ErrVersion, len(v))
	}
	for i := range d.n {
		d.n[i] = binary.BigEndian.Uint32(v[4*i:])
	}
	d.last = chain.Block(binary.BigEndian.Uint64(v[diaryLen-8:]))
	return d, nil
}

func quietKey(at chain.Block, h chain.Hotkey) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(at)), h[:]...)
}

// putEvents stores the events of a block.
func putEvents(tx *bolt.Tx, at chain.Block, events []local.Event) error {
	b, counts := tx.Bucket(bucketEvent), tx.Bucket(bucketCount)
	if counts.Get(keyFrom) == nil {
		if err := counts.Put(keyFrom, binary.BigEndian.AppendUint64(nil, uint64(at))); err != nil {
			return err
		}
	}
	for i, e := range events {
		raw, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("store event: %w", err)
		}
		class := local.ClassOf(e.Kind)
		key := binary.BigEndian.AppendUint64(eventPrefix(e.Hotkey, class), uint64(at))
		if err := b.Put(binary.BigEndian.AppendUint16(key, uint16(i)), raw); err != nil {
			return err
		}
		if err := enter(tx, at, e.Hotkey, class); err != nil {
			return err
		}
	}
	return nil
}

// enter counts one more event of a hotkey and drops its oldest one of the class if that is too many; a hotkey that is new may
// cost another one its diary.
func enter(tx *bolt.Tx, at chain.Block, h chain.Hotkey, class local.EventClass) error {
	b, counts, quiet := tx.Bucket(bucketEvent), tx.Bucket(bucketCount), tx.Bucket(bucketQuiet)
	d, err := decodeDiary(counts.Get(h[:]))
	if err != nil {
		return err
	}
	if d.n[class]++; int(d.n[class]) > class.Kept() {
		prefix := eventPrefix(h, class)
		if k, _ := b.Cursor().Seek(prefix); bytes.HasPrefix(k, prefix) {
			if err := b.Delete(k); err != nil {
				return err
			}
			d.n[class]--
		}
	}
	last := d.last
	d.last = at
	if err := counts.Put(h[:], d.encode()); err != nil || h == (chain.Hotkey{}) || last == at {
		return err
	}
	if err := quiet.Delete(quietKey(last, h)); err != nil {
		return err
	}
	if err := quiet.Put(quietKey(at, h), nil); err != nil || last != 0 {
		return err
	}
	return bound(tx)
}

// bound counts one more diary, and forgets the hotkey to whom nothing happened for longest if that is too many.
func bound(tx *bolt.Tx) error {
	b, counts, quiet := tx.Bucket(bucketEvent), tx.Bucket(bucketCount), tx.Bucket(bucketQuiet)
	n := uint32(1)
	if v := counts.Get(keyAll); len(v) == 4 {
		n += binary.BigEndian.Uint32(v)
	}
	if n > local.KeptDiaries {
		k, _ := quiet.Cursor().First()
		if len(k) != 8+len(chain.Hotkey{}) {
			return fmt.Errorf("%w: diaries of %d hotkeys, and none is the oldest", state.ErrDamaged, n)
		}
		k = bytes.Clone(k)
		if err := errors.Join(quiet.Delete(k), counts.Delete(k[8:])); err != nil {
			return err
		}
		c := b.Cursor()
		for e, _ := c.Seek(k[8:]); bytes.HasPrefix(e, k[8:]); e, _ = c.Seek(k[8:]) {
			if err := b.Delete(e); err != nil {
				return err
			}
		}
		n--
	}
	return counts.Put(keyAll, binary.BigEndian.AppendUint32(nil, n))
}

// Page implements ledger.History.
func (s *store) Page(h chain.Hotkey, before chain.Block) (p local.HistoryPage, err error) {
	p.Events = []local.Event{}
	err = s.db.View(func(tx *bolt.Tx) error {
		if v := tx.Bucket(bucketCount).Get(keyFrom); len(v) == 8 {
			p.From = chain.Block(binary.BigEndian.Uint64(v))
		}
		var walks []*walk
		for class := range local.EventClasses {
			walks = append(walks, newWalk(tx.Bucket(bucketEvent), eventPrefix(h, class), before))
		}
		for w := newest(walks); w != nil; w = newest(walks) {
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

// newest is the walk whose event is the newest; nil at the end of all.
func newest(walks []*walk) (w *walk) {
	for _, x := range walks {
		if x.ok() && (w == nil || bytes.Compare(x.at(), w.at()) > 0) {
			w = x
		}
	}
	return w
}

func (w *walk) ok() bool   { return bytes.HasPrefix(w.k, w.prefix) }
func (w *walk) at() []byte { return w.k[len(w.prefix):] }
func (w *walk) back()      { w.k, w.v = w.c.Prev() }
