package cpu

import (
	"context"
	"fmt"

	"sn3/model"
)

// decodeRows is how many tokens of a prompt go through the model at once.
const decodeRows = 128

// cache holds a block's keys and values, (seq, KV·hd); before is how many positions came before the rows being computed.
type cache struct {
	k, v   mat
	before int
}

// Decoder implements model.Decoder: keys and values of all positions are kept, so that a token costs one row.
type Decoder struct {
	net    *net
	seq    int
	length int
	past   []cache // by layer
}

// NewDecoder implements model.Generator. Memory for keys and values of seq tokens is taken at once.
func (e Engine) NewDecoder(c model.Config, seq int, opt model.Options) (model.Decoder, error) {
	if seq < 1 || seq > 1<<20 {
		return nil, fmt.Errorf("decoder for %d tokens", seq)
	}
	n, err := e.forward(c, opt)
	if err != nil {
		return nil, err
	}
	d := &Decoder{net: n, seq: seq, past: make([]cache, c.Layers)}
	size := seq * c.KVHeads * c.HeadDim
	for i := range d.past {
		d.past[i] = cache{k: n.alloc(size), v: n.alloc(size)}
	}
	n.angles(seq)
	n.span = seq
	n.reserve(1, min(seq, decodeRows))
	return d, nil
}

// Reset implements model.Decoder.
func (d *Decoder) Reset(_ context.Context, w model.Weights) error {
	d.length = 0
	return d.net.load(w)
}

// Rewind implements model.Decoder.
func (d *Decoder) Rewind(n int) { d.length = max(0, min(n, d.length)) }

// Next implements model.Decoder.
func (d *Decoder) Next(dst []float32, x []int32) error {
	n := d.net
	switch {
	case n.torn:
		return model.ErrNoWeights
	case len(x) == 0 || len(dst) != n.cfg.Vocab:
		return fmt.Errorf("decode %d tokens into %d logits of a vocabulary of %d", len(x), len(dst), n.cfg.Vocab)
	case d.length+len(x) > d.seq:
		return fmt.Errorf("decode: the sequence of %d tokens would grow by %d beyond the %d that there is room for", d.length, len(x), d.seq)
	}
	for i, t := range x {
		if t < 0 || int(t) >= n.cfg.Vocab {
			return fmt.Errorf("token %d at %d is outside the vocabulary of %d", t, i, n.cfg.Vocab)
		}
	}
	for len(x) > 0 {
		rows := min(len(x), decodeRows)
		d.rows(x[:rows])
		x = x[rows:]
		d.length += rows
		if len(x) == 0 {
			n.product(false, true, 1, n.cfg.Vocab, n.cfg.Width, n.hf.from((rows-1)*n.cfg.Width), n.cfg.Width, n.p.head, n.cfg.Width, dst, n.cfg.Vocab, false)
		}
	}
	return nil
}

// rows runs the model over the next tokens; it is net.hidden with the keys and values of the past.
func (d *Decoder) rows(x []int32) {
	n, c, N := d.net, d.net.cfg, len(x)
	C, Q, S, F, KV := c.Width, n.q(), n.qkv(), c.FFN, c.KVHeads*c.HeadDim
	a := &n.act[0]
	n.embed(x, a.x)
	for l := range n.w.layers {
		w, p, past := &n.w.layers[l], &n.p.layers[l], &d.past[l]
		next := a.x
		if l+1 == c.Layers {
			next = n.xf
		}
		n.rms(N, a.h1, a.r1, a.x, w.n1, a.x2)
		n.productRows(true, N, S, C, a.h1, C, p.qkv, C, a.qkv, S, (*net).qkvRows, rowArgs{h: a.qkv, T: N, k: d.length})
		for i := range N {
			at := (d.length + i) * KV
			past.k.from(at).copy(a.qkv.from(i*S+Q), KV)
			past.v.from(at).copy(a.qkv.from(i*S+Q+KV), KV)
		}
		past.before = d.length
		n.groupsDo(1, N, a, past, (*net).attend)
		n.product(false, true, N, C, Q, a.y, Q, p.o, Q, a.x2, C, true)
		n.rms(N, a.h2, a.r2, a.x2, w.n2, next)
		n.productRows(true, N, 2*F, C, a.h2, C, p.gateUp, C, mat{}, 0, (*net).swiGLURows, rowArgs{h: a.a})
		n.product(false, true, N, C, F, a.a, n.ldFFN(), p.down, F, next, C, true)
	}
	n.rms(N, n.hf, n.rf, n.xf, n.w.norm, nil)
}
