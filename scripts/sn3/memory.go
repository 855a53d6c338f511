package main

import (
	"fmt"
	"math"
	"strings"

	"sn3/internal/plan"
	"sn3/model"
)

// freeMemory is what this process may still take in bytes; math.MaxInt64 where it cannot be known.
func freeMemory() int64 {
	if free := plan.FreeMemory(); free != plan.Unknown {
		return free
	}
	return math.MaxInt64
}

// roomFor refuses a model that does not fit beside beyond further bytes (activations, keys and values), before a weight is
// read. It names the field that most of the memory goes to.
func roomFor(c model.Config, beyond, free int64) error {
	params, layers := int64(0), int64(0)
	for _, t := range c.Tensors() {
		params += 4 * int64(t.Len())
		if strings.HasPrefix(t.Name, "model.layers.") {
			layers += 4 * int64(t.Len())
		}
	}
	if params+beyond <= free {
		return nil
	}
	gib := func(n int64) float64 { return float64(n) / (1 << 30) }
	field := fmt.Sprintf("num_hidden_layers %d (%.2f GiB)", c.Layers, gib(layers))
	switch {
	case beyond > params:
		field = fmt.Sprintf("the length of the sequences (%.2f GiB; max_position_embeddings %d)", gib(beyond), c.Seq)
	case params-layers > layers:
		field = fmt.Sprintf("vocab_size %d (%.2f GiB)", c.Vocab, gib(params-layers))
	}
	return fmt.Errorf("the model needs %.2f GiB of memory, %.2f GiB are free; most of it is for %s", gib(params+beyond), gib(free), field)
}

// promptRows is how many tokens of a prompt go through the CPU engine at once.
const promptRows = 128

// decodeNeed is the memory in bytes that decoding takes beside the weights: keys and values of seq tokens in float32, and what
// the forward pass of a part of the prompt takes.
func decodeNeed(e model.Sizer, c model.Config, o model.Options, seq int) int64 {
	return 8*int64(c.Layers)*int64(seq)*int64(c.KVHeads*c.HeadDim) + judgeNeed(e, c, o, 1, min(seq, promptRows))
}

// judgeNeed is the memory in bytes that an engine takes to measure losses, beside the weights.
func judgeNeed(e model.Sizer, c model.Config, o model.Options, batch, seq int) int64 {
	c.Seq = seq
	return e.Need(c, o, batch, false).Total() - 4*int64(c.Params())
}
