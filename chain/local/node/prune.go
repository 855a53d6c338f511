package node

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	db "github.com/cometbft/cometbft-db"
	cfg "github.com/cometbft/cometbft/config"
	cmtstate "github.com/cometbft/cometbft/state"
	blockstore "github.com/cometbft/cometbft/store"
	bolt "go.etcd.io/bbolt"
)

// Pruned is a part of a node's folder before and after.
type Pruned struct {
	Name          string `json:"name"`
	Before, After int64  // bytes
}

// pruneKeep is how many blocks are left, enough for peers that are a little behind, and for evidence.
const pruneKeep = keepBlocks

// Prune gives back the space of a stopped node: the engine's blocks and states down to what running nodes keep, too, its
// databases compacted, the machine's database copied without holes, and the log of consensus without its oldest files.
func Prune(home string) (out []Pruned, err error) {
	f, err := openHome(home)
	if err != nil {
		return nil, err
	}
	unlock, err := lockHome(home)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	parts := []string{stateFile, "data/blockstore.db", "data/state.db", "data/evidence.db", walDir, snapshotDir}
	for _, p := range parts {
		out = append(out, Pruned{Name: p, Before: sizeOf(filepath.Join(home, p))})
	}
	st, err := openStore(filepath.Join(home, stateFile))
	if err != nil {
		return nil, err
	}
	if f.plan == nil {
		err = pruneEngine(config(home, 0, f.net))
	}
	if err = errors.Join(err, trimWAL(filepath.Join(home, walDir)), compact(st.db)); err != nil {
		return nil, fmt.Errorf("prune: %w; %s", err, advice(err))
	}
	for i := range out {
		out[i].After = sizeOf(filepath.Join(home, out[i].Name))
	}
	return out, nil
}

// Stored is how much of one kind the machine's database holds.
type Stored struct {
	Name    string // of a bucket; entries of the state by the letter that their keys begin with, as in docs/FORMAT.md
	Entries int
	Bytes   int64 // of keys and values
}

// Contents says what the machine's database of a stopped node holds, by name, and changes nothing in it.
func Contents(home string) (out []Stored, err error) {
	db, err := bolt.Open(filepath.Join(home, stateFile), 0o600, &bolt.Options{Timeout: time.Second, ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("read contents: %w; the node must not run", err)
	}
	found := map[string]Stored{}
	err = db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				n := string(name)
				if bytes.Equal(name, bucketState) {
					n += " " + string(k[:1])
				}
				x := found[n]
				found[n] = Stored{n, x.Entries + 1, x.Bytes + int64(len(k)+len(v))}
				return nil
			})
		})
	})
	for _, name := range slices.Sorted(maps.Keys(found)) {
		out = append(out, found[name])
	}
	return out, errors.Join(err, db.Close())
}

// compact replaces a database by a copy without holes, and closes it.
func compact(from *bolt.DB) error {
	path := from.Path()
	tmp := path + ".compact"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, from.Close())
	}
	to, err := bolt.Open(tmp, 0o600, nil)
	if err != nil {
		return errors.Join(err, from.Close())
	}
	if err := errors.Join(bolt.Compact(to, from, 16<<20), to.Sync(), to.Close()); err != nil {
		return errors.Join(err, from.Close(), os.Remove(tmp))
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(err, from.Close())
	}
	return errors.Join(syncDir(filepath.Dir(path)), from.Close())
}

// pruneEngine deletes blocks and states that a running node would have deleted by now, and compacts what is left.
func pruneEngine(c *cfg.Config) (err error) {
	defer func() { // the engine panics on much of what can be wrong with its files
		if r := recover(); r != nil {
			err = caught("prune", r)
		}
	}()
	if missing(filepath.Join(c.DBDir(), "blockstore.db")) {
		return nil
	}
	var open []db.DB
	defer func() {
		for _, d := range open {
			err = errors.Join(err, d.Close())
		}
	}()
	for _, id := range []string{"blockstore", "state", "evidence"} {
		d, err := cfg.DefaultDBProvider(&cfg.DBContext{ID: id, Config: c})
		if err != nil {
			return err
		}
		open = append(open, d)
	}
	blocks, states := blockstore.NewBlockStore(open[0]), cmtstate.NewStore(open[1], cmtstate.StoreOptions{DiscardABCIResponses: true})
	now, err := states.Load()
	if err != nil {
		return err
	}
	if least := blocks.Height() - pruneKeep; least > blocks.Base() {
		base := blocks.Base()
		_, evidence, err := blocks.PruneBlocks(least, now)
		if err != nil {
			return err
		}
		if err := states.PruneStates(base, least, evidence); err != nil {
			return err
		}
	}
	for _, d := range open {
		if err := d.Compact(nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// sizeOf adds up the files below a path; what cannot be read counts nothing.
func sizeOf(path string) (n int64) {
	_ = filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}
