package embedded_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sn3/storage"
)

// calls are one of each, on an object of a megabyte.
func calls(ctx context.Context, b *storage.Bucket, key string, data []byte) map[string]func() error {
	return map[string]func() error{
		"get":    func() error { _, err := b.Get(ctx, key, int64(len(data))); return err },
		"range":  func() error { _, err := b.GetRange(ctx, key, 1000, int64(len(data)/2)); return err },
		"fetch":  func() error { return b.Fetch(ctx, key, int64(len(data)), sha256.Sum256(data), make(memory, len(data))) },
		"list":   func() error { _, err := b.List(ctx, key, "", 10); return err },
		"put":    func() error { return b.Put(ctx, key+"-put", data[:100_000]) },
		"delete": func() error { return b.Delete(ctx, key+"-none") },
	}
}

// allFail makes all calls at once, without a deadline of their own, and wants each to give up by itself and say why.
func allFail(t *testing.T, b *storage.Bucket, key string, data []byte, but ...string) {
	t.Helper()
	const patience = time.Minute
	var wg sync.WaitGroup
	all := calls(t.Context(), b, key, data)
	for _, name := range but {
		delete(all, name)
	}
	for name, call := range all {
		wg.Go(func() {
			done := make(chan error, 1)
			go func() { done <- call() }()
			select {
			case err := <-done:
				if !errors.Is(err, storage.ErrUnavailable) {
					t.Errorf("%s: %v, want ErrUnavailable", name, err)
				}
			case <-time.After(patience):
				t.Errorf("%s does not give up", name)
			}
		})
	}
	wg.Wait()
}

func allWork(t *testing.T, b *storage.Bucket, key string, data []byte) {
	t.Helper()
	for name, call := range calls(t.Context(), b, key, data) {
		if err := call(); err != nil {
			t.Errorf("%s on a good connection: %v", name, err)
		}
	}
}

// Connections that are reset at once; afterwards the same handle works.
func TestConnectionsReset(t *testing.T) {
	for _, stream := range []string{"upstream", "downstream"} {
		n := newNetwork(t)
		b, data := n.alice(), stored(t, "reset", 1<<20)
		allWork(t, b, "reset", data)
		n.add("reset_peer", stream, `"timeout":0`)
		allFail(t, b, "reset", data)
		if err := n.proxy.Toxics.RemoveToxic(t.Context(), stream); err != nil {
			t.Fatal(err)
		}
		allWork(t, b, "reset", data)
	}
}

// A line of a kilobyte a second, both ways: what moves bytes is given up long before it is through.
func TestSlowLine(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for real deadlines, 20 s")
	}
	t.Parallel()
	n := newNetwork(t)
	b, data := n.alice(), stored(t, "slow", 1<<20)
	n.add("bandwidth", "downstream", `"rate":1`)
	n.add("bandwidth", "upstream", `"rate":1`)
	allFail(t, b, "slow", data, "list", "delete") // these are small enough to get through
}

// half is a proxy that, while bad, ends its answers after so many bytes but goes on reading: connections closed on one side.
type half struct {
	l     net.Listener
	bad   atomic.Bool
	after int64
	wg    sync.WaitGroup
}

func newHalf(t *testing.T, after int64) *half {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &half{l: l, after: after}
	h.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			h.wg.Go(func() { h.serve(t, c.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		h.wg.Wait()
	})
	return h
}

func (h *half) serve(t *testing.T, client *net.TCPConn) {
	defer client.Close()
	s, err := net.Dial("tcp", server.Addr())
	if err != nil {
		t.Error(err)
		return
	}
	defer s.Close()
	defer context.AfterFunc(t.Context(), func() { // clients keep idle connections for a minute
		_ = client.Close()
		_ = s.Close()
	})()
	h.wg.Go(func() {
		_, _ = io.Copy(s, client) // until the client closes its side
		_ = s.(*net.TCPConn).CloseWrite()
	})
	if h.bad.Load() {
		_, _ = io.CopyN(client, s, h.after)
		_ = client.CloseWrite()
		_, _ = io.Copy(io.Discard, s)
		return
	}
	_, _ = io.Copy(client, s)
}

// Answers that end in the middle of the headers, or of the body, on connections whose other side stays open.
func TestHalfClosed(t *testing.T) {
	for _, after := range []int64{0, 40} {
		h := newHalf(t, after)
		b := open(t, "alice", credential(aliceKey, aliceSecret), h.l.Addr().(*net.TCPAddr).Port)
		data := stored(t, "half-closed", 1<<20)
		h.bad.Store(true)
		allFail(t, b, "half-closed", data)
		h.bad.Store(false)
		allWork(t, b, "half-closed", data)
	}
	h := newHalf(t, 300_000)
	b := open(t, "alice", credential(aliceKey, aliceSecret), h.l.Addr().(*net.TCPAddr).Port)
	data := stored(t, "half-closed", 1<<20)
	h.bad.Store(true)
	if err := calls(t.Context(), b, "half-closed", data)["fetch"](); err != nil {
		t.Errorf("answers that end after 300 kB: %v, want it resumed", err)
	}
}

// A peer that takes requests and never answers, nor closes: each call ends by its own deadline.
func TestPeerThatNeverAnswers(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for real deadlines, 20 s")
	}
	t.Parallel()
	n := newNetwork(t)
	b, data := n.alice(), stored(t, "mute", 1<<20)
	n.add("timeout", "downstream", `"timeout":0`)
	allFail(t, b, "mute", data)
}
