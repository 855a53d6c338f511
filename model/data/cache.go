package data

import (
	"container/list"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sn3/chain"
)

// diskCache keeps checked bytes in files: pages by pageName, and whole objects by their hash. Pages leave when there are more
// bytes than most, the least recently used first, but none that is being read; whole objects are few and stay. A crash loses
// nothing but the order of use, which then is that of writing. Safe for concurrent use; dir "" keeps nothing.
type diskCache struct {
	dir  string
	most int64

	mu      sync.Mutex
	order   *list.List // of *cached, the last used in front
	at      map[string]*list.Element
	size    int64
	evicted atomic.Uint64
}

type cached struct {
	name    string
	size    int64
	readers int
}

// pageName is the file of a page.
func pageName(s Shard, page int) string { return s.Sum.String() + "-" + strconv.Itoa(page) }

// isPage says whether a file was named by pageName.
func isPage(name string) bool {
	sum, page, ok := strings.Cut(name, "-")
	n, err := strconv.Atoi(page)
	return ok && len(sum) == 2*len(chain.Hash{}) && err == nil && strconv.Itoa(n) == page
}

// openCache makes the folder, sweeps what a crash left half-written, and takes stock. One process at a time uses it (a node locks
// its folder): what another one writes is not in the books, and would not count.
func openCache(dir string, most int64) (*diskCache, error) {
	c := &diskCache{dir: dir, most: most, order: list.New(), at: map[string]*list.Element{}}
	if dir == "" {
		return c, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make page cache: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read page cache: %w", err)
	}
	type aged struct {
		cached
		used time.Time
	}
	var found []aged
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".tmp") {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("sweep page cache: %w", err)
			}
			continue
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && isPage(e.Name()) {
			found = append(found, aged{cached{name: e.Name(), size: info.Size()}, info.ModTime()})
		}
	}
	slices.SortFunc(found, func(a, b aged) int { return a.used.Compare(b.used) })
	for _, f := range found {
		c.add(f.name, f.size)
	}
	c.makeRoom()
	return c, nil
}

func (c *diskCache) path(name string) string { return filepath.Join(c.dir, name) }

// add takes note of a file, in front. c.mu is held, or nobody else knows c.
func (c *diskCache) add(name string, size int64) {
	if e, ok := c.at[name]; ok {
		x := e.Value.(*cached)
		c.size += size - x.size
		x.size = size
		c.order.MoveToFront(e)
		return
	}
	c.at[name] = c.order.PushFront(&cached{name: name, size: size})
	c.size += size
}

// forget takes a file out of the books. c.mu is held.
func (c *diskCache) forget(name string) {
	if e, ok := c.at[name]; ok {
		c.size -= c.order.Remove(e).(*cached).size
		delete(c.at, name)
	}
}

// makeRoom removes what was used longest ago and is not being read. c.mu is held.
func (c *diskCache) makeRoom() {
	for e := c.order.Back(); e != nil && c.size > c.most; {
		x, before := e.Value.(*cached), e.Prev()
		if x.readers == 0 {
			if err := os.Remove(c.path(x.name)); err == nil || errors.Is(err, fs.ErrNotExist) {
				c.forget(x.name)
				c.evicted.Add(1)
			}
		}
		e = before
	}
}

// hold marks a page as being read, until it is released; nil for what is not in the books.
func (c *diskCache) hold(name string) *cached {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.at[name]
	if !ok {
		return nil
	}
	c.order.MoveToFront(e)
	x := e.Value.(*cached)
	x.readers++
	return x
}

func (c *diskCache) release(x *cached) {
	if x == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	x.readers--
	c.makeRoom()
}

// read returns the cached bytes if they are right. A file that is not is removed, and its bytes returned with ok false.
func (c *diskCache) read(name string, limit int64, right func([]byte) bool) (b []byte, ok bool) {
	if c.dir == "" {
		return nil, false
	}
	x := c.hold(name)
	defer c.release(x)
	f, err := os.Open(c.path(name))
	if err == nil {
		b, err = io.ReadAll(io.LimitReader(f, limit+1))
		if errors.Join(err, f.Close()) == nil && right(b) {
			return b, true
		}
		if b == nil {
			b = []byte{}
		}
		err = os.Remove(c.path(name)) // if that fails, the fresh copy replaces it
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		c.mu.Lock()
		c.forget(name)
		c.mu.Unlock()
	}
	return b, false
}

// write keeps b, all or nothing. It is not synced: readers check the hash anyway.
func (c *diskCache) write(name string, b []byte) error {
	if c.dir == "" {
		return nil
	}
	f, err := os.CreateTemp(c.dir, "page-*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), c.path(name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if !isPage(name) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(name, int64(len(b)))
	c.makeRoom()
	return nil
}

// lru holds the last pages used, up to a number of bytes. Not safe for concurrent use.
type lru struct {
	most  int
	size  *int
	order *list.List // of entry, the last used in front
	at    map[pageID]*list.Element
}

type entry struct {
	page pageID
	data []byte
}

func newLRU(most int) lru { return lru{most, new(int), list.New(), map[pageID]*list.Element{}} }

func (l lru) get(p pageID) ([]byte, bool) {
	e, ok := l.at[p]
	if !ok {
		return nil, false
	}
	l.order.MoveToFront(e)
	return e.Value.(entry).data, true
}

func (l lru) put(p pageID, b []byte) {
	l.at[p] = l.order.PushFront(entry{p, b})
	for *l.size += len(b); *l.size > l.most && l.order.Len() > 1; {
		old := l.order.Remove(l.order.Back()).(entry)
		delete(l.at, old.page)
		*l.size -= len(old.data)
	}
}
