package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"sn3/storage"
)

// filled is n bytes that differ from seed to seed.
func filled(n int, seed uint32) []byte {
	b := make([]byte, n)
	for i := range b {
		seed = seed*1664525 + 1013904223 // Numerical Recipes' generator; any will do
		b[i] = byte(seed >> 24)
	}
	return b
}

// stuck is a body whose upload stops in the middle: it is read whole once, for the signature, and then up to stop.
type stuck struct {
	*bytes.Reader
	stop    int64
	passes  atomic.Int32
	reached chan struct{} // closed when all before stop is on its way
	release <-chan struct{}
	once    sync.Once
}

func (s *stuck) ReadAt(p []byte, off int64) (int, error) {
	if off == 0 {
		s.passes.Add(1)
	}
	if s.passes.Load() > 1 && off+int64(len(p)) > s.stop {
		s.once.Do(func() { close(s.reached) })
		<-s.release
	}
	return s.Reader.ReadAt(p, off)
}

// used is how many bytes of files are below dir.
func used(t *testing.T, dir string) (sum int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// Killed in the middle of two uploads, of a new object and over an old one: the old one is whole, the new one is not there,
// and nothing of them is left on the disk.
func TestKilledInMidUpload(t *testing.T) {
	dir := t.TempDir()
	accounts := filepath.Join(dir, "accounts.json")
	write(t, accounts, account("alice", "alice-secret"))
	s := startS3D(t, nil, "--dir", filepath.Join(dir, "s3"), "--accounts", accounts)
	old := filled(1<<20, 1)
	if err := s.open(t, "alice", "alice-secret").Put(t.Context(), "old", old); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const size, stop = 32 << 20, 24 << 20 // sockets hold less than what lies before stop: the server has some of it
	release := make(chan struct{})
	var uploads sync.WaitGroup
	for _, key := range []string{"old", "new"} {
		body := &stuck{Reader: bytes.NewReader(filled(size, 2)), stop: stop, reached: make(chan struct{}), release: release}
		b := s.open(t, "alice", "alice-secret")
		uploads.Go(func() {
			if err := b.PutReader(ctx, key, body, size); err == nil {
				t.Errorf("%s: acknowledged", key)
			}
		})
		<-body.reached
	}
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-s.exited
	cancel()
	close(release)
	uploads.Wait()
	s = startS3D(t, nil, "--dir", filepath.Join(dir, "s3"), "--accounts", accounts)
	b := s.open(t, "alice", "alice-secret")
	if got, err := b.Get(t.Context(), "old", size); err != nil || !bytes.Equal(got, old) {
		t.Errorf("old object: %d bytes, %v", len(got), err)
	}
	if _, err := b.Get(t.Context(), "new", size); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("new object: %v, want ErrNotFound", err)
	}
	if objs, err := b.List(t.Context(), "", "", 10); err != nil || len(objs) != 1 {
		t.Errorf("objects %v, %v; want one", objs, err)
	}
	if n := used(t, filepath.Join(dir, "s3")); n > 1<<20+100_000 {
		t.Errorf("%d bytes on the disk for an object of 1 MiB", n)
	}
	if err := b.Put(t.Context(), "new", old); err != nil {
		t.Errorf("upload after the restart: %v", err)
	}
}

// Killed under load, again and again: what was acknowledged is there, and what is there is whole.
func TestKilledUnderLoad(t *testing.T) {
	dir := t.TempDir()
	accounts := filepath.Join(dir, "accounts.json")
	write(t, accounts, account("alice", "alice-secret"))
	var mu sync.Mutex
	acknowledged := map[string]int{} // key, which is the content's hash, to size
	for round := range uint32(3) {
		s := startS3D(t, nil, "--dir", filepath.Join(dir, "s3"), "--accounts", accounts)
		ctx, cancel := context.WithCancel(t.Context())
		enough := make(chan struct{})
		var writers sync.WaitGroup
		var n atomic.Int32
		for w := range uint32(4) {
			b := s.open(t, "alice", "alice-secret")
			writers.Go(func() {
				for i := uint32(0); ; i++ {
					data := filled(1+int(i)*7001%300_000, round<<16|w<<12|i)
					sum := sha256.Sum256(data)
					key := "payload/" + hex.EncodeToString(sum[:])
					if err := b.Put(ctx, key, data); err != nil {
						return // killed
					}
					mu.Lock()
					acknowledged[key] = len(data)
					mu.Unlock()
					if n.Add(1) == 40 {
						close(enough)
					}
				}
			})
		}
		<-enough
		if err := s.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-s.exited
		cancel()
		writers.Wait()
	}
	s := startS3D(t, nil, "--dir", filepath.Join(dir, "s3"), "--accounts", accounts)
	b := s.open(t, "alice", "alice-secret")
	objs, err := b.List(t.Context(), "", "", 10_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objs {
		got, err := b.Get(t.Context(), o.Key, 1<<20)
		if sum := sha256.Sum256(got); err != nil || "payload/"+hex.EncodeToString(sum[:]) != o.Key {
			t.Errorf("%s: %d bytes that are another's, %v", o.Key, len(got), err)
		}
		delete(acknowledged, o.Key)
	}
	if len(acknowledged) != 0 {
		t.Errorf("%d of %d objects lost after they were acknowledged: %s", len(acknowledged), len(objs), fmt.Sprint(acknowledged))
	}
}
