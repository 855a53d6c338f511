// Package plan says beforehand what a node needs: memory, disk, and bytes a window, each part by name, against what its
// machine has. A node that cannot fit is refused before it downloads anything, with the smallest change that would do.
package plan

import (
	"math"

	"sn3/chain"
	"sn3/internal/spec"
	"sn3/model"
)

// Request is what shall run.
type Request struct {
	Name      string // of the network or preset, for messages
	Run       *chain.Run
	Validator bool
	Engine    model.Engine // a model.Sizer says what it will allocate; else it is estimated
	Options   model.Options
	Host      func(model.Config) model.Need // what an engine that computes on cards takes of this machine's memory; nil: Engine is asked
	Wait      bool                          // a miner in --gap wait has no proxy
	Cache     int64                         // bytes that --data-cache lets pages of the dataset take
}

// Line is one part of a plan.
type Line struct {
	Name  string
	Bytes int64
}

// Plan is what a Request takes, in bytes.
type Plan struct {
	Request
	Params   int64
	Memory   []Line
	Disk     []Line // of the node's folder, with what is written anew before the old is deleted
	Up, Down []Line // each window
}

// byteTokenizer is the one without a file.
const byteTokenizer = "bytes"

// beyond is more than any machine has: sizes of absurd descriptors stop there instead of overflowing.
const beyond = 1 << 59

// Sum adds up lines.
func Sum(lines []Line) int64 {
	var n int64
	for _, l := range lines {
		n = min(n+l.Bytes, beyond)
	}
	return n
}

// times multiplies sizes.
func times(a int64, b ...int64) int64 {
	for _, x := range b {
		if a > 0 && x > beyond/a {
			return beyond
		}
		a *= x
	}
	return a
}

const (
	// program is what a node takes with the smallest model: measured, 180 MiB with the preset local, of which its model has 50.
	program = 128 << 20
	// replicaCopies are the states that internal/replica keeps, and the next one being made.
	replicaCopies = 4
	// judged are the submissions that a validator holds at once: as many as a vote names.
	judged = 40
	// layoutBytes is what model.Layout takes for a chunk; the engine and the replica have one each.
	layoutBytes = 2 * 48
	// tokenBytesRead and tokenBytesFile are what a token of a BPE takes while tokenizer.json is read (700 to 1,100 bytes measured with
	// three files of 4096 tokens), and in that file (Llama 3.2, with merges as pairs: 17.2 MB for 128,256).
	tokenBytesRead = 1200
	tokenBytesFile = 140
)

// JudgeBatch is the longest batch that model/data reads for scoring.
const JudgeBatch = 16

// Make plans a request.
func Make(r Request) Plan {
	cfg := spec.Config(r.Run.Model)
	p := Plan{Request: r, Params: int64(cfg.Params())}
	var chunks int64
	for _, t := range cfg.Tensors() {
		chunks += chunksOf(t)
	}
	f32 := 4 * p.Params
	kept, payload := payloadBytes(r.Run, p.Params, chunks)
	decoded := payload + 3*kept + 5*chunks
	winners := int64(r.Run.Rules.Gather)
	batch := r.Run.Train.Batch
	if r.Validator {
		batch = min(JudgeBatch, max(r.Run.Score.HeldOut, r.Run.Score.Own))
	}
	need := needs(r, cfg, batch)
	add := func(to *[]Line, name string, n int64) {
		if n > 0 {
			*to = append(*to, Line{name, min(n, beyond)})
		}
	}
	add(&p.Memory, "engine: parameters", need.Params)
	add(&p.Memory, "engine: gradients", need.Grads)
	add(&p.Memory, "engine: optimizer moments", need.Moments)
	scratch := "engine: activations and scratch"
	if r.Host != nil {
		scratch = "engine: buffers for copies to and from the card"
	}
	add(&p.Memory, scratch, need.Acts)
	add(&p.Memory, "newest three models and the next", replicaCopies*f32+layoutBytes*chunks)
	sample := int64(cfg.Seq+1) * tokenBytes(cfg.Vocab)
	window := times(int64(r.Run.Train.InnerSteps), int64(r.Run.Train.Batch), sample)
	keep := int64(r.Run.Keep)
	var tokenizerFile int64
	if r.Run.Tokenizer != byteTokenizer {
		tokenizerFile = times(tokenBytesFile, int64(cfg.Vocab))
		add(&p.Memory, "tokenizer, while it is read", times(tokenBytesRead, int64(cfg.Vocab)))
		add(&p.Disk, "tokenizer", tokenizerFile)
	}
	add(&p.Disk, "pages of the dataset, at most (--data-cache)", r.Cache)
	add(&p.Disk, "model, and its replacement", 2*f32)
	if r.Validator {
		add(&p.Memory, "submissions being scored", judged*decoded)
		add(&p.Memory, "checkpoint being written and uploaded", 2*f32)
		add(&p.Disk, "submissions of the last windows", times(keep, judged, payload))
		add(&p.Disk, "checkpoint to upload", f32+tokenizerFile)
		add(&p.Up, "mirrored submissions", judged*payload)
		add(&p.Up, "checkpoint, spread over its windows", f32/int64(r.Run.Checkpoint))
		add(&p.Down, "submissions to score", judged*payload)
		add(&p.Down, "samples to score on", times(int64(r.Run.Score.HeldOut), sample)+times(int64(r.Run.Score.Own), 2*judged, sample))
		add(&p.Memory, "program, network, pages", program)
		return p
	}
	if !r.Wait {
		add(&p.Memory, "proxy to train on while θ is on its way", f32)
	}
	add(&p.Memory, "error feedback, old and pending", 2*f32+2*payload)
	add(&p.Memory, "selected payloads", times(winners, decoded))
	add(&p.Memory, "program, network, pages", program)
	add(&p.Disk, "error feedback: two slots and a new one", 3*(f32+payload))
	add(&p.Disk, "optimizer moments, and their replacement", 2*2*f32)
	add(&p.Disk, "selected payloads of the last windows", times(keep, winners, payload))
	add(&p.Up, "payload", payload)
	add(&p.Down, "selected payloads", times(winners, payload))
	add(&p.Down, "samples to train on", window)
	return p
}

// chunksOf is the number of chunks that a tensor is cut into (model.NewLayout).
func chunksOf(t model.Tensor) int64 {
	up := func(n, d int) int64 { return int64((n + d - 1) / d) }
	if len(t.Shape) == 1 {
		return up(t.Shape[0], model.ChunkSize)
	}
	return up(t.Shape[0], model.BlockSide) * up(t.Shape[1], model.BlockSide)
}

// payloadBytes is the expected number of values in a payload at the run's largest k, and its length: an index costs the entropy
// of where k of 4096 stand and 1 % (Golomb), a value 2 bits, a chunk 9.
func payloadBytes(r *chain.Run, params, chunks int64) (kept, size int64) {
	k := 0
	for _, s := range r.Payload.K {
		k = max(k, s.K)
	}
	share := float64(k) / model.ChunkSize
	kept = int64(math.Ceil(share * float64(params)))
	index := 1.0 // k > 1/4: a bitmap, at most 4 bits a value
	if share <= 0.25 {
		index = 1.01 * (-share*math.Log2(share) - (1-share)*math.Log2(1-share)) / share
	} else {
		index /= share
	}
	return kept, int64(float64(kept)*(index+2)/8) + chunks*9/8 + 64
}

// tokenBytes is the length of a stored token id.
func tokenBytes(vocab int) int64 {
	switch {
	case vocab <= 1<<8:
		return 1
	case vocab <= 1<<16:
		return 2
	}
	return 4
}

// needs asks the engine, unless its answer could overflow: then, and without a Sizer, it estimates from what the backward pass
// must have kept of every token.
func needs(r Request, c model.Config, batch int) model.Need {
	if r.Host != nil {
		return r.Host(c)
	}
	o, train := r.Options, !r.Validator
	if o.MicroBatch > 0 {
		batch = min(batch, o.MicroBatch)
	}
	n := estimate(c, o, batch, train)
	const absurd = 1 << 50
	if s, ok := r.Engine.(model.Sizer); ok && n.Acts < absurd {
		return s.Need(c, o, batch, train)
	}
	return n
}

func estimate(c model.Config, o model.Options, batch int, train bool) model.Need {
	params := int64(c.Params())
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	layer := int64(4*c.Width + 2*q + 2*kv + 3*c.FFN + c.Heads + 2)
	layers := int64(1)
	n := model.Need{Params: 4 * params}
	if o.Precision == model.BF16 {
		n.Params += 2 * params
	}
	if train {
		n.Grads, n.Moments, layers = 4*params, 8*params, int64(c.Layers)
	}
	const logitRows = 256
	n.Acts = times(int64(batch), int64(c.Seq), 4*layer, layers+1) + times(4*logitRows, int64(c.Vocab), int64(max(1, o.Threads)))
	return n
}
