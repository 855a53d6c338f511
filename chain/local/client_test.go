package local_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/localtest"
	"sn3/chain/local/state"
)

// backend is a Backend whose calls a test can replace.
type backend struct {
	local.Backend
	submit func(ctx context.Context, tx []byte) (local.Code, error)
	query  func(ctx context.Context, name, arg string) (json.RawMessage, error)
	heads  func(ctx context.Context, after chain.Block) ([]chain.Head, error)
}

func (b *backend) Submit(ctx context.Context, tx []byte) (local.Code, error) {
	if b.submit != nil {
		return b.submit(ctx, tx)
	}
	return b.Backend.Submit(ctx, tx)
}

func (b *backend) Query(ctx context.Context, name, arg string) (json.RawMessage, error) {
	if b.query != nil {
		return b.query(ctx, name, arg)
	}
	return b.Backend.Query(ctx, name, arg)
}

func (b *backend) Heads(ctx context.Context, after chain.Block) ([]chain.Head, error) {
	if b.heads != nil {
		return b.heads(ctx, after)
	}
	return b.Backend.Heads(ctx, after)
}

func dev(t *testing.T) (*localtest.DevChain, *backend, *local.Client) {
	t.Helper()
	g, secret, err := localtest.Genesis(500, localtest.Actor{Name: "me", Seat: true, Balance: chain.RaoPerCoin}, localtest.Actor{Name: "poor"})
	if err != nil {
		t.Fatal(err)
	}
	d, err := localtest.NewDevChain(g, secret, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Run(1); err != nil {
		t.Fatal(err)
	}
	key, err := localtest.Key("me")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{Backend: localtest.Instant{DevChain: d}}
	return d, b, local.NewClient(b, local.Signer{Key: key})
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func gone() error { return fmt.Errorf("%w: dial failed", chain.ErrUnavailable) }

// A node that is away for some calls costs time, not the operation; and the operation happens once.
func TestSendOutlivesAnAbsentNode(t *testing.T) {
	_, b, c := dev(t)
	var mu sync.Mutex
	calls := 0
	flaky := func() error {
		mu.Lock()
		defer mu.Unlock()
		if calls++; calls%3 != 0 {
			return gone()
		}
		return nil
	}
	next := b.Backend
	b.submit = func(ctx context.Context, tx []byte) (local.Code, error) {
		code, err := next.Submit(ctx, tx) // the node has it, the answer is lost
		return code, errors.Join(flaky(), err)
	}
	b.query = func(ctx context.Context, name, arg string) (json.RawMessage, error) {
		if err := flaky(); err != nil {
			return nil, err
		}
		return next.Query(ctx, name, arg)
	}
	ctx := within(t)
	if err := c.Transfer(ctx, chain.Coldkey{9}, 700); err != nil {
		t.Fatal(err)
	}
	b.query = nil
	if got, err := c.Balance(ctx, chain.Coldkey{9}); err != nil || got != 700 {
		t.Errorf("balance %d, %v: the transfer happened not exactly once", got, err)
	}
}

func TestSendGivesUp(t *testing.T) {
	_, b, c := dev(t)
	c.SetPatience(time.Millisecond)
	b.submit = func(context.Context, []byte) (local.Code, error) { return 0, gone() }
	if err := c.Transfer(within(t), chain.Coldkey{9}, 700); !errors.Is(err, chain.ErrUnavailable) {
		t.Errorf("node gone: %v", err)
	}
	b.submit = func(context.Context, []byte) (local.Code, error) { return local.CodeUnavailable, nil }
	if err := c.Transfer(within(t), chain.Coldkey{9}, 700); !errors.Is(err, chain.ErrUnavailable) {
		t.Errorf("mempool full: %v", err)
	}
}

// Two equal transfers are two, also when the second one is prepared with a node that has not got the first one yet: its nonce,
// and with it the same bytes and the same outcome, would be the first one's.
func TestSendTwiceBehind(t *testing.T) {
	_, b, c := dev(t)
	ctx, next := within(t), b.Backend
	old := map[string]json.RawMessage{}
	for _, name := range []string{local.QueryStatus, local.QueryAccount} {
		b.query = func(ctx context.Context, asked, arg string) (json.RawMessage, error) {
			raw, err := next.Query(ctx, asked, arg)
			if _, ok := old[asked]; !ok && asked == name {
				old[asked] = raw
			}
			return raw, err
		}
		if err := c.Transfer(ctx, chain.Coldkey{9}, 700); err != nil {
			t.Fatal(err)
		}
	}
	behind := 2
	b.query = func(ctx context.Context, asked, arg string) (json.RawMessage, error) {
		if raw, ok := old[asked]; ok && behind > 0 {
			return raw, nil
		}
		return next.Query(ctx, asked, arg)
	}
	b.heads = func(ctx context.Context, after chain.Block) ([]chain.Head, error) {
		behind--
		return next.Heads(ctx, after)
	}
	if err := c.Transfer(ctx, chain.Coldkey{9}, 700); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Balance(ctx, chain.Coldkey{9}); err != nil || got != 3*700 || behind != 0 {
		t.Errorf("%d rao of three transfers, %v; the node was behind %d times more", got, err, behind)
	}

	behind = 1 << 30
	c.SetPatience(time.Millisecond)
	if err := c.Transfer(ctx, chain.Coldkey{9}, 700); !errors.Is(err, chain.ErrUnavailable) {
		t.Errorf("a node that stays behind: %v", err)
	}
}

// A node that forgot its mempool gets the same transaction again.
func TestSendAgain(t *testing.T) {
	d, b, c := dev(t)
	next, n := b.Backend, 0
	b.submit = func(ctx context.Context, tx []byte) (local.Code, error) {
		if n++; n < 4 { // acknowledged and lost, then a block without it
			_, err := d.Tick()
			return local.CodeOK, err
		}
		return next.Submit(ctx, tx)
	}
	if err := c.Transfer(within(t), chain.Coldkey{9}, 700); err != nil || n != 4 {
		t.Errorf("%v after %d submissions", err, n)
	}
}

// Somebody else with the same key takes the nonce first: signed anew, included in the end.
func TestNonceTaken(t *testing.T) {
	d, b, c := dev(t)
	ctx := within(t)
	st, err := c.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	key, err := localtest.Key("me")
	if err != nil {
		t.Fatal(err)
	}
	next, others := b.Backend, uint64(0)
	b.submit = func(ctx context.Context, tx []byte) (local.Code, error) {
		if others < 2 {
			other, err := local.SignTx(st.Network, others, local.Transfer{To: chain.Coldkey{8}, Amount: 500}, local.Signer{Key: key})
			if err != nil {
				return 0, err
			}
			others++
			if code, err := d.Submit(ctx, other.Encode()); err != nil || code != local.CodeOK {
				return code, err
			}
			if _, err := d.Tick(); err != nil {
				return 0, err
			}
		}
		return next.Submit(ctx, tx)
	}
	if err := c.Transfer(ctx, chain.Coldkey{9}, 700); err != nil || others != 2 {
		t.Fatalf("%v after %d other transactions", err, others)
	}
	p := state.DefaultParams() // two accounts were new
	if a, err := c.Account(ctx, chain.Coldkey(local.AccountOf(&key.PublicKey))); err != nil || a.Nonce != 3 || a.Balance != chain.RaoPerCoin-2*500-700-3*p.Fee-2*p.AccountCost {
		t.Errorf("account %+v, %v", a, err)
	}
}

func TestSendEndsWithContext(t *testing.T) {
	_, b, c := dev(t)
	ctx, cancel := context.WithCancel(context.Background())
	b.heads = func(ctx context.Context, _ chain.Block) ([]chain.Head, error) {
		cancel()
		<-ctx.Done()
		return nil, ctx.Err()
	}
	b.submit = func(context.Context, []byte) (local.Code, error) { return local.CodeOK, nil } // and never in a block
	if err := c.Transfer(ctx, chain.Coldkey{9}, 700); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	busy, stop := context.WithCancel(within(t))
	defer stop()
	held, entered := make(chan struct{}), make(chan struct{}, 1)
	b.submit = func(context.Context, []byte) (local.Code, error) {
		entered <- struct{}{}
		<-held
		return local.CodeFunds, nil
	}
	first := make(chan error, 1)
	go func() { first <- c.Transfer(busy, chain.Coldkey{9}, 700) }()
	<-entered
	ended, cancel2 := context.WithCancel(context.Background())
	cancel2()
	if err := c.Transfer(ended, chain.Coldkey{9}, 700); !errors.Is(err, context.Canceled) {
		t.Errorf("second in the queue: %v", err)
	}
	close(held)
	if err := <-first; !errors.Is(err, chain.ErrFunds) {
		t.Errorf("first in the queue: %v", err)
	}
}

func TestReadOnly(t *testing.T) {
	_, b, _ := dev(t)
	c := local.NewClient(b, nil)
	_, publish := c.Publish(within(t), chain.Record{})
	_, register := c.Register(within(t))
	for name, err := range map[string]error{"publish": publish, "register": register, "transfer": c.Transfer(within(t), chain.Coldkey{}, 1)} {
		if !errors.Is(err, local.ErrNoKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Heads arrive one by one whatever the node lists: a gap, a repetition, an error.
func TestHeadsFillGaps(t *testing.T) {
	_, b, c := dev(t)
	at := func(b chain.Block) chain.Head { return chain.Head{Block: b, Time: time.Unix(int64(b), 0)} }
	answers := [][]chain.Head{{at(2), at(3)}, nil, {at(3), at(4)}, {at(8)}}
	n := 0
	b.heads = func(ctx context.Context, _ chain.Block) ([]chain.Head, error) {
		if n == len(answers) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		n++
		if answers[n-1] == nil {
			return nil, gone()
		}
		return answers[n-1], nil
	}
	ctx, cancel := context.WithCancel(within(t))
	ch, err := c.Heads(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for want := chain.Block(1); want <= 8; want++ {
		if h := <-ch; h.Block != want || want > 4 && h.Time.Unix() != 8 {
			t.Fatalf("got %+v, want block %d", h, want)
		}
	}
	cancel()
	if _, open := <-ch; open {
		t.Error("the channel is still open")
	}
}

// A descriptor that does not have the hash which the chain names is refused.
func TestDescribeChecksTheHash(t *testing.T) {
	_, b, c := dev(t)
	next := b.Backend
	b.query = func(ctx context.Context, name, arg string) (json.RawMessage, error) {
		raw, err := next.Query(ctx, name, arg)
		if name != local.QueryRun || err != nil {
			return raw, err
		}
		var run []byte
		if err := json.Unmarshal(raw, &run); err != nil {
			return nil, err
		}
		return json.Marshal([]byte(strings.Replace(string(run), `"seed":0`, `"seed":1`, 1)))
	}
	if _, err := c.Describe(within(t)); err == nil || !strings.Contains(err.Error(), "the chain names") {
		t.Errorf("error %v", err)
	}
	b.query = nil
	if _, err := c.Describe(within(t)); err != nil {
		t.Error(err)
	}
}

func TestDial(t *testing.T) {
	for _, addr := range []string{"", "localhost", ":80", "127.0.0.1:0", "127.0.0.1:x", "127.0.0.1:70000"} {
		if _, err := local.Dial(addr); err == nil {
			t.Errorf("%q was accepted", addr)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := local.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := local.NewClient(b, nil).Status(within(t)); !errors.Is(err, chain.ErrUnavailable) {
		t.Errorf("nobody listens: %v", err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := local.NewClient(b, nil).Status(ended); !errors.Is(err, context.Canceled) || errors.Is(err, chain.ErrUnavailable) {
		t.Errorf("context ended: %v", err)
	}
}

// What a server that is no chain node answers is an error, not a value, and not a reason to wait for it.
func TestForeignServer(t *testing.T) {
	for name, body := range map[string]string{"text": "hello", "wrong type": `{"result":[1,2]}`, "an error": `{"error":"no"}`} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }))
		b, err := local.Dial(strings.TrimPrefix(s.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := local.NewClient(b, nil).Status(within(t)); err == nil || errors.Is(err, chain.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		if code, err := b.Submit(within(t), nil); err == nil {
			t.Errorf("%s: a transaction got code %d", name, code)
		}
		s.Close()
	}
}

func TestHandlerRefuses(t *testing.T) {
	d, _, _ := dev(t)
	s := httptest.NewServer(local.Handler(d))
	defer s.Close()
	for _, x := range []struct {
		method, path string
		size, status int
	}{
		{"GET", "/v1/query/status", 0, 200}, {"GET", "/v1/query/nonsense", 0, 400}, {"GET", "/v1/query/snapshot?arg=x", 0, 400},
		{"GET", "/v1/query/account?arg=12", 0, 400}, {"GET", "/v1/query/tx?arg=" + strings.Repeat("0", 64), 0, 404},
		{"GET", "/v1/query/snapshot?arg=99999", 0, 404}, {"GET", "/v1/heads?after=-1", 0, 400}, {"GET", "/v1/heads?after=0", 0, 200},
		{"POST", "/v1/tx", local.MaxTx + 2, 400}, {"POST", "/v1/tx", local.MaxTx, 200}, {"DELETE", "/v1/tx", 0, 400}, {"GET", "/", 0, 400},
	} {
		req, err := http.NewRequest(x.method, s.URL+x.path, strings.NewReader(strings.Repeat("x", x.size)))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var a local.Answer
		if err := json.NewDecoder(resp.Body).Decode(&a); err != nil || resp.StatusCode != x.status || (a.Error == "") != (x.status == 200) {
			t.Errorf("%s %s: status %d, %+v, %v", x.method, x.path, resp.StatusCode, a, err)
		}
		resp.Body.Close()
	}
}
