package mining

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sn3/chain"
	"sn3/internal/preset"
	"sn3/internal/replica"
	"sn3/model"
	"sn3/model/cpu"
	"sn3/storage"
)

// config is a miner's without chain and data: what New and the moments need.
func config(t *testing.T, dir string, change func(*chain.Run)) Config {
	t.Helper()
	run, err := preset.Run("local", 40)
	if err != nil {
		t.Fatal(err)
	}
	run.Network = "mining-test"
	run.Model = chain.ModelSpec{Vocab: 256, Width: 16, Layers: 1, Heads: 2, KVHeads: 1, HeadDim: 8, FFN: 32, Seq: 16, Tied: true, RopeTheta: 1e4, NormEps: 1e-5}
	if change != nil {
		change(run)
	}
	r, err := replica.New(replica.Config{Dir: t.TempDir(), Run: run, Chain: noChain{}, Open: func(storage.Locator) (*storage.Bucket, error) { return nil, nil }})
	if err != nil {
		t.Fatal(err)
	}
	tr, err := cpu.New("").NewTrainer(replica.ModelConfig(run), replica.Optimizer(run), model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return Config{Dir: dir, Replica: r, Trainer: tr, Gap: Wait}
}

type noChain struct{}

func (noChain) Heads(context.Context) (<-chan chain.Head, error) { return nil, chain.ErrUnavailable }
func (noChain) Snapshot(context.Context, chain.Block) (*chain.Snapshot, error) {
	return nil, chain.ErrUnavailable
}
func (noChain) Beacon(context.Context, chain.Round) ([]byte, error) { return nil, chain.ErrUnavailable }

// always yields one batch for ever.
type always struct{ b model.Batch }

func (a always) Next(context.Context) (model.Batch, error) { return a.b, nil }

func trained(t *testing.T, c Config) []byte {
	t.Helper()
	const n = 2 * 16
	b := model.Batch{B: 2, T: 16, X: make([]int32, n), Y: make([]int32, n)}
	for i := range n {
		b.X[i], b.Y[i] = int32(i), int32(i+1)
	}
	w := model.NewFlat(c.Replica.Layout())
	w.Init(3)
	if err := c.Trainer.Reset(context.Background(), w); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Trainer.Train(context.Background(), always{b}, model.Budget{Steps: 3}); err != nil {
		t.Fatal(err)
	}
	return moments(t, c)
}

func moments(t *testing.T, c Config) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := c.Trainer.(model.Persister).Save(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestNewRefusesAnUnknownGap(t *testing.T) {
	c := config(t, t.TempDir(), nil)
	c.Gap = "sometimes"
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), `"sometimes"`) || !strings.Contains(err.Error(), string(Wait)) {
		t.Errorf("got %v", err)
	}
}

func TestMaxSteps(t *testing.T) {
	for give, want := range map[int]int{0: 10, -1: 10, 3: 3, 10: 10, 99: 10} {
		c := config(t, t.TempDir(), nil)
		c.MaxSteps = give
		m, err := New(c)
		if err != nil || m.cfg.MaxSteps != want {
			t.Errorf("%d steps become %d, %v", give, m.cfg.MaxSteps, err)
		}
	}
}

// Moments come back bit for bit, with their window; a file of another model or a damaged one is set aside.
func TestMomentsComeBack(t *testing.T) {
	dir := t.TempDir()
	c := config(t, dir, nil)
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if m.moments != chain.NoWindow {
		t.Error("a new miner has moments")
	}
	want := trained(t, c)
	if err := m.saveMoments(41); err != nil {
		t.Fatal(err)
	}
	again := config(t, dir, nil)
	m, err = New(again)
	if err != nil || m.moments != 41 || !bytes.Equal(moments(t, again), want) {
		t.Fatalf("got moments of window %d, %v", m.moments, err)
	}
	other := config(t, dir, func(r *chain.Run) { r.Model.FFN = 48 })
	if m, err = New(other); err != nil || m.moments != chain.NoWindow {
		t.Errorf("another model took moments of window %d, %v", m.moments, err)
	}
	if _, err := os.Stat(filepath.Join(dir, innerFile+".damaged")); err != nil {
		t.Error("it was not set aside:", err)
	}
}

// Starting over is starting as a beginner, now and after a restart.
func TestStartOver(t *testing.T) {
	dir := t.TempDir()
	c := config(t, dir, nil)
	fresh := moments(t, c)
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if bytes.Equal(trained(t, c), fresh) {
			t.Fatal("training left no moments: the test shows nothing")
		}
		if err := m.saveMoments(4); err != nil {
			t.Fatal(err)
		}
		if err := m.startOver(); err != nil {
			t.Fatal(err)
		}
		if m.moments != chain.NoWindow || !bytes.Equal(moments(t, c), fresh) {
			t.Error("not a beginner's moments")
		}
	}
	again := config(t, dir, nil)
	if m, err := New(again); err != nil || m.moments != chain.NoWindow || !bytes.Equal(moments(t, again), fresh) {
		t.Errorf("after a restart: moments of window %d, %v", m.moments, err)
	}
}

// Every truncation and every flipped bit of a saved state, its window included, is set aside; the trainer stays a beginner.
func TestDamagedMoments(t *testing.T) {
	dir := t.TempDir()
	c := config(t, dir, nil)
	fresh := moments(t, c)
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	trained(t, c)
	if err := m.saveMoments(7); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, innerFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	again := config(t, dir, nil)
	try := func(what string, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := New(again)
		if err != nil || m.moments != chain.NoWindow || !bytes.Equal(moments(t, again), fresh) {
			t.Errorf("%s: moments of window %d, %v", what, m.moments, err)
		}
	}
	for _, n := range []int{0, 8, len(innerMagic) + 8, len(good) / 2, len(good) - 1} {
		try("cut", good[:n])
	}
	for _, at := range []int{0, len(innerMagic), len(innerMagic) + 7, len(innerMagic) + 8, len(innerMagic) + 50, len(good) / 2, len(good) - 1} {
		b := bytes.Clone(good)
		b[at] ^= 4
		try("bit flipped", b)
	}
	try("longer", append(bytes.Clone(good), 0))
	const label = len(innerMagic) + 8 + 1 + 32
	try("a warm-up longer than any", append(innerHead(7, model.ColdSteps+1), good[label:]...))
}

// Small models are saved every window, large ones so that a GiB a window is written on average, at least every eighth.
func TestSaveEvery(t *testing.T) {
	for params, want := range map[int]int{885_888: 1, 40_000_000: 1, 162_000_000: 2, 1_235_814_400: 8, 70_553_706_496: 8, 0: 1} {
		if got := SaveEvery(params); got != want {
			t.Errorf("%d parameters: every %d windows, want %d", params, got, want)
		}
	}
}
