package storage

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
)

// Memory is a storage server in memory, with many buckets, for tests and simulations: whoever holds a writable handle of
// a bucket may change it, everybody may read all. Safe for concurrent use.
type Memory struct {
	mu      sync.RWMutex
	buckets map[string]map[string][]byte // bucket, key; contents are never changed in place
}

// NewMemory returns an empty server.
func NewMemory() *Memory { return &Memory{buckets: map[string]map[string][]byte{}} }

// Bucket returns a handle of the bucket. A writable one makes the bucket if there is none; without, reading a missing
// bucket is ErrNotFound and writing any is ErrDenied.
func (m *Memory) Bucket(name string, writable bool) *Bucket {
	return NewBucket(m.Driver(name, writable))
}

// Driver is Bucket for those who want to decorate the driver first.
func (m *Memory) Driver(name string, writable bool) Driver {
	if writable {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.buckets[name] == nil {
			m.buckets[name] = map[string][]byte{}
		}
	}
	return &memoryDriver{m: m, name: name, writable: writable}
}

type memoryDriver struct {
	m        *Memory
	name     string
	writable bool
}

func (d *memoryDriver) mayWrite(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !d.writable {
		return fmt.Errorf("%w: bucket %s is not yours", ErrDenied, d.name)
	}
	return nil
}

// objects is the bucket's content; the caller holds the lock.
func (d *memoryDriver) objects() (map[string][]byte, error) {
	objs, ok := d.m.buckets[d.name]
	if !ok {
		return nil, fmt.Errorf("%w: no bucket %s", ErrNotFound, d.name)
	}
	return objs, nil
}

func (d *memoryDriver) Put(ctx context.Context, key string, body io.ReaderAt, size int64, o PutOptions) error {
	if err := d.mayWrite(ctx); err != nil {
		return err
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(body, 0, size), data); err != nil {
		return &localError{fmt.Errorf("read body: %w", err)}
	}
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	objs, err := d.objects()
	if err != nil {
		return err
	}
	if _, taken := objs[key]; taken && o.IfAbsent {
		return ErrExists
	}
	objs[key] = data
	return nil
}

func (d *memoryDriver) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.m.mu.RLock()
	defer d.m.mu.RUnlock()
	objs, err := d.objects()
	if err != nil {
		return nil, err
	}
	data, ok := objs[key]
	switch {
	case !ok:
		return nil, ErrNotFound
	case off > 0 && off >= int64(len(data)), off == 0 && n >= 0 && len(data) == 0:
		return nil, fmt.Errorf("%w: range starts at %d of %d bytes", ErrMismatch, off, len(data))
	}
	data = data[off:]
	if n >= 0 {
		data = data[:min(n, int64(len(data)))]
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (d *memoryDriver) List(ctx context.Context, prefix, after string, max int) ([]Object, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.m.mu.RLock()
	defer d.m.mu.RUnlock()
	objs, err := d.objects()
	if err != nil {
		return nil, err
	}
	var found []Object
	for key, data := range objs {
		if key > after && strings.HasPrefix(key, prefix) {
			found = append(found, Object{Key: key, Size: int64(len(data))})
		}
	}
	slices.SortFunc(found, func(a, b Object) int { return strings.Compare(a.Key, b.Key) })
	return found[:min(max, len(found))], nil
}

func (d *memoryDriver) Delete(ctx context.Context, keys ...string) error {
	if err := d.mayWrite(ctx); err != nil {
		return err
	}
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	objs, err := d.objects()
	if err != nil {
		return err
	}
	for _, key := range keys {
		delete(objs, key)
	}
	return nil
}
