package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"sn3/chain"
	"sn3/gradients"
	"sn3/internal/replica"
	"sn3/model"
	"sn3/model/cpu"
)

// arm says which parts of the method are used.
type arm struct {
	name                            string
	single, topk, twoBit, clip, gap bool
}

func allArms() []arm {
	return []arm{
		{name: "adamw", single: true},
		{name: "dense"},
		{name: "topk", topk: true},
		{name: "2bit", topk: true, twoBit: true},
		{name: "clip", topk: true, twoBit: true, clip: true},
		{name: "gap", topk: true, twoBit: true, clip: true, gap: true},
	}
}

func armNames() (names []string) {
	for _, a := range allArms() {
		names = append(names, a.name)
	}
	return names
}

func parseArms(list string) (arms []arm, err error) {
next:
	for name := range strings.SplitSeq(list, ",") {
		for _, a := range allArms() {
			if a.name == strings.TrimSpace(name) {
				arms = append(arms, a)
				continue next
			}
		}
		return nil, fmt.Errorf("unknown arm %q; there are %s", name, strings.Join(armNames(), ", "))
	}
	return arms, nil
}

// miner is one participant; which of its fields live depends on the arm.
type miner struct {
	trainer  model.Trainer
	e        []float32           // arm topk: error feedback
	feedback *gradients.Feedback // arms with payloads: the real one, on disk
	last     *gradients.Payload  // what it sent last
}

// trial is one run of an arm.
type trial struct {
	*lab
	arm    arm
	seed   uint64
	miners []*miner
	theta  *model.Flat // θ_{w-1}, then θ_w
	before *model.Flat // θ_{w-2}, for the proxy
}

// train runs an arm for all windows.
func (l *lab) train(ctx context.Context, a arm, seed uint64, marks []int) (result, error) {
	t := &trial{lab: l, arm: a, seed: seed, theta: model.NewFlat(l.layout), before: model.NewFlat(l.layout)}
	t.theta.Init(seed)
	dir, err := os.MkdirTemp("", "sn3-arms-")
	if err != nil {
		return result{}, err
	}
	defer os.RemoveAll(dir)
	if err := t.hire(dir); err != nil {
		return result{}, err
	}
	r := result{loss: map[int]float64{}}
	for w := range l.windows {
		if err := t.window(ctx, chain.Window(w)); err != nil {
			return r, fmt.Errorf("window %d: %w", w, err)
		}
		if len(marks) > 0 && marks[0] == w+1 {
			if r.loss[w+1], err = l.measure(ctx, t.theta); err != nil {
				return r, err
			}
			marks = marks[1:]
		}
	}
	for _, m := range t.miners {
		if m.last != nil {
			r.bytes += float64(m.last.Len()) / float64(len(t.miners))
			r.values += float64(m.last.Stats().Kept) / float64(len(t.miners))
		}
	}
	return r, nil
}

// hire makes the miners, each with its own moments.
func (t *trial) hire(dir string) error {
	n := t.lab.miners
	if t.arm.single {
		n = 1
	}
	for i := range n {
		m := &miner{e: make([]float32, t.layout.Params())}
		var err error
		if m.trainer, err = cpu.New("").NewTrainer(t.cfg, replica.Optimizer(t.run), model.Options{Threads: t.threads}); err != nil {
			return err
		}
		if t.arm.twoBit {
			if m.feedback, err = gradients.OpenFeedback(filepath.Join(dir, fmt.Sprint(i)), t.layout, float32(t.run.Payload.Beta)); err != nil {
				return err
			}
		}
		t.miners = append(t.miners, m)
	}
	return nil
}

// window is one window of all miners, one after the other, and the outer step.
func (t *trial) window(ctx context.Context, w chain.Window) error {
	tr := t.run.Train
	batch, samples := tr.Batch, tr.InnerSteps*tr.Batch
	if t.arm.single { // the same samples in as many steps
		batch, samples = batch*t.lab.miners, samples*t.lab.miners
	}
	var sent []update
	for i, m := range t.miners {
		beacon := binary.BigEndian.AppendUint64([]byte("sn3/arms"), t.seed)
		a, err := t.data.Assign(beacon, w, len(t.miners), i, samples)
		if err != nil {
			return err
		}
		if err := t.inner(ctx, m, w, t.data.Batches(a, batch)); err != nil {
			return err
		}
		if t.arm.single {
			return t.theta.CopyFrom(m.trainer.Trained())
		}
		u, err := t.compress(m, w)
		if err != nil {
			return err
		}
		sent = append(sent, u)
	}
	copy(t.before.Data, t.theta.Data)
	return t.outer(sent)
}

// inner makes H inner steps from θ_{w-1}; in arm gap the first of them from the proxy s = θ_{w-2} − α·decode(own payload of
// w-1), and then local <- local + (θ_{w-1} − s).
func (t *trial) inner(ctx context.Context, m *miner, w chain.Window, b model.Batches) error {
	h := t.run.Train.InnerSteps
	budget := model.Budget{First: uint64(w) * uint64(h), Steps: h}
	if !t.arm.gap || m.last == nil {
		if err := m.trainer.Reset(ctx, t.theta); err != nil {
			return err
		}
		return trainAll(ctx, m.trainer, b, budget)
	}
	proxy := model.NewFlat(t.layout)
	copy(proxy.Data, t.before.Data)
	alpha := float32(t.run.Outer.Alpha)
	part := newPart()
	for i := range t.layout.Chunks() {
		n := m.last.Chunk(i, part.Idx, part.Val)
		at := proxy.Data[t.layout.Chunk(i).Start:]
		for j := range n {
			at[part.Idx[j]] -= float32(alpha * part.Val[j])
		}
	}
	if err := m.trainer.Reset(ctx, proxy); err != nil {
		return err
	}
	if err := trainAll(ctx, m.trainer, b, model.Budget{First: budget.First, Steps: t.shift}); err != nil {
		return err
	}
	if err := m.trainer.Rebase(ctx, proxy, t.theta); err != nil {
		return err
	}
	return trainAll(ctx, m.trainer, b, model.Budget{First: budget.First + uint64(t.shift), Steps: h - t.shift})
}

func trainAll(ctx context.Context, tr model.Trainer, b model.Batches, budget model.Budget) error {
	rep, err := tr.Train(ctx, b, budget)
	if err == nil && rep.Steps < budget.Steps {
		err = fmt.Errorf("made %d of %d inner steps: %w", rep.Steps, budget.Steps, context.Cause(ctx))
	}
	return err
}

// update is what one miner sends: chunk by chunk, as the network's payloads are.
type update func(i int, p gradients.Part) gradients.Part

func newPart() gradients.Part {
	return gradients.Part{Idx: make([]uint16, model.ChunkSize), Val: make([]float32, model.ChunkSize)}
}

// compress turns θ_{w-1} − local into what the arm sends.
func (t *trial) compress(m *miner, w chain.Window) (update, error) {
	k := t.run.Payload.At(w)
	if t.arm.twoBit {
		p, err := m.feedback.Begin(t.theta, m.trainer.Trained(), w, k)
		if err != nil {
			return nil, err
		}
		m.last = p.Payload()
		return func(i int, p gradients.Part) gradients.Part {
			n := m.last.Chunk(i, p.Idx, p.Val)
			return gradients.Part{Idx: p.Idx[:n], Val: p.Val[:n]}
		}, p.Confirm()
	}
	delta := model.NewFlat(t.layout)
	if err := delta.CopyFrom(m.trainer.Trained()); err != nil {
		return nil, err
	}
	for i := range delta.Data {
		delta.Data[i] = t.theta.Data[i] - delta.Data[i]
	}
	if !t.arm.topk {
		return t.dense(delta.Data), nil
	}
	return t.sparse(m, delta.Data, k)
}

func (t *trial) dense(delta []float32) update {
	return func(i int, p gradients.Part) gradients.Part {
		c := t.layout.Chunk(i)
		for j := range c.Len {
			p.Idx[j] = uint16(j)
		}
		return gradients.Part{Idx: p.Idx[:c.Len], Val: delta[c.Start : c.Start+c.Len]}
	}
}

// sparse keeps what the codec would keep, with its float32 values.
func (t *trial) sparse(m *miner, delta []float32, k int) (update, error) {
	beta := float32(t.run.Payload.Beta)
	for i := range m.e {
		m.e[i] = float32(beta*m.e[i]) + delta[i]
	}
	kept := make([]gradients.Part, t.layout.Chunks())
	_, err := gradients.NewCodec(t.layout).Encode(io.Discard, vector{t.layout, m.e}, k, func(i int, idx []uint16, _ []float32) {
		at := m.e[t.layout.Chunk(i).Start:]
		for _, x := range idx {
			kept[i].Idx = append(kept[i].Idx, x)
			kept[i].Val = append(kept[i].Val, at[x])
			at[x] = 0
		}
	})
	return func(i int, _ gradients.Part) gradients.Part { return kept[i] }, err
}

// vector is a gradients.Source over a vector in chunk order.
type vector struct {
	l *model.Layout
	v []float32
}

func (v vector) Chunk(i int, dst []float32) error {
	copy(dst, v.v[v.l.Chunk(i).Start:])
	return nil
}

// outer makes the outer step: the network's own function in the arms that clip, else the same without clipping.
func (t *trial) outer(sent []update) error {
	o := t.run.Outer
	if t.arm.clip {
		var parts []*gradients.Payload
		for _, m := range t.miners {
			parts = append(parts, m.last)
		}
		_, err := gradients.OuterStep(t.theta, parts, float32(o.Alpha), o.MinDivisor)
		return err
	}
	parts, clip, scratch := make([]gradients.Part, len(sent)), make([]float32, len(sent)), make([]gradients.Part, len(sent))
	for r := range sent {
		clip[r], scratch[r] = 1, newPart()
	}
	for i := range t.layout.Chunks() {
		for r, u := range sent {
			parts[r] = u(i, scratch[r])
		}
		c := t.layout.Chunk(i)
		gradients.AggregateChunk(t.theta.Data[c.Start:c.Start+c.Len], parts, clip, float32(o.Alpha), float32(max(len(sent), o.MinDivisor)))
	}
	return nil
}
