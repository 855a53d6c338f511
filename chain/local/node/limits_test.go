package node

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	cstypes "github.com/cometbft/cometbft/consensus/types"
	comettypes "github.com/cometbft/cometbft/types"

	"sn3/chain/local/state"
)

// The API holds no more than so many connections; one that closes makes room, and closing the listener ends the wait.
func TestConnectionsAreLimited(t *testing.T) {
	n, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := limitedListener(n)
	l.slots = make(chan struct{}, 2)
	accepted, ended := make(chan net.Conn), make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- c
		}
	}()
	for range 3 {
		c, err := net.Dial("tcp", n.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	first, second := <-accepted, <-accepted
	defer second.Close()
	if len(l.slots) != 2 {
		t.Errorf("%d slots are taken", len(l.slots))
	}
	select {
	case <-accepted:
		t.Error("a third connection was accepted")
	default:
	}
	for range 2 { // closing twice frees one slot
		_ = first.Close()
	}
	third := <-accepted
	defer third.Close()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept ended with %v", err)
	}
}

// called is a connection from an address.
type called struct {
	net.Conn
	from net.Addr
}

func (c called) RemoteAddr() net.Addr { return c.from }

// queue is a listener with connections of given addresses.
type queue chan string

func (q queue) Accept() (net.Conn, error) {
	from, ok := <-q
	if !ok {
		return nil, net.ErrClosed
	}
	c, _ := net.Pipe()
	return called{c, &net.TCPAddr{IP: net.ParseIP(from), Port: 7}}, nil
}
func (q queue) Close() error   { return nil }
func (q queue) Addr() net.Addr { return &net.TCPAddr{} }

// One address has connsEach connections at most, all other machines remoteConns, and programs on this one find a place.
func TestConnectionsOfOneAddress(t *testing.T) {
	calls := make(queue, 2*maxConns)
	l := limitedListener(calls)
	take := func(n int, from string) (list []net.Conn) {
		t.Helper()
		for range n {
			calls <- from
		}
		calls <- "127.0.0.1" // behind those that are refused
		for {
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(c.RemoteAddr().String(), "127.") {
				if err := c.Close(); err != nil {
					t.Fatal(err)
				}
				return list
			}
			list = append(list, c)
		}
	}
	all := take(connsEach+3, "192.0.2.1")
	if len(all) != connsEach {
		t.Errorf("%d connections of one address", len(all))
	}
	all = append(all, take(connsEach+3, "2001:db8::1")...)
	all = append(all, take(3, "2001:db8::2")...) // the same network
	if len(all) != 2*connsEach {
		t.Errorf("%d connections of two networks", len(all))
	}
	for i := range 7 {
		all = append(all, take(connsEach, fmt.Sprintf("198.51.100.%d", i))...)
	}
	if len(all) != remoteConns || len(take(1, "203.0.113.1")) != 0 {
		t.Errorf("%d connections of other machines", len(all))
	}
	for range 2 { // twice is once
		if err := all[0].Close(); err != nil {
			t.Fatal(err)
		}
	}
	if again := take(2, "192.0.2.1"); len(again) != 1 {
		t.Errorf("%d find the place of one", len(again))
	}
	for _, c := range all {
		_ = c.Close()
	}
	if len(l.slots) != 1 || l.remote != 1 || len(l.of) != 1 { // the one of again
		t.Errorf("%d slots, %d connections, %d addresses are left", len(l.slots), l.remote, len(l.of))
	}
}

func TestTrimWAL(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"wal", "wal.998", "wal.999", "wal.1000", "wal.1001", "wal.CORRUPTED", "wal.", "wal.1x", "other.000"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := trimWAL(dir); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{"other.000", "wal", "wal.", "wal.1000", "wal.1001", "wal.1x", "wal.CORRUPTED"}; !slices.Equal(left, want) {
		t.Errorf("left are %v, want %v", left, want)
	}
	if err := trimWAL(filepath.Join(dir, "none")); err != nil {
		t.Errorf("before the first start: %v", err)
	}
}

// Errors of the disk that CometBFT only logs end the node; others do not, and what it says while closing is not logged.
func TestLoggerSeesTheDisk(t *testing.T) {
	var closing atomic.Bool
	var got []error
	lines := 0
	l := logger{l: slog.New(slog.NewTextHandler(counter{&lines}, nil)), closing: &closing, disk: func(err error) { got = append(got, err) }}
	full := fmt.Errorf("write log: %w", &fs.PathError{Op: "write", Path: "wal", Err: syscall.ENOSPC})
	l.With("module", "consensus").Error("failed writing to WAL", "height", 3, "err", full)
	l.Error("peer gone", "err", syscall.ECONNRESET, "peer", "x")
	l.Warn("slow", "err", full)
	if len(got) != 1 || !errors.Is(got[0], syscall.ENOSPC) || lines != 3 {
		t.Errorf("%d lines, errors of the disk %v", lines, got)
	}
	closing.Store(true)
	l.Error("transport is closed")
	if lines != 3 {
		t.Error("noise of closing is logged")
	}
}

// Peers that go away are a warning: they come back, or others do. What the engine's other parts cannot do is an error.
func TestPeersAreNoErrors(t *testing.T) {
	var b strings.Builder
	l := logger{l: slog.New(slog.NewTextHandler(&b, nil)), closing: new(atomic.Bool), disk: func(error) {}}
	for module, level := range map[string]string{"p2p": "WARN", "pex": "WARN", "blocksync": "WARN", "statesync": "WARN", "consensus": "ERROR", "state": "ERROR"} {
		for _, from := range []interface{ Error(string, ...any) }{l.With("module", module), l.With("x", 1, "module", module).With("peer", "y"), l.With("module", "p2p").With("module", module)} {
			b.Reset()
			if from.Error("broken"); !strings.Contains(b.String(), "level="+level) {
				t.Errorf("%s: %s", module, b.String())
			}
		}
	}
	b.Reset()
	if l.Error("broken"); !strings.Contains(b.String(), "level=ERROR") {
		t.Errorf("of no part: %s", b.String())
	}
}

func TestAdvice(t *testing.T) {
	for _, x := range []struct {
		r    any
		says string
	}{
		{fmt.Errorf("open: %w", &fs.PathError{Op: "open", Path: "x", Err: syscall.EACCES}), "must be able to read and write"},
		{fmt.Errorf("open: %w", &fs.PathError{Op: "open", Path: "x", Err: syscall.EROFS}), "mount it for writing"},
		{fmt.Errorf("read: %w", state.ErrVersion), "nothing was changed"},
		{errors.New("checksum"), "restore it from a copy"}, {strings.Repeat("state ", 1000), "restore it from a copy"}, {7, "start x: 7; is the disk full"},
	} {
		if err := caught("start x", x.r); !strings.Contains(err.Error(), x.says) || len(err.Error()) > 500 {
			t.Error(err)
		}
	}
}

// Why the engine ended is said where it is known: a clock far behind the chain's.
func TestStopped(t *testing.T) {
	a := bare(t, filepath.Join(t.TempDir(), "a"))
	n := &Node{Ledger: a.ledger}
	if err := n.stopped(time.Unix(-1e6, 0)); strings.Contains(err.Error(), "set the clock") {
		t.Errorf("before the first block: %v", err)
	}
	block(t, a) // of the second 1
	for back, says := range map[time.Duration]string{time.Minute: "full disk", 59 * time.Minute: "58m59s behind block 1", 3 * time.Hour: "set the clock"} {
		if err := n.stopped(time.Unix(0, 0).Add(time.Second - back + time.Second)); !strings.Contains(err.Error(), says) {
			t.Errorf("%s behind: %v", back, err)
		}
	}
}

type counter struct{ n *int }

// Write counts.
func (c counter) Write(b []byte) (int, error) { *c.n++; return len(b), nil }

// at is an engine that stands still at a block.
type at struct{ block *comettypes.Block }

// GetRoundState tells it.
func (a at) GetRoundState() *cstypes.RoundState { return &cstypes.RoundState{ProposalBlock: a.block} }

// A block that is built on another state than this node's is why the engine ended; one of another height, or none, is not.
func TestOtherState(t *testing.T) {
	a := bare(t, filepath.Join(t.TempDir(), "a"))
	block(t, a)
	n := &Node{Ledger: a.ledger}
	_, own := n.Height()
	for name, x := range map[string]struct {
		engine any
		bad    bool
	}{
		"no block":        {at{}, false},
		"own state":       {at{&comettypes.Block{Header: comettypes.Header{Height: 2, AppHash: own[:]}}}, false},
		"another state":   {at{&comettypes.Block{Header: comettypes.Header{Height: 2, AppHash: make([]byte, 32)}}}, true},
		"another height":  {at{&comettypes.Block{Header: comettypes.Header{Height: 3, AppHash: make([]byte, 32)}}}, false},
		"a short one":     {at{&comettypes.Block{Header: comettypes.Header{Height: 2, AppHash: []byte{1}}}}, true},
		"not this engine": {3, false},
	} {
		if err := n.otherState(x.engine); err != nil != x.bad || err != nil && !strings.Contains(err.Error(), "join in a new folder") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
