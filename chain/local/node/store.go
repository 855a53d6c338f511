package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/ledger"
	"sn3/chain/local/state"
)

// Buckets of the database.
var (
	bucketState = []byte("state")
	bucketTx    = []byte("tx")     // height u64 ‖ hash -> code u32
	bucketMoney = []byte("supply") // height u64 -> issued, genesis, emitted, balances, staked, unbonding, burned, pending u64 ‖ audited u8
	bucketHead  = []byte("head")   // height u64 -> unix nanoseconds u64 ‖ app hash
	bucketUndo  = []byte("undo")   // height u64 -> nothing; height ‖ key of an entry -> 1, and what was state.Shown of it before, or 0: it was not there
)

// store keeps the machine's entries, transaction outcomes and heads in one file; one transaction per block.
type store struct{ db *bolt.DB }

func openStore(path string) (*store, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, inUse(filepath.Dir(path))
	}
	if err != nil {
		return nil, fmt.Errorf("open chain state %s: %w; %s", path, err, advice(err))
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, b := range [][]byte{bucketState, bucketTx, bucketHead, bucketMoney, bucketUndo, bucketEvent, bucketCount, bucketQuiet} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open chain state %s: %w; %s", path, err, advice(err)), db.Close())
	}
	return &store{db}, nil
}

// restore rebuilds the machine, and the transactions and heads of the newest blocks.
func (s *store) restore(g *state.Genesis) (st *state.State, past ledger.Past, err error) {
	past.History = s
	past.Txs, past.Supplies = map[chain.Hash]local.TxInfo{}, map[chain.Block]local.Supply{}
	err = s.db.View(func(tx *bolt.Tx) error {
		st, err = state.Restore(g, func(yield func(k, v []byte) bool) { entries(tx, yield) })
		if err != nil {
			return err
		}
		if err := st.Recall(undone(tx, st.Height())); err != nil {
			return err
		}
		if err := tx.Bucket(bucketTx).ForEach(func(k, v []byte) error {
			if len(k) == 40 && len(v) == 4 {
				past.Txs[chain.Hash(k[8:])] = local.TxInfo{Block: chain.Block(binary.BigEndian.Uint64(k)), Code: local.Code(binary.BigEndian.Uint32(v))}
			}
			return nil
		}); err != nil {
			return err
		}
		if err := tx.Bucket(bucketMoney).ForEach(func(k, v []byte) error {
			x, err := decodeSupply(k, v)
			past.Supplies[x.Block] = x
			return err
		}); err != nil {
			return err
		}
		return tx.Bucket(bucketHead).ForEach(func(k, v []byte) error {
			if len(k) != 8 || len(v) != 8+len(chain.Hash{}) {
				return fmt.Errorf("%w: a head of %d bytes; start a new network in another folder, or use the release that made it", state.ErrVersion, len(v))
			}
			past.Heads = append(past.Heads, local.HeadInfo{Block: chain.Block(binary.BigEndian.Uint64(k)),
				Time: time.Unix(0, int64(binary.BigEndian.Uint64(v))).UTC(), AppHash: chain.Hash(v[8:])})
			return nil
		})
	})
	return st, past, err
}

// commit writes one block whole or not at all.
func (s *store) commit(e *ledger.Executed) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketState)
		if err := putUndo(tx, e.Head.Block, e.State.Dirty); err != nil {
			return err
		}
		for _, kv := range e.State.Dirty {
			var err error
			if kv.Value == nil {
				err = b.Delete(kv.Key)
			} else {
				err = b.Put(kv.Key, kv.Value)
			}
			if err != nil {
				return err
			}
		}
		at := binary.BigEndian.AppendUint64(nil, uint64(e.Head.Block))
		for h, info := range e.Txs {
			key := append(append([]byte(nil), at...), h[:]...)
			if err := tx.Bucket(bucketTx).Put(key, binary.BigEndian.AppendUint32(nil, uint32(info.Code))); err != nil {
				return err
			}
		}
		if err := tx.Bucket(bucketHead).Put(at, headBytes(e.Info())); err != nil {
			return err
		}
		if err := tx.Bucket(bucketMoney).Put(at, encodeSupply(e.Supply)); err != nil {
			return err
		}
		if err := putEvents(tx, e.Head.Block, e.State.Events); err != nil {
			return err
		}
		if e.Head.Block <= ledger.Keep {
			return nil
		}
		old := uint64(e.Head.Block - ledger.Keep)
		return errors.Join(drop(tx.Bucket(bucketTx), old), drop(tx.Bucket(bucketHead), old), drop(tx.Bucket(bucketMoney), old))
	})
}

func headBytes(h local.HeadInfo) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(h.Time.UnixNano())), h.AppHash[:]...)
}

// drop deletes what is at or below a height.
func drop(b *bolt.Bucket, height uint64) error {
	c := b.Cursor()
	for k, _ := c.First(); len(k) >= 8 && binary.BigEndian.Uint64(k) <= height; k, _ = c.First() {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

func (s *store) close() error { return s.db.Close() }

func encodeSupply(s local.Supply) []byte {
	b := make([]byte, 0, supplyLen)
	for _, x := range supplyFields(&s) {
		b = binary.BigEndian.AppendUint64(b, uint64(*x))
	}
	if s.Audited {
		return append(b, 1)
	}
	return append(b, 0)
}

const supplyLen = 8*8 + 1

func supplyFields(s *local.Supply) []*chain.Amount {
	return []*chain.Amount{&s.Issued, &s.Genesis, &s.Emitted, &s.Balances, &s.Staked, &s.Unbonding, &s.Burned, &s.Pending}
}

func decodeSupply(k, v []byte) (s local.Supply, err error) {
	if len(k) != 8 || len(v) != supplyLen {
		return s, fmt.Errorf("%w: a supply of %d bytes; start a new network in another folder, or use the release that made it", state.ErrVersion, len(v))
	}
	s.Block = chain.Block(binary.BigEndian.Uint64(k))
	for i, x := range supplyFields(&s) {
		*x = chain.Amount(binary.BigEndian.Uint64(v[8*i:]))
	}
	s.Audited = v[8*8] == 1
	return s, nil
}
