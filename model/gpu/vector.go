package gpu

import (
	"strconv"
	"strings"

	"sn3/model"
)

// A vector is the model's values on the card: as in the flat row-major vector of the host, but what a kernel reads as one matrix
// begins at a multiple of unit values. The gaps are zero and stay zero.
const unit = 8

// vector is how they lie.
type vector struct {
	size     int // with gaps
	segments []segment
	at       []int // of every tensor
	emb      int
	norm     int
	head     int
	layers   []layer
}

// layer is where one block's matrices begin.
type layer struct{ n1, qkv, o, n2, gateUp, down int }

// segment is a run without gaps.
type segment struct{ host, card, n int }

func vectorOf(c model.Config) vector {
	v := vector{layers: make([]layer, c.Layers)}
	for _, t := range c.Tensors() {
		parts := strings.Split(t.Name, ".")
		name := parts[len(parts)-2]
		if name != "k_proj" && name != "v_proj" && name != "up_proj" { // these go on from the one before
			v.size = (v.size + unit - 1) &^ (unit - 1)
		}
		at := v.size
		v.at = append(v.at, at)
		v.size += t.Len()
		if n := len(v.segments); n > 0 && v.segments[n-1].card+v.segments[n-1].n == at {
			v.segments[n-1].n += t.Len()
		} else {
			v.segments = append(v.segments, segment{t.Off, at, t.Len()})
		}
		v.place(name, parts, at)
	}
	if c.Tied {
		v.head = v.emb
	}
	v.size = (v.size + unit - 1) &^ (unit - 1)
	return v
}

func (v *vector) place(name string, parts []string, at int) {
	if len(parts) < 5 {
		*map[string]*int{"embed_tokens": &v.emb, "norm": &v.norm, "lm_head": &v.head}[name] = at
		return
	}
	i, _ := strconv.Atoi(parts[2]) // the name is our own
	l := &v.layers[i]
	if to := map[string]*int{"input_layernorm": &l.n1, "q_proj": &l.qkv, "o_proj": &l.o, "post_attention_layernorm": &l.n2,
		"gate_proj": &l.gateUp, "down_proj": &l.down}[name]; to != nil {
		*to = at
	}
}

// norms are where the norms' weights begin, in the order of the layers.
func (v *vector) norms() (at []int) {
	for _, l := range v.layers {
		at = append(at, l.n1, l.n2)
	}
	return append(at, v.norm)
}

// places are offset, columns and stride of every chunk.
func (v *vector) places(l *model.Layout) []int64 {
	t, tensors, out := 0, l.Tensors(), make([]int64, 0, 3*l.Chunks())
	for i := range l.Chunks() {
		c := l.Chunk(i)
		for c.Off >= tensors[t].Off+tensors[t].Len() {
			t++
		}
		out = append(out, int64(v.at[t]+c.Off-tensors[t].Off), int64(c.Cols), int64(c.Stride))
	}
	return out
}

// runs calls f for the parts without gaps of count values of the row-major vector from from on.
func (v *vector) runs(from, count int, f func(host, card, count int)) {
	for _, g := range v.segments {
		if a, b := max(from, g.host), min(from+count, g.host+g.n); a < b {
			f(a, g.card+a-g.host, b-a)
		}
	}
}
