package replica

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/gradients"
	"sn3/internal/events"
	"sn3/internal/preset"
	"sn3/model"
	"sn3/model/data"
	"sn3/storage"
)

// keyOf is the key of a named actor, the same in every run.
func keyOf(t testing.TB, name string) *ecdsa.PrivateKey {
	t.Helper()
	sum := sha256.Sum256([]byte("replica/" + name))
	k, err := crypto.ToECDSA(sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func hotkey(t testing.TB, name string) chain.Hotkey {
	return local.AccountOf(&keyOf(t, name).PublicKey)
}

// ledger is a chain.Reader over one snapshot, which a test changes between calls.
type ledger struct {
	mu   sync.Mutex
	snap chain.Snapshot
	err  error
	// late is how often a beacon is asked for before it is there.
	late int
	// pruned is the newest block that is no longer known.
	pruned chain.Block
}

func (l *ledger) Heads(context.Context) (<-chan chain.Head, error) { return nil, chain.ErrUnavailable }

func (l *ledger) Snapshot(_ context.Context, b chain.Block) (*chain.Snapshot, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, l.err
	}
	if b <= l.pruned {
		return nil, chain.ErrPruned
	}
	s := l.snap
	s.Block = b
	return &s, nil
}

func (l *ledger) Beacon(context.Context, chain.Round) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.late > 0 {
		l.late--
		return nil, chain.ErrNotYet
	}
	return []byte("beacon"), nil
}

// seat adds a neuron with a bucket of its name.
func (l *ledger) seat(t testing.TB, name string, stake chain.Amount) {
	t.Helper()
	at, err := storage.Local(name)
	if err != nil {
		t.Fatal(err)
	}
	h := hotkey(t, name)
	l.snap.Neurons = append(l.snap.Neurons, chain.Neuron{UID: chain.UID(len(l.snap.Neurons)), Hotkey: h, Stake: stake, Permit: stake > 0})
	l.snap.Records = append(l.snap.Records, chain.Published{Hotkey: h, Record: chain.Record{Locator: at.Encode()}})
}

// fixture is one replica with a chain, buckets in memory and a clock that the test moves.
type fixture struct {
	*Replica
	chain *ledger
	mem   *storage.Memory
	open  func(name string, d storage.Driver) storage.Driver // wraps what the replica reads from
	own   func(storage.Driver) storage.Driver                // wraps its own bucket
	dir   string

	mu     sync.Mutex
	events []events.Event
	logged bytes.Buffer
}

func (f *fixture) record(e events.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, e)
}

// Write collects the log.
func (f *fixture) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.logged.Write(b)
}

func (f *fixture) log() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.logged.String()
}

func (f *fixture) said(kind events.Kind) (reasons []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.events {
		if e.Kind == kind {
			reasons = append(reasons, e.Reason)
		}
	}
	return reasons
}

func runOf(t testing.TB, change func(*chain.Run)) (*chain.Run, *data.Packed) {
	t.Helper()
	run, err := preset.Run("local", 40)
	if err != nil {
		t.Fatal(err)
	}
	run.Network = "replica-test"
	run.Model = chain.ModelSpec{Vocab: 256, Width: 32, Layers: 1, Heads: 2, KVHeads: 1, HeadDim: 16, FFN: 64, Seq: 32, Tied: true, RopeTheta: 1e4, NormEps: 1e-5}
	run.Payload.K = []chain.KStep{{From: 0, K: 512}}
	text := bytes.Repeat([]byte("a replica is a node's copy of the model. "), 8<<10)
	packed, err := data.Pack(&data.Corpus{Train: text, HeldOut: text[:16<<10]})
	if err != nil {
		t.Fatal(err)
	}
	run.Dataset = packed.Spec
	if change != nil {
		change(run)
	}
	return run, packed
}

// fix makes the replica of validator "val-1" in a network of v1 (stake 300), v2 (200) and the miners m1 and m2.
func fix(t testing.TB, change func(*fixture, *Config)) *fixture {
	t.Helper()
	f, err := tryFix(t, change)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func tryFix(t testing.TB, change func(*fixture, *Config)) (*fixture, error) {
	t.Helper()
	f := &fixture{chain: &ledger{}, mem: storage.NewMemory(), dir: filepath.Join(t.TempDir(), "replica")}
	f.chain.seat(t, "val-1", 300)
	f.chain.seat(t, "val-2", 200)
	f.chain.seat(t, "miner-1", 0)
	f.chain.seat(t, "miner-2", 0)
	run, packed := runOf(t, nil)
	d, err := data.Open(context.Background(), data.From(packed), run.Dataset, data.ReadOptions{Seq: run.Model.Seq, Vocab: run.Model.Vocab})
	if err != nil {
		t.Fatal(err)
	}
	at, err := storage.Local("val-1")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Dir: f.dir, Run: run, Chain: f.chain, Signer: local.Signer{Key: keyOf(t, "val-1")}, Verifier: local.Verifier{},
		Self: hotkey(t, "val-1"), Validator: true, Locator: at, Data: d, Clock: NewClock(nil), Events: f.record,
		Log: slog.New(slog.NewTextHandler(f, nil)), Files: map[string][]byte{"tokenizer.json": []byte("{}")}}
	cfg.Open = func(l storage.Locator) (*storage.Bucket, error) {
		d := f.mem.Driver(l.Bucket(), false)
		if f.open != nil {
			d = f.open(l.Bucket(), d)
		}
		return storage.NewBucket(d), nil
	}
	if change != nil {
		change(f, &cfg)
	}
	own := f.mem.Driver("val-1", true)
	if f.own != nil {
		own = f.own(own)
	}
	cfg.Bucket = storage.NewBucket(own)
	f.dir = cfg.Dir
	if f.Replica, err = New(cfg); err != nil {
		return nil, err
	}
	f.clock.Advance(chain.Head{Block: 1})
	return f, nil
}

// put stores an object in a named bucket.
func (f *fixture) put(t testing.TB, bucket, key string, b []byte) {
	t.Helper()
	if err := f.mem.Bucket(bucket, true).Put(context.Background(), key, b); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) get(t testing.TB, bucket, key string) []byte {
	t.Helper()
	b, err := f.mem.Bucket(bucket, true).Get(context.Background(), key, 1<<24)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (f *fixture) keys(t testing.TB, bucket, prefix string) []string {
	t.Helper()
	page, err := f.mem.Bucket(bucket, true).List(context.Background(), prefix, "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, o := range page {
		out = append(out, o.Key)
	}
	return out
}

// submission makes a real payload and its manifest for window w and puts them into the bucket of a miner.
func (f *fixture) submission(t testing.TB, miner string, w chain.Window, change func(*gradients.Manifest)) (chain.Candidate, gradients.Manifest, []byte) {
	t.Helper()
	fb, err := gradients.OpenFeedback(t.TempDir(), f.Layout(), 0.95)
	if err != nil {
		t.Fatal(err)
	}
	start, end := model.NewFlat(f.Layout()), model.NewFlat(f.Layout())
	start.Init(1)
	end.Init(2 + uint64(len(miner)) + uint64(miner[len(miner)-1]))
	p, err := fb.Begin(start, end, w, f.cfg.Run.Payload.At(w))
	if err != nil {
		t.Fatal(err)
	}
	raw := make([]byte, p.Size())
	if _, err := p.Bytes().ReadAt(raw, 0); err != nil {
		t.Fatal(err)
	}
	m := gradients.Manifest{Run: f.run, Window: w, Hotkey: hotkey(t, miner), Steps: 10, Consumed: uint32(10 * f.cfg.Run.Train.Batch),
		Payload: p.Sum(), Sealed: p.Sum(), Length: p.Size()}
	if change != nil {
		change(&m)
	}
	b := m.Encode()
	digest := chain.Hash(sha256.Sum256(b))
	f.put(t, miner, payloadKey(m.Payload), raw)
	f.put(t, miner, manifestKey(digest), b)
	at, err := storage.Local(miner)
	if err != nil {
		t.Fatal(err)
	}
	return chain.Candidate{Hotkey: hotkey(t, miner), Locator: at.Encode(), Digest: digest}, m, raw
}

// fullDisk makes writing path fail as on a full disk: its temporary file is a device that takes nothing.
func fullDisk(t testing.TB, path string) {
	t.Helper()
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full here: ", err)
	}
	if err := os.Symlink("/dev/full", path+".tmp"); err != nil {
		t.Fatal(err)
	}
}
