package chain

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// RunVersion is the version of the descriptor and of the rules it implies.
const RunVersion = 2

// Run is the run descriptor: everything a node needs to know to take part. Its canonical bytes are Go's encoding/json of
// this struct; the network pins their SHA-256. A change takes effect only at a window boundary announced ahead.
type Run struct {
	Version    int            `json:"version"`
	Network    string         `json:"network"`  // name of the network; binds every signature
	Loopback   bool           `json:"loopback"` // a local network: buckets and peers live on 127.0.0.1
	Seed       uint64         `json:"seed"`     // of the initial model
	Model      ModelSpec      `json:"model"`
	Tokenizer  string         `json:"tokenizer"` // "bytes", or the SHA-256 in hex of a tokenizer.json, the object data/<it>
	Dataset    DatasetSpec    `json:"dataset"`
	Schedule   ScheduleParams `json:"schedule"`
	Rules      Rules          `json:"rules"`
	Train      TrainSpec      `json:"train"`
	Payload    PayloadSpec    `json:"payload"`
	Outer      OuterSpec      `json:"outer"`
	Score      ScoreSpec      `json:"score"`
	Checkpoint int            `json:"checkpoint_every"` // windows between checkpoints
	Keep       int            `json:"keep_windows"`     // windows that every owner keeps its objects for
	Tempo      Block          `json:"tempo"`            // blocks between epochs
}

// ModelSpec is the shape of a Llama-style model.
type ModelSpec struct {
	Vocab     int     `json:"vocab"`
	Width     int     `json:"width"`
	Layers    int     `json:"layers"`
	Heads     int     `json:"heads"`
	KVHeads   int     `json:"kv_heads"`
	HeadDim   int     `json:"head_dim"`
	FFN       int     `json:"ffn"`
	Seq       int     `json:"seq"`
	Tied      bool    `json:"tied"`
	RopeTheta float64 `json:"rope_theta"`
	NormEps   float64 `json:"norm_eps"`

	Rope *RopeSpec `json:"rope,omitempty"` // scaling of the rotary frequencies; absent: none
}

// RopeSpec is model.RopeScaling.
type RopeSpec struct {
	Type     string  `json:"type"` // "linear" or "llama3"
	Factor   float64 `json:"factor"`
	LowFreq  float64 `json:"low_freq,omitempty"`
	HighFreq float64 `json:"high_freq,omitempty"`
	Original int     `json:"original,omitempty"` // context before scaling
}

// DatasetSpec pins the training and held-out text.
type DatasetSpec struct {
	Locator  []byte `json:"locator"`  // of the data bucket, as in Record
	Manifest Hash   `json:"manifest"` // SHA-256 of the object data/<manifest>
	Root     Hash   `json:"root"`     // Merkle root over the pages

	Mirrors [][]byte `json:"mirrors,omitempty"` // locators of buckets with the same objects, tried in order
}

// TrainSpec are the inner steps.
type TrainSpec struct {
	InnerSteps  int     `json:"inner_steps"` // H
	Batch       int     `json:"batch"`       // B, sequences per inner step
	LR          float64 `json:"lr"`
	MinLR       float64 `json:"min_lr"`   // floor, as a fraction of LR
	Warmup      int     `json:"warmup"`   // global steps w·H + i
	Total       int     `json:"total"`    // global steps; after it LR stays at its floor
	Schedule    string  `json:"schedule"` // "wsd": warm-up, flat, linear decay; "cosine": warm-up, half a cosine
	Decay       float64 `json:"decay"`    // wsd: last fraction of Total that goes down
	Beta1       float64 `json:"beta1"`
	Beta2       float64 `json:"beta2"`
	Eps         float64 `json:"eps"`
	WeightDecay float64 `json:"weight_decay"` // matrices only
	Clip        float64 `json:"clip"`         // global norm
}

// KStep says how many of 4096 values a chunk may send from a window on.
type KStep struct {
	From Window `json:"from"`
	K    int    `json:"k"`
}

// PayloadSpec is the codec's schedule.
type PayloadSpec struct {
	K    []KStep `json:"k"`    // ascending From, the first From = 0
	Beta float64 `json:"beta"` // error-feedback decay
}

// OuterSpec is aggregation and the outer step.
type OuterSpec struct {
	Alpha      float64 `json:"alpha"`       // outer step size
	MinDivisor int     `json:"min_divisor"` // divisor of the dense mean is max(R, this)
	RootEvery  int     `json:"root_every"`  // windows between full state roots; this version has one after every window, which its manifests and votes name
}

// ScoreSpec is how validators score; every validator must use the same token budget for scores to be comparable.
type ScoreSpec struct {
	Winners int     `json:"expected_winners"` // trial step s = Alpha / Winners
	HeldOut int     `json:"held_out"`         // sequences of held-out data per window
	Own     int     `json:"own"`              // sequences of the miner's own consumed batches, and as many unseen ones
	EMA     float64 `json:"ema"`              // weight of a new window in a rating
}

// MaxMirrors bounds the mirrors of a dataset.
const MaxMirrors = 8

// isHash says whether s is 64 lower-case hex digits.
func isHash(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// Encode returns the canonical bytes.
func (r *Run) Encode() []byte {
	b, err := json.Marshal(r)
	if err != nil { // only NaN or Inf can do this, and Validate refuses them
		panic(fmt.Sprintf("chain: encode run descriptor: %v", err))
	}
	return b
}

// Hash is SHA-256 of the canonical bytes.
func (r *Run) Hash() Hash { return sha256.Sum256(r.Encode()) }

// ParseRun reads canonical bytes: unknown fields, trailing bytes and other spellings of the same value are refused.
func ParseRun(b []byte) (*Run, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var r Run
	if err := d.Decode(&r); err != nil {
		return nil, fmt.Errorf("parse run descriptor: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("parse run descriptor: trailing bytes")
	}
	if err := r.Validate(); err != nil {
		return nil, err
	}
	if !bytes.Equal(r.Encode(), b) {
		return nil, fmt.Errorf("parse run descriptor: not canonical")
	}
	return &r, nil
}

// Validate rejects contradictions. It fills nothing in: a descriptor is explicit.
func (r *Run) Validate() error {
	if r.Version != RunVersion {
		return fmt.Errorf("run descriptor: version %d, this build knows %d; install the release the network runs", r.Version, RunVersion)
	}
	for _, x := range []struct {
		name string
		v    float64
	}{{"model.rope_theta", r.Model.RopeTheta}, {"model.norm_eps", r.Model.NormEps}, {"train.lr", r.Train.LR}, {"train.min_lr", r.Train.MinLR},
		{"train.decay", r.Train.Decay}, {"train.beta1", r.Train.Beta1}, {"train.beta2", r.Train.Beta2}, {"train.eps", r.Train.Eps},
		{"train.weight_decay", r.Train.WeightDecay}, {"train.clip", r.Train.Clip}, {"payload.beta", r.Payload.Beta},
		{"outer.alpha", r.Outer.Alpha}, {"score.ema", r.Score.EMA}} {
		if math.IsNaN(x.v) || math.IsInf(x.v, 0) || x.v < 0 {
			return fmt.Errorf("run descriptor: %s is %v; give a number from 0 on", x.name, x.v)
		}
	}
	if err := r.Schedule.Validate(); err != nil {
		return fmt.Errorf("run descriptor: %w", err)
	}
	switch {
	case r.Network == "" || len(r.Network) > 64:
		return fmt.Errorf("run descriptor: network name %q", r.Network)
	case r.Tokenizer != "bytes" && !isHash(r.Tokenizer):
		return fmt.Errorf("run descriptor: tokenizer %q is neither \"bytes\" nor the SHA-256 of a tokenizer.json", r.Tokenizer)
	case r.Train.Schedule != "wsd" && r.Train.Schedule != "cosine":
		return fmt.Errorf("run descriptor: learning-rate schedule %q; this build knows wsd and cosine", r.Train.Schedule)
	case len(r.Dataset.Mirrors) > MaxMirrors:
		return fmt.Errorf("run descriptor: %d mirrors of the dataset, at most %d", len(r.Dataset.Mirrors), MaxMirrors)
	case slices.ContainsFunc(r.Dataset.Mirrors, func(l []byte) bool { return len(l) == 0 || len(l) > MaxLocator }):
		return fmt.Errorf("run descriptor: a mirror's locator must have 1 to %d bytes", MaxLocator)
	case len(r.Dataset.Locator) > MaxLocator:
		return fmt.Errorf("run descriptor: dataset locator of %d bytes", len(r.Dataset.Locator))
	case r.Train.InnerSteps < 1 || r.Train.Batch < 1 || r.Train.Total < 1:
		return fmt.Errorf("run descriptor: inner_steps, batch and total must be at least 1")
	case r.Rules.Gather < 1 || r.Rules.Shards != 1:
		return fmt.Errorf("run descriptor: gather %d, shards %d (this version runs 1 shard)", r.Rules.Gather, r.Rules.Shards)
	case r.Outer.MinDivisor < 1 || r.Outer.Alpha <= 0:
		return fmt.Errorf("run descriptor: outer %+v", r.Outer)
	case r.Outer.RootEvery != 1:
		return fmt.Errorf("run descriptor: outer.root_every %d (this version has a state root after every window: 1)", r.Outer.RootEvery)
	case r.Score.Winners < 1 || r.Score.HeldOut < 1 || r.Score.Own < 1 || r.Score.EMA <= 0 || r.Score.EMA > 1:
		return fmt.Errorf("run descriptor: score %+v", r.Score)
	case r.Checkpoint < 1 || r.Keep <= 2*r.Checkpoint || r.Tempo < 1:
		return fmt.Errorf("run descriptor: checkpoint_every %d, keep_windows %d (more than two checkpoints' worth), tempo %d",
			r.Checkpoint, r.Keep, r.Tempo)
	}
	return r.validateK()
}

func (r *Run) validateK() error {
	if len(r.Payload.K) == 0 || r.Payload.K[0].From != 0 {
		return fmt.Errorf("run descriptor: the k schedule must start at window 0")
	}
	for i, s := range r.Payload.K {
		if s.K < 1 || s.K > 4096 || i > 0 && s.From <= r.Payload.K[i-1].From {
			return fmt.Errorf("run descriptor: k schedule entry %d: %+v", i, s)
		}
	}
	return nil
}

// At is the number of values per 4096 that payloads of w carry.
func (p PayloadSpec) At(w Window) int {
	k := p.K[0].K
	for _, s := range p.K {
		if s.From <= w {
			k = s.K
		}
	}
	return k
}

// TrialScale is the step with which a lone payload is tried: α / expected winners (DESIGN §6, notes on scoring).
func (r *Run) TrialScale() float32 { return float32(r.Outer.Alpha / float64(r.Score.Winners)) }
