package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"sn3/internal/preset"
	"sn3/internal/proc"
	"sn3/model"
	"sn3/model/gpu"
	"sn3/model/gpu/cuda"
	"sn3/model/gpu/memory"
	"sn3/model/gpu/roofline"
)

// GPUModel is the train step of one shape.
type GPUModel struct {
	Shape      string           `json:"shape"`
	Params     int              `json:"params"`
	NotFit     string           `json:"does_not_fit,omitempty"` // why nothing was measured
	Plan       memory.Plan      `json:"plan,omitempty"`
	Recompute  memory.Recompute `json:"recompute,omitempty"`
	MicroBatch int              `json:"micro_batch,omitempty"`
	Batch      int              `json:"batch,omitempty"` // sequences of a measured step
	Whole      int              `json:"preset_batch,omitempty"`
	Seq        int              `json:"seq"`
	FLOP       float64          `json:"flop_per_token"`
	Step       Row              `json:"step"` // seconds
	PerSecond  float64          `json:"tokens_per_second"`
	MFU        float64          `json:"mfu,omitempty"`
	Arena      int64            `json:"arena_bytes"`
	Host       int64            `json:"host_bytes"` // of the host's memory, by the plan
	Driver     int64            `json:"driver_bytes"`
	Predicted  *GPUPrediction   `json:"predicted,omitempty"`
	Traced     GPUTrace         `json:"traced"`
}

// GPUPrediction is the same step on paper.
type GPUPrediction struct {
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"tokens_per_second"`
	MFU       float64 `json:"mfu"`
}

// GPUTrace is a step launch by launch.
type GPUTrace struct {
	Batch    int         `json:"batch"`
	Launches int         `json:"launches"`
	Kernels  []GPUKernel `json:"kernels"` // by their time
	Seconds  float64     `json:"seconds"` // of all kernels
	Host     float64     `json:"host_seconds"`
}

// models measures every shape that fits; one that fails does not keep the next from running.
func (g *gpuBench) models() error {
	var errs []error
	for shape := range strings.SplitSeq(g.flags.String("shapes"), ",") {
		m, err := g.model(shape)
		if g.idle != nil { // a context that a fault has broken must go, or what comes next gets it too
			err = errors.Join(err, g.idle.Close())
			g.idle = nil
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", shape, err))
		}
		if m != nil {
			g.out.Models = append(g.out.Models, *m)
		}
		if g.ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// planned is the shape with what the flags change, and how the card runs it.
func (g *gpuBench) planned(shape string, share float64) (t *task, r memory.Request, fits bool, err error) {
	if t, err = cardTask(shape, g.flags.Int("batch"), g.flags.Int("seq")); err != nil {
		return nil, r, false, err
	}
	r = memory.Request{Model: t.Config, Ranks: 1}
	most := min(max(1, memory.FullCard/t.Seq), t.Batch)
	r, fits = r.Choose(int64(share*float64(g.info.Memory)), most)
	return t, r, fits, r.Validate()
}

func (g *gpuBench) model(shape string) (*GPUModel, error) {
	t, r, fits, err := g.planned(shape, g.flags.Float64("gpu-memory"))
	if err != nil {
		return nil, err
	}
	m := &GPUModel{Shape: t.Name, Params: t.Config.Params(), Whole: t.Batch, Seq: t.Seq, FLOP: roofline.FLOPsPerToken(t.Config), Arena: r.Arena().Size}
	need := r.HostNeed()
	m.Host = need.Total()
	if !fits {
		m.NotFit = fmt.Sprintf("plan %s, recompute %s: %.1f GB for one sequence", r.Plan, r.Recompute, float64(m.Arena)/1e9)
	} else if free, ok := freeMemory(); ok && m.Host > free { // the system would kill us, with what was measured before
		m.NotFit = fmt.Sprintf("plan %s takes %.1f GB of the host's memory, %.1f are free", r.Plan, float64(m.Host)/1e9, float64(free)/1e9)
	}
	if m.NotFit != "" {
		g.say("\n%s does not fit: %s", t.Name, m.NotFit)
		return m, nil
	}
	passes := (t.Batch + r.MicroBatch - 1) / r.MicroBatch
	if most := g.flags.Int("passes"); most > 0 {
		passes = min(passes, most)
	}
	m.Plan, m.Recompute, m.MicroBatch, m.Batch = r.Plan, r.Recompute, r.MicroBatch, min(t.Batch, passes*r.MicroBatch)
	if g.sheet.Name != "" {
		p, err := roofline.Predict(g.sheet, r, m.Batch)
		if err != nil {
			return nil, err
		}
		m.Predicted = &GPUPrediction{p.Seconds, p.PerSecond, p.MFU}
	}
	g.say("\n%s: plan %s, recompute %s, micro-batch %d of %d×%d tokens, %.2f GB", t.Name, m.Plan, m.Recompute, m.MicroBatch, m.Batch, m.Seq, float64(m.Arena)/1e9)
	return m, g.train(t, r, m)
}

// train measures steps, the memory that they take, and a step by its kernels.
func (g *gpuBench) train(t *task, r memory.Request, m *GPUModel) (err error) {
	before, err := g.free()
	if err != nil {
		return err
	}
	tr, err := cardTrainer(t, r, g.info.Ordinal)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tr.Close()) }()
	w, err := fresh(t.Config)
	if err != nil {
		return err
	}
	if err := tr.Reset(g.ctx, w); err != nil {
		return err
	}
	n := uint64(0)
	step := func(b model.Batch) (float64, error) {
		from := time.Now()
		done, err := tr.Train(g.ctx, &one{b}, model.Budget{First: n, Steps: 1})
		if err == nil && done.Steps == 0 {
			err = context.Cause(g.ctx)
		}
		n++
		return time.Since(from).Seconds(), err
	}
	b := random(t.Config, m.Batch, m.Seq)
	var all []float64
	const warm = 2
	for i := range warm + g.rounds {
		took, err := step(b)
		if err != nil {
			return err
		}
		if i >= warm {
			all = append(all, took)
		}
	}
	m.Step = Row{Bench: "gpu", Case: t.Name, By: "sn3", Unit: "s"}.spread(all)
	m.PerSecond = float64(m.Batch*m.Seq) / m.Step.Median
	if g.sheet.Name != "" {
		m.MFU = m.FLOP * m.PerSecond / g.sheet.FLOPs
	}
	after, err := g.free()
	if err != nil {
		return err
	}
	m.Driver = before - after
	g.say("  %s tokens/s, %.1f ms a step (%.1f–%.1f), MFU %.1f %%; %.2f GB by the plan, %.2f by the driver", figure(m.PerSecond), 1e3*m.Step.Median, 1e3*m.Step.Low,
		1e3*m.Step.High, 100*m.MFU, float64(m.Arena)/1e9, float64(m.Driver)/1e9)
	m.Traced.Batch = min(m.Batch, m.MicroBatch)
	list, err := tr.Traced(func() (err error) {
		m.Traced.Host, err = step(random(t.Config, m.Traced.Batch, m.Seq))
		return err
	})
	if err == nil {
		g.table(m, list)
	}
	return err
}

// cardTrainer is the engine's trainer for a request.
func cardTrainer(t *task, r memory.Request, ordinal int) (*gpu.Trainer, error) {
	x, err := gpu.New(gpu.Settings{Ordinal: ordinal, Plan: r.Plan, Recompute: r.Recompute}).NewTrainer(t.Config, t.optimizer(), model.Options{Precision: model.BF16, MicroBatch: r.MicroBatch})
	if err != nil {
		return nil, err
	}
	return x.(*gpu.Trainer), nil
}

// free is the card's memory that nobody has, as the driver counts, with a context of ours open.
func (g *gpuBench) free() (free int64, err error) {
	if g.idle == nil {
		d, err := cuda.Open()
		if err != nil {
			return 0, err
		}
		if g.idle, err = d.Start(g.info.Ordinal); err != nil {
			return 0, err
		}
	}
	return free, g.idle.Do(func(c *cuda.Context) error {
		n, _, err := c.Memory()
		free = int64(n)
		return err
	})
}

// table adds up a trace's launches by kernel.
func (g *gpuBench) table(m *GPUModel, list []gpu.Launch) {
	sums, predicted := map[string]*GPUKernel{}, map[string]float64{}
	for _, x := range list {
		l := roofline.Launch{Kernel: x.Kernel, Grid: x.Grid, Args: x.Args, Values: int64(m.Params)}
		k := sums[x.Kernel]
		if k == nil {
			k = &GPUKernel{Kernel: x.Kernel}
			sums[x.Kernel] = k
		}
		w, _ := l.Work()
		k.Calls, k.Seconds, k.FLOP, k.Bytes = k.Calls+1, k.Seconds+x.Took.Seconds(), k.FLOP+w.FLOP, k.Bytes+w.Bytes
		predicted[x.Kernel] += g.predicted(l)
		m.Traced.Seconds += x.Took.Seconds()
	}
	m.Traced.Launches = len(list)
	for name, k := range sums {
		line := k.rated(g.sheet, predicted[name])
		line.Share = k.Seconds / m.Traced.Seconds
		m.Traced.Kernels = append(m.Traced.Kernels, line)
	}
	slices.SortFunc(m.Traced.Kernels, func(a, b GPUKernel) int {
		return cmp.Or(cmp.Compare(b.Seconds, a.Seconds), cmp.Compare(a.Kernel, b.Kernel))
	})
}

// cardTask is a shape with the batch and the sequences of its preset, where the flags say nothing.
func cardTask(shape string, batch, seq int) (*task, error) {
	r, err := preset.Run(shape, 0)
	if err != nil {
		return nil, proc.Usage(err)
	}
	return newTask(shape, cmp.Or(batch, r.Train.Batch), cmp.Or(seq, r.Model.Seq))
}

// random is a batch of random tokens.
func random(c model.Config, B, T int) model.Batch {
	r := rand.New(rand.NewPCG(1, 2))
	b := model.Batch{B: B, T: T, X: make([]int32, B*T), Y: make([]int32, B*T)}
	for i := range b.X {
		b.X[i], b.Y[i] = r.Int32N(int32(c.Vocab)), r.Int32N(int32(c.Vocab))
	}
	return b
}

// drawn are weights of a model of any size, without a copy in memory: norms 1, all others small, by their place.
type drawn struct {
	l    *model.Layout
	norm []bool // of every chunk
}

// fresh are the first weights of a model.
func fresh(c model.Config) (model.Weights, error) {
	l, err := model.NewLayout(c)
	if err != nil {
		return nil, err
	}
	d := drawn{l, make([]bool, l.Chunks())}
	t, tensors := 0, l.Tensors()
	for i := range d.norm {
		for l.Chunk(i).Off >= tensors[t].Off+tensors[t].Len() {
			t++
		}
		d.norm[i] = len(tensors[t].Shape) == 1
	}
	return d, nil
}

// Layout implements model.Weights.
func (d drawn) Layout() *model.Layout { return d.l }

// Read implements model.Weights.
func (d drawn) Read(dst []float32, c model.ChunkRange) error {
	if err := d.l.CheckRange(c, len(dst)); err != nil {
		return err
	}
	for i := c.From; i < c.To; i++ {
		x := uint64(i)*0x9E3779B97F4A7C15 + 1
		for j := range d.l.Chunk(i).Len {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
			dst[j] = 0.07 * (float32(x>>40)/(1<<24) - 0.5) // a deviation of 0.02
			if d.norm[i] {
				dst[j] = 1
			}
		}
		dst = dst[d.l.Chunk(i).Len:]
	}
	return nil
}
