package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	bolt "go.etcd.io/bbolt"

	"sn3/chain"
)

// harm is one damage to the folder of a node that is down.
type harm struct {
	name    string
	refused bool // a node that goes on with it could sign something twice
	do      func(n *network, m *member) error
}

func harms() []harm {
	cut := func(file string, most int64) func(*network, *member) error {
		return func(n *network, m *member) error { return shorten(m.file(file), 1+n.rng.Int64N(most)) }
	}
	flip := func(file string, last int64) func(*network, *member) error {
		return func(n *network, m *member) error {
			return change(m.file(file), func(b []byte) error {
				at := len(b) - 1 - n.rng.IntN(int(min(last, int64(len(b)))))
				b[at] ^= 1 << n.rng.IntN(8)
				return nil
			})
		}
	}
	return []harm{
		{"consensus log cut", false, cut("data/cs.wal/wal", 500)},
		{"consensus log changed", false, flip("data/cs.wal/wal", 500)},
		{"signing state cut", true, cut("data/priv_validator_state.json", 100)},
		{"signing state of an earlier block", true, earlier},
		{"state cut", false, cut("sn3.db", 8192)},
		{"state's newest page of meta data changed", false, flipMeta},
		{"block store's log cut", false, cutStore},
	}
}

// shorten takes bytes off the end of a file.
func shorten(path string, by int64) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.Truncate(path, max(0, st.Size()-by))
}

// change rewrites a file in place.
func change(path string, f func([]byte) error) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if len(b) == 0 {
		return fmt.Errorf("damage %s: it is empty", path)
	}
	if err := f(b); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

// earlier makes the last signature one of a lower height, by one digit of the file.
func earlier(_ *network, m *member) error {
	return change(m.file("data/priv_validator_state.json"), func(b []byte) error {
		at := bytes.Index(b, []byte(`"height": "`)) + len(`"height": "`)
		for i := at; i < len(b) && b[i] != '"'; i++ {
			if b[i] > '1' {
				b[i]--
				return nil
			}
		}
		b[at] = '0'
		return nil
	})
}

// flipMeta changes the newer of the two pages that say where the state's tree begins: what a torn write leaves.
func flipMeta(n *network, m *member) error {
	const page, txid = 4096, 16 + 48 // of a page; after its header, in its meta
	return change(m.file("sn3.db"), func(b []byte) error {
		if len(b) < 2*page {
			return errors.New("a database of less than two pages")
		}
		at := 0
		if bytes.Compare(reversed(b[page+txid:page+txid+8]), reversed(b[txid:txid+8])) > 0 {
			at = page
		}
		b[at+txid+n.rng.IntN(8)] ^= 0x40
		return nil
	})
}

// reversed makes a little-endian number one that compares as bytes.
func reversed(b []byte) []byte {
	out := make([]byte, len(b))
	for i, x := range b {
		out[len(b)-1-i] = x
	}
	return out
}

// cutStore shortens the newest log file of the block store.
func cutStore(n *network, m *member) error {
	list, err := filepath.Glob(m.file("data/blockstore.db/*.log"))
	if err != nil || len(list) == 0 {
		return fmt.Errorf("no log in the block store: %v", err)
	}
	return shorten(list[len(list)-1], 1+n.rng.Int64N(300))
}

// torn damages one file after the other. The node refuses, in words, or goes on with what the others have.
func torn(ctx context.Context, n *network, rounds int) error {
	list := harms()
	for i := range rounds {
		h := list[i%len(list)]
		m := n.any()
		at, err := n.down(ctx, m)
		if err != nil {
			return err
		}
		if err := n.damaged(ctx, m, at, h); err != nil {
			return fmt.Errorf("%s: %w", h.name, err)
		}
	}
	return nil
}

// damaged does one harm to a node that is down. A node that refuses gets its folder back, as from a copy.
func (n *network) damaged(ctx context.Context, m *member, at chain.Block, h harm) error {
	copied := m.home + ".copy"
	if err := errors.Join(os.RemoveAll(copied), os.CopyFS(copied, os.DirFS(m.home))); err != nil {
		return err
	}
	if err := h.do(n, m); err != nil {
		return err
	}
	said, refused := "", false
	if err := m.start(ctx); errors.Is(err, errEnded) {
		said, refused = err.Error(), true
	} else if err != nil {
		return err
	}
	if refused {
		n.log.Info("refused", "harm", h.name, "node", m.name(), "said", said)
		n.words(m, said)
		n.ends[h.name+": refused"]++
		if err := errors.Join(os.RemoveAll(m.home), os.Rename(copied, m.home)); err != nil {
			return err
		}
		if err := m.start(ctx); err != nil {
			return err
		}
	} else {
		n.log.Info("went on", "harm", h.name, "node", m.name())
		if n.ends[h.name+": went on"]++; h.refused {
			n.violated("%s starts with this harm: %s", m.name(), h.name)
		}
	}
	return errors.Join(n.recovered(ctx, at, m), os.RemoveAll(copied))
}

// words are what a node says when it ends: for an operator, not for who wrote it.
func (n *network) words(m *member, said string) {
	if said == "" || strings.Contains(said, "goroutine ") || strings.Contains(said, "signal: ") || !strings.Contains(said, "chaind: ") {
		n.violated("%s ended with %q", m.name(), said)
	}
}

// falseState changes one balance by one rao on one node: it must end, the others go on.
func falseState(ctx context.Context, n *network, rounds int) error {
	for range rounds {
		m := n.any()
		at, err := n.down(ctx, m)
		if err != nil {
			return err
		}
		copied := m.home + ".copy"
		if err := errors.Join(os.RemoveAll(copied), os.CopyFS(copied, os.DirFS(m.home)), richer(n, m)); err != nil {
			return err
		}
		said := ""
		if err := m.start(ctx); errors.Is(err, errEnded) {
			said = err.Error()
		} else if err != nil {
			return err
		} else if said, err = n.endsSoon(ctx, m); err != nil {
			n.violated("%s runs on a changed state: %v", m.name(), err)
			return err
		}
		n.log.Info("ended", "node", m.name(), "said", said)
		n.words(m, said)
		if err := n.goOn(ctx, 5, n.without(m)...); err != nil {
			return fmt.Errorf("the others: %w", err)
		}
		if err := errors.Join(os.RemoveAll(m.home), os.Rename(copied, m.home), m.start(ctx)); err != nil {
			return err
		}
		if err := n.recovered(ctx, at, m); err != nil {
			return err
		}
	}
	return nil
}

// richer adds a rao to one account in a node's state.
func richer(n *network, m *member) error {
	db, err := bolt.Open(m.file("sn3.db"), 0o600, nil)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("state"))
		var keys [][]byte
		c := b.Cursor()
		for k, _ := c.Seek([]byte("a")); len(k) == 33 && k[0] == 'a'; k, _ = c.Next() {
			keys = append(keys, bytes.Clone(k))
		}
		if len(keys) == 0 {
			return errors.New("no account in the state")
		}
		k := keys[n.rng.IntN(len(keys))]
		v := bytes.Clone(b.Get(k))
		v[7] ^= 1
		return b.Put(k, v)
	})
	return errors.Join(err, db.Close())
}
