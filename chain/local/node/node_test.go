package node_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sn3/chain"
	"sn3/chain/chaintest"
	"sn3/chain/local"
	"sn3/chain/local/localtest"
	"sn3/chain/local/node"
)

const coin = chain.RaoPerCoin

func actors() []localtest.Actor {
	return []localtest.Actor{{Name: chaintest.Boss, Seat: true, Stake: 300 * coin}, {Name: chaintest.Deputy, Seat: true, Stake: 200 * coin},
		{Name: chaintest.Alice, Seat: true, Balance: coin}, {Name: chaintest.Bob, Seat: true}, {Name: chaintest.Rich, Balance: 5 * coin}, {Name: chaintest.Poor, Balance: 3}}
}

// home makes a node's folder with blocks of 100 ms.
func home(t testing.TB) string {
	t.Helper()
	g, _, err := localtest.Genesis(100, actors()...)
	if err != nil {
		t.Fatal(err)
	}
	g.BeaconKey = nil // the node makes its own
	dir := filepath.Join(t.TempDir(), "chain")
	if err := node.Init(dir, g, node.DefaultNet()); err != nil {
		t.Fatal(err)
	}
	return dir
}

func options(dir string) node.Options {
	return node.Options{Home: dir, Listen: "127.0.0.1:0", Version: "test", Info: local.NodeInfo{S3Port: 9000, Peers: []string{"/ip4/127.0.0.1/tcp/1"}},
		Log: slog.New(slog.DiscardHandler)}
}

// start runs a node until the test ends, or until the returned function stops it.
func start(t testing.TB, dir string) (*node.Node, func()) {
	t.Helper()
	n, err := node.Start(options(dir))
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	return n, stop
}

func dial(t testing.TB, addr, name string) *local.Client {
	t.Helper()
	b, err := local.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	key, err := localtest.Key(name)
	if err != nil {
		t.Fatal(err)
	}
	return local.NewClient(b, local.Signer{Key: key})
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// reach waits until a block is final.
func reach(ctx context.Context, c *local.Client, b chain.Block) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	heads, err := c.Heads(ctx)
	if err != nil {
		return err
	}
	for h := range heads {
		if h.Block >= b {
			return nil
		}
	}
	return ctx.Err()
}

func TestConformance(t *testing.T) {
	t.Parallel()
	chaintest.Run(t, func(t *testing.T) *chaintest.Chain {
		n, _ := start(t, home(t))
		reader := dial(t, n.Addr(), chaintest.Boss)
		run, err := reader.Describe(within(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := reach(within(t), reader, 1); err != nil {
			t.Fatal(err)
		}
		return &chaintest.Chain{Run: run, Ctx: within, Funds: map[string]chain.Amount{chaintest.Rich: 5 * coin, chaintest.Poor: 3},
			Account: func(name string) chaintest.Account {
				c := dial(t, n.Addr(), name)
				return chaintest.Account{Reader: c, Writer: c, Registrar: c, Describer: c, Selector: c, Hotkey: account(t, name)}
			},
			Advance: func(b chain.Block) error { return reach(context.Background(), reader, b) },
			Now: func() (chain.Block, error) {
				s, err := reader.Status(context.Background())
				return s.Height, err
			}}
	})
}

func account(t testing.TB, name string) chain.Hotkey {
	t.Helper()
	key, err := localtest.Key(name)
	if err != nil {
		t.Fatal(err)
	}
	return local.AccountOf(&key.PublicKey)
}

// newestHead is the newest block of a node that has stopped.
func newestHead(t *testing.T, n *node.Node) local.HeadInfo {
	t.Helper()
	heads, err := n.Heads(context.Background(), 0)
	if err != nil || len(heads) == 0 {
		t.Fatalf("heads %v, %v", heads, err)
	}
	h, err := local.NewClient(n, nil).Head(context.Background(), heads[len(heads)-1].Block)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// A node that was stopped goes on where it was: same state, same outcomes, heads without a gap.
func TestRestart(t *testing.T) {
	dir, ctx := home(t), within(t)
	n, stop := start(t, dir)
	c := dial(t, n.Addr(), chaintest.Rich)
	got, err := c.Send(ctx, local.Transfer{To: chain.Coldkey{1}, Amount: 500})
	if err != nil {
		t.Fatal(err)
	}
	stop()
	before := newestHead(t, n)
	height, hash := n.Height() // nothing runs any more
	if height < got.Block {
		t.Fatalf("stopped at %d before block %d", height, got.Block)
	}

	again, stop := start(t, dir)
	if h, x := again.Height(); h == height && x != hash {
		t.Errorf("block %d has hash %s after the restart, %s before", h, x.Short(), hash.Short())
	}
	c = dial(t, again.Addr(), chaintest.Rich)
	if err := reach(ctx, c, height+3); err != nil {
		t.Fatal(err)
	}
	if b, err := c.Balance(ctx, chain.Coldkey{1}); err != nil || b != 500 {
		t.Errorf("balance %s, %v", b, err)
	}
	heads, err := again.Heads(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, h := range heads {
		if h.Block != chain.Block(i+1) {
			t.Fatalf("head %d is of block %d", i, h.Block)
		}
	}
	if h, err := c.Head(ctx, before.Block); err != nil || h != before {
		t.Errorf("head %+v, %v; before the restart %+v", h, err, before)
	}
	raw, err := again.Query(ctx, local.QueryTx, got.Tx.String())
	if err != nil || !strings.Contains(string(raw), `"code":0`) {
		t.Errorf("outcome %s, %v", raw, err)
	}
	if st, err := c.Status(ctx); err != nil || st.Info.S3Port != 9000 || len(st.Info.Peers) != 1 || st.Version != "test" || st.BlockTimeMS != 100 {
		t.Errorf("status %+v, %v", st, err)
	}
	stop()
	if err := n.Wait(ctx); err == nil {
		t.Error("a stopped node waits without an error")
	}
}

// Resubmitting what is in a block already is no error; the same nonce for something else is.
func TestSubmitIsIdempotent(t *testing.T) {
	n, _ := start(t, home(t))
	ctx := within(t)
	c := dial(t, n.Addr(), chaintest.Rich)
	key, err := localtest.Key(chaintest.Rich)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Transfer(ctx, chain.Coldkey{1}, 500); err != nil {
		t.Fatal(err)
	}
	for amount, want := range map[chain.Amount]local.Code{500: local.CodeOK, 501: local.CodeNonce} {
		tx, err := local.SignTx(localtest.Network, 0, local.Transfer{To: chain.Coldkey{1}, Amount: amount}, local.Signer{Key: key})
		if err != nil {
			t.Fatal(err)
		}
		if code, err := n.Submit(ctx, tx.Encode()); err != nil || code != want {
			t.Errorf("amount %d: code %d, %v; want %d", amount, code, err, want)
		}
	}
	if err := reach(ctx, c, 5); err != nil {
		t.Fatal(err)
	}
	if b, err := c.Balance(ctx, chain.Coldkey{1}); err != nil || b != 500 {
		t.Errorf("balance %d, %v", b, err)
	}
}

func TestBadFolders(t *testing.T) {
	write := func(name, text string) func(string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600) }
	}
	remove := func(name string) func(string) error {
		return func(dir string) error { return os.Remove(filepath.Join(dir, name)) }
	}
	for name, x := range map[string]struct {
		harm func(dir string) error
		is   error
		says string
	}{
		"empty":              {os.RemoveAll, node.ErrNoChain, "chaind init"},
		"unfinished":         {remove("genesis.sn3.json"), node.ErrNoChain, "run it again"},
		"older version":      {write("format", "0"), node.ErrFormat, "start a new network"},
		"damaged genesis":    {write("genesis.sn3.json", "{"), nil, "genesis"},
		"foreign beacon":     {write("beacon.key", strings.Repeat("\x01", 32)), nil, "restore it from a copy"},
		"no beacon key":      {remove("beacon.key"), nil, "restore it from a copy"},
		"no validators":      {write("genesis.sn3.json", "{\"run\":{}}"), nil, "names no validators"},
		"torn peers":         {write("node.json", "{"), node.ErrNet, "node.json"},
		"a peer without id":  {write("node.json", `{"listen":"127.0.0.1:0","peers":["host:1"]}`), node.ErrNet, "want ID@HOST:PORT"},
		"no consensus key":   {remove("config/priv_validator_key.json"), nil, "restore it from a copy"},
		"torn consensus":     {write("config/priv_validator_key.json", `{"addr`), nil, "is damaged"},
		"no signing state":   {remove("data/priv_validator_state.json"), nil, "sign a block twice"},
		"torn signing state": {write("data/priv_validator_state.json", "{"), nil, "sign a block twice"},
		"no signature":       {write("data/priv_validator_state.json", `{"height":"3","round":0,"step":1}`), nil, "sign a block twice"},
		"damaged state":      {write("sn3.db", strings.Repeat("x", 8192)), nil, "chain state"},
		"unreadable format": {func(dir string) error {
			return errors.Join(remove("format")(dir), os.Mkdir(filepath.Join(dir, "format"), 0o700))
		}, nil, "read node folder"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := home(t)
			if err := x.harm(dir); err != nil {
				t.Fatal(err)
			}
			n, err := node.Start(options(dir))
			if err == nil {
				t.Fatal(errors.Join(errors.New("it started"), n.Close()))
			}
			if x.is != nil && !errors.Is(err, x.is) || !strings.Contains(err.Error(), x.says) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestInitTwice(t *testing.T) {
	dir := home(t)
	g, _, err := localtest.Genesis(100)
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Init(dir, g, node.DefaultNet()); !errors.Is(err, node.ErrExists) {
		t.Errorf("a chain was overwritten: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "genesis.sn3.json")); err != nil { // as if the first one had been killed
		t.Fatal(err)
	}
	g.BeaconKey = nil
	if err := node.Init(dir, g, node.DefaultNet()); err != nil {
		t.Error(err)
	}
	start(t, dir)
}

func TestInUse(t *testing.T) {
	dir := home(t)
	n, _ := start(t, dir)
	if _, err := node.Start(options(dir)); !errors.Is(err, node.ErrInUse) {
		t.Errorf("second node in one folder: %v", err)
	}
	o := options(home(t))
	o.Listen = n.Addr()
	if _, err := node.Start(o); err == nil || !strings.Contains(err.Error(), "another program uses this port") {
		t.Errorf("busy port: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if n.Addr() == l.Addr().String() {
		t.Error("the node does not hold its port")
	}
}
