package replica

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"sn3/chain"
	"sn3/gradients"
	"sn3/storage"
)

// Limits on what is read from others. A manifest has a fixed small size; a payload's comes from the layout and k.
const (
	maxManifest   = 4 << 10
	maxWindowFile = 1 << 20
	maxBuckets    = 1024 // buckets kept open; locators are free to change every window
	fetchTimeout  = 20 * time.Second
	// hedge is the start that one source of a winner has before the next is asked as well; for payloads it is longer by
	// their length at hedgeRate, so that large ones do not travel twice.
	hedge     = 500 * time.Millisecond
	hedgeRate = 4 << 20 // bytes per second
)

// Keys of objects in buckets (DESIGN §11).
func payloadKey(sum chain.Hash) string     { return "payload/" + sum.String() }
func manifestKey(digest chain.Hash) string { return "manifest/" + digest.String() }
func evidenceKey(digest chain.Hash) string { return "evidence/" + digest.String() }
func windowKey(w chain.Window) string      { return "window/" + strconv.FormatUint(uint64(w), 10) }
func checkpointKey(w chain.Window, name string) string {
	return "checkpoint/" + strconv.FormatUint(uint64(w), 10) + "/" + name
}

// objects fetches manifests and payloads by hash, from whoever has them, and keeps them on disk by window. What is on disk
// is checked again when read: our own old files are no evidence either.
type objects struct {
	r   *Replica
	dir string

	mu      sync.Mutex
	buckets map[string]*storage.Bucket // by encoded locator
}

func openObjects(r *Replica) (*objects, error) {
	o := &objects{r: r, dir: filepath.Join(r.cfg.Dir, "objects"), buckets: map[string]*storage.Bucket{}}
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make object folder: %w", err)
	}
	return o, nil
}

// bucket opens the bucket behind an encoded locator, once.
func (o *objects) bucket(locator []byte) (*storage.Bucket, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if b, ok := o.buckets[string(locator)]; ok {
		return b, nil
	}
	l, err := storage.ParseLocator(locator)
	if err != nil {
		return nil, fmt.Errorf("read locator: %w", err)
	}
	b, err := o.r.cfg.Open(l)
	if err != nil {
		return nil, fmt.Errorf("open bucket: %w", err)
	}
	if len(o.buckets) >= maxBuckets {
		clear(o.buckets)
	}
	o.buckets[string(locator)] = b
	return b, nil
}

func (o *objects) path(w chain.Window, sum chain.Hash) string {
	return filepath.Join(o.dir, strconv.FormatUint(uint64(w), 10), sum.String())
}

// cached returns an object from disk if it is there and right.
func (o *objects) cached(w chain.Window, sum chain.Hash) ([]byte, bool) {
	b, err := os.ReadFile(o.path(w, sum))
	if err != nil || sha256.Sum256(b) != sum {
		return nil, false
	}
	return b, true
}

func (o *objects) keep(w chain.Window, sum chain.Hash, b []byte) error {
	p := o.path(w, sum)
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		return fmt.Errorf("keep object: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(p), ".tmp-*")
	if err != nil {
		return fmt.Errorf("keep object: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), p) // no fsync: the hash is checked on reading and the object can be fetched again
	}
	if err != nil {
		return fmt.Errorf("keep object: %w", err)
	}
	return nil
}

// forget removes the objects of windows before w.
func (o *objects) forget(w chain.Window) {
	entries, err := os.ReadDir(o.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if n, err := strconv.ParseUint(e.Name(), 10, 64); err == nil && chain.Window(n) < w {
			if err := os.RemoveAll(filepath.Join(o.dir, e.Name())); err != nil {
				o.r.cfg.Log.Warn("cannot remove old objects", "window", n, "reason", err)
			}
		}
	}
}

// manifest fetches the manifest with the given digest from one bucket.
func (o *objects) manifest(ctx context.Context, w chain.Window, digest chain.Hash, from *storage.Bucket) (gradients.Manifest, error) {
	b, ok := o.cached(w, digest)
	if !ok {
		ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
		defer cancel()
		var err error
		if b, err = from.Get(ctx, manifestKey(digest), maxManifest); err != nil {
			return gradients.Manifest{}, fmt.Errorf("fetch manifest: %w", err)
		}
		if sha256.Sum256(b) != digest {
			return gradients.Manifest{}, fmt.Errorf("fetch manifest: %w", storage.ErrMismatch)
		}
		if err := o.keep(w, digest, b); err != nil {
			return gradients.Manifest{}, err
		}
	}
	m, err := gradients.ParseManifest(b)
	if err != nil {
		return gradients.Manifest{}, fmt.Errorf("%w: %w", errManifest, err)
	}
	return m, nil
}

// payload fetches and decodes the payload that m names from one bucket. The size is checked against the layout before
// anything is read.
func (o *objects) payload(ctx context.Context, m gradients.Manifest, from *storage.Bucket) (*gradients.Payload, error) {
	codec := gradients.NewCodec(o.r.layout)
	codec.Use(o.r.cfg.Compute)
	k := o.r.cfg.Run.Payload.At(m.Window)
	if m.Length <= 0 || m.Length > codec.MaxLen(k) {
		return nil, fmt.Errorf("%w: %d bytes, at most %d at k %d", errOversize, m.Length, codec.MaxLen(k), k)
	}
	b, ok := o.cached(m.Window, m.Payload)
	if !ok {
		ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
		defer cancel()
		var buf memory
		if err := from.Fetch(ctx, payloadKey(m.Payload), m.Length, m.Payload, &buf); err != nil {
			return nil, fmt.Errorf("fetch payload: %w", err)
		}
		b = buf
		if err := o.keep(m.Window, m.Payload, b); err != nil {
			return nil, err
		}
	}
	p, err := codec.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, err
	}
	if p.K() != k {
		return nil, fmt.Errorf("%w: k %d, the run says %d", errManifest, p.K(), k)
	}
	return p, nil
}

// anywhere fetches the manifest and then the payload of a submission from the origin or a mirror. Whose answer it is does not
// matter: the hashes say what it must be.
func (o *objects) anywhere(ctx context.Context, c chain.Candidate, w chain.Window, mirrors [][]byte) (gradients.Manifest, *gradients.Payload, error) {
	sources := append([][]byte{c.Locator}, mirrors...)
	m, err := race(ctx, o, sources, hedge, func(ctx context.Context, b *storage.Bucket) (gradients.Manifest, error) {
		return o.manifest(ctx, w, c.Digest, b)
	})
	if err != nil {
		return m, nil, err
	}
	start := hedge + time.Duration(max(m.Length, 0)/hedgeRate)*time.Second
	p, err := race(ctx, o, sources, start, func(ctx context.Context, b *storage.Bucket) (*gradients.Payload, error) {
		return o.payload(ctx, m, b)
	})
	return m, p, err
}

// race asks one source after another, the next when one has failed or has not answered within start, so that a source that
// hangs costs little; while one hangs, those that failed are asked again, for a mirror may be on its way. The first answer
// counts. It returns the last error when all have failed.
func race[T any](ctx context.Context, o *objects, sources [][]byte, start time.Duration, ask func(context.Context, *storage.Bucket) (T, error)) (none T, err error) {
	type answer struct {
		source int
		is     T
		err    error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer)
	try := func(i int) {
		a := answer{source: i}
		var b *storage.Bucket
		if b, a.err = o.bucket(sources[i]); a.err == nil {
			a.is, a.err = ask(ctx, b)
		}
		select {
		case answers <- a:
		case <-ctx.Done(): // another was first
		}
	}
	next := time.NewTimer(0)
	defer next.Stop()
	var again []int // failed, to be asked again
	for asked, open := 0, 0; ; {
		wake := next.C
		if asked == len(sources) && len(again) == 0 {
			wake = nil
		}
		select {
		case <-ctx.Done():
			return none, ctx.Err()
		case <-wake:
			i := asked
			if asked < len(sources) {
				asked++
			} else {
				i, again = again[0], again[1:]
			}
			go try(i)
			open++
			next.Reset(start)
		case a := <-answers:
			if a.err == nil {
				return a.is, nil
			}
			if open--; open == 0 && asked == len(sources) {
				return none, a.err
			}
			if asked < len(sources) {
				next.Reset(0)
			}
			again = append(again, a.source)
		}
	}
}

// memory is an io.WriterAt that grows with what is written, from the start to the end.
type memory []byte

// WriteAt implements io.WriterAt.
func (m *memory) WriteAt(b []byte, off int64) (int, error) {
	if off != int64(len(*m)) {
		return 0, fmt.Errorf("write at %d: %d bytes are there", off, len(*m))
	}
	*m = append(*m, b...)
	return len(b), nil
}
