package gpu

import (
	"strconv"
	"strings"

	"sn3/model"
	"sn3/model/gpu/cuda"
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

// up copies a flat vector of the host to the card, down back.
func (v *vector) up(q *queue, to cuda.Ptr, from []float32) {
	for _, s := range v.segments {
		put(q, to.Add(4*int64(s.card)), from[s.host:s.host+s.n])
	}
}

func (v *vector) down(q *queue, to []float32, from cuda.Ptr) {
	for _, s := range v.segments {
		get(q, to[s.host:s.host+s.n], from.Add(4*int64(s.card)))
	}
}
