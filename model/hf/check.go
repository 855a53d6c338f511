package hf

import (
	"maps"
	"math"
	"slices"
	"strings"

	"sn3/model"
)

const (
	headName  = "lm_head.weight"
	embedName = "model.embed_tokens.weight"
)

// redundant tensors of old exports say what the configuration says.
func redundant(name string) bool { return strings.HasSuffix(name, ".self_attn.rotary_emb.inv_freq") }

// check compares the files with the configuration before anything of the configuration's size is allocated: a configuration
// may come from a stranger, the files are as large as they say.
func check(c model.Config, files []*File, where func(name string) *File) error {
	if err := c.Validate(); err != nil {
		return invalid("config.json: %v", err)
	}
	known := map[string]bool{}
	for _, t := range c.Tensors() {
		known[t.Name] = true
		if err := checkTensor(t, where(t.Name)); err != nil {
			return err
		}
	}
	for _, f := range files {
		for _, name := range slices.Sorted(maps.Keys(f.Entries)) { // the same file, the same message
			e := f.Entries[name]
			switch {
			case known[name] || redundant(name):
			case strings.HasSuffix(name, ".bias"):
				return invalid("tensor %q %v: this engine computes a Llama without biases", name, e.Shape)
			case name == headName: // some exports of tied models carry the matrix twice; sameHead compares them
				if err := checkTensor(model.Tensor{Name: name, Shape: []int{c.Vocab, c.Width}}, f); err != nil {
					return err
				}
			default:
				return invalid("tensor %q %v: a Llama with these fields of config.json has no such tensor (num_hidden_layers %d)", name, e.Shape, c.Layers)
			}
		}
	}
	return nil
}

func checkTensor(t model.Tensor, f *File) error {
	field := fieldsOf(t.Name)
	if f == nil {
		return invalid("no file holds tensor %q, which config.json asks for (%s)", t.Name, field)
	}
	e, ok := f.Entries[t.Name]
	if !ok {
		return invalid("tensor %q, which config.json asks for (%s), is missing", t.Name, field)
	}
	if !slices.EqualFunc(e.Shape, t.Shape, func(a uint64, b int) bool { return a == uint64(b) }) {
		return invalid("tensor %q: shape %v, config.json says %v (%s)", t.Name, e.Shape, t.Shape, field)
	}
	if !e.readable() {
		return invalid("tensor %q: cannot read dtype %s; F32, BF16 and F16 can be read", t.Name, e.DType)
	}
	return nil
}

// fieldsOf names the fields of config.json that a tensor's presence and shape follow from.
func fieldsOf(tensor string) string {
	short := tensor
	if parts := strings.Split(tensor, "."); len(parts) > 2 {
		short = parts[len(parts)-2]
	}
	s, ok := map[string]string{
		"embed_tokens": "vocab_size, hidden_size", headName: "tie_word_embeddings, vocab_size, hidden_size", "norm": "hidden_size",
		"q_proj": "num_hidden_layers, num_attention_heads × head_dim, hidden_size", "o_proj": "num_hidden_layers, hidden_size, num_attention_heads × head_dim",
		"k_proj": "num_hidden_layers, num_key_value_heads × head_dim, hidden_size", "v_proj": "num_hidden_layers, num_key_value_heads × head_dim, hidden_size",
		"gate_proj": "num_hidden_layers, intermediate_size, hidden_size", "up_proj": "num_hidden_layers, intermediate_size, hidden_size",
		"down_proj": "num_hidden_layers, hidden_size, intermediate_size",
	}[short]
	if !ok {
		return "num_hidden_layers, hidden_size"
	}
	return s
}

// sameHead: a tied model that also has an output matrix must have the embedding in it, else readers that follow the
// configuration and readers that follow the file would run two models. This is the one check that reads weights.
func (f *Folder) sameHead(head *File) error {
	if !f.Config.Tied || head == nil || head.Entries[headName].Name == "" {
		return nil
	}
	embed, same := f.files[embedName], true
	piece := min(1<<16, f.Config.Vocab*f.Config.Width)
	x, y := make([]float32, piece), make([]float32, piece)
	for at := 0; same && at < f.Config.Vocab*f.Config.Width; at += piece {
		n := min(piece, f.Config.Vocab*f.Config.Width-at)
		if err := head.Read(headName, at, x[:n]); err != nil {
			return err
		}
		if err := embed.Read(embedName, at, y[:n]); err != nil {
			return err
		}
		same = slices.EqualFunc(x[:n], y[:n], func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) })
	}
	if !same {
		return invalid("config.json: tie_word_embeddings is true, but %s is not %s", headName, embedName)
	}
	return nil
}
