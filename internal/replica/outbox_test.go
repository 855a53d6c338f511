package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sn3/chain"
	"sn3/internal/events"
	"sn3/storage"
)

// gated is a bucket that is away while closed is set, and counts what it was asked.
type gated struct {
	storage.Driver
	closed  *atomic.Bool
	refused *atomic.Int64
	noTrash *atomic.Bool // deletes are refused
	puts    func(key string)
}

func (g gated) Put(ctx context.Context, key string, b io.ReaderAt, n int64, o storage.PutOptions) error {
	if g.closed.Load() {
		g.refused.Add(1)
		return storage.ErrUnavailable
	}
	if g.puts != nil {
		g.puts(key)
	}
	return g.Driver.Put(ctx, key, b, n, o)
}

func (g gated) Delete(ctx context.Context, keys ...string) error {
	if g.closed.Load() || g.noTrash.Load() {
		return storage.ErrDenied
	}
	return g.Driver.Delete(ctx, keys...)
}

// boxed is a fixture whose outbox counts in a Load, so that a test can wait until everything that can be done is done.
func boxed(t *testing.T, dir string) (*fixture, gated, *Load) {
	load := NewLoad()
	g := gated{closed: new(atomic.Bool), refused: new(atomic.Int64), noTrash: new(atomic.Bool)}
	f := fix(t, func(f *fixture, c *Config) {
		if dir != "" {
			c.Dir = dir
		}
		c.Clock = NewClock(load)
		f.own = func(d storage.Driver) storage.Driver { g.Driver = d; return g }
	})
	return f, g, load
}

// running runs the outbox until the test or the returned function ends it.
func (f *fixture) running(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); f.outbox.run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// settled says whether the outbox runs and has nothing left to do.
func (o *outbox) settled(load *Load) bool {
	load.Idle()
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.running && !o.prune && len(o.todo) == 0
}

// finish waits until the outbox has nothing left to do.
func (o *outbox) finish(t *testing.T, load *Load) {
	t.Helper()
	for begin := time.Now(); !o.settled(load); runtime.Gosched() {
		if time.Since(begin) > 20*time.Second {
			t.Fatal("the outbox does not finish")
		}
	}
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func mustAdd(t *testing.T, o *outbox, w chain.Window, key, body string) {
	t.Helper()
	if err := o.add(w, key, []byte(body)); err != nil {
		t.Fatal(err)
	}
}

func TestOutboxUploadsInOrder(t *testing.T) {
	f, g, load := boxed(t, "")
	var order []string
	f.outbox.r.cfg.Bucket = storage.NewBucket(gated{Driver: g.Driver, closed: g.closed, refused: g.refused, noTrash: g.noTrash,
		puts: func(key string) { order = append(order, key) }})
	keys := []string{"checkpoint/3/config.json", "checkpoint/3/model.safetensors", "checkpoint/3/manifest.json", "window/3"}
	for i, k := range keys {
		mustAdd(t, f.outbox, 3, k, fmt.Sprint(i))
	}
	f.running(t)
	f.outbox.finish(t, load)
	if fmt.Sprint(order) != fmt.Sprint(keys) {
		t.Errorf("uploaded %v", order)
	}
	if left := files(t, f.outbox.dir); len(left) != 0 {
		t.Errorf("files %v are left", left)
	}
}

// What is added while the bucket is away survives a restart, with what came before it still first.
func TestOutboxSurvivesRestart(t *testing.T) {
	f, g, _ := boxed(t, "")
	g.closed.Store(true)
	mustAdd(t, f.outbox, 1, "window/1", "one")
	mustAdd(t, f.outbox, 2, "window/2", "two")
	again, _, load := boxed(t, f.dir)
	mustAdd(t, again.outbox, 2, "window/2", "two, corrected")
	again.running(t)
	again.outbox.finish(t, load)
	if got := string(again.get(t, "val-1", "window/1")); got != "one" {
		t.Errorf("window/1 is %q", got)
	}
	if got := string(again.get(t, "val-1", "window/2")); got != "two, corrected" {
		t.Errorf("window/2 is %q: the newer one must win", got)
	}
}

// A crash can leave: a temporary file, nothing at all, or the whole file. Damage is dropped with a word, the rest goes on.
func TestOutboxAfterCrash(t *testing.T) {
	whole := func(t *testing.T) []byte {
		it := item{dir: t.TempDir(), seq: 7, window: 1, key: "window/1"}
		if err := it.write([]byte("body"), true); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(it.path())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, c := range map[string]struct {
		file    string
		content func([]byte) []byte
		there   bool
	}{
		"whole":            {fmt.Sprintf("%020d", 7), func(b []byte) []byte { return b }, true},
		"temporary":        {fmt.Sprintf("%020d.tmp", 7), func(b []byte) []byte { return b }, false},
		"empty":            {fmt.Sprintf("%020d", 7), func([]byte) []byte { return nil }, false},
		"cut in the head":  {fmt.Sprintf("%020d", 7), func(b []byte) []byte { return b[:13] }, false},
		"cut in the body":  {fmt.Sprintf("%020d", 7), func(b []byte) []byte { return b[:len(b)-33] }, false},
		"zeros":            {fmt.Sprintf("%020d", 7), func(b []byte) []byte { return make([]byte, len(b)) }, false},
		"flipped":          {fmt.Sprintf("%020d", 7), func(b []byte) []byte { b[len(b)-34] ^= 1; return b }, false},
		"longer":           {fmt.Sprintf("%020d", 7), func(b []byte) []byte { return append(b, 0) }, false},
		"a key of another": {fmt.Sprintf("%020d", 7), func(b []byte) []byte { b[itemHead] = '/'; return b }, false},
		"an older version": {"1700000000000000000.key", func([]byte) []byte { return []byte(`{"window":1,"key":"window/1"}`) }, false},
		"not a number":     {"notes", func(b []byte) []byte { return b }, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.MkdirAll(filepath.Join(dir, "outbox"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "outbox", c.file), c.content(whole(t)), 0o600); err != nil {
				t.Fatal(err)
			}
			f, _, load := boxed(t, dir)
			mustAdd(t, f.outbox, 2, "window/2", "two")
			f.running(t)
			f.outbox.finish(t, load)
			want := []string{"window/2"}
			if c.there {
				want = []string{"window/1", "window/2"}
			} else if !strings.Contains(f.log(), "dropped") {
				t.Error("nothing was said")
			}
			if got := f.keys(t, "val-1", "window/"); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("in the bucket are %v, want %v", got, want)
			}
			if left := files(t, f.outbox.dir); len(left) != 0 {
				t.Errorf("files %v are left", left)
			}
		})
	}
}

// Any single wrong byte in an outbox file is noticed.
func TestItemChecksum(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "item")
		if err != nil {
			rt.Fatal(err)
		}
		it := item{dir: dir, seq: rapid.Uint64().Draw(rt, "seq"), window: chain.Window(rapid.Uint64().Draw(rt, "window")),
			key: rapid.StringMatching(`[a-z]{1,20}/[0-9a-z]{1,40}`).Draw(rt, "key")}
		body := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(rt, "body")
		if err := it.write(body, false); err != nil {
			rt.Fatal(err)
		}
		back, err := readItem(it.path())
		if err != nil || back != it {
			rt.Fatalf("read %+v, %v", back, err)
		}
		if got, err := it.read(); err != nil || !bytes.Equal(got, body) {
			rt.Fatalf("read %x, %v", got, err)
		}
		raw, err := os.ReadFile(it.path())
		if err != nil {
			rt.Fatal(err)
		}
		raw[rapid.IntRange(0, len(raw)-1).Draw(rt, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(rt, "bit")
		if err := os.WriteFile(it.path(), raw, 0o600); err != nil {
			rt.Fatal(err)
		}
		if _, err := it.read(); !errors.Is(err, errItem) {
			rt.Fatalf("a flipped bit gives %v", err)
		}
	})
}

// On a full disk nothing is queued and nothing half written stays; with room again it works.
func TestOutboxFullDisk(t *testing.T) {
	f, _, load := boxed(t, "")
	fullDisk(t, filepath.Join(f.outbox.dir, fmt.Sprintf("%020d", 0)))
	err := f.outbox.add(1, "window/1", bytes.Repeat([]byte("x"), 1<<20))
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "disk full") {
		t.Fatalf("got %v, want no space left and a hint", err)
	}
	if left := files(t, f.outbox.dir); len(left) != 0 {
		t.Errorf("files %v are left", left)
	}
	mustAdd(t, f.outbox, 1, "window/1", "one")
	f.running(t)
	f.outbox.finish(t, load)
	if string(f.get(t, "val-1", "window/1")) != "one" {
		t.Error("with room again it is not uploaded")
	}
}

// A bucket that is away: said once, tried at every block, and everything arrives when it is back.
func TestOutboxWaitsForBucket(t *testing.T) {
	f, g, load := boxed(t, "")
	g.closed.Store(true)
	mustAdd(t, f.outbox, 1, "window/1", "one")
	mustAdd(t, f.outbox, 1, "window/2", "two")
	f.running(t)
	for b := chain.Block(2); g.refused.Load() < 3; b++ {
		load.Idle()
		f.clock.Advance(chain.Head{Block: b})
	}
	g.closed.Store(false)
	for b := chain.Block(1000); !f.outbox.settled(load); b++ {
		f.clock.Advance(chain.Head{Block: b})
	}
	if got := f.keys(t, "val-1", "window/"); len(got) != 2 {
		t.Errorf("in the bucket are %v", got)
	}
	if w, r := f.said(events.Waiting), f.said(events.Resumed); len(w) != 1 || len(r) != 1 || !strings.HasPrefix(w[0], "own bucket: ") {
		t.Errorf("said waiting %q, resumed %q", w, r)
	}
}

// A bucket that is away for long costs no more disk than the windows that are kept anyway.
func TestOutboxForgetsWhatNobodyNeeds(t *testing.T) {
	f, g, load := boxed(t, "")
	g.closed.Store(true)
	for w := range chain.Window(20) {
		mustAdd(t, f.outbox, w, windowKey(w), "x")
		if w >= 5 {
			f.outbox.forget(w - 5)
		}
	}
	if left := files(t, f.outbox.dir); len(left) != 6 {
		t.Errorf("%d files in the outbox, want those of 6 windows", len(left))
	}
	g.closed.Store(false)
	f.running(t)
	f.outbox.finish(t, load)
	if got := f.keys(t, "val-1", "window/"); len(got) != 6 {
		t.Errorf("in the bucket are %v", got)
	}
}

// Old objects go from the bucket, those of a former life too; a bucket that does not let itself be pruned takes new ones all
// the same, and is asked again.
func TestOutboxPrunes(t *testing.T) {
	f, g, load := boxed(t, "")
	f.put(t, "val-1", "payload/left", []byte("by a life that crashed"))
	f.put(t, "val-1", "not-ours", []byte("the owner's"))
	if err := f.outbox.adopt(context.Background(), 2); err != nil {
		t.Fatal(err)
	}
	for w := chain.Window(1); w < 5; w++ {
		mustAdd(t, f.outbox, w, windowKey(w), "x")
	}
	g.noTrash.Store(true)
	f.running(t)
	f.outbox.finish(t, load)
	f.outbox.forget(3)
	mustAdd(t, f.outbox, 5, "window/5", "new")
	f.outbox.finish(t, load) // a bucket that keeps everything takes new objects
	if got := f.keys(t, "val-1", ""); len(got) != 7 || !strings.Contains(f.log(), "cannot prune") {
		t.Errorf("%v, log %q", got, f.log())
	}
	g.noTrash.Store(false)
	f.outbox.forget(3)
	f.outbox.finish(t, load)
	if got := fmt.Sprint(f.keys(t, "val-1", "")); got != "[not-ours window/3 window/4 window/5]" {
		t.Errorf("left are %s", got)
	}
}

// What a former life queued and this one uploads is pruned like the rest.
func TestOutboxPrunesWhatARestartUploaded(t *testing.T) {
	f, _, _ := boxed(t, "")
	mustAdd(t, f.outbox, 1, "window/1", "one")
	again, _, load := boxed(t, f.dir)
	again.running(t)
	again.outbox.finish(t, load)
	if got := again.keys(t, "val-1", ""); len(got) != 1 {
		t.Fatalf("uploaded %v", got)
	}
	again.outbox.forget(2)
	again.outbox.finish(t, load)
	if got := again.keys(t, "val-1", ""); len(got) != 0 {
		t.Errorf("left are %v", got)
	}
}

// A key that names its content is sent once, and lives as long as its newest use; others are replaced.
func TestOutboxSendsContentOnce(t *testing.T) {
	f, g, load := boxed(t, "")
	sent := map[string]int{}
	f.outbox.r.cfg.Bucket = storage.NewBucket(gated{Driver: g.Driver, closed: g.closed, refused: g.refused, noTrash: g.noTrash,
		puts: func(key string) { sent[key]++ }})
	for range 3 {
		mustAdd(t, f.outbox, 1, "payload/aa", "same")
		mustAdd(t, f.outbox, 1, "window/1", "may differ")
	}
	mustAdd(t, f.outbox, 2, "payload/aa", "same")
	f.running(t)
	f.outbox.finish(t, load)
	f.outbox.forget(2)
	f.outbox.finish(t, load)
	if sent["payload/aa"] != 2 || sent["window/1"] != 3 {
		t.Errorf("sent %v", sent)
	}
	if got := fmt.Sprint(f.keys(t, "val-1", "")); got != "[payload/aa]" {
		t.Errorf("after forgetting window 1 there are %s", got)
	}
}

func TestOutboxDamagedListAsksTheBucket(t *testing.T) {
	f, _, _ := boxed(t, "")
	f.put(t, "val-1", "window/1", []byte("x"))
	if err := os.WriteFile(filepath.Join(f.dir, keptFile), []byte(`{"window/1": `), 0o600); err != nil {
		t.Fatal(err)
	}
	again, _, load := boxed(t, f.dir)
	again.put(t, "val-1", "window/1", []byte("x"))
	if err := again.outbox.adopt(context.Background(), 1); err != nil {
		t.Fatal(err)
	}
	again.running(t)
	again.outbox.forget(2)
	again.outbox.finish(t, load)
	if got := again.keys(t, "val-1", ""); len(got) != 0 {
		t.Errorf("left are %v", got)
	}
}
