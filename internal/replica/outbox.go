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
// disk first, so a restart goes on with it. It also knows which window each object belongs to, for pruning.
type outbox struct {
	r    *Replica
	dir  string
	mu   sync.Mutex
	todo []item
	wake chan struct{}
	kept map[string]chain.Window // every key this node has published, with its window
	// running: queued items count as work in the clock's Load
	running bool
}

// item is one object to upload; its bytes are in file.
type item struct {
	Window chain.Window `json:"window"`
	Key    string       `json:"key"`
	file   string
}

const keptFile = "published.json"

func openOutbox(r *Replica) (*outbox, error) {
	o := &outbox{r: r, dir: filepath.Join(r.cfg.Dir, "outbox"), wake: make(chan struct{}, 1), kept: map[string]chain.Window{}}
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make outbox: %w", err)
	}
	if b, err := os.ReadFile(filepath.Join(r.cfg.Dir, keptFile)); err == nil {
		if err := json.Unmarshal(b, &o.kept); err != nil {
			r.cfg.Log.Warn("list of published objects is damaged; old objects may stay in the bucket", "reason", err)
		}
	}
	names, err := filepath.Glob(filepath.Join(o.dir, "*.key"))
	if err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	sort.Strings(names)
	for _, n := range names {
		var it item
		if b, err := os.ReadFile(n); err != nil || json.Unmarshal(b, &it) != nil {
			continue // its data file was never acknowledged
		}
		it.file = strings.TrimSuffix(n, ".key")
		o.todo = append(o.todo, it)
	}
	return o, nil
}

// add puts an object on disk and in the queue. Adding a key that is already queued or published is not an error.
func (o *outbox) add(w chain.Window, key string, b []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if at, ok := o.kept[key]; ok && at >= w {
		return nil
	}
	it := item{Window: w, Key: key, file: filepath.Join(o.dir, fmt.Sprintf("%020d", time.Now().UnixNano()))}
	meta, err := json.Marshal(it)
	if err != nil {
		return fmt.Errorf("queue object: %w", err)
	}
	if err := os.WriteFile(it.file, b, 0o600); err != nil {
		return fmt.Errorf("queue object: %w", err)
	}
	if err := os.WriteFile(it.file+".key", meta, 0o600); err != nil {
		return fmt.Errorf("queue object: %w", err)
	}
	o.kept[key] = w
	o.todo = append(o.todo, it)
	if o.running {
		o.r.clock.Load().Add(1) // until it is uploaded
	}
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return nil
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

// count switches counting of queued items as work on and off.
func (o *outbox) count(on bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.running = on
	if on {
		o.r.clock.Load().Add(len(o.todo))
	} else {
		o.r.clock.Load().Add(-len(o.todo))
	}
}

// run uploads until ctx ends.
func (o *outbox) run(ctx context.Context) {
	o.count(true)
	defer o.count(false)
	waiting := false
	for {
		it, ok := o.head()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-o.wake:
			}
			continue
		}
		err := o.upload(ctx, it)
		switch {
		case err == nil:
			if waiting {
				o.r.emit(events.Event{Kind: events.Resumed, Reason: "own bucket answers again"})
			}
			waiting = false
			o.mu.Lock()
			o.todo = o.todo[1:]
			o.r.clock.Load().Add(-1)
			o.mu.Unlock()
		case ctx.Err() != nil:
			return
		default:
			if !waiting {
				o.r.cfg.Log.Warn("own bucket does not take an object; trying on", "key", it.Key, "reason", err)
				o.r.emit(events.Event{Kind: events.Waiting, Reason: "own bucket: " + err.Error()})
			}
			waiting = true
			if o.rest(ctx) != nil {
				return
			}
		}
	}
}

// rest waits between two tries. In a simulation what is queued does not count as work meanwhile: a bucket that is away must
// not stop the clock.
func (o *outbox) rest(ctx context.Context) error {
	load := o.r.clock.Load()
	if load == nil {
		return pause(ctx, time.Second)
	}
	load.Add(1)
	o.count(false)
	err := o.r.clock.WaitNext(ctx)
	o.count(true)
	load.Add(-1)
	return err
}

func (o *outbox) head() (item, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.todo) == 0 {
		return item{}, false
	}
	return o.todo[0], true
}

func (o *outbox) upload(ctx context.Context, it item) error {
	b, err := os.ReadFile(it.file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read queued object: %w", err)
	}
	if err := o.r.cfg.Bucket.Put(ctx, it.Key, b); err != nil {
		return err
	}
	return errors.Join(os.Remove(it.file+".key"), os.Remove(it.file))
}

// prune deletes this node's objects of windows before w from its bucket, whatever is still queued included.
func (o *outbox) prune(ctx context.Context, before chain.Window) error {
	o.mu.Lock()
	var old []string
	for key, w := range o.kept {
		if w < before {
			old = append(old, key)
		}
	}
	sort.Strings(old)
	o.mu.Unlock()
	if len(old) > 0 {
		if err := o.r.cfg.Bucket.Delete(ctx, old...); err != nil && !errors.Is(err, storage.ErrNotFound) {
			return fmt.Errorf("prune own bucket: %w", err)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, key := range old {
		delete(o.kept, key)
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
