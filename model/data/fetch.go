package data

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"sn3/chain"
)

// MaxTokenizer bounds a tokenizer.json.
const MaxTokenizer = 256 << 20

// PageError names the page that could not be had.
type PageError struct {
	Page  int    // in the shard
	Shard string // the object
	Err   error
}

// Error implements error.
func (e *PageError) Error() string {
	return fmt.Sprintf("read page %d in %s: %v", e.Page, e.Shard, e.Err)
}

// Unwrap gives the cause: ErrCorrupt, ErrVocab, or what the mirrors said.
func (e *PageError) Unwrap() error { return e.Err }

// MirrorStats says how a mirror did since Open.
type MirrorStats struct {
	Name    string
	Served  uint64 // pages and objects that were right
	Failed  uint64 // reads that brought nothing
	Corrupt uint64 // pages and objects that were wrong
}

type mirrorCounts struct{ served, failed, corrupt atomic.Uint64 }

// Mirrors says how the mirrors did, in the order given to Open.
func (d *Dataset) Mirrors() []MirrorStats {
	out := make([]MirrorStats, len(d.from))
	for i := range out {
		c := &d.mirrors[i]
		out[i] = MirrorStats{d.from[i].Name, c.served.Load(), c.failed.Load(), c.corrupt.Load()}
	}
	return out
}

// pageID is a page of a split's shard.
type pageID struct {
	split Split
	shard int
	page  int
}

// load is a page on its way; done is closed when page or err is set.
type load struct {
	done chan struct{}
	page []byte // without its proof
	err  error
}

// pages returns page id, checked, and those after it up to last that came with it; several callers of one page share one read.
// The bytes are shared: read only.
func (d *Dataset) pages(ctx context.Context, id pageID, last int) ([][]byte, error) {
	for {
		d.mu.Lock()
		if b, ok := d.memory.get(id); ok {
			d.mu.Unlock()
			d.counts.memory.Add(1)
			return [][]byte{b}, nil
		}
		l, busy := d.loading[id]
		var run []*load
		if !busy {
			run = d.claim(id, last)
		}
		d.mu.Unlock()
		if !busy {
			return d.fill(ctx, id, run)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-l.done:
		}
		// A reader that gave up must not fail the others: they try themselves.
		if !errors.Is(l.err, context.Canceled) && !errors.Is(l.err, context.DeadlineExceeded) {
			return [][]byte{l.page}, l.err
		}
	}
}

// claim takes on page id and those after it, up to last or the first that is there or on its way. d.mu is held.
func (d *Dataset) claim(id pageID, last int) (run []*load) {
	for ; id.page <= last; id.page++ {
		_, busy := d.loading[id]
		if _, ok := d.memory.get(id); len(run) > 0 && (ok || busy) {
			break
		}
		l := &load{done: make(chan struct{})}
		d.loading[id] = l
		run = append(run, l)
	}
	return run
}

// fill reads the pages from id on for everybody who waits on run, and returns them up to the first that failed.
func (d *Dataset) fill(ctx context.Context, id pageID, run []*load) (out [][]byte, err error) {
	d.find(ctx, id, run)
	d.mu.Lock()
	for i, l := range run {
		at := pageID{id.split, id.shard, id.page + i}
		if l.err == nil {
			d.memory.put(at, l.page)
		}
		delete(d.loading, at)
	}
	d.mu.Unlock()
	for _, l := range run {
		close(l.done)
	}
	for _, l := range run {
		if l.err != nil {
			break
		}
		out = append(out, l.page)
	}
	if len(out) == 0 {
		return nil, run[0].err
	}
	return out, nil
}

// find takes pages from the disk cache, and what is missing from the mirrors by one range read.
func (d *Dataset) find(ctx context.Context, id pageID, run []*load) {
	shard, missing := d.manifest.Shards[id.split][id.shard], 0
	for i, l := range run {
		_, n := d.geo.record(id.page+i, shard.Tokens)
		b, ok := d.disk.read(pageName(shard, id.page+i), n, func(b []byte) bool { return d.rightPage(b, shard, id.page+i) })
		switch {
		case ok:
			d.counts.disk.Add(1)
			l.page = d.bare(b)
			continue
		case b != nil:
			d.counts.dropped.Add(1)
		}
		missing++
	}
	if missing == 0 {
		return
	}
	err := d.ask(ctx, func(r Ranger) (good, bad int, err error) { return d.fetch(ctx, r, shard, id.page, run) })
	for i, l := range run {
		if l.page == nil {
			l.err = &PageError{id.page + i, Key(shard.Sum), err}
		}
	}
}

// bare is a record without its proof.
func (d *Dataset) bare(record []byte) []byte {
	return record[: len(record)-d.geo.proof() : len(record)]
}

func (d *Dataset) rightPage(record []byte, shard Shard, page int) bool {
	_, n := d.geo.record(page, shard.Tokens)
	return int64(len(record)) == n && d.geo.right(record, page, shard.Root)
}

// fetch reads from one mirror what run lacks, from the first missing page to the last. It returns how many were right and wrong.
func (d *Dataset) fetch(ctx context.Context, r Ranger, shard Shard, page int, run []*load) (good, bad int, err error) {
	lo, hi := 0, len(run)-1
	for run[lo].page != nil {
		lo++
	}
	for run[hi].page != nil {
		hi--
	}
	from, _ := d.geo.record(page+lo, shard.Tokens)
	off, n := d.geo.record(page+hi, shard.Tokens)
	b, err := r.GetRange(ctx, Key(shard.Sum), from, off+n-from)
	if err != nil {
		return 0, 0, err
	}
	for i := lo; i <= hi; i++ {
		off, n := d.geo.record(page+i, shard.Tokens)
		if run[i].page != nil {
			continue
		}
		if end := off - from + n; end > int64(len(b)) || i == hi && end != int64(len(b)) || !d.rightPage(b[off-from:end], shard, page+i) {
			bad++
			continue
		}
		record := append([]byte(nil), b[off-from:off-from+n]...)
		good++
		d.counts.fetched.Add(1)
		d.keep(pageName(shard, page+i), record)
		run[i].page = d.bare(record)
	}
	if bad > 0 {
		err = fmt.Errorf("%d of %d pages: %w", bad, good+bad, ErrCorrupt)
	}
	return good, bad, err
}

// slowRead is how long a mirror may take for one read and still be the first to be asked next time.
const slowRead = 2 * time.Second

// ask tries one mirror after the other, beginning with the one that served last, or behind it if it was slow, until read
// returns no error. The error of all names each.
func (d *Dataset) ask(ctx context.Context, read func(Ranger) (good, bad int, err error)) error {
	var errs []error
	begin := int(d.prefer.Load())
	for k := range d.from {
		i := (begin + k) % len(d.from)
		asked := time.Now()
		good, bad, err := read(d.from[i].Ranger)
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		c := &d.mirrors[i]
		c.served.Add(uint64(good))
		c.corrupt.Add(uint64(bad))
		if err == nil {
			if time.Since(asked) > slowRead {
				i++
			}
			d.prefer.Store(int64(i))
			return nil
		}
		if good+bad == 0 {
			c.failed.Add(1)
		}
		if name := d.from[i].Name; name != "" {
			err = fmt.Errorf("mirror %s: %w", name, err)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// keep writes to the cache; a full disk costs speed, not the window.
func (d *Dataset) keep(name string, b []byte) {
	if d.disk.write(name, b) != nil {
		d.counts.unkept.Add(1)
	}
}

// object reads a whole object by its hash, from the cache or a mirror. size, if not nil, tells the length by the first head
// bytes; else it is at most limit, found by reading on until the hash is right.
func (d *Dataset) object(ctx context.Context, sum chain.Hash, limit int, size func(head []byte) (int, error)) ([]byte, error) {
	right := func(b []byte) bool { return chain.Hash(sha256.Sum256(b)) == sum }
	if b, ok := d.disk.read(sum.String(), int64(limit), right); ok {
		return b, nil
	}
	var out []byte
	err := d.ask(ctx, func(r Ranger) (good, bad int, err error) {
		b, err := whole(ctx, r, Key(sum), limit, size)
		if err != nil {
			return 0, 0, fmt.Errorf("read %s: %w", Key(sum), err)
		}
		if !right(b) {
			return 0, 1, fmt.Errorf("read %s: %w", Key(sum), ErrCorrupt)
		}
		out = b
		return 1, 0, nil
	})
	if err != nil {
		return nil, err
	}
	d.keep(sum.String(), out)
	return out, nil
}

// Getter reads a whole object of at most max bytes; a Ranger that is one is asked where the size is not known.
type Getter interface {
	Get(ctx context.Context, key string, max int64) ([]byte, error)
}

func whole(ctx context.Context, r Ranger, key string, limit int, size func([]byte) (int, error)) ([]byte, error) {
	if size == nil {
		g, ok := r.(Getter)
		if !ok {
			return nil, errors.New("this place cannot read objects of unknown size")
		}
		return g.Get(ctx, key, int64(limit))
	}
	b, err := r.GetRange(ctx, key, 0, int64(manifestHead))
	if err != nil {
		return nil, err
	}
	n, err := size(b)
	if err != nil {
		return nil, err
	}
	return r.GetRange(ctx, key, 0, int64(n))
}

// openManifest takes the manifest from the cache or a mirror and checks it against the descriptor.
func (d *Dataset) openManifest(ctx context.Context) (*Manifest, error) {
	b, err := d.object(ctx, d.spec.Manifest, MaxManifest, func(b []byte) (int, error) {
		h, err := parseHead(b)
		return h.size(), err
	})
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(b)
	if err != nil {
		return nil, err
	}
	if m.Root() != d.spec.Root {
		return nil, fmt.Errorf("manifest %s has root %s, the run descriptor pins %s: %w", d.spec.Manifest, m.Root(), d.spec.Root, ErrCorrupt)
	}
	return m, nil
}
