package quorum

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/localtest"
)

// fatal is what tests and properties have in common.
type fatal interface{ Fatal(args ...any) }

// world is the true chain: a height that a test raises.
type world struct {
	run []byte

	mu     sync.Mutex
	height chain.Block
	moved  chan struct{}
	txs    map[string]chain.Block // in which block a transaction is
}

func newWorld(t fatal) *world {
	g, _, err := localtest.Genesis(250)
	if err != nil {
		t.Fatal(err)
	}
	return &world{run: g.Run, moved: make(chan struct{}), height: 100, txs: map[string]chain.Block{}}
}

func (w *world) make(n chain.Block) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.height += n
	w.wake()
}

// wake lets who waits look again; the caller holds mu.
func (w *world) wake() {
	close(w.moved)
	w.moved = make(chan struct{})
}

// mode is how a node behaves.
type mode struct {
	refuse bool        // connections are refused
	hang   bool        // connections are accepted, and that is all
	quiet  bool        // answers, but shows no new heads
	lie    bool        // has another state in every block
	forge  string      // name of the one query that it lies about
	stood  chain.Block // knows nothing above, if not 0
	behind chain.Block // blocks
	ahead  chain.Block // blocks that it makes up
	other  bool        // is of another network by its status
	hollow bool        // and does not have what it makes up
	forget bool        // has no selections any more
	reject bool        // of transactions
	nonce  uint64      // by how much the nonces that it tells are too high
	invent bool        // has every transaction in a block
	babble bool        // answers what is no answer
	joined bool        // by a snapshot: knows no transactions
	slow   time.Duration
}

// node is one endpoint of the world.
type node struct {
	w    *world
	name string

	mode  mode // under w.mu, as all below
	calls map[string]int
	got   int // transactions
}

func (n *node) set(m mode) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.mode = m
	n.w.wake()
}

// top is the newest block that it shows.
func (n *node) top() chain.Block {
	h := n.w.height - min(n.mode.behind, n.w.height) + n.mode.ahead
	if n.mode.stood > 0 {
		h = min(h, n.mode.stood)
	}
	return h
}

// enter waits or fails as the mode says.
func (n *node) enter(ctx context.Context, call string) (mode, error) {
	n.w.mu.Lock()
	m := n.mode
	n.calls[call]++
	n.w.mu.Unlock()
	if m.refuse {
		return m, fmt.Errorf("%w: connection refused", chain.ErrUnavailable)
	}
	if m.hang {
		<-ctx.Done()
		return m, ctx.Err()
	}
	if m.slow > 0 {
		select {
		case <-time.After(m.slow):
		case <-ctx.Done():
		}
	}
	return m, ctx.Err()
}

func hashOf(b chain.Block, of string) chain.Hash {
	return sha256.Sum256([]byte(fmt.Sprint(of, b)))
}

func (n *node) Submit(ctx context.Context, _ []byte) (local.Code, error) {
	m, err := n.enter(ctx, "tx")
	if err != nil {
		return 0, err
	}
	if m.reject {
		return local.CodeNonce, nil
	}
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.got++
	return local.CodeOK, nil
}

func (n *node) Query(ctx context.Context, name, arg string) (json.RawMessage, error) {
	m, err := n.enter(ctx, name)
	if err != nil {
		return nil, err
	}
	n.w.mu.Lock()
	top, in := n.top(), n.w.txs[arg]
	n.w.mu.Unlock()
	if m.babble {
		return nil, errors.New("invalid character '<' looking for the beginning of a value")
	}
	of := "truth"
	if m.lie {
		of = "lie of " + n.name
	}
	at, _ := strconv.ParseUint(arg, 10, 64)
	b := chain.Block(at)
	forged := chain.Block(0)
	if m.forge == name {
		forged = 1
	}
	var v any
	switch name {
	case local.QueryStatus:
		run, err := chain.ParseRun(n.w.run)
		if err != nil {
			return nil, err
		}
		network := ""
		if m.other {
			network = "another"
		}
		v = local.Status{Network: network, Height: top, Time: time.Now(), AppHash: hashOf(top, of), BlockTimeMS: 250, RunHash: run.Hash()}
	case local.QueryRun:
		v = n.w.run
	case local.QueryHead:
		if b > top || m.hollow && b > top-m.ahead {
			return nil, fmt.Errorf("%w: head %d", chain.ErrNotYet, b)
		}
		v = local.HeadInfo{Block: b, AppHash: hashOf(b, of)}
	case local.QuerySnapshot:
		if b > top {
			return nil, fmt.Errorf("%w: snapshot %d", chain.ErrNotYet, b)
		}
		v = chain.Snapshot{Block: b, Neurons: []chain.Neuron{{Stake: chain.Amount(b + forged)}}}
	case local.QuerySelection:
		if m.forget {
			return nil, fmt.Errorf("%w: selection %d", chain.ErrPruned, b)
		}
		v = chain.Selection{Window: chain.Window(at), Root: hashOf(b+forged, "root")}
	case local.QueryKey:
		v = make([]byte, 96)
	case local.QueryAccount:
		v = local.AccountInfo{Balance: chain.Amount(top), Nonce: uint64(top)/10 + m.nonce}
	case local.QueryTx:
		if m.invent {
			in = 7
		}
		if m.joined && strings.Contains(arg, "@") {
			return nil, fmt.Errorf("%w: transaction", chain.ErrPruned)
		}
		if in == 0 || in > top || m.joined {
			return nil, fmt.Errorf("%w: transaction", chain.ErrNotFound)
		}
		v = local.TxInfo{Block: in}
	case local.QueryStakes:
		v = local.Stakes{}
	case local.QueryParams:
		v = local.Params{MaxSeats: 7}
	default:
		return nil, errors.New("no such query")
	}
	return json.Marshal(v)
}

func (n *node) Heads(ctx context.Context, after chain.Block) ([]chain.Head, error) {
	timeout := time.After(local.HeadsWait)
	for {
		m, err := n.enter(ctx, "heads")
		if err != nil {
			return nil, err
		}
		n.w.mu.Lock()
		top, moved := n.top(), n.w.moved
		n.w.mu.Unlock()
		if top > after && !m.quiet {
			var out []chain.Head
			for b := after + 1; b <= top && len(out) < 500; b++ {
				out = append(out, chain.Head{Block: b, Time: time.Unix(int64(b), 0)})
			}
			return out, nil
		}
		select {
		case <-moved:
		case <-timeout:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// nodes is a quorum over nodes a, b, c, …, with what it told and which state hashes it accepted.
type nodes struct {
	*Quorum
	w   *world
	all []*node

	mu       sync.Mutex
	notices  []Notice
	accepted map[chain.Block]string
	twice    []chain.Block
}

func newNodes(t fatal, n int) *nodes {
	x := &nodes{w: newWorld(t), accepted: map[chain.Block]string{}}
	var ends []Endpoint
	for i := range n {
		nd := &node{w: x.w, name: string(rune('a' + i)), calls: map[string]int{}}
		x.all = append(x.all, nd)
		ends = append(ends, Endpoint{nd.name, nd})
	}
	x.Quorum = New(ends, func(n Notice) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.notices = append(x.notices, n)
	})
	x.book.accepted = func(b chain.Block, v string) {
		if _, ok := x.accepted[b]; ok {
			x.twice = append(x.twice, b)
		}
		x.accepted[b] = v
	}
	return x
}

// told is what was told of a kind, in a line.
func (x *nodes) told(k Kind) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []string
	for _, n := range x.notices {
		if n.Kind == k {
			out = append(out, n.Endpoint)
		}
	}
	return strings.Join(out, " ")
}

// times is how often something of a kind was told.
func (x *nodes) times(k Kind) (n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, y := range x.notices {
		n += bit(y.Kind == k)
	}
	return n
}

func (x *nodes) now() string {
	x.Quorum.mu.Lock()
	defer x.Quorum.mu.Unlock()
	return x.book.peers[x.book.followed].name
}

// count is how often a query was made at all nodes.
func (x *nodes) count(call string) (n int) {
	x.w.mu.Lock()
	defer x.w.mu.Unlock()
	for _, nd := range x.all {
		n += nd.calls[call]
	}
	return n
}

// after lets time pass: in a bubble it passes at once.
func after(d time.Duration) { <-time.After(d) }

// bubble runs f with a clock of its own.
func bubble(t *testing.T, f func(t *testing.T)) { t.Helper(); synctest.Test(t, f) }

func read(t *testing.T, x *nodes, name, arg string) json.RawMessage {
	t.Helper()
	raw, err := x.Query(t.Context(), name, arg)
	if err != nil {
		t.Fatalf("%s %s: %v", name, arg, err)
	}
	return raw
}
