package localtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"sn3/chain"
	"sn3/chain/chaintest"
	"sn3/chain/local"
	"sn3/chain/local/localtest"
	"sn3/chain/local/quorum"
)

// liar changes answers of the chain behind it.
type liar struct {
	local.Backend
	lies map[string]func(raw json.RawMessage) any
}

func (l liar) Query(ctx context.Context, name, arg string) (json.RawMessage, error) {
	raw, err := l.Backend.Query(ctx, name, arg)
	lie := l.lies[name]
	if err != nil || lie == nil {
		return raw, err
	}
	return json.Marshal(lie(raw))
}

// change decodes an answer, changes it and gives it back.
func change[T any](f func(*T)) func(json.RawMessage) any {
	return func(raw json.RawMessage) any {
		var v T
		if err := json.Unmarshal(raw, &v); err != nil {
			return err.Error()
		}
		f(&v)
		return v
	}
}

// lies are ways to cheat whoever asks one node.
var lies = map[string]map[string]func(json.RawMessage) any{
	"about the state": {local.QueryHead: change(func(h *local.HeadInfo) { h.AppHash[0]++ })},
	"about answers": {
		local.QuerySnapshot:  change(func(s *chain.Snapshot) { slices.Reverse(s.Records); s.Neurons[0].Stake *= 9 }),
		local.QuerySelection: change(func(s *chain.Selection) { s.Root[0]++; s.Winners = nil }),
		local.QuerySignature: change(func(b *[]byte) { *b = bytes.Repeat([]byte{1}, len(*b)) }),
		local.QueryKey:       change(func(b *[]byte) { (*b)[95]++ }),
		local.QueryTx:        change(func(t *local.TxInfo) { t.Block += 3 }),
	},
	"about the beacon": {local.QuerySignature: change(func(b *[]byte) { (*b)[40]++ })},
	"about the run":    {local.QueryStatus: change(func(s *local.Status) { s.RunHash[0]++ }), local.QueryRun: change(func(b *[]byte) { *b = (*b)[1:] })},
	"about all of it": {
		local.QueryHead:      change(func(h *local.HeadInfo) { h.AppHash[0]++ }),
		local.QuerySnapshot:  change(func(s *chain.Snapshot) { s.Neurons = nil }),
		local.QuerySelection: change(func(s *chain.Selection) { s.Root[0]++ }),
		local.QuerySignature: change(func(b *[]byte) { *b = make([]byte, len(*b)) }),
		local.QueryStatus:    change(func(s *local.Status) { s.Height += 1 << 40; s.AppHash[0]++ }),
	},
}

// notices collects what a quorum tells.
type notices struct {
	mu  sync.Mutex
	all []quorum.Notice
}

func (n *notices) tell(x quorum.Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, x)
}

func (n *notices) of(k quorum.Kind) (out []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range n.all {
		if x.Kind == k {
			out = append(out, x.Endpoint)
		}
	}
	return out
}

// The whole contract holds over three nodes of which the one that is followed first lies; it is the only one set aside.
func TestConformanceOverQuorum(t *testing.T) {
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			var told notices
			chaintest.Run(t, func(t *testing.T) *chaintest.Chain {
				d := dev(t)
				honest := localtest.Instant{DevChain: d}
				return suite(t, d, quorum.New([]quorum.Endpoint{{Name: "liar", Node: liar{honest, lie}}, {Name: "b", Node: honest}, {Name: "c", Node: honest}}, told.tell))
			})
			if n := len(told.of(quorum.Aside)) + len(told.of(quorum.Followed)); n == 0 {
				t.Errorf("nobody noticed: %v", told.all)
			}
			for _, x := range told.all {
				if x.Kind == quorum.Disputed || x.Kind == quorum.Aside && x.Endpoint != "liar" || x.Kind == quorum.Followed && x.Endpoint == "liar" {
					t.Errorf("told %s", x)
				}
			}
		})
	}
}

// A wrong beacon is known by its key: one of two nodes with a right one is enough, and nothing is in dispute.
func TestBeaconOfTwo(t *testing.T) {
	d := dev(t)
	if err := d.Run(30); err != nil {
		t.Fatal(err)
	}
	other := dev(t) // the same secret, so the same keys: signatures of other rounds
	if err := other.Run(30); err != nil {
		t.Fatal(err)
	}
	var told notices
	swap := liar{d, map[string]func(json.RawMessage) any{local.QuerySignature: func(json.RawMessage) any {
		raw, err := other.Query(t.Context(), local.QuerySignature, "20")
		if err != nil {
			return err.Error()
		}
		return raw
	}}}
	c := client(t, quorum.New([]quorum.Endpoint{{Name: "a", Node: swap}, {Name: "b", Node: d}}, told.tell), chaintest.Rich)
	want, err := client(t, d, chaintest.Rich).Beacon(t.Context(), 21)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Beacon(t.Context(), 21); err != nil || !bytes.Equal(got, want) {
		t.Errorf("beacon %x, %v; want %x", got, err, want)
	}
	if f := told.of(quorum.Followed); len(f) != 1 || f[0] != "b" || len(told.of(quorum.Disputed)) > 0 {
		t.Errorf("told %v", told.all)
	}
}

// Nodes of two networks: of three the odd one is set aside, of two nothing is signed.
func TestOtherNetwork(t *testing.T) {
	d := dev(t)
	if err := d.Run(30); err != nil {
		t.Fatal(err)
	}
	odd := liar{d, map[string]func(json.RawMessage) any{local.QueryStatus: change(func(s *local.Status) { s.Network = "another" })}}
	for n, want := range map[int]error{2: chain.ErrDisputed, 3: nil} {
		ends := []quorum.Endpoint{{Name: "a", Node: d}, {Name: "b", Node: odd}, {Name: "c", Node: d}}[:n]
		var told notices
		q := quorum.New(ends, told.tell)
		if st, err := local.NewClient(q, nil).Status(t.Context()); err != nil || st.Network != localtest.Network {
			t.Errorf("%d nodes: status %+v, %v", n, st, err)
		}
		if err := q.Steady(t.Context()); !errors.Is(err, want) {
			t.Errorf("%d nodes: %v, want %v", n, err, want)
		}
		if a := told.of(quorum.Aside); n == 3 && (len(a) != 1 || a[0] != "b") {
			t.Errorf("told %v", told.all)
		}
	}
}

// served is a node over HTTP that can be made to take connections and say nothing, as a stopped process does.
func served(t *testing.T, b local.Backend) (addr string, hang func()) {
	h, dead := local.Handler(b), make(chan struct{})
	var once sync.Once
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-dead:
		default:
			ctx, cancel := context.WithCancel(r.Context())
			defer cancel()
			go func() {
				select {
				case <-dead:
					cancel()
				case <-ctx.Done():
				}
			}()
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r.WithContext(ctx))
			select {
			case <-dead: // an answer on its way is not sent either
			default:
				w.WriteHeader(rec.Code)
				_, _ = w.Write(rec.Body.Bytes())
				return
			}
		}
		<-r.Context().Done()
	}))
	hang = func() { once.Do(func() { close(dead) }) }
	t.Cleanup(func() { hang(); s.CloseClientConnections(); s.Close() })
	return strings.TrimPrefix(s.URL, "http://"), hang
}

// Over real connections: four of five nodes, the followed one first, hang in the middle of a held request for heads, with
// connections open; heads, answers and transactions go on at the last one.
func TestQuorumOverHTTP(t *testing.T) {
	d := dev(t)
	if err := d.Run(30); err != nil {
		t.Fatal(err)
	}
	var addrs []string
	var hangs []func()
	for range 5 {
		a, hang := served(t, localtest.Instant{DevChain: d})
		addrs, hangs = append(addrs, a), append(hangs, hang)
	}
	var told notices
	back, err := quorum.Dial(strings.Join(addrs, ","), told.tell)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context30(t))
	defer cancel()
	rich := client(t, back, chaintest.Rich)
	heads, err := rich.Heads(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if h := <-heads; h.Block != 30 {
		t.Fatalf("first head %+v", h)
	}
	if err := rich.Transfer(ctx, chain.Coldkey{5}, chain.RaoPerCoin/10); err != nil {
		t.Fatal(err)
	}
	for _, hang := range hangs[:4] {
		hang()
	}
	if err := rich.Transfer(ctx, chain.Coldkey{5}, chain.RaoPerCoin/10); err != nil {
		t.Fatal(err)
	}
	if err := d.Run(40); err != nil {
		t.Fatal(err)
	}
	for want := chain.Block(31); want <= 40; want++ {
		if h := <-heads; h.Block != want {
			t.Fatalf("head %+v, want block %d", h, want)
		}
	}
	if b, err := rich.Balance(ctx, chain.Coldkey{5}); err != nil || b != chain.RaoPerCoin/5 {
		t.Errorf("balance %d, %v", b, err)
	}
	if f := told.of(quorum.Followed); len(f) == 0 || f[len(f)-1] != addrs[4] {
		t.Errorf("followed %v; the nodes are %v", f, addrs)
	}
	if n := len(told.of(quorum.Aside)) + len(told.of(quorum.Disputed)); n > 0 {
		t.Errorf("told %v", told.all)
	}
}

// A Publish that meets a dispute waits, and goes on by itself when the nodes agree; nothing is signed before. One whose
// context ends returns with both reasons.
func TestPublishWaitsForAgreement(t *testing.T) {
	d := dev(t)
	if err := d.Run(30); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	lying := true
	honest := localtest.Instant{DevChain: d}
	l := liar{honest, map[string]func(json.RawMessage) any{local.QueryHead: change(func(h *local.HeadInfo) {
		mu.Lock()
		defer mu.Unlock()
		if lying {
			h.AppHash[0]++
		}
	})}}
	noticed := make(chan struct{})
	back := quorum.New([]quorum.Endpoint{{Name: "a", Node: honest}, {Name: "b", Node: l}}, func(n quorum.Notice) {
		if n.Kind == quorum.Disputed {
			close(noticed)
		}
	})
	key, err := localtest.Key(chaintest.Alice)
	if err != nil {
		t.Fatal(err)
	}
	signer := &counting{Signer: local.Signer{Key: key}}
	c := local.NewClient(back, signer)
	r := chain.Record{Locator: []byte("here"), Body: []byte("x")}
	short, end := context.WithCancel(context30(t))
	out := make(chan error, 1)
	go func() {
		_, err := c.Publish(short, r)
		out <- err
	}()
	<-noticed
	end()
	if err := <-out; err == nil || signer.count() > 0 {
		t.Fatalf("%v after %d signatures", err, signer.count())
	}
	if _, err := c.Snapshot(context30(t), 30); err != nil {
		t.Errorf("reading stopped: %v", err)
	}
	go func() {
		_, err := c.Publish(context30(t), r)
		out <- err
	}()
	mu.Lock()
	lying = false
	mu.Unlock()
	if err := d.Run(35); err != nil {
		t.Fatal(err)
	}
	if err := <-out; err != nil || signer.count() != 1 {
		t.Errorf("%v after %d signatures", err, signer.count())
	}
}

// counting counts signatures.
type counting struct {
	chain.Signer
	mu sync.Mutex
	n  int
}

func (c *counting) Sign(domain string, digest chain.Hash) ([]byte, error) {
	c.mu.Lock()
	c.n++
	c.mu.Unlock()
	return c.Signer.Sign(domain, digest)
}

func (c *counting) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// hoarder says that nonces are higher than they are, and keeps every transaction that it is given.
type hoarder struct {
	liar
	mu  sync.Mutex
	txs [][]byte
}

func (h *hoarder) Submit(ctx context.Context, tx []byte) (local.Code, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.txs = append(h.txs, tx)
	return h.Backend.Submit(ctx, tx)
}

// A followed node that lies about nonces gets no transaction that could run later beside the one that did.
func TestNobodyHoardsPayments(t *testing.T) {
	d := dev(t)
	honest := localtest.Instant{DevChain: d}
	h := &hoarder{liar: liar{honest, map[string]func(json.RawMessage) any{local.QueryAccount: change(func(a *local.AccountInfo) { a.Nonce += 2 })}}}
	back := quorum.New([]quorum.Endpoint{{Name: "hoarder", Node: h}, {Name: "b", Node: honest}, {Name: "c", Node: honest}}, nil)
	if err := d.Run(1); err != nil {
		t.Fatal(err)
	}
	const each, times = chain.RaoPerCoin / 10, 4
	rich := client(t, back, chaintest.Rich)
	for range times {
		if err := rich.Transfer(context30(t), chain.Coldkey{5}, each); err != nil {
			t.Fatal(err)
		}
	}
	if len(h.txs) == 0 {
		t.Fatal("the hoarder was not given anything")
	}
	for range 2 {
		for _, tx := range h.txs {
			if _, err := honest.Submit(t.Context(), tx); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, err := rich.Balance(context30(t), chain.Coldkey{5}); err != nil || got != times*each {
		t.Errorf("%s of %d payments of %s, %v", got, times, chain.Amount(each), err)
	}
}

// A node of two that denies a payment which is in a block, and refuses its nonce, does not get another one: the client ends, and
// says what to look for.
func TestNobodyDeniesPayments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dev(t)
		honest := localtest.Instant{DevChain: d}
		x := &denier{Backend: honest}
		back := quorum.New([]quorum.Endpoint{{Name: "denier", Node: x}, {Name: "b", Node: honest}}, nil)
		if err := d.Run(1); err != nil {
			t.Fatal(err)
		}
		var p *local.PendingError
		if err := client(t, back, chaintest.Rich).Transfer(t.Context(), chain.Coldkey{5}, chain.RaoPerCoin/10); !errors.As(err, &p) {
			t.Errorf("%v", err)
		}
		got, err := client(t, honest, chaintest.Rich).Balance(t.Context(), chain.Coldkey{5})
		if err != nil || got != chain.RaoPerCoin/10 || len(x.txs) != 1 {
			t.Errorf("%s paid in %d transactions, %v", got, len(x.txs), err)
		}
	})
}

// denier takes transactions and then knows nothing of them.
type denier struct {
	local.Backend
	mu  sync.Mutex
	txs map[string]bool
}

func (x *denier) Submit(ctx context.Context, tx []byte) (local.Code, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.txs == nil {
		x.txs = map[string]bool{}
	}
	x.txs[string(tx)] = true
	_, err := x.Backend.Submit(ctx, tx)
	return local.CodeNonce, err
}

func (x *denier) Query(ctx context.Context, name, arg string) (json.RawMessage, error) {
	if name == local.QueryTx {
		return nil, chain.ErrNotFound
	}
	return x.Backend.Query(ctx, name, arg)
}
