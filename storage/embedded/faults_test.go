package embedded_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"sn3/storage"
)

// network is a connection to the server that can be made bad.
type network struct {
	t     *testing.T
	proxy *toxiproxy.Proxy
	port  int
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	n := &network{t: t, proxy: toxiproxy.NewProxy(api, "s3", "127.0.0.1:0", server.Addr())}
	if err := n.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.proxy.Stop)
	_, port, err := net.SplitHostPort(n.proxy.Listen)
	if err != nil {
		t.Fatal(err)
	}
	if n.port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	return n
}

// alice opens her bucket through the proxy.
func (n *network) alice() *storage.Bucket {
	return open(n.t, "alice", credential(aliceKey, aliceSecret), n.port)
}

// add adds a toxic (see the toxiproxy README), named after its direction, for the rest of the network's life; removing one can take it many seconds.
func (n *network) add(kind, direction, attributes string) {
	n.t.Helper()
	json := fmt.Sprintf(`{"name":%q,"type":%q,"stream":%q,"attributes":{%s}}`, direction, kind, direction, attributes)
	if _, err := n.proxy.Toxics.AddToxicJson(strings.NewReader(json)); err != nil {
		n.t.Fatal(err)
	}
}

type memory []byte

func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }

// stored puts n bytes under key over a good connection.
func stored(t *testing.T, key string, n int) []byte {
	t.Helper()
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i * i >> 7)
	}
	if err := open(t, "alice", credential(aliceKey, aliceSecret), 0).Put(t.Context(), key, data); err != nil {
		t.Fatal(err)
	}
	return data
}

func TestServerCutOff(t *testing.T) {
	n, ctx := newNetwork(t), t.Context()
	b, data := n.alice(), stored(t, "cut", 1000)
	if _, err := b.Get(ctx, "cut", 1000); err != nil { // leaves a kept-alive connection
		t.Fatal(err)
	}
	n.proxy.Stop()
	start := time.Now()
	_, get := b.Get(ctx, "cut", 1000)
	for what, err := range map[string]error{
		"get": get, "put": b.Put(ctx, "cut", data), "delete": b.Delete(ctx, "cut"),
		"fetch": b.Fetch(ctx, "cut", 1000, sha256.Sum256(data), make(memory, 1000)),
	} {
		if !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("%s without a server: %v, want ErrUnavailable", what, err)
		}
	}
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("four calls took %s to give up", took)
	}
	if err := n.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Get(ctx, "cut", 1000); err != nil || string(got) != string(data) {
		t.Errorf("after the server came back: %d bytes, %v", len(got), err)
	}
}

func TestOutageDuringCallIsRiddenOut(t *testing.T) {
	n, ctx := newNetwork(t), t.Context()
	b := n.alice()
	stored(t, "outage", 1000)
	n.proxy.Stop()
	back := make(chan error, 1)
	timer := time.AfterFunc(100*time.Millisecond, func() { back <- n.proxy.Start() })
	defer timer.Stop()
	if _, err := b.Get(ctx, "outage", 1000); err != nil {
		t.Errorf("a server away for 100 ms: %v", err)
	}
	if err := <-back; err != nil {
		t.Fatal(err)
	}
}

func TestLatency(t *testing.T) {
	n, ctx := newNetwork(t), t.Context()
	b := n.alice()
	data := stored(t, "late", 200_000)
	n.add("latency", "downstream", `"latency":150`)
	start := time.Now()
	if err := b.Fetch(ctx, "late", int64(len(data)), sha256.Sum256(data), make(memory, len(data))); err != nil {
		t.Errorf("over a slow line: %v", err)
	}
	if took := time.Since(start); took < 150*time.Millisecond {
		t.Errorf("took %s; the delay did not happen", took)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err := b.Get(short, "late", 200_000)
	if !errors.Is(err, storage.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with 50 ms to answer: %v, want ErrUnavailable and DeadlineExceeded", err)
	}
}

func TestCutBodyIsResumed(t *testing.T) {
	n, ctx := newNetwork(t), t.Context()
	b := n.alice()
	data := stored(t, "resumed", 1<<20)
	sum := sha256.Sum256(data)
	n.add("limit_data", "downstream", `"bytes":300000`)
	got := make(memory, len(data))
	if err := b.Fetch(ctx, "resumed", int64(len(data)), sum, got); err != nil {
		t.Fatalf("with connections that break after 300 kB: %v", err)
	}
	if sha256.Sum256(got) != sum {
		t.Error("wrong bytes after resuming")
	}
	// Get starts again instead, so it can never get 1 MiB this way, and says why.
	if _, err := b.Get(ctx, "resumed", 1<<20); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("get: %v, want ErrUnavailable", err)
	}
}

func TestCutUploadLeavesNothing(t *testing.T) {
	n, ctx := newNetwork(t), t.Context()
	b := n.alice()
	n.add("limit_data", "upstream", `"bytes":200000`)
	data := make([]byte, 1<<20)
	if err := b.Put(ctx, "half", data); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("upload over breaking connections: %v, want ErrUnavailable", err)
	}
	b = open(t, "alice", credential(aliceKey, aliceSecret), 0)
	if _, err := b.Get(ctx, "half", 1<<20); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("after a broken upload: %v, want ErrNotFound", err)
	}
	if err := b.Put(ctx, "half", data); err != nil {
		t.Errorf("again over a good connection: %v", err)
	}
}

func TestSilentPeer(t *testing.T) {
	n := newNetwork(t)
	b := n.alice()
	stored(t, "silent", 1000)
	n.add("timeout", "downstream", `"timeout":0`)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, get := b.Get(ctx, "silent", 1000)
	_, list := b.List(ctx, "", "", 10)
	for what, err := range map[string]error{"get": get, "list": list, "put": b.Put(ctx, "silent", nil)} {
		if !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("%s from a silent server: %v, want ErrUnavailable", what, err)
		}
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %s, the deadline was 300 ms", took)
	}
}

func TestCancelIsNotBlamedOnTheServer(t *testing.T) {
	n := newNetwork(t)
	b := n.alice()
	n.add("timeout", "downstream", `"timeout":0`)
	ctx, cancel := context.WithCancel(t.Context())
	timer := time.AfterFunc(50*time.Millisecond, cancel)
	defer timer.Stop()
	_, err := b.Get(ctx, "silent", 1000)
	if !errors.Is(err, context.Canceled) || errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("cancelled get: %v, want context.Canceled alone", err)
	}
}

func TestLyingPeer(t *testing.T) {
	b, ctx := open(t, "alice", nil, 0), t.Context()
	data := stored(t, "honest", 100_000)
	sum := sha256.Sum256(data)
	data[77_777] ^= 1
	if err := open(t, "alice", credential(aliceKey, aliceSecret), 0).Put(ctx, "lying", data); err != nil {
		t.Fatal(err)
	}
	if err := b.Fetch(ctx, "lying", 100_000, sum, make(memory, 100_000)); !errors.Is(err, storage.ErrMismatch) {
		t.Errorf("one wrong bit: %v, want ErrMismatch", err)
	}
	stored(t, "huge", 4<<20)
	if err := b.Fetch(ctx, "huge", 100_000, sum, make(memory, 100_000)); !errors.Is(err, storage.ErrTooLarge) {
		t.Errorf("4 MiB instead of 100 kB: %v, want ErrTooLarge", err)
	}
	if err := b.Fetch(ctx, "honest", 100_001, sum, make(memory, 100_001)); !errors.Is(err, storage.ErrMismatch) {
		t.Errorf("a byte short: %v, want ErrMismatch", err)
	}
}
