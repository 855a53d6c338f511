package node

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/state"
)

// Exported says what is in an archive.
type Exported struct {
	Network string
	Genesis chain.Hash
	Height  chain.Block
	AppHash chain.Hash
	Entries uint64
	Size    uint64 // bytes of all entries
}

// Export writes the state of a stopped node into a new file, whole or not at all; with snapshot, the newest one of the folder,
// whose node may run.
func Export(home, out string, snapshot bool) (*Exported, error) {
	f, err := openHome(home)
	if err != nil {
		return nil, err
	}
	to, err := os.OpenFile(out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	if snapshot {
		err = copySnapshot(home, to)
	} else {
		err = packStore(filepath.Join(home, stateFile), f, to)
	}
	if err = errors.Join(err, to.Sync(), to.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("export: %w", err), os.Remove(out))
	}
	a, err := openArchive(out)
	if err != nil {
		return nil, err
	}
	err = errors.Join(a.each(func(_, _ []byte) error { return nil }), a.close()) // read back what was written
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	return &Exported{f.genesis.Network, a.manifest.genesis, a.height, a.appHash, a.entries, a.size}, nil
}

// packStore checks the state in a database and writes it.
func packStore(path string, f folder, to io.Writer) (err error) {
	unlock, err := lockHome(filepath.Dir(path))
	if errors.Is(err, ErrInUse) {
		return fmt.Errorf("%w; --snapshot takes the newest snapshot of a node that runs", err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	st, machine, _, err := load(path, f.genesis)
	if err != nil {
		return err
	}
	if machine.Height() == 0 {
		return errors.Join(fmt.Errorf("%w: there is no block yet", chain.ErrNotYet), st.close())
	}
	p, err := newPack(to, f.raw, chunkSize)
	if err == nil {
		err = st.db.View(func(tx *bolt.Tx) error {
			var err error
			entries(tx, func(k, v []byte) bool {
				err = p.put(k, v)
				return err == nil
			})
			return err
		})
	}
	if err == nil {
		_, err = p.finish(machine.GenesisHash(), machine.Height(), machine.AppHash(), nextRules(machine))
	}
	return errors.Join(err, st.close())
}

// nextRules is the version of the rules of the block after a machine's.
func nextRules(m *state.State) uint64 {
	now, next, at := m.Rules()
	if at == m.Height()+1 && next > 0 {
		return next
	}
	return now
}

// copySnapshot copies the newest snapshot of a folder.
func copySnapshot(home string, to io.Writer) error {
	names, err := filepath.Glob(filepath.Join(home, snapshotDir, "*"+snapshotSuffix))
	if err != nil {
		return err
	}
	var newest *archive
	for _, name := range names {
		a, err := openArchive(name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrArchive) { // just deleted, or what a killed node left
			continue
		}
		if err != nil {
			return err
		}
		if newest == nil || a.height > newest.height {
			newest, a = a, newest
		}
		if a != nil {
			if err := a.close(); err != nil {
				return err
			}
		}
	}
	if newest == nil {
		return fmt.Errorf("%w: the node has written no snapshot yet", chain.ErrNotFound)
	}
	_, err = io.Copy(to, io.NewSectionReader(newest.f, 0, 1<<62))
	return errors.Join(err, newest.close())
}

// ImportOptions are how a network goes on with another one's state.
type ImportOptions struct {
	Network string         // "": the name stays
	Genesis *state.Genesis // of the node that imported first; nil: this one is the first
	Net     Net
}

// Import makes the folder of a node of a new network that begins with an archive's state.
func Import(home, file string, o ImportOptions) (*state.Genesis, error) {
	if !missing(filepath.Join(home, genesisFile)) {
		return nil, fmt.Errorf("%w: %s; nothing was changed", ErrExists, home)
	}
	a, err := openArchive(file)
	if err != nil {
		return nil, err
	}
	defer a.close()
	machine, err := a.machine()
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", file, err)
	}
	g := o.Genesis
	if g == nil {
		name := o.Network
		if name == "" {
			name = machine.Genesis().Network
		}
		if g, err = machine.Heir(name); err != nil {
			return nil, fmt.Errorf("import %s: %w", file, err)
		}
	}
	k, err := complete(home, g, nil)
	if err != nil {
		return nil, err
	}
	changed, err := machine.Inherit(g)
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", file, err)
	}
	if err := k.write(home); err != nil {
		return nil, err
	}
	head := local.HeadInfo{Block: machine.Height(), Time: g.Time, AppHash: machine.AppHash()}
	if err := a.fill(filepath.Join(home, stateFile), changed, head); err != nil {
		return nil, fmt.Errorf("import %s: %w", file, err)
	}
	return g, Init(home, g, o.Net) // the genesis last: without it the folder is unfinished
}

// machine restores what is in an archive and checks it against its manifest.
func (a *archive) machine() (*state.State, error) {
	g, err := a.origin()
	if err != nil {
		return nil, err
	}
	var bad error
	m, err := state.Restore(g, func(yield func(k, v []byte) bool) {
		bad = a.each(func(k, v []byte) error {
			yield(k, v)
			return nil
		})
	})
	if bad != nil {
		return nil, bad
	}
	if err != nil {
		return nil, err
	}
	if m.Height() != a.height || m.AppHash() != a.appHash || nextRules(m) != a.rules {
		return nil, fmt.Errorf("%w: its entries are the state of block %d, its manifest says %d", ErrArchive, m.Height(), a.height)
	}
	return m, nil
}

// fill makes a database of an archive's entries and what changes of them.
func (a *archive) fill(path string, changed []state.KV, head local.HeadInfo) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // of an import that was not finished
		return err
	}
	st, err := openStore(path)
	if err != nil {
		return err
	}
	return errors.Join(st.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketState)
		if err := a.each(func(k, v []byte) error { return b.Put(k, append([]byte(nil), v...)) }); err != nil {
			return err
		}
		for _, kv := range changed {
			if kv.Value == nil {
				if err := b.Delete(kv.Key); err != nil {
					return err
				}
			} else if err := b.Put(kv.Key, kv.Value); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketHead).Put(number(head.Block), headBytes(head))
	}), st.close())
}
