package replica

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"strconv"
	"sync"
	"testing"

	"sn3/chain"
	"sn3/gradients"
	"sn3/storage"
)

// served is a bucket whose reads a test answers: nil lets the bucket itself answer.
type served struct {
	storage.Driver
	get func(ctx context.Context, key string) ([]byte, error)
}

func (s served) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	b, err := s.get(ctx, key)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return s.Driver.Get(ctx, key, off, n)
	}
	return io.NopCloser(bytes.NewReader(b[min(off, int64(len(b))):])), nil
}

func locatorOf(t *testing.T, bucket string) []byte {
	t.Helper()
	l, err := storage.Local(bucket)
	if err != nil {
		t.Fatal(err)
	}
	return l.Encode()
}

// copyTo mirrors a submission.
func (f *fixture) copyTo(t *testing.T, bucket string, c chain.Candidate, m gradients.Manifest, raw []byte) {
	t.Helper()
	f.put(t, bucket, payloadKey(m.Payload), raw)
	f.put(t, bucket, manifestKey(c.Digest), m.Encode())
}

// An origin that never answers costs the start it has before the mirrors, not its timeout: it is left as soon as a mirror
// has answered.
func TestOriginHangs(t *testing.T) {
	left := make(chan error, 8)
	f := fix(t, func(f *fixture, _ *Config) {
		f.open = func(name string, d storage.Driver) storage.Driver {
			if name != "miner-1" {
				return d
			}
			return served{d, func(ctx context.Context, _ string) ([]byte, error) {
				<-ctx.Done()
				left <- ctx.Err()
				return nil, ctx.Err()
			}}
		}
	})
	c, m, raw := f.submission(t, "miner-1", 3, nil)
	f.copyTo(t, "val-2", c, m, raw)
	got, p, err := f.objects.anywhere(context.Background(), c, 3, [][]byte{locatorOf(t, "miner-2"), locatorOf(t, "val-2")})
	if err != nil || got != m || p.Len() != m.Length {
		t.Fatalf("got %+v, %v", got, err)
	}
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the origin was waited for: %v", err)
	}
}

// While the origin hangs, a mirror that has nothing yet is asked again.
func TestMirrorComesLate(t *testing.T) {
	var mu sync.Mutex
	asked := 0
	var f *fixture
	var give func()
	f = fix(t, func(f *fixture, _ *Config) {
		f.open = func(name string, d storage.Driver) storage.Driver {
			return served{d, func(ctx context.Context, key string) ([]byte, error) {
				if name == "miner-1" {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				mu.Lock()
				defer mu.Unlock()
				if asked++; asked == 2 {
					give()
				}
				return nil, nil
			}}
		}
	})
	c, m, raw := f.submission(t, "miner-1", 3, nil)
	give = func() { f.copyTo(t, "val-2", c, m, raw) }
	if _, _, err := f.objects.anywhere(context.Background(), c, 3, [][]byte{locatorOf(t, "val-2")}); err != nil {
		t.Error(err)
	}
}

// When all have failed the caller hears it at once, with a reason it can decide by.
func TestNobodyHasIt(t *testing.T) {
	f := fix(t, nil)
	c := chain.Candidate{Locator: locatorOf(t, "miner-1"), Digest: chain.Hash{1}}
	_, _, err := f.objects.anywhere(context.Background(), c, 3, [][]byte{locatorOf(t, "val-2"), {255, 1}})
	if !errors.Is(err, storage.ErrNotFound) && !errors.Is(err, storage.ErrLocator) {
		t.Errorf("got %v", err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := f.objects.anywhere(ended, c, 3, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// An origin that lies is passed over: bytes are what their hash says or nothing.
func TestOriginLies(t *testing.T) {
	for name, lie := range map[string]func(key string, b []byte) []byte{
		"a flipped bit": func(_ string, b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"cut":           func(_ string, b []byte) []byte { return b[:len(b)-1] },
		"longer":        func(_ string, b []byte) []byte { return append(b, 0) },
		"huge":          func(string, []byte) []byte { return make([]byte, 8<<20) },
		"something else": func(string, []byte) []byte {
			return []byte("{}")
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := fix(t, func(f *fixture, _ *Config) {
				f.open = func(bucket string, d storage.Driver) storage.Driver {
					if bucket != "miner-1" {
						return d
					}
					return served{d, func(ctx context.Context, key string) ([]byte, error) {
						return lie(key, bytes.Clone(f.get(t, "miner-1", key))), nil
					}}
				}
			})
			c, m, raw := f.submission(t, "miner-1", 3, nil)
			if _, _, err := f.objects.anywhere(context.Background(), c, 3, nil); err == nil {
				t.Fatal("took it")
			}
			f.copyTo(t, "val-2", c, m, raw)
			if _, _, err := f.objects.anywhere(context.Background(), c, 3, [][]byte{locatorOf(t, "val-2")}); err != nil {
				t.Errorf("with an honest mirror: %v", err)
			}
		})
	}
}

// What lies on our own disk is checked again each time: a file that changed is fetched anew.
func TestDiskIsNoEvidence(t *testing.T) {
	f := fix(t, nil)
	c, m, _ := f.submission(t, "miner-1", 3, nil)
	ctx := context.Background()
	if _, _, err := f.objects.anywhere(ctx, c, 3, nil); err != nil {
		t.Fatal(err)
	}
	for _, h := range []chain.Hash{c.Digest, m.Payload} {
		if _, ok := f.objects.cached(3, h); !ok {
			t.Fatal("it was not kept")
		}
		if err := os.WriteFile(f.objects.path(3, h), []byte("edited"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, ok := f.objects.cached(3, h); ok {
			t.Error("an edited file counts as the object")
		}
	}
	if _, _, err := f.objects.anywhere(ctx, c, 3, nil); err != nil {
		t.Errorf("after the edit: %v", err)
	}
	f.objects.forget(3)
	if _, ok := f.objects.cached(3, m.Payload); !ok {
		t.Error("window 3 was forgotten with those before 3")
	}
	f.objects.forget(4)
	if got := files(t, f.objects.dir); len(got) != 0 {
		t.Errorf("left are %v", got)
	}
}

// The length a manifest claims is checked before anything is fetched.
func TestLengthIsCheckedFirst(t *testing.T) {
	f := fix(t, nil)
	most := gradients.NewCodec(f.Layout()).MaxLen(512)
	for _, n := range []int64{0, -1, most + 1, 1 << 62} {
		_, err := f.objects.payload(context.Background(), gradients.Manifest{Window: 3, Length: n}, nil) // no bucket to ask
		if !errors.Is(err, errOversize) {
			t.Errorf("length %d: %v", n, err)
		}
	}
}

// Announcements reach the disk only for the windows whose submissions come now: a stranger cannot fill it.
func TestPrefetch(t *testing.T) {
	f := fix(t, nil)
	f.clock.Advance(chain.Head{Block: f.sched.At(5, chain.PhaseStart)})
	ctx := context.Background()
	for w, fetched := range map[chain.Window]bool{0: false, 3: false, 4: true, 5: true, 6: false, 1 << 60: false, chain.NoWindow: false} {
		c, m, _ := f.submission(t, "miner-1", w, nil)
		err := f.Prefetch(ctx, w, c.Digest, c.Locator)
		_, there := f.objects.cached(w, m.Payload)
		if there != fetched || (err == nil) != fetched {
			t.Errorf("window %d in window 5: %v, on disk %v", w, err, there)
		}
		if _, err := os.Stat(f.objects.path(w, c.Digest)); (err == nil) != fetched {
			t.Errorf("window %d in window 5: the manifest: %v", w, err)
		}
	}
	c, _, _ := f.submission(t, "miner-1", 5, func(m *gradients.Manifest) { m.Run = chain.Hash{9} })
	if err := f.Prefetch(ctx, 5, c.Digest, c.Locator); !errors.Is(err, errManifest) {
		t.Errorf("of another run: %v", err)
	}
	if err := f.Prefetch(ctx, 5, c.Digest, []byte{255}); !errors.Is(err, storage.ErrLocator) {
		t.Errorf("no locator: %v", err)
	}
}

// Locators are strangers' and change as often as they like; what is kept open is bounded.
func TestOpenBucketsAreBounded(t *testing.T) {
	f := fix(t, nil)
	for i := range 3 * maxBuckets {
		if _, err := f.objects.bucket(locatorOf(t, "bucket-"+strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(f.objects.buckets); n > maxBuckets {
		t.Errorf("%d buckets are open", n)
	}
}

func TestMemoryGrowsWithWhatComes(t *testing.T) {
	var m memory
	for _, c := range []struct {
		off int64
		ok  bool
	}{{1, false}, {0, true}, {0, false}, {3, true}, {7, false}, {-1, false}} {
		_, err := m.WriteAt([]byte("abc"), c.off)
		if (err == nil) != c.ok {
			t.Errorf("write at %d with %d bytes there: %v", c.off, len(m), err)
		}
	}
	if string(m) != "abcabc" || sha256.Sum256(m) != sha256.Sum256([]byte("abcabc")) {
		t.Errorf("got %q", m)
	}
}
