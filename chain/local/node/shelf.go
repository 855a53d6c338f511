package node

import (
	"runtime"
	"sync"

	db "github.com/cometbft/cometbft-db"
	cfg "github.com/cometbft/cometbft/config"
)

// shelf is one of the engine's databases. The engine closes them while routines of its peers still read, and those panic on
// any error, in goroutines where nobody can catch it: after Close a shelf is empty instead.
type shelf struct {
	db.DB
	mu     sync.RWMutex
	closed bool
}

// shelves opens databases for the engine.
func shelves(c *cfg.DBContext) (db.DB, error) {
	d, err := cfg.DefaultDBProvider(c)
	if err != nil {
		return nil, err
	}
	return &shelf{DB: d}, nil
}

// Get finds nothing after Close.
func (s *shelf) Get(key []byte) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, nil
	}
	return s.DB.Get(key)
}

// Has finds nothing after Close.
func (s *shelf) Has(key []byte) (bool, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return false, nil
	}
	return s.DB.Has(key)
}

// Close waits for reads and closes the database, once.
func (s *shelf) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.DB.Close()
}

// NewBatch begins a batch.
func (s *shelf) NewBatch() db.Batch { return parcel{s.DB.NewBatch(), s} }

// parcel is a batch of a shelf. The routine of a state sync, which nobody can stop or wait for, ends where it would write after
// Close; it would end the process else.
type parcel struct {
	db.Batch
	s *shelf
}

// WriteSync writes the batch.
func (p parcel) WriteSync() error {
	p.s.mu.RLock()
	defer p.s.mu.RUnlock()
	if p.s.closed {
		runtime.Goexit()
	}
	return p.Batch.WriteSync()
}
