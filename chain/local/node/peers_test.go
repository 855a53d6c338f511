package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/localtest"
	"sn3/chain/local/state"
)

// A stranger's transaction stays out of a mempool that is half full, by whatever way it comes; what is in it stays.
func TestCrowdedMempool(t *testing.T) {
	a := bare(t, filepath.Join(t.TempDir(), "a"))
	key, err := localtest.Key("stranger")
	if err != nil {
		t.Fatal(err)
	}
	tx, err := local.SignTx(localtest.Network, 0, local.Transfer{To: chain.Coldkey{1}, Amount: chain.RaoPerCoin / 2}, local.Signer{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	full := false
	a.crowded = func() bool { return full }
	for i, x := range []struct {
		raw  []byte
		kind abci.CheckTxType
		full bool
		want local.Code
	}{
		{tx.Encode(), abci.CheckTxType_New, false, local.CodeOK},
		{tx.Encode(), abci.CheckTxType_New, true, local.CodeUnavailable},
		{tx.Encode(), abci.CheckTxType_Recheck, true, local.CodeOK},
		{transfer(t, 0), abci.CheckTxType_New, true, local.CodeOK},
		{[]byte("junk"), abci.CheckTxType_New, true, local.CodeMalformed},
	} {
		full = x.full
		if r, err := a.CheckTx(ctx, &abci.RequestCheckTx{Tx: x.raw, Type: x.kind}); err != nil || local.Code(r.Code) != x.want {
			t.Errorf("case %d: code %d, %v; want %d", i, r.Code, err, x.want)
		}
	}
}

func TestClaims(t *testing.T) {
	seen := net.ParseIP("10.0.0.7")
	for addr, want := range map[string]string{
		"0.0.0.0:26656": "10.0.0.7:26656", "127.0.0.1:22": "10.0.0.7:22", "192.168.1.1:80": "10.0.0.7:80", "169.254.169.254:80": "10.0.0.7:80",
		"198.51.100.2:1": "198.51.100.2:1", "[2001:db8::2]:1": "[2001:db8::2]:1", "metadata.internal:80": "10.0.0.7:80", "[::]:5": "10.0.0.7:5",
		"10.0.0.9:1": "10.0.0.7:1", "0.0.0.0:0": "", "nonsense": "", "0.0.0.0:70000": "",
	} {
		if got := claims(addr, seen); got != want {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
}

// A genesis that begins tomorrow is not begun today: the engine would sleep until then.
func TestEarlyGenesis(t *testing.T) {
	g, _, err := localtest.Genesis(100)
	if err != nil {
		t.Fatal(err)
	}
	g.BeaconKey, g.Time = nil, time.Now().Add(time.Hour).UTC()
	dir := filepath.Join(t.TempDir(), "chain")
	if err := Init(dir, g, DefaultNet()); err != nil {
		t.Fatal(err)
	}
	if _, err := openHome(dir); err == nil || !strings.Contains(err.Error(), "the network begins at") {
		t.Errorf("opened: %v", err)
	}
}

// lying is a node whose genesis is not the one that its status names.
type lying struct{ local.Backend }

// Query answers with another hash of the genesis.
func (l lying) Query(ctx context.Context, name, arg string) (json.RawMessage, error) {
	raw, err := l.Backend.Query(ctx, name, arg)
	var st local.Status
	if name != local.QueryStatus || err != nil || json.Unmarshal(raw, &st) != nil {
		return raw, err
	}
	st.GenesisHash[0]++
	return json.Marshal(st)
}

func TestFetchGenesis(t *testing.T) {
	g, secret, err := localtest.Genesis(100)
	if err != nil {
		t.Fatal(err)
	}
	chainOf := func() local.Backend {
		d, err := localtest.NewDevChain(g, secret, time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if _, err := fetchGenesis(ctx, chainOf(), chain.Hash{}); !errors.Is(err, ErrGenesis) || !strings.Contains(err.Error(), "not complete") {
		t.Errorf("a genesis without validators and time: %v", err)
	}
	g.Time, g.Validators = time.Unix(1, 0).UTC(), []state.Validator{{Key: chain.Hash{1}}}
	hash, err := g.Hash()
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		from   local.Backend
		pinned chain.Hash
		ok     bool
	}{"not pinned": {chainOf(), chain.Hash{}, true}, "pinned": {chainOf(), hash, true}, "another one": {chainOf(), chain.Hash{9}, false}, "of two minds": {lying{chainOf()}, chain.Hash{}, false}} {
		got, err := fetchGenesis(ctx, x.from, x.pinned)
		if x.ok != (err == nil) || err != nil && !errors.Is(err, ErrGenesis) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if x.ok {
			if h, err := got.Hash(); err != nil || h != hash {
				t.Errorf("%s: hash %s, %v", name, h, err)
			}
		}
	}
}

// answering is a node that says what a test wants.
type answering struct {
	local.Backend
	status local.NodeStatus
	err    error
}

// Query answers every query with the status.
func (a answering) Query(context.Context, string, string) (json.RawMessage, error) {
	if a.err != nil {
		return nil, a.err
	}
	return json.Marshal(a.status)
}

// A node takes from another one only what can be a peer from where it is, each once, and not without bound.
func TestFindPeers(t *testing.T) {
	id := func(i int) string { return fmt.Sprintf("%040x", i) }
	peers := func(list ...string) (out []local.PeerInfo) {
		for i, a := range list {
			out = append(out, local.PeerInfo{ID: id(i + 1), Addr: a})
		}
		return out
	}
	for name, x := range map[string]struct {
		host   string
		status local.NodeStatus
		want   []string
	}{
		"everywhere":            {"203.0.113.1", local.NodeStatus{ID: id(0), Listen: "0.0.0.0:7"}, []string{id(0) + "@203.0.113.1:7"}},
		"everywhere, of IPv6":   {"node.example.org", local.NodeStatus{ID: id(0), Listen: "[::]:7"}, []string{id(0) + "@node.example.org:7"}},
		"its external address":  {"203.0.113.1", local.NodeStatus{ID: id(0), Listen: "node.example.org:7"}, []string{id(0) + "@node.example.org:7"}},
		"its loopback":          {"203.0.113.1", local.NodeStatus{ID: id(0), Listen: "127.0.0.1:7", Peers: peers("localhost:8", "[::1]:9", "203.0.113.9:1")}, []string{id(1+2) + "@203.0.113.9:1"}},
		"this machine":          {"localhost", local.NodeStatus{ID: id(0), Listen: "127.0.0.1:7", Peers: peers("127.0.0.1:8")}, []string{id(0) + "@127.0.0.1:7", id(1) + "@127.0.0.1:8"}},
		"nothing":               {"203.0.113.1", local.NodeStatus{ID: id(0), Peers: peers("", "x")}, nil},
		"an id that is none":    {"203.0.113.1", local.NodeStatus{ID: "x", Listen: "0.0.0.0:7", Peers: []local.PeerInfo{{ID: strings.Repeat("Z", 40), Addr: "203.0.113.1:1"}}}, nil},
		"two peers in one line": {"203.0.113.1", local.NodeStatus{ID: id(0), Peers: peers("203.0.113.1:1," + id(9) + "@203.0.113.2:1")}, nil},
	} {
		got, err := findPeers(ctx, answering{status: x.status}, x.host)
		if err != nil || !slices.Equal(got, x.want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := findPeers(ctx, answering{err: chain.ErrUnavailable}, "h"); !errors.Is(err, chain.ErrUnavailable) {
		t.Error(err)
	}
	list := []string{id(1) + "@a:1", id(2) + "@a:2", id(1) + "@b:1"}
	for i := range 100 {
		list = append(list, id(10+i)+"@a:1")
	}
	if got := unique(list, 1); len(got) != 1+maxFound-1 || got[0] != list[0] {
		t.Errorf("%d peers", len(got))
	}
}

func TestNet(t *testing.T) {
	id := strings.Repeat("0a", 20)
	for name, x := range map[string]struct {
		change func(*Net)
		ok     bool
	}{
		"default":            {func(*Net) {}, true},
		"all":                {func(n *Net) { n.External, n.Peers, n.Unconditional = "h:1", []string{id + "@h:1"}, []string{id} }, true},
		"no port":            {func(n *Net) { n.Listen = "127.0.0.1" }, false},
		"external without":   {func(n *Net) { n.External = "h:0" }, false},
		"a list as a peer":   {func(n *Net) { n.Peers = []string{id + "@h:1," + id + "@h:2"} }, false},
		"a peer without id":  {func(n *Net) { n.Peers = []string{"h:1"} }, false},
		"an id in capitals":  {func(n *Net) { n.Unconditional = []string{strings.ToUpper(id)} }, false},
		"too many":           {func(n *Net) { n.MaxInbound = 1001 }, false},
		"fewer than nothing": {func(n *Net) { n.MaxInbound = -1 }, false},
	} {
		n := DefaultNet()
		x.change(&n)
		if err := n.Check(); (err == nil) != x.ok || err != nil && !errors.Is(err, ErrNet) {
			t.Errorf("%s: %v", name, err)
		}
		dir := t.TempDir()
		err := WriteNet(dir, n)
		if got, rerr := ReadNet(dir); x.ok && (err != nil || rerr != nil || fmt.Sprint(got) != fmt.Sprint(n)) || !x.ok && err == nil {
			t.Errorf("%s: written %v, read %+v, %v", name, err, got, rerr)
		}
	}
	n := Net{Listen: "0.0.0.0:7", External: "h:8", Peers: []string{id + "@h:1"}, Unconditional: []string{strings.Repeat("0b", 20)}, MaxInbound: 3}
	c := config("home", 0, n)
	if c.P2P.ListenAddress != "tcp://0.0.0.0:7" || c.P2P.ExternalAddress != "tcp://h:8" || c.P2P.PersistentPeers != id+"@h:1" ||
		c.P2P.UnconditionalPeerIDs != strings.Repeat("0b", 20)+","+id || c.P2P.MaxNumInboundPeers != 3 || c.P2P.PexReactor || c.P2P.LibP2PEnabled() || c.BlockSync.AdaptiveSync {
		t.Errorf("configuration %+v", c.P2P)
	}
}
