package data

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
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

// Mirror is one of several places with the same objects.
type Mirror struct {
	Name   string // for errors and statistics; "" for the only one
	Ranger Ranger
}

// From is a dataset's only place.
func From(r Ranger) []Mirror { return []Mirror{{Ranger: r}} }

const (
	memoryBytes = 4 << 20 // of pages kept in memory
	parallel    = 8       // samples fetched at once for one batch
	loadBatch   = 16      // sequences in a batch of Load and HeldOut
)

// DefaultCache is the most bytes of pages kept on disk if nothing else is said.
const DefaultCache = 2 << 30

// ReadOptions say how a dataset is read.
type ReadOptions struct {
	Seq        int    // T
	Vocab      int    // of the model: a dataset with another is refused; 0 is not checked
	Tokenizer  string // of the run descriptor, checked like Vocab; "" is not checked
	Cache      string // folder for pages, made if needed; "" keeps the last 4 MiB in memory only
	CacheBytes int64  // the most that the folder holds, the least recently used going first; 0 is DefaultCache
}

// Stats counts where pages came from since Open.
type Stats struct {
	Fetched uint64 // from a mirror
	Disk    uint64 // from the cache folder
	Memory  uint64
	Dropped uint64 // cache files that no longer matched their hash
	Unkept  uint64 // objects that could not be kept on disk; reading goes on without
	Evicted uint64 // pages that left the cache folder to make room
}

// Dataset reads samples of a pinned dataset. All methods are safe for concurrent use.
type Dataset struct {
	from     []Mirror
	spec     chain.DatasetSpec
	manifest *Manifest
	geo      geometry
	first    [splits][]uint64 // tokens of the split before each shard, and in all
	seq      int              // T
	disk     *diskCache

	mu      sync.Mutex // of memory and loading
	memory  lru
	loading map[pageID]*load
	counts  struct{ fetched, disk, memory, dropped, unkept atomic.Uint64 }
	mirrors []mirrorCounts
	prefer  atomic.Int64 // the mirror to ask first, modulo their number
}

// Open reads and checks the manifest that ds pins. The mirrors are asked in order, beginning with the one that served last.
func Open(ctx context.Context, from []Mirror, ds chain.DatasetSpec, o ReadOptions) (*Dataset, error) {
	if o.Seq < 1 || len(from) == 0 || o.CacheBytes < 0 {
		return nil, fmt.Errorf("open dataset: sequence length %d, %d mirrors, %d bytes of cache", o.Seq, len(from), o.CacheBytes)
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = DefaultCache
	}
	disk, err := openCache(o.Cache, o.CacheBytes)
	if err != nil {
		return nil, err
	}
	d := &Dataset{from: from, spec: ds, seq: o.Seq, disk: disk, memory: newLRU(memoryBytes), loading: map[pageID]*load{},
		mirrors: make([]mirrorCounts, len(from))}
	if d.manifest, err = d.openManifest(ctx); err != nil {
		return nil, fmt.Errorf("open dataset: %w", err)
	}
	d.index()
	if err := d.fits(o); err != nil {
		return nil, fmt.Errorf("open dataset: %w", err)
	}
	return d, nil
}

// index counts the tokens before each shard.
func (d *Dataset) index() {
	d.geo = geometryOf(d.manifest.Width())
	for s := range splits {
		n := uint64(0)
		for _, x := range d.manifest.Shards[s] {
			d.first[s] = append(d.first[s], n)
			n += uint64(x.Tokens)
		}
		d.first[s] = append(d.first[s], n)
	}
}

// fits refuses a dataset that the run cannot train on.
func (d *Dataset) fits(o ReadOptions) error {
	m := d.manifest
	if o.Vocab != 0 && o.Vocab != m.Vocab {
		return fmt.Errorf("%w: the dataset has ids below %d, the model a vocabulary of %d; pack the text with the model's tokenizer (sn3 data pack "+
			"--tokenizer, --vocab %d if the model's is padded) or choose a model of %d", ErrVocab, m.Vocab, o.Vocab, o.Vocab, m.Vocab)
	}
	if o.Tokenizer != "" && o.Tokenizer != m.Provenance.Tokenizer {
		return fmt.Errorf("%w: the dataset was made with tokenizer %s, the run has %s; pack the text with the run's", ErrVocab, m.Provenance.Tokenizer, o.Tokenizer)
	}
	for s := range splits {
		if d.Samples(s) == 0 {
			return fmt.Errorf("%w: the %v split has %d tokens, one sample needs %d", ErrTooSmall, s, d.Len(s), d.seq+1)
		}
	}
	return nil
}

// Manifest is what the dataset is made of; read only.
func (d *Dataset) Manifest() *Manifest { return d.manifest }

// Tokenizer reads the tokenizer.json that travels with the dataset, checked; nil if its tokens are bytes.
func (d *Dataset) Tokenizer(ctx context.Context) ([]byte, error) {
	sum, ok := d.manifest.Provenance.TokenizerSum()
	if !ok {
		return nil, nil
	}
	b, err := d.object(ctx, sum, MaxTokenizer, nil)
	if err != nil {
		return nil, fmt.Errorf("read the dataset's tokenizer: %w", err)
	}
	return b, nil
}

// Seq is T.
func (d *Dataset) Seq() int { return d.seq }

// Len is the number of tokens in a split.
func (d *Dataset) Len(s Split) uint64 { return d.first[s][len(d.first[s])-1] }

// Samples is the number of samples in a split: (tokens − 1) / T.
func (d *Dataset) Samples(s Split) uint64 { return (max(d.Len(s), 1) - 1) / uint64(d.seq) }

// Stats says where pages came from.
func (d *Dataset) Stats() Stats {
	c := &d.counts
	return Stats{c.fetched.Load(), c.disk.Load(), c.memory.Load(), c.dropped.Load(), c.unkept.Load(), d.disk.evicted.Load()}
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
	for part := range slices.Chunk(samples, loadBatch) {
		b, err := d.batch(ctx, s, part)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
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
			ids := make([]int32, t+1)
			if err := d.read(ctx, s, ids, sample*uint64(t)); err != nil {
				return err
			}
			copy(b.X[i*t:][:t], ids[:t])
			copy(b.Y[i*t:][:t], ids[1:])
			return nil
		})
	}
	return b, g.Wait()
}

// read fills dst with a split's tokens from off on; the caller has checked that they exist.
func (d *Dataset) read(ctx context.Context, s Split, dst []int32, off uint64) error {
	list, g := d.manifest.Shards[s], d.geo
	for len(dst) > 0 {
		i := sort.Search(len(list), func(i int) bool { return d.first[s][i+1] > off })
		at := int(off - d.first[s][i])
		n := min(len(dst), int(list[i].Tokens)-at)
		last := (at + n - 1) / g.page
		for end := at + n; at < end; {
			p := at / g.page
			pages, err := d.pages(ctx, pageID{s, i, p}, last)
			if err != nil {
				return err
			}
			for _, page := range pages {
				in := at % g.page
				k := min(g.page-in, end-at)
				if err := decode(dst[:k], page[in*g.width:], g.width, d.manifest.Vocab); err != nil {
					return &PageError{at / g.page, Key(list[i].Sum), err}
				}
				dst, at, off = dst[k:], at+k, off+uint64(k)
			}
		}
	}
	return nil
}

// ErrCorrupt: a mirror served bytes that are not what the run descriptor pins.
var ErrCorrupt = errors.New("data: bytes do not match their hash")
