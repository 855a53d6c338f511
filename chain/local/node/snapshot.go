package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	bolt "go.etcd.io/bbolt"

	"sn3/chain"
)

const (
	snapshotDir    = "snapshots" // of the folder
	snapshotSuffix = ".sn3c"
	snapshotFormat = 1   // among peers
	snapshotEvery  = 500 // blocks
	keepSnapshots  = 3
	snapshotRipe   = 2 // blocks later a joining node can check it: their headers name its hash and its validators
)

// shots are a node's snapshots. They are written beside consensus, from a view of the database that later blocks do not change.
type shots struct {
	dir     string
	every   chain.Block // 0: none are made
	keep    int
	chunk   uint32
	genesis []byte
	hash    chain.Hash // of genesis
	log     *slog.Logger

	writing sync.WaitGroup
	mu      sync.Mutex
	busy    bool
	closed  bool
	list    []*archive // ascending; without open files
}

// openShots finds the whole snapshots of a folder and deletes what a killed node left of one.
func openShots(dir string, genesis []byte, hash chain.Hash, log *slog.Logger) (*shots, error) {
	s := &shots{dir: dir, every: snapshotEvery, keep: keepSnapshots, chunk: chunkSize, genesis: genesis, hash: hash, log: log}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read snapshots: %w; %s", err, advice(err))
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		name, whole := strings.CutSuffix(e.Name(), snapshotSuffix)
		height, err := strconv.ParseUint(name, 10, 64)
		if err != nil {
			whole = false
		}
		a, err := openArchive(path)
		if err == nil {
			err = a.close()
		}
		if !whole || err != nil || a.manifest.genesis != hash || uint64(a.height) != height {
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("delete what is left of a snapshot: %w; %s", err, advice(err))
			}
			continue
		}
		s.list = append(s.list, a)
	}
	slices.SortFunc(s.list, func(a, b *archive) int { return int(int64(a.height) - int64(b.height)) })
	return s, nil
}

func (s *shots) path(height chain.Block) string {
	return filepath.Join(s.dir, strconv.FormatUint(uint64(height), 10)+snapshotSuffix)
}

// newest is the height of the newest snapshot; 0: there is none.
func (s *shots) newest() chain.Block {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) == 0 {
		return 0
	}
	return s.list[len(s.list)-1].height
}

// take begins to write a snapshot of what the database holds now, which is the state at height, unless this is not a block for
// one or the one before is still being written.
func (s *shots) take(db *bolt.DB, height chain.Block, hash chain.Hash, rules uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.every == 0 || height%s.every != 0 || s.busy || s.closed {
		return nil
	}
	view, err := db.Begin(false)
	if err != nil {
		return fmt.Errorf("begin snapshot: %w", err)
	}
	s.busy = true
	begun := time.Now()
	s.writing.Go(func() {
		a, err := s.write(view, height, hash, rules)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.busy = false
		if err != nil {
			s.log.Warn("no snapshot was written; the node goes on", "block", height, "err", err)
			return
		}
		s.log.Debug("snapshot written", "block", height, "entries", a.entries, "bytes", a.size, "took", time.Since(begun))
		s.list = append(s.list, a)
		for len(s.list) > s.keep {
			if err := os.Remove(s.path(s.list[0].height)); err != nil {
				s.log.Warn("an old snapshot stays", "err", err)
			}
			s.list = s.list[1:]
		}
	})
	return nil
}

// write writes a snapshot whole or not at all.
func (s *shots) write(view *bolt.Tx, height chain.Block, hash chain.Hash, rules uint64) (a *archive, err error) {
	defer func() {
		if view != nil {
			err = errors.Join(err, view.Rollback())
		}
	}()
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	tmp := s.path(height) + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	werr := s.pack(f, view, height, hash, rules)
	err = view.Rollback() // before the slow part: pages that it sees cannot be used again
	view = nil
	if err := errors.Join(werr, err, f.Sync(), f.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(tmp))
	}
	if err := os.Rename(tmp, s.path(height)); err != nil {
		return nil, err
	}
	if err := syncDir(s.dir); err != nil {
		return nil, err
	}
	if a, err = openArchive(s.path(height)); err != nil {
		return nil, err
	}
	return a, a.close()
}

// pack writes the state that a view of the database sees.
func (s *shots) pack(f *os.File, view *bolt.Tx, height chain.Block, hash chain.Hash, rules uint64) error {
	p, err := newPack(f, s.genesis, s.chunk)
	if err != nil {
		return err
	}
	entries(view, func(k, v []byte) bool {
		err = p.put(k, v)
		return err == nil
	})
	if err != nil {
		return err
	}
	_, err = p.finish(s.hash, height, hash, rules)
	return err
}

// close waits for a snapshot that is being written.
func (s *shots) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.writing.Wait()
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// ListSnapshots tells a peer of the snapshots that it can check by now.
func (a *app) ListSnapshots(context.Context, *abci.RequestListSnapshots) (*abci.ResponseListSnapshots, error) {
	now, _ := a.ledger.Height()
	a.shots.mu.Lock()
	defer a.shots.mu.Unlock()
	res := &abci.ResponseListSnapshots{}
	for _, x := range a.shots.list {
		if x.height+snapshotRipe <= now {
			res.Snapshots = append(res.Snapshots, &abci.Snapshot{Height: uint64(x.height), Format: snapshotFormat, Chunks: uint32(len(x.hashes)),
				Hash: x.name(), Metadata: x.raw})
		}
	}
	return res, nil
}

// LoadSnapshotChunk gives a peer one chunk; none if the snapshot is gone.
func (a *app) LoadSnapshotChunk(_ context.Context, r *abci.RequestLoadSnapshotChunk) (*abci.ResponseLoadSnapshotChunk, error) {
	res := &abci.ResponseLoadSnapshotChunk{}
	x, err := openArchive(a.shots.path(chain.Block(r.Height)))
	if errors.Is(err, fs.ErrNotExist) || r.Format != snapshotFormat {
		return res, nil
	}
	if err != nil {
		return nil, err
	}
	res.Chunk, err = x.read(int(r.Chunk))
	return res, errors.Join(err, x.close())
}

// entries gives what the state's bucket holds.
func entries(tx *bolt.Tx, yield func(k, v []byte) bool) {
	c := tx.Bucket(bucketState).Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if !yield(k, v) {
			return
		}
	}
}
