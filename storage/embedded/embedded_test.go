package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sn3/storage"
	"sn3/storage/embedded"
	"sn3/storage/storagetest"
)

// One server serves all tests of this package: only one may run in a process.
var server *embedded.Server //nolint:gochecknoglobals // set once by TestMain

const (
	rootKey, rootSecret   = "root-key", "root-secret-1"
	aliceKey, aliceSecret = "alice-key", "alice-secret-1"
	bobKey, bobSecret     = "bob-key", "bob-secret-1"
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "embedded")
		if err == nil {
			defer os.RemoveAll(dir)
			err = leaveGarbage(dir)
		}
		if err == nil {
			server, err = embedded.Start(context.Background(), embedded.Options{Dir: dir, Root: *credential(rootKey, rootSecret)})
		}
		if err == nil {
			err = errors.Join(server.AddBucket("alice", aliceKey, aliceSecret), server.AddBucket("bob", bobKey, bobSecret))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		serverDir = dir
		code := m.Run()
		if err := server.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	}())
}

var serverDir string

// leaveGarbage makes what a killed server leaves behind.
func leaveGarbage(dir string) error {
	for _, f := range []string{"objects/carol/.sgwtmp/0123.456", "attributes/carol/.sgwtmp/0123/meta/etag", "objects/carol/.kept.sgwtmp.1234", "objects/carol/kept"} {
		f = filepath.Join(dir, f)
		if err := errors.Join(os.MkdirAll(filepath.Dir(f), 0o700), os.WriteFile(f, []byte("x"), 0o600)); err != nil {
			return err
		}
	}
	return nil
}

func credential(access, secret string) *storage.Credential {
	c, err := storage.NewCredential(access, secret)
	if err != nil {
		panic(err) // a constant of this file is wrong
	}
	return c
}

// open opens a bucket of the server; port 0 = the server's own.
func open(t *testing.T, name string, c *storage.Credential, port int) *storage.Bucket {
	t.Helper()
	if port == 0 {
		port = server.Port()
	}
	l, err := storage.Local(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := storage.Open(l, c, storage.DialPolicy{Loopback: true, LocalPort: port})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestConformance(t *testing.T) {
	target := storagetest.Target{
		Owner:  open(t, "alice", credential(aliceKey, aliceSecret), 0),
		Public: open(t, "alice", nil, 0),
		Other:  open(t, "alice", credential(bobKey, bobSecret), 0),
		Forged: open(t, "alice", credential(aliceKey, "not-her-secret"), 0),
		Prefix: "check/1",
	}
	storagetest.Run(t.Context(), target, func(r storagetest.Result) {
		if r.Err != nil || r.Skipped { // optional ones too: this server offers everything
			t.Error(r)
		} else {
			t.Log(r)
		}
	})
}

func TestUnknownKeyAndBucket(t *testing.T) {
	ctx := t.Context()
	stranger := open(t, "alice", credential("nobody-key", "nobody-secret"), 0)
	if _, err := stranger.Get(ctx, "x", 10); !errors.Is(err, storage.ErrDenied) {
		t.Errorf("get with an unknown key: %v, want ErrDenied", err)
	}
	if _, err := open(t, "no-such-bucket", nil, 0).Get(ctx, "x", 10); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("get from an unknown bucket: %v, want ErrNotFound", err)
	}
	if _, err := open(t, "no-such-bucket", credential(aliceKey, aliceSecret), 0).List(ctx, "", "", 10); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("list of an unknown bucket: %v, want ErrNotFound", err)
	}
	// The root account repairs what others cannot.
	if err := open(t, "bob", credential(rootKey, rootSecret), 0).Put(ctx, "by-root", []byte("x")); err != nil {
		t.Errorf("root: %v", err)
	}
}

func TestAddBucketAgain(t *testing.T) {
	ctx := t.Context()
	if err := server.AddBucket("dave", "dave-key", "first-secret"); err != nil {
		t.Fatal(err)
	}
	before := open(t, "dave", credential("dave-key", "first-secret"), 0)
	if err := before.Put(ctx, "kept", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	if err := server.AddBucket("dave", "dave-key", "second-secret"); err != nil {
		t.Fatalf("again: %v", err)
	}
	if err := before.Put(ctx, "kept", []byte("changed")); !errors.Is(err, storage.ErrDenied) {
		t.Errorf("old secret: %v, want ErrDenied", err)
	}
	after := open(t, "dave", credential("dave-key", "second-secret"), 0)
	if got, err := after.Get(ctx, "kept", 10); err != nil || string(got) != "kept" {
		t.Errorf("object after AddBucket again: %q, %v", got, err)
	}
	server.RemoveAccount("dave-key")
	if err := after.Put(ctx, "kept", []byte("changed")); !errors.Is(err, storage.ErrDenied) {
		t.Errorf("removed account: %v, want ErrDenied", err)
	}
	if got, err := open(t, "dave", nil, 0).Get(ctx, "kept", 10); err != nil || string(got) != "kept" {
		t.Errorf("anonymous read after removal of the account: %q, %v", got, err)
	}
	// The key comes back for another bucket: it does not write the old one again.
	if err := errors.Join(server.Retire("dave"), server.AddBucket("erin", "dave-key", "second-secret")); err != nil {
		t.Fatal(err)
	}
	if err := after.Put(ctx, "kept", []byte("changed")); !errors.Is(err, storage.ErrDenied) {
		t.Errorf("key of another bucket: %v, want ErrDenied", err)
	}
	if got, err := after.Get(ctx, "kept", 10); err != nil || string(got) != "kept" {
		t.Errorf("read of a retired bucket: %q, %v", got, err)
	}
	if names, err := server.Buckets(); err != nil || !slices.Contains(names, "dave") || !slices.Contains(names, "erin") {
		t.Errorf("buckets %v, %v", names, err)
	}
	for _, bad := range []string{"", "a", "Upper", "dots.in.it", "../up", "x--y"} {
		if err := server.AddBucket(bad, "key-key", "secret-secret"); !errors.Is(err, storage.ErrLocator) {
			t.Errorf("AddBucket(%q): %v, want ErrLocator", bad, err)
		}
	}
}

// The folder of "carol" was there before the start, as after a crash in the middle of AddBucket, with leftovers in it.
func TestSweepAndRepair(t *testing.T) {
	ctx := t.Context()
	if err := server.AddBucket("carol", "carol-key", "carol-secret"); err != nil {
		t.Fatal(err)
	}
	carol := open(t, "carol", credential("carol-key", "carol-secret"), 0)
	if err := carol.Put(ctx, "new", []byte("new")); err != nil {
		t.Fatal(err)
	}
	objs, err := open(t, "carol", nil, 0).List(ctx, "", "", 10)
	if err != nil || len(objs) != 2 || objs[0].Key != "kept" || objs[1].Key != "new" {
		t.Fatalf("objects %v, error %v; want kept and new", objs, err)
	}
	for _, gone := range []string{"objects/carol/.sgwtmp/0123.456", "objects/carol/.kept.sgwtmp.1234", "attributes/carol/.sgwtmp"} {
		if _, err := os.Stat(filepath.Join(serverDir, gone)); !os.IsNotExist(err) {
			t.Errorf("%s is still there (%v)", gone, err)
		}
	}
}

func TestStartRefuses(t *testing.T) {
	root := *credential(rootKey, rootSecret)
	for _, listen := range []string{"0.0.0.0:0", ":0", "localhost:0", "127.0.0.1", "8.8.8.8:80", "[::1]:0", "127.0.0.2:0", "127.0.0.1:99999"} {
		if _, err := embedded.Start(t.Context(), embedded.Options{Dir: t.TempDir(), Listen: listen, Root: root}); err == nil || !strings.Contains(err.Error(), "127.0.0.1:PORT") {
			t.Errorf("Start on %q: %v, want a refusal that says what to give", listen, err)
		}
	}
	if _, err := embedded.Start(t.Context(), embedded.Options{Dir: t.TempDir(), Root: root}); err == nil {
		t.Error("a second server started in one process")
	}
	if _, err := embedded.Start(t.Context(), embedded.Options{Dir: serverDir, Root: root}); !errors.Is(err, embedded.ErrFolderBusy) {
		t.Errorf("the folder of a running server: %v, want ErrFolderBusy", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := embedded.Start(t.Context(), embedded.Options{Dir: file, Root: root}); err == nil || !strings.Contains(err.Error(), "choose a folder") {
		t.Errorf("a file as folder: %v", err)
	}
	if err := open(t, "bob", credential(bobKey, bobSecret), 0).Put(t.Context(), "still-there", nil); err != nil {
		t.Errorf("first server after the refusal: %v", err)
	}
}

func BenchmarkPutGet1MiB(b *testing.B) {
	l, err := storage.Local("alice")
	if err != nil {
		b.Fatal(err)
	}
	bucket, err := storage.Open(l, credential(aliceKey, aliceSecret), storage.DialPolicy{Loopback: true, LocalPort: server.Port()})
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 1<<20)
	b.SetBytes(2 << 20)
	for b.Loop() {
		if err := bucket.Put(b.Context(), "bench", data); err != nil {
			b.Fatal(err)
		}
		if _, err := bucket.Get(b.Context(), "bench", 1<<20); err != nil {
			b.Fatal(err)
		}
	}
}
