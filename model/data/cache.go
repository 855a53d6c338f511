package data

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"sn3/chain"
)

// page returns page p, checked; several callers of one page share one read. The bytes are shared: read only.
func (d *Dataset) page(ctx context.Context, p int) ([]byte, error) {
	for {
		d.mu.Lock()
		if b, ok := d.memory.get(p); ok {
			d.mu.Unlock()
			d.counts.memory.Add(1)
			return b, nil
		}
		l, busy := d.loading[p]
		if !busy {
			l = &load{done: make(chan struct{})}
			d.loading[p] = l
		}
		d.mu.Unlock()
		if !busy {
			d.fill(ctx, p, l)
			return l.page, l.err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-l.done:
		}
		// A reader that gave up must not fail the others: they try themselves.
		if !errors.Is(l.err, context.Canceled) && !errors.Is(l.err, context.DeadlineExceeded) {
			return l.page, l.err
		}
	}
}

// fill reads page p for everybody who waits on l.
func (d *Dataset) fill(ctx context.Context, p int, l *load) {
	l.page, l.err = d.find(ctx, p)
	d.mu.Lock()
	if l.err == nil {
		d.memory.put(p, l.page)
	}
	delete(d.loading, p)
	d.mu.Unlock()
	close(l.done)
}

// find takes page p from the disk cache or from the bucket.
func (d *Dataset) find(ctx context.Context, p int) ([]byte, error) {
	want := d.manifest.Pages[p]
	shard, off, n := d.manifest.place(p)
	right := func(b []byte) bool { return int64(len(b)) == n && leafHash(b) == want }
	if b, ok := d.disk.read(want, n, right); ok {
		d.counts.disk.Add(1)
		return b, nil
	} else if b != nil {
		d.counts.dropped.Add(1)
	}
	key := Key(d.manifest.Shards[shard])
	b, err := d.r.GetRange(ctx, key, off, n)
	if err == nil && !right(b) {
		err = ErrCorrupt
	}
	if err != nil {
		return nil, &PageError{p, key, err}
	}
	d.counts.fetched.Add(1)
	d.keep(want, b)
	return b, nil
}

// keep writes to the cache; a full disk costs speed, not the window.
func (d *Dataset) keep(h chain.Hash, b []byte) {
	if d.disk.write(h, b) != nil {
		d.counts.unkept.Add(1)
	}
}

// diskCache keeps checked bytes in files named by their hash. "" is no cache.
type diskCache struct{ dir string }

// prepare makes the folder and sweeps what a crash left half-written.
func (c diskCache) prepare() error {
	if c.dir == "" {
		return nil
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return fmt.Errorf("make page cache: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(c.dir, "*.tmp"))
	if err != nil {
		return fmt.Errorf("sweep page cache: %w", err)
	}
	for _, f := range left {
		if err := os.Remove(f); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("sweep page cache: %w", err)
		}
	}
	return nil
}

func (c diskCache) path(h chain.Hash) string { return filepath.Join(c.dir, h.String()) }

// read returns the cached bytes if they are right. A file that is not is removed, and its bytes returned with ok false.
func (c diskCache) read(h chain.Hash, limit int64, right func([]byte) bool) (b []byte, ok bool) {
	if c.dir == "" {
		return nil, false
	}
	f, err := os.Open(c.path(h))
	if err != nil {
		return nil, false
	}
	b, err = io.ReadAll(io.LimitReader(f, limit+1))
	if errors.Join(err, f.Close()) == nil && right(b) {
		return b, true
	}
	if b == nil {
		b = []byte{}
	}
	if os.Remove(c.path(h)) != nil { // then the fresh copy replaces it
		return b, false
	}
	return b, false
}

// write keeps b under h, all or nothing. It is not synced: readers check the hash anyway.
func (c diskCache) write(h chain.Hash, b []byte) error {
	if c.dir == "" {
		return nil
	}
	f, err := os.CreateTemp(c.dir, "page-*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), c.path(h))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// lru holds the last pages used. Not safe for concurrent use.
type lru struct {
	most  int
	order *list.List // of entry, the last used in front
	at    map[int]*list.Element
}

type entry struct {
	page int
	data []byte
}

func newLRU(most int) lru { return lru{most, list.New(), map[int]*list.Element{}} }

func (l lru) get(p int) ([]byte, bool) {
	e, ok := l.at[p]
	if !ok {
		return nil, false
	}
	l.order.MoveToFront(e)
	return e.Value.(entry).data, true
}

func (l lru) put(p int, b []byte) {
	l.at[p] = l.order.PushFront(entry{p, b})
	if l.order.Len() > l.most {
		delete(l.at, l.order.Remove(l.order.Back()).(entry).page)
	}
}
