package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	bolt "go.etcd.io/bbolt"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/ledger"
	"sn3/chain/local/state"
)

// syncSuffix names the database that a snapshot is put into until all of it is checked.
const syncSuffix = ".sync"

// incoming is a snapshot being fetched from peers.
type incoming struct {
	unpack
	name    string
	db      *bolt.DB
	senders map[string]bool
	begun   time.Time
}

// OfferSnapshot takes a snapshot whose manifest says what the verified headers say. What its chunks hold is seen at the end.
func (a *app) OfferSnapshot(_ context.Context, r *abci.RequestOfferSnapshot) (_ *abci.ResponseOfferSnapshot, err error) {
	defer a.guard("take snapshot", &err)
	a.swap.Lock()
	defer a.swap.Unlock()
	if a.verifier == nil || r.Snapshot == nil || a.ended {
		return &abci.ResponseOfferSnapshot{Result: abci.ResponseOfferSnapshot_ABORT}, nil
	}
	if r.Snapshot.Format != snapshotFormat {
		return &abci.ResponseOfferSnapshot{Result: abci.ResponseOfferSnapshot_REJECT_FORMAT}, nil
	}
	m, err := a.fitting(r)
	if err != nil {
		a.log.Warn("a peer offers a snapshot that cannot be right", "block", r.Snapshot.Height, "err", err)
		return &abci.ResponseOfferSnapshot{Result: abci.ResponseOfferSnapshot_REJECT_SENDER}, nil
	}
	if m.rules > a.newest {
		a.failed(a.unknownRules(m.rules, m.height+1))
		return &abci.ResponseOfferSnapshot{Result: abci.ResponseOfferSnapshot_ABORT}, nil
	}
	if err := a.dropIncoming(); err != nil {
		return nil, err
	}
	name := string(r.Snapshot.Hash)
	if a.lenders.fetch(name, r.Snapshot.Height, len(m.hashes)); a.lenders.left(name) == 0 { // who offered it is gone
		a.lenders.fetch("", 0, 0)
		return &abci.ResponseOfferSnapshot{Result: abci.ResponseOfferSnapshot_REJECT}, nil
	}
	path := a.store.db.Path() + syncSuffix
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second, NoSync: true})
	if err != nil {
		return nil, fmt.Errorf("keep a snapshot in %s: %w; %s", path, err, advice(err))
	}
	a.in = &incoming{unpack{m: m}, name, db, map[string]bool{}, time.Now()}
	a.log.Info("the state is fetched from peers", "block", m.height, "MiB", m.size>>20, "chunks", len(m.hashes))
	return &abci.ResponseOfferSnapshot{Result: abci.ResponseOfferSnapshot_ACCEPT}, nil
}

// shaped reads a snapshot's manifest and holds it against what the snapshot and this node say.
func (a *app) shaped(s *abci.Snapshot) (*manifest, error) {
	m, err := decodeManifest(s.Metadata)
	if err != nil {
		return nil, err
	}
	name := sha256.Sum256(s.Metadata)
	switch {
	case !bytes.Equal(name[:], s.Hash), uint64(m.height) != s.Height, uint64(len(m.hashes)) != uint64(s.Chunks):
		return nil, fmt.Errorf("%w: its manifest is another one's", ErrArchive)
	case m.genesis != a.shots.hash:
		return nil, fmt.Errorf("%w: it is of another network", ErrArchive)
	}
	return m, nil
}

// fitting is shaped, and has the state and the rules that a verified header names.
func (a *app) fitting(r *abci.RequestOfferSnapshot) (*manifest, error) {
	m, err := a.shaped(r.Snapshot)
	switch {
	case err != nil:
		return nil, err
	case !bytes.Equal(m.appHash[:], r.AppHash):
		return nil, fmt.Errorf("%w: the verified header has another hash of the state", ErrArchive)
	case m.rules != a.verifier.rulesAfter(m.height):
		return nil, fmt.Errorf("%w: the verified header has another version of the rules than %d", ErrArchive, m.rules)
	}
	return m, nil
}

// dropIncoming forgets a snapshot that was not finished.
func (a *app) dropIncoming() error {
	if a.in == nil {
		return nil
	}
	a.lenders.fetch("", 0, 0)
	path := a.in.db.Path()
	err := a.in.db.Close()
	a.in = nil
	return errors.Join(err, os.Remove(path))
}

// ApplySnapshotChunk takes the next chunk. One that is not what the manifest says is fetched again from another peer, or where
// there is none the snapshot is given up; when all are there, the whole must have the hash that the headers name.
func (a *app) ApplySnapshotChunk(_ context.Context, r *abci.RequestApplySnapshotChunk) (_ *abci.ResponseApplySnapshotChunk, err error) {
	defer a.guard("take snapshot", &err)
	a.swap.Lock()
	defer a.swap.Unlock()
	in := a.in
	if a.ended {
		return &abci.ResponseApplySnapshotChunk{Result: abci.ResponseApplySnapshotChunk_ABORT}, nil
	}
	if in == nil {
		return nil, errors.New("a chunk without a snapshot")
	}
	if int(r.Index) != in.next {
		return &abci.ResponseApplySnapshotChunk{Result: abci.ResponseApplySnapshotChunk_RETRY, RefetchChunks: []uint32{r.Index}}, nil
	}
	if err := in.m.check(in.next, r.Chunk); err != nil {
		return a.another(r, err)
	}
	in.senders[r.Sender] = true
	a.lenders.came(in.next + 1)
	if err = in.keep(r.Chunk); err == nil && in.done() {
		err = a.adopt()
	}
	switch {
	case errors.Is(err, ErrArchive), errors.Is(err, state.ErrDamaged), errors.Is(err, state.ErrVersion):
		a.log.Warn("a snapshot of peers is wrong; the next one is tried", "block", in.m.height, "err", err)
		senders := slices.Sorted(maps.Keys(in.senders))
		return &abci.ResponseApplySnapshotChunk{Result: abci.ResponseApplySnapshotChunk_REJECT_SNAPSHOT, RejectSenders: senders}, a.dropIncoming()
	case err != nil:
		err = fmt.Errorf("take snapshot: %w; %s", err, advice(err))
		a.failed(err)
		return nil, err
	}
	return &abci.ResponseApplySnapshotChunk{Result: abci.ResponseApplySnapshotChunk_ACCEPT}, nil
}

// keep stores the entries of a chunk.
func (in *incoming) keep(chunk []byte) error {
	return in.db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucketState)
		if err != nil {
			return err
		}
		return in.add(chunk, func(k, v []byte) error { return b.Put(k, bytes.Clone(v)) }) // the database holds on to v until the end
	})
}

// adopt checks a snapshot that is all there and puts it in place of the machine.
func (a *app) adopt() error {
	m, begun := a.in.m, a.in.begun
	var machine *state.State
	err := a.in.db.View(func(tx *bolt.Tx) (err error) {
		machine, err = state.Restore(a.ledger.Genesis(), func(yield func(k, v []byte) bool) { entries(tx, yield) })
		return err
	})
	if err != nil {
		return err
	}
	if machine.AppHash() != m.appHash || machine.Height() != m.height {
		return fmt.Errorf("%w: its state is of block %d with the hash %s, not of %d with %s", ErrArchive, machine.Height(), machine.AppHash().Short(), m.height, m.appHash.Short())
	}
	head := local.HeadInfo{Block: m.height, Time: a.verifier.timeOf(m.height).UTC(), AppHash: m.appHash}
	st, err := a.store.become(a.in.db, head)
	a.in = nil
	if err != nil {
		return err
	}
	a.store = st
	a.lenders.finish()
	a.ledger.Replace(machine, ledger.Past{Heads: []local.HeadInfo{head}, History: st})
	a.log.Info("the state is there", "block", m.height, "hash", m.appHash.Short(), "entries", m.entries, "bytes", m.size, "took", time.Since(begun))
	return nil
}

// become puts another database, whose name is this one's with syncSuffix, in the place of this one.
func (s *store) become(fresh *bolt.DB, head local.HeadInfo) (*store, error) {
	path := s.db.Path()
	err := fresh.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucketHead)
		if err != nil {
			return err
		}
		return b.Put(number(head.Block), headBytes(head))
	})
	err = errors.Join(err, fresh.Sync(), fresh.Close(), s.db.Close())
	if err != nil {
		return nil, err
	}
	if err := os.Rename(path+syncSuffix, path); err != nil {
		return nil, err
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return openStore(path)
}

// close closes the store, and gives up a snapshot that is being fetched: the engine does not wait for its end.
func (a *app) close() error {
	a.shots.close()
	a.swap.Lock()
	defer a.swap.Unlock()
	a.ended = true
	err := errors.Join(a.dropIncoming(), a.store.close())
	if a.unlock != nil {
		err = errors.Join(err, a.unlock())
	}
	return err
}

// synced ends a state sync: there is a block after the snapshot.
func (a *app) synced() error {
	if a.verifier == nil {
		return nil
	}
	a.verifier = nil
	if err := os.Remove(a.plan); err != nil {
		return fmt.Errorf("end state sync: %w; %s", err, advice(err))
	}
	return syncDir(filepath.Dir(a.plan))
}

func number(b chain.Block) []byte { return binary.BigEndian.AppendUint64(nil, uint64(b)) }
