package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"sn3/internal/preset"
	"sn3/internal/proc"
	"sn3/internal/spec"
	"sn3/model"
	"sn3/model/hf"
)

// A task is a model, one batch and an optimizer, written to a folder so that every worker starts from the same numbers.
type task struct {
	Config model.Config `json:"-"` // config.json beside it
	Name   string       `json:"name"`

	Vocab  int     `json:"vocab"`
	Width  int     `json:"width"`
	Layers int     `json:"layers"`
	Heads  int     `json:"heads"`
	FFN    int     `json:"ffn"`
	Theta  float64 `json:"theta"`
	Eps    float64 `json:"eps"`

	Batch   int     `json:"batch"`
	Seq     int     `json:"seq"`
	Warm    int     `json:"warm"` // steps before anything is timed; their losses are compared
	LR      float64 `json:"lr"`
	Beta1   float64 `json:"beta1"`
	Beta2   float64 `json:"beta2"`
	AdamEps float64 `json:"adam_eps"`
	Decay   float64 `json:"decay"`
}

// tokens is what batches hold unless something else is asked for: of the presets as they are trained a step takes minutes here.
var tokens = map[string][2]int{"8m": {8, 256}, "160m": {4, 256}}

// newTask takes the shape of a preset; seq and batch 0 are those that the figures in LOG.md stand for.
func newTask(name string, batch, seq int) (*task, error) {
	r, err := preset.Run(name, 0)
	if err != nil {
		return nil, proc.Usage(err)
	}
	usual, ok := tokens[name]
	if !ok {
		usual[1] = min(r.Model.Seq, 256)
		usual[0] = min(r.Train.Batch, 8)
	}
	if batch == 0 {
		batch = usual[0]
	}
	if seq == 0 {
		seq = usual[1]
	}
	if batch < 1 || seq < 1 {
		return nil, proc.Usage(fmt.Errorf("batch %d, seq %d: at least 1", batch, seq))
	}
	c := spec.Config(r.Model)
	c.Seq = seq
	if err := c.Validate(); err != nil {
		return nil, proc.Usage(err)
	}
	return &task{Config: c, Name: name, Vocab: c.Vocab, Width: c.Width, Layers: c.Layers, Heads: c.Heads, FFN: c.FFN, Theta: c.RopeTheta, Eps: c.NormEps,
		Batch: batch, Seq: seq, Warm: 5, LR: 3e-4, Beta1: 0.9, Beta2: 0.95, AdamEps: 1e-8, Decay: 0.1}, nil
}

// optimizer decays every tensor, as torch's AdamW does unless it is told otherwise, and does not clip.
func (t *task) optimizer() model.Optimizer {
	return model.Optimizer{LR: t.LR, MinLR: 1, Total: 1 << 30, Beta1: t.Beta1, Beta2: t.Beta2, Eps: t.AdamEps, WeightDecay: t.Decay,
		Decays: func(model.Tensor) bool { return true }}
}

// plain refuses what the torch side cannot express.
func (t *task) plain() error {
	if c := t.Config; c.KVHeads != c.Heads || c.HeadDim*c.Heads != c.Width || c.Tied || c.Rope != nil {
		return proc.Usage(fmt.Errorf("shape %s: the torch model has as many key/value heads as heads, width/heads wide, no tied matrices and no rope scaling", t.Name))
	}
	return nil
}

const (
	weightsFile = "model.safetensors"
	batchFile   = "batch.bin"
	taskFile    = "task.json"
)

// save writes the task, initial weights and one random batch.
func (t *task) save(dir string) error {
	l, err := model.NewLayout(t.Config)
	if err != nil {
		return err
	}
	w := model.NewFlat(l)
	w.Init(1)
	r := rand.New(rand.NewPCG(1, 2))
	var batch bytes.Buffer
	for range 2 * t.Batch * t.Seq {
		batch.Write(binary.LittleEndian.AppendUint32(nil, r.Uint32N(uint32(t.Vocab))))
	}
	raw, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("write task: %w", err)
	}
	f, err := os.Create(filepath.Join(dir, weightsFile))
	if err != nil {
		return fmt.Errorf("write task: %w", err)
	}
	return errors.Join(
		hf.WriteModel(f, w, hf.F32, nil), f.Close(),
		os.WriteFile(filepath.Join(dir, "config.json"), hf.Config(t.Config, hf.F32), 0o600),
		os.WriteFile(filepath.Join(dir, batchFile), batch.Bytes(), 0o600),
		os.WriteFile(filepath.Join(dir, taskFile), raw, 0o600))
}

// openTask reads what save wrote.
func openTask(dir string) (t *task, w *model.Flat, b model.Batch, err error) {
	fail := func(err error) (*task, *model.Flat, model.Batch, error) {
		return nil, nil, model.Batch{}, fmt.Errorf("read task: %w", err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, taskFile))
	if err != nil {
		return fail(err)
	}
	if err := json.Unmarshal(raw, &t); err != nil {
		return fail(err)
	}
	if t.Config, w, err = hf.OpenDir(dir); err != nil {
		return fail(err)
	}
	t.Config.Seq = t.Seq
	if raw, err = os.ReadFile(filepath.Join(dir, batchFile)); err != nil {
		return fail(err)
	}
	ids := make([]int32, 2*t.Batch*t.Seq)
	if err := binary.Read(bytes.NewReader(raw), binary.LittleEndian, ids); err != nil {
		return fail(err)
	}
	return t, w, model.Batch{B: t.Batch, T: t.Seq, X: ids[:t.Batch*t.Seq], Y: ids[t.Batch*t.Seq:]}, nil
}
