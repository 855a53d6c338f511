package simnet

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon"
	"sn3/chain/local/state"
	"sn3/internal/preset"
	"sn3/internal/replica"
	"sn3/model/data"
	"sn3/storage"
)

// Net is a network in one process.
type Net struct {
	T     testing.TB
	Chain *Chain
	Run   *chain.Run
	Load  *replica.Load
	Mem   *storage.Memory

	packed *data.Packed
	other  func(name string, writable bool) (*storage.Bucket, error)
	cut    atomic.Bool // no bucket answers
	mu     sync.Mutex
	nodes  map[string]*Node
}

// Options describe a network.
type Options struct {
	Validators []chain.Amount // stakes
	Miners     int
	Spare      int  // seats without a process
	Learn      bool // a model and scoring large enough to tell who learned what; without, everything is as small as it can be
	Noise      bool // text without anything to learn but itself
	Vocab      int  // tokens of a BPE learned from the text; 0: bytes
	Change     func(*chain.Run)
	KeepChain  int // windows that the chain remembers; 0: as many as a real one
	// Bucket opens buckets of another kind, for writing with the owner's credential; the data then lies in bucket "data".
	// nil: in memory.
	Bucket func(name string, writable bool) (*storage.Bucket, error)
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
	n := &Net{T: t, Load: replica.NewLoad(), Mem: storage.NewMemory(), other: o.Bucket, nodes: map[string]*Node{}}
	run, err := preset.Run("local", 40)
	if err != nil {
		t.Fatal(err)
	}
	run.Network = "simnet"
	run.Model = chain.ModelSpec{Vocab: 256, Width: 32, Layers: 2, Heads: 2, KVHeads: 1, HeadDim: 16, FFN: 64, Seq: 32, Tied: true, RopeTheta: 1e4, NormEps: 1e-5}
	run.Train.Warmup, run.Train.LR = 20, 4e-3
	run.Payload.K = []chain.KStep{{From: 0, K: 512}}
	if !o.Learn {
		run.Model.Layers, run.Train.Batch, run.Score.HeldOut, run.Score.Own = 1, 2, 16, 4
	}
	if o.Change != nil {
		o.Change(run)
	}
	if err := n.pack(run, o); err != nil {
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
	g := &state.Genesis{Network: run.Network, Run: run.Encode(), BlockTimeMS: 500, Rules: state.NewestRules, Params: state.DefaultParams(), BeaconKey: pub}
	if o.KeepChain > 0 {
		g.Params.KeepWindows = o.KeepChain
	}
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
	if err := n.upload(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.stopAll)
	return n
}

// pack makes the dataset, and the vocabulary the model's.
func (n *Net) pack(run *chain.Run, o Options) (err error) {
	corpus := text(o.Noise)
	if o.Vocab == 0 {
		n.packed, err = data.Pack(corpus)
		return err
	}
	file, err := BPE(corpus.Train, o.Vocab)
	if err != nil {
		return err
	}
	packed, m, err := Packed(corpus, file)
	if err != nil {
		return err
	}
	n.packed, run.Model.Vocab, run.Tokenizer = packed, m.Vocab, m.Provenance.Tokenizer
	return nil
}

// upload puts the dataset into its bucket, if buckets are of another kind.
func (n *Net) upload() error {
	if n.other == nil {
		return nil
	}
	b, err := n.other("data", true)
	if err != nil {
		return err
	}
	for _, o := range n.packed.Objects {
		if err := b.Put(context.Background(), o.Key, o.Data); err != nil {
			return err
		}
	}
	return nil
}

// dataset opens the dataset for one node.
func (n *Net) dataset() (*data.Dataset, error) {
	var from data.Ranger = n.packed
	if n.other != nil {
		b, err := n.other("data", false)
		if err != nil {
			return nil, err
		}
		from = b
	}
	return data.Open(context.Background(), data.From(from), n.Run.Dataset, data.ReadOptions{Seq: n.Run.Model.Seq, Vocab: n.Run.Model.Vocab, Tokenizer: n.Run.Tokenizer})
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

// Dir is a folder for a node that is to live more than once.
func (n *Net) Dir() string {
	dir, err := os.MkdirTemp(n.T.TempDir(), "node-*")
	if err != nil {
		n.T.Fatal(err)
	}
	return dir
}

// bucket opens a bucket; wrap may be nil.
func (n *Net) bucket(name string, writable bool, wrap func(storage.Driver) storage.Driver) (*storage.Bucket, error) {
	if n.other != nil {
		return n.other(name, writable)
	}
	var d storage.Driver = cuttable{n.Mem.Driver(name, writable), &n.cut}
	if wrap != nil {
		d = wrap(d)
	}
	return storage.NewBucket(d), nil
}

// Cut takes all buckets away, or brings them back.
func (n *Net) Cut(away bool) { n.cut.Store(away) }

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
