package data

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"sn3/chain"
	"sn3/model"
)

// Ranger reads a part of an object: exactly n bytes from off on, or an error. It must be safe for concurrent use.
type Ranger interface {
	GetRange(ctx context.Context, key string, off, n int64) ([]byte, error)
}

const (
	memoryPages = 64 // pages kept in memory: 4 MiB
	parallel    = 4  // pages fetched at once for one batch
	loadBatch   = 16 // sequences in a batch of Load and HeldOut
)

// ErrCorrupt: the bucket served bytes that are not what the run descriptor pins.
var ErrCorrupt = errors.New("data: bytes do not match their hash")

// PageError names the page that could not be had.
type PageError struct {
	Page  int // over both splits, train first
	Shard string
	Err   error
}

// Error implements error.
func (e *PageError) Error() string {
	return fmt.Sprintf("read page %d in %s: %v", e.Page, e.Shard, e.Err)
}

// Unwrap gives the cause: ErrCorrupt or what the Ranger said.
func (e *PageError) Unwrap() error { return e.Err }

// Stats counts where pages came from since Open.
type Stats struct {
	Fetched uint64 // from the bucket
	Disk    uint64 // from the cache folder
	Memory  uint64
	Dropped uint64 // cache files that no longer matched their hash
	Unkept  uint64 // objects that could not be kept on disk; reading goes on without
}

// Dataset reads samples of a pinned dataset. All methods are safe for concurrent use.
type Dataset struct {
	r        Ranger
	spec     chain.DatasetSpec
	manifest *Manifest
	seq      int // T
	disk     diskCache

	mu      sync.Mutex // of memory and loading
	memory  lru
	loading map[int]*load
	counts  struct{ fetched, disk, memory, dropped, unkept atomic.Uint64 }
}

// load is a page on its way; done is closed when page or err is set.
type load struct {
	done chan struct{}
	page []byte
	err  error
}

// Open reads and checks the manifest that ds pins. cache is a folder for pages, made if needed; "" keeps pages in memory only
// (the last 64 used). seq is T.
func Open(ctx context.Context, r Ranger, ds chain.DatasetSpec, cache string, seq int) (*Dataset, error) {
	if seq < 1 {
		return nil, fmt.Errorf("open dataset: sequence length %d", seq)
	}
	d := &Dataset{r: r, spec: ds, seq: seq, disk: diskCache{cache}, memory: newLRU(memoryPages), loading: map[int]*load{}}
	if err := d.disk.prepare(); err != nil {
		return nil, err
	}
	if err := d.openManifest(ctx); err != nil {
		return nil, fmt.Errorf("open dataset: %w", err)
	}
	for s := range splits {
		if d.Samples(s) == 0 {
			return nil, fmt.Errorf("open dataset: %w: the %v split has %d bytes, one sample needs %d", ErrTooSmall, s, d.Len(s), seq+1)
		}
	}
	return d, nil
}

// openManifest takes the manifest from the cache or, head first because only that tells the size, from the bucket.
func (d *Dataset) openManifest(ctx context.Context) error {
	right := func(b []byte) bool { return chain.Hash(sha256.Sum256(b)) == d.spec.Manifest }
	b, found := d.disk.read(d.spec.Manifest, MaxManifest, right)
	if !found {
		key := Key(d.spec.Manifest)
		head, err := d.r.GetRange(ctx, key, 0, int64(manifestHead))
		if err != nil {
			return fmt.Errorf("read manifest: %w", err)
		}
		_, size, err := parseHead(head)
		if err != nil {
			return fmt.Errorf("read manifest %s: %w", key, err)
		}
		if b, err = d.r.GetRange(ctx, key, 0, int64(size)); err != nil {
			return fmt.Errorf("read manifest: %w", err)
		}
		if !right(b) {
			return fmt.Errorf("read manifest %s: %w", key, ErrCorrupt)
		}
		d.keep(d.spec.Manifest, b)
	}
	m, err := ParseManifest(b)
	if err != nil {
		return err
	}
	if m.Root() != d.spec.Root {
		return fmt.Errorf("manifest %s has page root %s, the run descriptor pins %s: %w", d.spec.Manifest, m.Root(), d.spec.Root, ErrCorrupt)
	}
	d.manifest = m
	return nil
}

// Seq is T.
func (d *Dataset) Seq() int { return d.seq }

// Len is the number of bytes in a split.
func (d *Dataset) Len(s Split) uint64 { return d.manifest.Lengths[s] }

// Samples is the number of samples in a split: (bytes − 1) / T.
func (d *Dataset) Samples(s Split) uint64 { return (d.Len(s) - 1) / uint64(d.seq) }

// Stats says where pages came from.
func (d *Dataset) Stats() Stats {
	c := &d.counts
	return Stats{c.fetched.Load(), c.disk.Load(), c.memory.Load(), c.dropped.Load(), c.unkept.Load()}
}

// Load reads train samples, 16 to a batch, in the order given.
func (d *Dataset) Load(ctx context.Context, samples []uint64) ([]model.Batch, error) {
	return d.load(ctx, Train, samples)
}

// HeldOut draws n different held-out samples by beacon and reads them, 16 to a batch. A beacon of after the deadline makes
// them unpredictable for miners; a constant makes a fixed set.
func (d *Dataset) HeldOut(ctx context.Context, beacon []byte, n int) ([]model.Batch, error) {
	samples, err := d.drawHeldOut(beacon, n)
	if err != nil {
		return nil, err
	}
	return d.load(ctx, HeldOut, samples)
}

func (d *Dataset) load(ctx context.Context, s Split, samples []uint64) ([]model.Batch, error) {
	var out []model.Batch
	for len(samples) > 0 {
		n := min(loadBatch, len(samples))
		b, err := d.batch(ctx, s, samples[:n])
		if err != nil {
			return nil, err
		}
		out, samples = append(out, b), samples[n:]
	}
	return out, nil
}

// batch reads samples as one batch, a few at a time.
func (d *Dataset) batch(ctx context.Context, s Split, samples []uint64) (model.Batch, error) {
	t := d.seq
	b := model.Batch{B: len(samples), T: t, X: make([]int32, len(samples)*t), Y: make([]int32, len(samples)*t)}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, sample := range samples {
		g.Go(func() error {
			if sample >= d.Samples(s) {
				return fmt.Errorf("read sample %d of the %v split: it has %d", sample, s, d.Samples(s))
			}
			text := make([]byte, t+1)
			if err := d.read(ctx, s, text, sample*uint64(t)); err != nil {
				return err
			}
			x, y := b.X[i*t:][:t], b.Y[i*t:][:t]
			for j := range x {
				x[j], y[j] = int32(text[j]), int32(text[j+1])
			}
			return nil
		})
	}
	return b, g.Wait()
}

// read fills dst with a split's bytes from off on; the caller has checked that they exist.
func (d *Dataset) read(ctx context.Context, s Split, dst []byte, off uint64) error {
	first := 0
	if s == HeldOut {
		first = d.manifest.NumPages(Train)
	}
	for len(dst) > 0 {
		page, err := d.page(ctx, first+int(off/PageSize))
		if err != nil {
			return err
		}
		n := copy(dst, page[off%PageSize:])
		dst, off = dst[n:], off+uint64(n)
	}
	return nil
}
