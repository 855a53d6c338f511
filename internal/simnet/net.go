package simnet

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon"
	"sn3/chain/local/state"
	"sn3/gradients"
	"sn3/internal/events"
	"sn3/internal/preset"
	"sn3/internal/replica"
	"sn3/miner/mining"
	"sn3/model"
	"sn3/model/cpu"
	"sn3/model/data"
	"sn3/storage"
	"sn3/validator/scoring"
)

// Net is a network in one process.
type Net struct {
	T     testing.TB
	Chain *Chain
	Run   *chain.Run
	Load  *replica.Load
	Mem   *storage.Memory

	packed *data.Packed
	cut    atomic.Bool // no bucket answers
	mu     sync.Mutex
	nodes  map[string]*Node
}

// Node is a running or stopped miner or validator.
type Node struct {
	Name    string
	Hotkey  chain.Hotkey
	Replica *replica.Replica
	Book    *scoring.Book // of a validator

	cancel  context.CancelFunc
	started chan struct{} // closed when cancel is set
	done    chan struct{}
	clock   *replica.Clock
	mu      sync.Mutex
	events  []events.Event
	err     error
}

// Options describe a network.
type Options struct {
	Validators []chain.Amount // stakes
	Miners     int
	Spare      int  // seats without a process
	Noise      bool // text without anything to learn but itself
	Change     func(*chain.Run)
}

// key of a named actor: the same in every run.
func key(name string) *ecdsa.PrivateKey {
	sum := sha256.Sum256([]byte("simnet/" + name))
	k, err := crypto.ToECDSA(sum[:])
	if err != nil {
		return nil
	}
	return k
}

// MinerName is the name of the i-th miner, from 1.
func MinerName(i int) string { return fmt.Sprintf("miner-%d", i) }

// ValidatorName is the name of the i-th validator, from 1.
func ValidatorName(i int) string { return fmt.Sprintf("validator-%d", i) }

// New makes a network of a tiny model; nothing runs yet.
func New(t testing.TB, o Options) *Net {
	t.Helper()
	n := &Net{T: t, Load: replica.NewLoad(), Mem: storage.NewMemory(), nodes: map[string]*Node{}}
	run, err := preset.Run("local", 40)
	if err != nil {
		t.Fatal(err)
	}
	run.Network = "simnet"
	run.Model = chain.ModelSpec{Vocab: 256, Width: 32, Layers: 2, Heads: 2, KVHeads: 1, HeadDim: 16, FFN: 64, Seq: 32, Tied: true, RopeTheta: 1e4, NormEps: 1e-5}
	run.Train.Warmup, run.Train.LR = 20, 4e-3
	run.Payload.K = []chain.KStep{{From: 0, K: 512}}
	if o.Change != nil {
		o.Change(run)
	}
	if n.packed, err = data.Pack(text(o.Noise)); err != nil {
		t.Fatal(err)
	}
	run.Dataset = n.packed.Spec
	locator, err := storage.Local("data")
	if err != nil {
		t.Fatal(err)
	}
	run.Dataset.Locator = locator.Encode()
	secret := sha256.Sum256([]byte("simnet/beacon"))
	secret[0] = 0
	pub, err := beacon.Public(secret[:])
	if err != nil {
		t.Fatal(err)
	}
	g := &state.Genesis{Network: run.Network, Run: run.Encode(), BlockTimeMS: 500, Params: state.DefaultParams(), BeaconKey: pub}
	seat := func(name string, stake chain.Amount) {
		g.Seats = append(g.Seats, state.Seat{Hotkey: local.AccountOf(&key(name).PublicKey), Stake: stake, Permit: stake > 0})
	}
	for i, s := range o.Validators {
		seat(ValidatorName(i+1), s)
	}
	for i := range o.Miners + o.Spare {
		seat(MinerName(i+1), 0)
	}
	if n.Chain, err = NewChain(g, secret[:], n.Load); err != nil {
		t.Fatal(err)
	}
	n.Run = run
	t.Cleanup(n.stopAll)
	return n
}

// text is a toy language: words of a small vocabulary in patterns, enough to learn something in a few windows.
func text(noise bool) *data.Corpus {
	r := rand.New(rand.NewPCG(1, 2))
	if noise {
		gen := func(size int) []byte {
			b := make([]byte, size)
			for i := range b {
				b[i] = byte('!' + r.IntN(90))
			}
			return b
		}
		return &data.Corpus{Train: gen(400 << 10), HeldOut: gen(64 << 10)}
	}
	words := []string{"the", "miner", "sends", "a", "payload", "to", "bucket", "and", "waits", "for", "window", "selected", "by", "stake"}
	gen := func(size int) []byte {
		var b bytes.Buffer
		for b.Len() < size {
			at := r.IntN(len(words))
			for range 4 + r.IntN(5) {
				b.WriteString(words[at] + " ")
				at = (at*5 + r.IntN(3)) % len(words)
			}
			b.WriteString(".\n")
		}
		return b.Bytes()
	}
	return &data.Corpus{Train: gen(400 << 10), HeldOut: gen(64 << 10)}
}

// NodeOptions change one node.
type NodeOptions struct {
	Dir       string // kept between lives; default: a new one
	Gap       mining.Gap
	MaxEarly  int
	MaxSteps  int
	NoRebase  bool
	Trainer   func(model.Trainer) model.Trainer                  // wraps the trainer of a cheat
	Batches   func(*data.Dataset, data.Assignment) model.Batches // replaces the assigned batches
	Failpoint func(string)
	Bucket    func(*storage.Bucket) *storage.Bucket // wraps the own bucket
}

// Dir is a folder for a node that is to live more than once.
func (n *Net) Dir() string {
	dir, err := os.MkdirTemp(n.T.TempDir(), "node-*")
	if err != nil {
		n.T.Fatal(err)
	}
	return dir
}

func (n *Net) open(l storage.Locator) (*storage.Bucket, error) {
	return n.bucket(l.Bucket(), false), nil
}

func (n *Net) bucket(name string, writable bool) *storage.Bucket {
	return storage.NewBucket(cuttable{n.Mem.Driver(name, writable), &n.cut})
}

// Cut takes all buckets away, or brings them back.
func (n *Net) Cut(away bool) { n.cut.Store(away) }

// start wires what miners and validators share.
func (n *Net) start(name string, validator bool, o *NodeOptions) (*Node, *data.Dataset) {
	n.T.Helper()
	k := key(name)
	if o.Dir == "" {
		o.Dir = n.Dir()
	}
	x := &Node{Name: name, Hotkey: local.AccountOf(&k.PublicKey), started: make(chan struct{}), done: make(chan struct{}), clock: n.Chain.join()}
	d, err := data.Open(context.Background(), n.packed, n.Run.Dataset, "", n.Run.Model.Seq)
	if err != nil {
		n.T.Fatal(err)
	}
	locator, err := storage.Local(name)
	if err != nil {
		n.T.Fatal(err)
	}
	bucket := n.bucket(name, true)
	if o.Bucket != nil {
		bucket = o.Bucket(bucket)
	}
	c := client{n.Chain, k}
	x.Replica, err = replica.New(replica.Config{Dir: filepath.Join(o.Dir, "replica"), Run: n.Run, Chain: c, Writer: c, Signer: local.Signer{Key: k},
		Verifier: local.Verifier{}, Self: x.Hotkey, Validator: validator, Bucket: bucket, Locator: locator, Open: n.open, Data: d,
		Clock: x.clock, Events: x.record, Log: slog.New(slog.DiscardHandler), Failpoint: o.Failpoint})
	if err != nil {
		n.T.Fatal(err)
	}
	n.mu.Lock()
	n.nodes[name] = x
	n.mu.Unlock()
	return x, d
}

func (x *Node) record(e events.Event) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.events = append(x.events, e)
}

// Events are what the node wrote into its diary, of one kind.
func (x *Node) Events(kind events.Kind) []events.Event {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []events.Event
	for _, e := range x.events {
		if e.Kind == kind {
			out = append(out, e)
		}
	}
	return out
}

func (n *Net) run(x *Node, f func(ctx context.Context) error) *Node {
	ctx, cancel := context.WithCancel(context.Background())
	x.cancel = cancel
	close(x.started)
	go func() {
		defer close(x.done)
		x.err = f(ctx)
	}()
	return x
}

// StartMiner starts a miner.
func (n *Net) StartMiner(name string, o NodeOptions) *Node {
	n.T.Helper()
	x, d := n.start(name, false, &o)
	tr, err := cpu.New("").NewTrainer(replica.ModelConfig(n.Run), replica.Optimizer(n.Run), 1)
	if err != nil {
		n.T.Fatal(err)
	}
	if o.Trainer != nil {
		tr = o.Trainer(tr)
	}
	fb, err := gradients.OpenFeedback(filepath.Join(o.Dir, "feedback"), x.Replica.Layout(), float32(n.Run.Payload.Beta))
	if err != nil {
		n.T.Fatal(err)
	}
	if o.Gap == "" {
		o.Gap = mining.Wait
	}
	cfg := mining.Config{Dir: o.Dir, Hotkey: x.Hotkey, Replica: x.Replica, Trainer: tr, Feedback: fb, Data: d, Gap: o.Gap, Events: x.record,
		MaxEarly: o.MaxEarly, MaxSteps: o.MaxSteps, NoRebase: o.NoRebase}
	if o.Batches != nil {
		cfg.Batches = func(a data.Assignment) model.Batches { return o.Batches(d, a) }
	}
	m, err := mining.New(cfg)
	if err != nil {
		n.T.Fatal(err)
	}
	return n.run(x, m.Run)
}

// StartValidator starts a validator.
func (n *Net) StartValidator(name string, o NodeOptions) *Node {
	n.T.Helper()
	x, d := n.start(name, true, &o)
	j, err := cpu.New("").NewJudge(replica.ModelConfig(n.Run), 1)
	if err != nil {
		n.T.Fatal(err)
	}
	if x.Book, err = scoring.OpenBook(filepath.Join(o.Dir, "book.json")); err != nil {
		n.T.Fatal(err)
	}
	v := scoring.New(scoring.Config{Hotkey: x.Hotkey, Replica: x.Replica, Judge: j, Data: d, Book: x.Book, Events: x.record, Failpoint: o.Failpoint})
	return n.run(x, v.Run)
}

// Stop ends a node as a signal would; its folder stays.
func (n *Net) Stop(x *Node) error {
	x.cancel()
	<-x.done
	n.Chain.leave(x.clock)
	n.mu.Lock()
	delete(n.nodes, x.Name)
	n.mu.Unlock()
	if errors.Is(x.err, context.Canceled) {
		return nil
	}
	return x.err
}

func (n *Net) stopAll() {
	n.mu.Lock()
	var all []*Node
	for _, x := range n.nodes {
		all = append(all, x)
	}
	n.mu.Unlock()
	for _, x := range all {
		if err := n.Stop(x); err != nil {
			n.T.Logf("%s ended: %v", x.Name, err)
		}
	}
}

// Tick waits until nobody is at work and makes one block.
func (n *Net) Tick() chain.Block {
	n.T.Helper()
	n.Load.Idle()
	h, err := n.Chain.Tick()
	if err != nil {
		n.T.Fatal(err)
	}
	return h.Block
}

// To makes blocks until window w is applied everywhere it can be: up to Apply(w).
func (n *Net) To(w chain.Window) {
	n.T.Helper()
	s, err := chain.NewSchedule(n.Run.Schedule)
	if err != nil {
		n.T.Fatal(err)
	}
	for n.Chain.Height() < s.At(w, chain.PhaseApply) {
		n.Tick()
	}
	n.Load.Idle()
}

// Roots are the roots that a node had after each window it applied.
func (x *Node) Roots() map[chain.Window]chain.Hash {
	out := map[chain.Window]chain.Hash{}
	for _, e := range x.Events(events.Applied) {
		out[e.Window] = *e.Root
	}
	return out
}
