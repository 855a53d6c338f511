package main

import (
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/localtest"
	"sn3/chain/local/node"
)

var quiet = slog.New(slog.DiscardHandler)

func bareNetwork() *network {
	return &network{rng: rand.New(rand.NewPCG(1, 2)), log: quiet, truth: newTruth(), ends: map[string]int{}}
}

// serve adds a member whose API is that of a chain in this process.
func serve(t *testing.T, n *network, d local.Backend) *member {
	t.Helper()
	s := httptest.NewServer(local.Handler(d))
	t.Cleanup(s.Close)
	m := &member{id: len(n.nodes), api: strings.TrimPrefix(s.URL, "http://"), ended: make(chan struct{}), log: quiet}
	n.nodes = append(n.nodes, m)
	return m
}

func dev(t *testing.T, beside ...localtest.Actor) *localtest.DevChain {
	t.Helper()
	g, secret, err := localtest.Genesis(blockMS, append(actors(), beside...)...)
	if err != nil {
		t.Fatal(err)
	}
	d, err := localtest.NewDevChain(g, secret, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Run(5); err != nil {
		t.Fatal(err)
	}
	return d
}

// Equal nodes violate nothing; one with another state at one height does.
func TestCompare(t *testing.T) {
	for want, second := range []*localtest.DevChain{dev(t), dev(t, localtest.Actor{Name: "other", Balance: 1000})} {
		n := bareNetwork()
		list := []*member{serve(t, n, dev(t)), serve(t, n, second)}
		if err := n.compareAll(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		if got := len(n.truth.violations) > 0; got != (want == 1) {
			t.Errorf("chain %d: violations %q", want, n.truth.violations)
		}
	}
}

// What was acknowledged must be there, once.
func TestAccount(t *testing.T) {
	d := dev(t)
	n := bareNetwork()
	m := serve(t, n, d)
	key, err := localtest.Key(payer(0))
	if err != nil {
		t.Fatal(err)
	}
	back := localtest.Instant{DevChain: d}
	w := &worker{pays: true, hotkey: local.AccountOf(&key.PublicKey), client: local.NewClient(back, local.Signer{Key: key})}
	r, err := w.client.Send(t.Context(), local.Transfer{To: sink(0), Amount: amount})
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		acked   []chain.Receipt
		unknown int
		bad     bool
	}{
		"as told":             {[]chain.Receipt{r}, 0, false},
		"one was left open":   {nil, 1, false},
		"one that nobody has": {[]chain.Receipt{r, {Block: r.Block, Tx: chain.Hash{1}}}, 0, true},
		"in another block":    {[]chain.Receipt{{Block: r.Block + 1, Tx: r.Tx}}, 0, true},
		"one too many":        {nil, 0, true},
	} {
		n.truth.violations = nil
		w.acked, w.unknown = x.acked, x.unknown
		if err := n.account(t.Context(), m, back, w); err != nil || len(n.truth.violations) > 0 != x.bad {
			t.Errorf("%s: %v, %q", name, err, n.truth.violations)
		}
	}

	other, err := localtest.Key(payer(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := local.NewClient(back, local.Signer{Key: other}).Transfer(t.Context(), sink(0), 1); err != nil {
		t.Fatal(err)
	}
	n.truth.violations, w.acked, w.unknown = nil, []chain.Receipt{r}, 0
	if err := n.account(t.Context(), m, back, w); err != nil || len(n.truth.violations) != 1 {
		t.Errorf("a rao that nobody was told of: %v, %q", err, n.truth.violations)
	}

	pub := &worker{number: 1}
	key, err = localtest.Key(publisher(1))
	if err != nil {
		t.Fatal(err)
	}
	pub.hotkey, pub.client = local.AccountOf(&key.PublicKey), local.NewClient(back, local.Signer{Key: key})
	if _, err := pub.client.Send(t.Context(), local.Publish{Record: chain.Record{Locator: []byte("7")}}); err != nil {
		t.Fatal(err)
	}
	for last, bad := range map[int]bool{6: false, 7: false, 8: true} {
		n.truth.violations = nil
		pub.record, pub.unknown = last, 1
		if err := n.account(t.Context(), m, back, pub); err != nil || len(n.truth.violations) > 0 != bad {
			t.Errorf("record %d: %v, %q", last, err, n.truth.violations)
		}
	}
}

// Folders of one chain violate nothing; another block, another state below it or a second signature does.
func TestFolders(t *testing.T) {
	g, _, err := localtest.Genesis(blockMS, actors()...)
	if err != nil {
		t.Fatal(err)
	}
	g.BeaconKey = nil
	m := &member{home: filepath.Join(t.TempDir(), "node")}
	if err := node.Init(m.home, g, node.DefaultNet()); err != nil {
		t.Fatal(err)
	}
	run, err := node.Start(node.Options{Home: m.home, Listen: "127.0.0.1:0", Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	for h := chain.Block(0); h < 3; {
		heads, err := run.Heads(t.Context(), h)
		if err != nil {
			t.Fatal(err)
		}
		h += chain.Block(len(heads))
	}
	if err := run.Close(); err != nil {
		t.Fatal(err)
	}
	for says, spoil := range map[string]func(*truth){
		"": func(*truth) {},
		"another folder": func(x *truth) {
			b := x.blocks[2]
			b.Hash[0]++
			x.blocks[2] = b
		},
		"the API said": func(x *truth) { x.heads[2] = local.HeadInfo{Block: 2, AppHash: chain.Hash{1}} },
		"two signatures": func(x *truth) {
			for k, s := range x.signed {
				s.Signature += "x"
				x.signed[k] = s
				return
			}
		},
	} {
		n := bareNetwork()
		if err := n.inspect(m); err != nil || len(n.truth.violations) > 0 {
			t.Fatalf("%v, %q", err, n.truth.violations)
		}
		spoil(&n.truth)
		n.truth.read[m.id] = 0
		if err := n.inspect(m); err != nil || strings.Join(n.truth.violations, "") == "" != (says == "") || !strings.Contains(strings.Join(n.truth.violations, ""), says) {
			t.Errorf("%q: %v, %q", says, err, n.truth.violations)
		}
	}
}

// Each harm does something, and what it is meant to.
func TestHarms(t *testing.T) {
	n, m := bareNetwork(), &member{home: t.TempDir()}
	file := m.file("data/priv_validator_state.json")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	for before, after := range map[string]string{"120": "110", "300": "200", "11": "01", "1": "0"} {
		if err := os.WriteFile(file, []byte(`{"height": "`+before+`", "round": 2}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := earlier(n, m); err != nil {
			t.Fatal(err)
		}
		var got struct{ Height string }
		if raw, err := os.ReadFile(file); err != nil || json.Unmarshal(raw, &got) != nil || got.Height != after {
			t.Errorf("height %s became %s (%v), want %s", before, got.Height, err, after)
		}
	}

	put := func(balance byte) {
		db, err := bolt.Open(m.file("sn3.db"), 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("state"))
			if err != nil {
				return err
			}
			return b.Put([]byte("a"+strings.Repeat("k", 32)), append(make([]byte, 15), balance))
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	get := func() (v []byte) {
		db, err := bolt.Open(m.file("sn3.db"), 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.View(func(tx *bolt.Tx) error {
			v = append(v, tx.Bucket([]byte("state")).Get([]byte("a"+strings.Repeat("k", 32)))...)
			return nil
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		return v
	}
	for i := range byte(4) {
		put(10 + i)
		put(20 + i)
		if err := flipMeta(n, m); err != nil {
			t.Fatal(err)
		}
		if v := get(); v[15] != 10+i {
			t.Errorf("after a torn page of meta data the database has %d, not the %d before it", v[15], 10+i)
		}
	}
	put(5)
	if err := richer(n, m); err != nil {
		t.Fatal(err)
	}
	if v := get(); v[7] != 1 || v[15] != 5 {
		t.Errorf("the account is %x", v)
	}
}

// A node's last words are judged as what an operator reads.
func TestWords(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	for text, good := range map[string]bool{
		"level=ERROR msg=x stack=\"goroutine 1\"\nchaind: write the folder: no space left\n": true,
		"panic: x\n\ngoroutine 1 [running]:\n":                                               false,
		"chaind: ready\npanic: x\n\ngoroutine 1 [running]:\n":                                false,
		"": false,
	} {
		if err := os.WriteFile(file, []byte("earlier\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		n := bareNetwork()
		n.words(&member{}, lastWords(file, int64(len("earlier\n"))))
		if len(n.truth.violations) > 0 == good {
			t.Errorf("%q: %q", text, n.truth.violations)
		}
	}
}

// The scenarios can be chosen, and the short run has at least one round of all but those that build a program.
func TestChoose(t *testing.T) {
	for _, s := range scenarios() {
		builds := s.name == "clock" || s.name == "liar" || s.name == "upgrade"
		if s.full < 1 || s.short < 1 && !builds || s.short > s.full {
			t.Errorf("%s: %d rounds, %d in short", s.name, s.full, s.short)
		}
	}
	err := run([]string{"chainsoak", "--only", "nothing", "--dir", t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), strconv.Quote("nothing")) {
		t.Errorf("an unknown scenario: %v", err)
	}
}

// A file that a node's clock reads is never empty, and has what was set.
func TestClockFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "clock")
	for by, want := range map[time.Duration]string{0: "+00000000000000", jump: "+00000000000600", -jump: "-00000000000600"} {
		if err := set(file, by); err != nil {
			t.Fatal(err)
		}
		if raw, err := os.ReadFile(file); err != nil || string(raw) != want {
			t.Errorf("%s: %q, %v", by, raw, err)
		}
	}
}

// A network whose nodes do not run can be made, split and healed: the proxies of cut pairs refuse or swallow, the others carry.
func TestSplit(t *testing.T) {
	n, err := found(filepath.Join(t.TempDir(), "net"), "chaind", 0, rand.New(rand.NewPCG(1, 2)), quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.close(); err != nil {
			t.Error(err)
		}
	}()
	if err := n.split(map[int]bool{0: true}, false); err != nil {
		t.Fatal(err)
	}
	for pair, p := range n.proxies {
		if cut := (pair[0] == 0) != (pair[1] == 0); p.Enabled == cut {
			t.Errorf("proxy %v enabled: %v", pair, p.Enabled)
		}
	}
	if err := n.heal(); err != nil {
		t.Fatal(err)
	}
	if err := n.split(map[int]bool{2: true, 3: true}, true); err != nil {
		t.Fatal(err)
	}
	for pair, p := range n.proxies {
		if cut, list := (pair[0] >= 2) != (pair[1] >= 2), p.Toxics.GetToxicArray(); !p.Enabled || len(list) > 0 != cut {
			t.Errorf("proxy %v enabled: %v, toxics %v", pair, p.Enabled, list)
		}
	}
	if err := n.heal(); err != nil {
		t.Fatal(err)
	}
	for pair, p := range n.proxies {
		if list := p.Toxics.GetToxicArray(); !p.Enabled || len(list) > 0 {
			t.Errorf("healed proxy %v enabled: %v, toxics %v", pair, p.Enabled, list)
		}
	}
}
