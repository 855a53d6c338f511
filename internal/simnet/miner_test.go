package simnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"sn3/chain"
	"sn3/gradients"
	"sn3/internal/events"
	"sn3/internal/replica"
	"sn3/miner/mining"
	"sn3/model"
	"sn3/model/data"
)

// crawling is a trainer that needs a block for every inner step.
type crawling struct {
	model.Trainer
	model.Persister
	clock *replica.Clock
}

func (c crawling) Train(ctx context.Context, b model.Batches, budget model.Budget) (model.Report, error) {
	if c.clock.WaitNext(ctx) != nil {
		return model.Report{}, nil
	}
	return c.Trainer.Train(ctx, b, budget)
}

// A miner that is too slow submits fewer steps, in both gap modes; it is not shut out.
func TestSlowMinerSubmitsFewerSteps(t *testing.T) {
	for gap, want := range map[mining.Gap][2]uint32{mining.Wait: {1, 3}, mining.Train: {4, 8}} { // of 10, in windows of 8 blocks
		t.Run(string(gap), func(t *testing.T) {
			n, nodes := start(t, Options{Miners: 3}, func(i int) NodeOptions {
				if i != 2 {
					return NodeOptions{}
				}
				return NodeOptions{Gap: gap, Trainer: func(tr model.Trainer, c *replica.Clock) model.Trainer { return crawling{tr, tr.(model.Persister), c} }}
			})
			n.To(4)
			agree(t, 4, nodes...)
			d, w := n.verdict(t, nodes[0], nodes[3].Hotkey)
			if d.Status != "scored" || d.Steps < want[0] || d.Steps > want[1] {
				t.Errorf("in window %d: %s, %d steps, want %d to %d", w, d.Status, d.Steps, want[0], want[1])
			}
			if won, windows := nodes[0].wins(nodes[3].Hotkey); won != windows {
				t.Errorf("selected in %d of %d windows", won, windows)
			}
		})
	}
}

// failing is a trainer that fails in one window, or whose parameters are not numbers after it.
type failing struct {
	model.Trainer
	model.Persister
	in, step int // windows and steps in it, counted down
	err      error
}

func (f *failing) Reset(ctx context.Context, w model.Weights) error {
	f.in--
	return f.Trainer.Reset(ctx, w)
}

func (f *failing) Train(ctx context.Context, b model.Batches, budget model.Budget) (model.Report, error) {
	if f.in == 0 && f.err != nil {
		if f.step--; f.step < 0 {
			return model.Report{}, fmt.Errorf("%w: on purpose", f.err)
		}
	}
	return f.Trainer.Train(ctx, b, budget)
}

func (f *failing) Trained() model.Weights {
	if f.in != 0 || f.err != nil {
		return f.Trainer.Trained()
	}
	w := model.NewFlat(f.Trainer.Trained().Layout())
	w.Data[7] = float32(math.NaN())
	return w
}

// skips are the reasons a node gave for windows without submission.
func (x *Node) skips() map[chain.Window]string {
	out := map[chain.Window]string{}
	for _, e := range x.Events(events.Skipped) {
		out[e.Window] = e.Reason
	}
	return out
}

func (x *Node) submitted() map[chain.Window]bool {
	out := map[chain.Window]bool{}
	for _, e := range x.Events(events.Submit) {
		out[e.Window] = true
	}
	return out
}

// A miner whose training diverges says so, starts over from θ with the moments of a beginner, warms up for a window, and
// submits again.
func TestDivergedMinerStartsOver(t *testing.T) {
	for name, f := range map[string]*failing{"loss": {in: 3, step: 4, err: model.ErrDiverged}, "parameters": {in: 3}} {
		t.Run(name, func(t *testing.T) {
			n, nodes := start(t, Options{Miners: 3}, func(i int) NodeOptions {
				if i != 2 {
					return NodeOptions{}
				}
				return NodeOptions{Trainer: func(tr model.Trainer, _ *replica.Clock) model.Trainer {
					f.Trainer, f.Persister = tr, tr.(model.Persister)
					return f
				}}
			})
			n.To(5)
			agree(t, 5, nodes...)
			x := nodes[3]
			skips, sent := x.skips(), x.submitted()
			if len(skips) != 2 || !strings.Contains(skips[2], "starting over from θ with fresh moments") || !strings.Contains(skips[3], "warming up") {
				t.Errorf("it skipped %v", skips)
			}
			for w := range chain.Window(6) {
				if sent[w] != (w != 2 && w != 3) {
					t.Errorf("window %d: submitted %v", w, sent[w])
				}
			}
			if won, windows := nodes[0].wins(nodes[2].Hotkey); won != windows {
				t.Errorf("another miner was selected in %d of %d windows", won, windows)
			}
		})
	}
}

// An error that is no divergence ends the miner with the window and the reason.
func TestBrokenTrainerEndsTheMiner(t *testing.T) {
	broken := errors.New("the device is gone")
	n := New(t, Options{Validators: []chain.Amount{300}, Miners: 1})
	n.StartValidator(ValidatorName(1), NodeOptions{})
	x := n.StartMiner(MinerName(1), NodeOptions{Trainer: func(tr model.Trainer, _ *replica.Clock) model.Trainer {
		return &failing{Trainer: tr, Persister: tr.(model.Persister), in: 2, err: broken}
	}})
	for !n.ended(x) {
		n.Tick()
	}
	if err := n.Stop(x); !errors.Is(err, broken) || !strings.Contains(err.Error(), "window 1") {
		t.Errorf("it ended with %v", err)
	}
}

// without is an assignment whose data cannot be read.
type without struct{}

func (without) Next(context.Context) (model.Batch, error) {
	return model.Batch{}, errors.New("no route to the data")
}

// Without data a window is skipped with the reason, and with data the next is worked.
func TestMinerWithoutDataSkips(t *testing.T) {
	windows := 0
	n, nodes := start(t, Options{Miners: 2}, func(i int) NodeOptions {
		if i != 1 {
			return NodeOptions{}
		}
		return NodeOptions{Batches: func(d *data.Dataset, a data.Assignment) model.Batches {
			if windows++; windows == 2 {
				return without{}
			}
			return d.Batches(a, 2)
		}}
	})
	n.To(3)
	agree(t, 3, nodes...)
	if skips := nodes[2].skips(); !strings.Contains(skips[1], "the data bucket does not answer: no route") || len(skips) != 2 {
		t.Errorf("it skipped %v", skips)
	}
	if sent := nodes[2].submitted(); !sent[0] || sent[1] || sent[2] || !sent[3] {
		t.Errorf("it submitted %v", sent)
	}
}

// Moments survive a restart: back within a window a miner goes on submitting; away for longer, or with a damaged file, it
// warms up for one window without submission, then submits.
func TestMomentsAfterRestart(t *testing.T) {
	for name, c := range map[string]struct {
		away   chain.Window
		damage func(path string) error
		warm   bool
	}{
		"at once":         {0, nil, false},
		"away two":        {2, nil, true},
		"at once, cut":    {0, func(p string) error { return os.Truncate(p, 1000) }, true},
		"at once, empty":  {0, func(p string) error { return os.Truncate(p, 0) }, true},
		"at once, no one": {0, os.Remove, true},
	} {
		t.Run(name, func(t *testing.T) {
			n, nodes := start(t, Options{Miners: 1, Spare: 1}, plain)
			begin := func(w chain.Window) { // the window has begun and θ of the one before is not there yet
				for n.Chain.Height() < nodes[0].Replica.Schedule().At(w, chain.PhaseStart)+1 {
					n.Tick()
				}
				n.Load.Idle()
			}
			dir := n.Dir()
			x := n.StartMiner(MinerName(2), NodeOptions{Dir: dir})
			begin(3)
			if err := n.Stop(x); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "inner.sn3")
			if c.damage != nil {
				if err := c.damage(path); err != nil {
					t.Fatal(err)
				}
			}
			back := 3 + c.away
			begin(back)
			x = n.StartMiner(MinerName(2), NodeOptions{Dir: dir})
			n.To(back + 2)
			agree(t, back+2, append(nodes, x)...)
			if why := x.skips()[back]; strings.Contains(why, "warming up") != c.warm || !c.warm && why != "" {
				t.Errorf("in window %d it skipped with %q", back, why)
			}
			if sent := x.submitted(); sent[back] != !c.warm || !sent[back+1] || !sent[back+2] {
				t.Errorf("it submitted %v", sent)
			}
			if _, err := os.Stat(path + ".damaged"); (err == nil) != (c.warm && c.away == 0 && name != "at once, no one") {
				t.Errorf("set aside: %v", err)
			}
		})
	}
}

// watching is a trainer that shows what it is given.
type watching struct {
	model.Trainer
	model.Persister
	rebased func(from, to model.Weights)
}

func (w watching) Rebase(ctx context.Context, from, to model.Weights) error {
	w.rebased(from, to)
	return w.Trainer.Rebase(ctx, from, to)
}

// The proxy is θ_{w-2} − α·decode(own payload of w-1), public data, and the shift goes from it to θ_{w-1}.
func TestProxy(t *testing.T) {
	var mu sync.Mutex
	var shifts [][2]*model.Flat
	n, nodes := start(t, Options{Miners: 2, Change: func(r *chain.Run) { r.Outer.Alpha = 0.7 }}, func(i int) NodeOptions {
		if i != 1 {
			return NodeOptions{}
		}
		return NodeOptions{Gap: mining.Train, MaxEarly: 4, Trainer: func(tr model.Trainer, _ *replica.Clock) model.Trainer {
			return watching{tr, tr.(model.Persister), func(from, to model.Weights) {
				mu.Lock()
				defer mu.Unlock()
				a, b := model.NewFlat(from.Layout()), model.NewFlat(to.Layout())
				if err := errors.Join(a.CopyFrom(from), b.CopyFrom(to)); err != nil {
					t.Error(err)
				}
				shifts = append(shifts, [2]*model.Flat{a, b})
			}}
		}}
	})
	x := nodes[2]
	theta := map[chain.Window]*model.Flat{}
	for w := chain.Window(0); w < 5; w++ {
		n.To(w)
		s, err := x.Replica.At(context.Background(), w)
		if err != nil {
			t.Fatal(err)
		}
		theta[w] = model.NewFlat(s.Weights().Layout())
		copy(theta[w].Data, s.Weights().Data)
		s.Release()
	}
	if len(shifts) < 3 {
		t.Fatalf("%d shifts", len(shifts))
	}
	for i, shift := range shifts { // the first is in window 1: from θ_{-1} and the payload of 0; look at those from 2 on
		w := chain.Window(i + 1)
		if w < 2 || w > 5 {
			continue
		}
		if !same(shift[1], theta[w-1]) {
			t.Errorf("window %d: the shift does not go to θ of window %d", w, w-1)
		}
		s := model.NewFlat(theta[w-2].Layout())
		copy(s.Data, theta[w-2].Data)
		n.subtract(t, s, n.payload(t, MinerName(1), w-1), 0.7)
		if !same(shift[0], s) {
			t.Errorf("window %d: the proxy is not θ − α·decode(own payload)", w)
		}
	}
}

func same(a, b *model.Flat) bool {
	for i, x := range a.Data {
		if math.Float32bits(x) != math.Float32bits(b.Data[i]) {
			return false
		}
	}
	return true
}

// payload reads what a miner sent in window w from its bucket.
func (n *Net) payload(t *testing.T, miner string, w chain.Window) *gradients.Payload {
	t.Helper()
	b, ctx := n.Mem.Bucket(miner, false), context.Background()
	page, err := b.List(ctx, "manifest/", "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range page {
		raw, err := b.Get(ctx, o.Key, 1000)
		if err != nil {
			t.Fatal(err)
		}
		m, err := gradients.ParseManifest(raw)
		if err != nil || m.Window != w {
			continue
		}
		if raw, err = b.Get(ctx, "payload/"+m.Payload.String(), m.Length); err != nil {
			t.Fatal(err)
		}
		layout, err := model.NewLayout(replica.ModelConfig(n.Run))
		if err != nil {
			t.Fatal(err)
		}
		p, err := gradients.NewCodec(layout).Open(bytes.NewReader(raw), m.Length)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	t.Fatalf("%s sent nothing in window %d", miner, w)
	return nil
}

// subtract takes alpha·p from s, in float32 with every product rounded.
func (n *Net) subtract(t *testing.T, s *model.Flat, p *gradients.Payload, alpha float32) {
	t.Helper()
	idx, val := make([]uint16, model.ChunkSize), make([]float32, model.ChunkSize)
	for i := range s.Layout().Chunks() {
		for j := range p.Chunk(i, idx, val) {
			s.Data[s.Layout().Chunk(i).Start+int(idx[j])] -= float32(alpha * val[j])
		}
	}
}

// A miner that ends costs nobody else: the others are selected in every window.
func TestMissingMinerCostsNobodyElse(t *testing.T) {
	n, nodes := start(t, Options{Miners: 3}, plain)
	n.To(1)
	if err := n.Stop(nodes[2]); err != nil {
		t.Fatal(err)
	}
	n.To(5)
	rest := append([]*Node{nodes[0], nodes[1]}, nodes[3:]...)
	agree(t, 5, rest...)
	for _, x := range nodes[3:] {
		if won, windows := nodes[0].wins(x.Hotkey); won != windows {
			t.Errorf("%s was selected in %d of %d windows", x.Name, won, windows)
		}
	}
	gone := nodes[0].Book.Entries[nodes[2].Hotkey].Rating
	if here := nodes[0].Book.Entries[nodes[3].Hotkey].Rating; gone >= here/2 {
		t.Errorf("who is missing is rated %.3f, who works %.3f", gone, here)
	}
}
