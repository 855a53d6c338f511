package node

import (
	"bytes"

	bolt "go.etcd.io/bbolt"

	"sn3/chain"
	"sn3/chain/local/state"
)

// putUndo keeps what the entries that a block changes were before it, of the newest blocks: a node that is started again answers
// for these like one that ran on. It is called before the entries are written.
func putUndo(tx *bolt.Tx, at chain.Block, dirty []state.KV) error {
	b, old := tx.Bucket(bucketUndo), tx.Bucket(bucketState)
	if err := b.Put(number(at), nil); err != nil {
		return err
	}
	for _, kv := range dirty {
		before := old.Get(kv.Key)
		part, ok := state.Shown(kv.Key, before)
		if !ok {
			continue
		}
		v := []byte{0}
		if before != nil {
			v = append([]byte{1}, part...)
		}
		if err := b.Put(append(number(at), kv.Key...), v); err != nil {
			return err
		}
	}
	if at <= state.RecentBlocks {
		return nil
	}
	return drop(b, uint64(at-state.RecentBlocks))
}

// undone is what putUndo kept, for state.Recall.
func undone(tx *bolt.Tx, newest chain.Block) (blocks [][]state.KV) {
	c := tx.Bucket(bucketUndo).Cursor()
	for at := newest; at > 0; at-- {
		prefix := number(at)
		k, _ := c.Seek(prefix)
		if !bytes.Equal(k, prefix) {
			return blocks // nothing is known from here on: the node has begun with a snapshot
		}
		list := []state.KV{}
		for k, v := c.Next(); bytes.HasPrefix(k, prefix); k, v = c.Next() {
			e := state.KV{Key: k[len(prefix):]}
			if len(v) > 0 && v[0] == 1 {
				e.Value = v[1:]
			}
			list = append(list, e)
		}
		blocks = append(blocks, list)
	}
	return blocks
}
