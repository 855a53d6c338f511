package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"sn3/chain"
	"sn3/internal/events"
	"sn3/storage"
)

// outbox uploads a node's own objects in order and in the background, however long the bucket is away: what is added is on
// disk first, so a restart goes on with it. It also knows which window each object belongs to and deletes the old ones.
type outbox struct {
	r    *Replica
	dir  string
	wake chan struct{}

	mu      sync.Mutex
	todo    []item
	sending bool                    // todo[0] is being uploaded
	seq     uint64                  // number of the next file
	kept    map[string]chain.Window // every key this node has published, with its window
	before  chain.Window            // objects of earlier windows are to go
	prune   bool                    // and have not gone yet
	running bool                    // what is queued counts as work in the clock's Load
}

const keptFile = "published.json"

func openOutbox(r *Replica) (*outbox, error) {
	o := &outbox{r: r, dir: filepath.Join(r.cfg.Dir, "outbox"), wake: make(chan struct{}, 1), kept: map[string]chain.Window{}}
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make outbox: %w", err)
	}
	b, err := os.ReadFile(filepath.Join(r.cfg.Dir, keptFile))
	if err == nil {
		err = json.Unmarshal(b, &o.kept)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.cfg.Log.Warn("list of published objects is damaged; asking the bucket instead", "reason", err)
		o.kept = map[string]chain.Window{}
	}
	entries, err := os.ReadDir(o.dir) // by name: in the order in which they were added
	if err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	for _, e := range entries {
		it, err := readItem(filepath.Join(o.dir, e.Name()))
		if err != nil && !errors.Is(err, errItem) {
			return nil, fmt.Errorf("read outbox: %w", err)
		}
		if err != nil { // a file that a crash left unfinished was never acknowledged
			r.cfg.Log.Warn("dropped an unfinished object from the outbox", "file", e.Name(), "reason", err)
			if err := os.Remove(filepath.Join(o.dir, e.Name())); err != nil {
				return nil, fmt.Errorf("clean outbox: %w", err)
			}
			continue
		}
		o.todo, o.kept[it.key], o.seq = append(o.todo, it), it.window, it.seq+1
	}
	return o, nil
}

// add puts an object on disk and in the queue. One whose key names its content and that is queued or published already is
// not added again; others replace what is there.
func (o *outbox) add(w chain.Window, key string, b []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if at, ok := o.kept[key]; ok && at >= w && addressed(key) {
		return nil
	}
	it := item{dir: o.dir, seq: o.seq, window: w, key: key}
	if err := it.write(b, !addressed(key)); err != nil {
		return fmt.Errorf("queue %s (is the disk full?): %w", key, err)
	}
	o.seq++
	o.kept[key] = w
	o.todo = append(o.todo, it)
	o.work(1) // until it is uploaded
	return nil
}

// addressed says whether a key is the hash of what lies under it.
func addressed(key string) bool {
	for _, prefix := range []string{"payload/", "manifest/", "evidence/"} {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

// put uploads at once, for what must be there before a record is published.
func (o *outbox) put(ctx context.Context, w chain.Window, key string, b []byte) error {
	if err := o.r.cfg.Bucket.Put(ctx, key, b); err != nil {
		return fmt.Errorf("upload %s: %w", key, err)
	}
	o.mu.Lock()
	o.kept[key] = w
	o.mu.Unlock()
	return nil
}

// adopt takes objects that lie in the bucket but in no list (a crash lost it) as published in window w, so that they are
// pruned some day.
func (o *outbox) adopt(ctx context.Context, w chain.Window) error {
	for _, prefix := range []string{"payload/", "manifest/", "evidence/", "window/", "checkpoint/"} {
		for after := ""; ; {
			page, err := o.r.cfg.Bucket.List(ctx, prefix, after, 1000)
			if err != nil {
				return fmt.Errorf("list own bucket: %w", err)
			}
			o.mu.Lock()
			for _, obj := range page {
				if _, ok := o.kept[obj.Key]; !ok {
					o.kept[obj.Key] = w
				}
				after = obj.Key
			}
			o.mu.Unlock()
			if len(page) < 1000 {
				break
			}
		}
	}
	return nil
}

// forget lets go of the objects of windows before w: what is queued is dropped, what lies in the bucket is deleted in the
// background.
func (o *outbox) forget(w chain.Window) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.before = w
	if !o.prune {
		o.prune = true
		o.work(1)
	}
	for i := len(o.todo) - 1; i >= 0; i-- {
		it := o.todo[i]
		if it.window >= w || i == 0 && o.sending {
			continue
		}
		if err := it.remove(); err != nil {
			o.r.cfg.Log.Warn("cannot remove an old object from the outbox", "key", it.key, "reason", err)
			continue
		}
		o.todo = append(o.todo[:i:i], o.todo[i+1:]...)
		o.work(-1)
	}
}

// work changes how much there is to do, and wakes run for more. The caller holds mu.
func (o *outbox) work(n int) {
	if o.running {
		o.r.clock.Load().Add(n)
	}
	if n > 0 {
		select {
		case o.wake <- struct{}{}:
		default:
		}
	}
}

// count switches counting of queued items as work on and off.
func (o *outbox) count(on bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(o.todo)
	if o.prune {
		n++
	}
	o.running = on
	if !on {
		n = -n
	}
	o.r.clock.Load().Add(n)
}

// run uploads and prunes until ctx ends.
func (o *outbox) run(ctx context.Context) {
	o.count(true)
	defer o.count(false)
	waiting := false
	for ctx.Err() == nil {
		o.clean(ctx)
		it, ok := o.head()
		if !ok {
			select {
			case <-ctx.Done():
			case <-o.wake:
			}
			continue
		}
		err := o.upload(ctx, it)
		o.sent(err == nil)
		switch {
		case err == nil:
			if waiting {
				o.r.emit(events.Event{Kind: events.Resumed, Reason: "own bucket answers again"})
			}
			waiting = false
		case ctx.Err() != nil:
		default:
			if !waiting {
				o.r.cfg.Log.Warn("own bucket does not take an object; trying on", "key", it.key, "reason", err)
				o.r.emit(events.Event{Kind: events.Waiting, Reason: "own bucket: " + err.Error()})
			}
			waiting = true
			o.rest(ctx)
		}
	}
}

// rest waits between two tries. In a simulation what is queued does not count as work meanwhile: a bucket that is away must
// not stop the clock.
func (o *outbox) rest(ctx context.Context) {
	load := o.r.clock.Load()
	if load == nil {
		_ = pause(ctx, time.Second) // run sees that ctx has ended
		return
	}
	load.Add(1)
	o.count(false)
	_ = o.r.clock.WaitNext(ctx)
	o.count(true)
	load.Add(-1)
}

func (o *outbox) head() (item, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.todo) == 0 {
		return item{}, false
	}
	o.sending = true
	return o.todo[0], true
}

func (o *outbox) sent(ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sending = false
	if ok {
		o.todo = o.todo[1:]
		o.work(-1)
	}
}

// upload sends one item. One that is not what was queued is dropped: no reader would take it.
func (o *outbox) upload(ctx context.Context, it item) error {
	b, err := it.read()
	switch {
	case errors.Is(err, errItem):
		o.r.cfg.Log.Warn("dropped a damaged object from the outbox", "key", it.key, "reason", err)
	case err != nil:
		return fmt.Errorf("read queued object: %w", err)
	default:
		if err := o.r.cfg.Bucket.Put(ctx, it.key, b); err != nil {
			return err
		}
	}
	return it.remove()
}

// clean deletes this node's objects of windows before the one that forget named, if that is still to be done. A failure
// waits for the next window: it must not keep new objects from being uploaded.
func (o *outbox) clean(ctx context.Context) {
	old, before, due := o.old()
	if !due {
		return
	}
	err := o.r.cfg.Bucket.Delete(ctx, old...)
	if errors.Is(err, storage.ErrNotFound) {
		err = nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil {
		err = o.saveKept(old, before)
	}
	if err != nil && ctx.Err() == nil {
		o.r.cfg.Log.Warn("cannot prune old windows; trying again next window", "reason", err)
	}
	if o.before == before {
		o.prune = false
		o.work(-1)
	}
}

// old lists what is to be deleted.
func (o *outbox) old() (keys []string, before chain.Window, due bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.prune {
		return nil, 0, false
	}
	for key, w := range o.kept {
		if w < o.before {
			keys = append(keys, key)
		}
	}
	sort.Strings(keys)
	return keys, o.before, true
}

// saveKept takes what was deleted from the list and saves it.
func (o *outbox) saveKept(deleted []string, before chain.Window) error {
	for _, key := range deleted {
		if o.kept[key] < before {
			delete(o.kept, key)
		}
	}
	b, err := json.Marshal(o.kept)
	if err != nil {
		return fmt.Errorf("save list of published objects: %w", err)
	}
	return writeBytes(filepath.Join(o.r.cfg.Dir, keptFile), b)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
