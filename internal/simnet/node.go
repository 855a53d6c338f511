package simnet

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/gradients"
	"sn3/internal/events"
	"sn3/internal/node"
	"sn3/internal/replica"
	"sn3/miner/mining"
	"sn3/model"
	"sn3/model/cpu"
	"sn3/model/data"
	"sn3/storage"
	"sn3/validator/scoring"
)

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

// NodeOptions change one node.
type NodeOptions struct {
	Dir       string // kept between lives; default: a new one
	Gap       mining.Gap
	MaxEarly  int
	MaxSteps  int
	SaveEvery int // 0: every window, the model being small
	NoRebase  bool
	Trainer   func(model.Trainer, *replica.Clock) model.Trainer  // wraps the trainer of a cheat
	Judge     func(model.Judge, *replica.Clock) model.Judge      // wraps a validator's judge
	Batches   func(*data.Dataset, data.Assignment) model.Batches // replaces the assigned batches
	Failpoint func(string)
	Bucket    func(storage.Driver) storage.Driver                  // wraps the own bucket
	Open      func(storage.Locator, storage.Driver) storage.Driver // wraps others' buckets
	Announce  func(context.Context, chain.Window, chain.Hash)      // as with peer-to-peer
	Dispute   *Dispute                                             // of the chain nodes that it asks
}

// start wires what miners and validators share.
func (n *Net) start(name string, validator bool, o *NodeOptions) (*Node, *data.Dataset) {
	n.T.Helper()
	k := key(name)
	if o.Dir == "" {
		o.Dir = n.Dir()
	}
	x := &Node{Name: name, Hotkey: local.AccountOf(&k.PublicKey), started: make(chan struct{}), done: make(chan struct{}), clock: n.Chain.join()}
	d, err := n.dataset()
	if err != nil {
		n.T.Fatal(err)
	}
	tok, err := node.Tokenizer(context.Background(), n.Run, d)
	if err != nil {
		n.T.Fatal(err)
	}
	locator, err := storage.Local(name)
	if err != nil {
		n.T.Fatal(err)
	}
	bucket, err := n.bucket(name, true, o.Bucket)
	if err != nil {
		n.T.Fatal(err)
	}
	open := func(l storage.Locator) (*storage.Bucket, error) {
		if o.Open == nil {
			return n.bucket(l.Bucket(), false, nil)
		}
		return n.bucket(l.Bucket(), false, func(d storage.Driver) storage.Driver { return o.Open(l, d) })
	}
	c := client{n.Chain, k}
	writer := chain.Writer(c)
	if o.Dispute != nil {
		writer = disputed{c, o.Dispute, x.clock}
	}
	x.Replica, err = replica.New(replica.Config{Dir: filepath.Join(o.Dir, "replica"), Run: n.Run, Chain: c, Writer: writer, Signer: local.Signer{Key: k},
		Verifier: local.Verifier{}, Self: x.Hotkey, Validator: validator, Bucket: bucket, Locator: locator, Open: open, Data: d,
		Clock: x.clock, Events: x.record, Log: slog.New(slog.DiscardHandler), Failpoint: o.Failpoint,
		Announce: o.Announce, Files: tok.Files, Special: tok.Special})
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
	n.Load.Add(1)
	go func() {
		defer close(x.done)
		defer n.Load.Add(-1)
		x.err = f(ctx)
	}()
	return x
}

// StartMiner starts a miner.
func (n *Net) StartMiner(name string, o NodeOptions) *Node {
	n.T.Helper()
	x, d := n.start(name, false, &o)
	tr, err := cpu.New("").NewTrainer(replica.ModelConfig(n.Run), replica.Optimizer(n.Run), model.Options{})
	if err != nil {
		n.T.Fatal(err)
	}
	if o.Trainer != nil {
		tr = o.Trainer(tr, x.clock)
	}
	fb, err := gradients.OpenFeedback(filepath.Join(o.Dir, "feedback"), x.Replica.Layout(), float32(n.Run.Payload.Beta))
	if err != nil {
		n.T.Fatal(err)
	}
	if o.Gap == "" {
		o.Gap = mining.Wait
	}
	cfg := mining.Config{Dir: o.Dir, Hotkey: x.Hotkey, Replica: x.Replica, Trainer: tr, Feedback: fb, Data: d, Gap: o.Gap, Events: x.record,
		MaxEarly: o.MaxEarly, MaxSteps: o.MaxSteps, SaveEvery: o.SaveEvery, NoRebase: o.NoRebase}
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
	j, err := cpu.New("").NewJudge(replica.ModelConfig(n.Run), model.Options{})
	if err != nil {
		n.T.Fatal(err)
	}
	if o.Judge != nil {
		j = o.Judge(j, x.clock)
	}
	if x.Book, err = scoring.OpenBook(filepath.Join(o.Dir, "book.json")); err != nil {
		n.T.Fatal(err)
	}
	v := scoring.New(scoring.Config{Hotkey: x.Hotkey, Replica: x.Replica, Judge: j, Data: d, Book: x.Book, Events: x.record, Failpoint: o.Failpoint})
	return n.run(x, v.Run)
}

// Ended says whether a node has ended by itself, and why.
func (x *Node) Ended() (ended bool, why error) {
	select {
	case <-x.done:
		return true, x.err
	default:
		return false, nil
	}
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

// Roots are the roots that a node had after each window it applied.
func (x *Node) Roots() map[chain.Window]chain.Hash {
	out := map[chain.Window]chain.Hash{}
	for _, e := range x.Events(events.Applied) {
		out[e.Window] = *e.Root
	}
	return out
}
