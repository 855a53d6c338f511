package cpu

import (
	"fmt"
	"math"

	"sn3/model"
)

// check refuses what does not fit before any of it is used as an index.
func (n *net) check(b model.Batch) (counted int, err error) {
	switch {
	case b.B < 1 || b.T < 1 || b.B > 1<<20 || b.T > 1<<20 || b.B*b.T > 1<<24:
		return 0, fmt.Errorf("batch of %d sequences of %d tokens", b.B, b.T)
	case len(b.X) != b.B*b.T || len(b.Y) != b.B*b.T:
		return 0, fmt.Errorf("batch of %d×%d tokens has %d inputs and %d targets", b.B, b.T, len(b.X), len(b.Y))
	}
	for i, x := range b.X {
		if x < 0 || int(x) >= n.cfg.Vocab {
			return 0, fmt.Errorf("token %d at %d is outside the vocabulary of %d", x, i, n.cfg.Vocab)
		}
		if y := b.Y[i]; y == ignored {
			continue
		} else if y < 0 || int(y) >= n.cfg.Vocab {
			return 0, fmt.Errorf("target %d at %d is outside the vocabulary of %d", y, i, n.cfg.Vocab)
		}
		counted++
	}
	return counted, nil
}

// hidden runs the model up to the final norm: hf is (N,C).
//
//	per block: x2 = x + o(attention(rope(qkv(norm(x))))); x' = x2 + down(silu(gate)·up of norm(x2))
func (n *net) hidden(x []int32, B, T int) {
	c, N := n.cfg, B*T
	C, Q, S, F := c.Width, n.q(), n.qkv(), c.FFN
	n.reserve(B, T)
	n.embed(x[:N], n.act[0].x)
	for l := range n.w.layers {
		w, p, a := &n.w.layers[l], &n.p.layers[l], &n.act[l%len(n.act)]
		next := n.xf
		if l+1 < c.Layers {
			next = n.act[(l+1)%len(n.act)].x
		}
		n.rms(N, a.h1, a.r1, a.x, w.n1, a.x2)
		n.productRows(true, N, S, C, a.h1, C, p.qkv, C, a.qkv, S, (*net).qkvRows, rowArgs{h: a.qkv, T: T})
		n.attention(B, T, a)
		n.product(false, true, N, C, Q, a.y, Q, p.o, Q, a.x2, C, true)
		n.rms(N, a.h2, a.r2, a.x2, w.n2, next)
		n.productRows(true, N, 2*F, C, a.h2, C, p.gateUp, C, a.gateUp, n.ldGateUp(), (*net).swiGLURows, rowArgs{h: a.a, m: a.gateUp})
		n.product(false, true, N, C, F, a.a, n.ldFFN(), p.down, F, next, C, true)
	}
	n.rms(N, n.hf, n.rf, n.xf, n.w.norm, nil)
}

// losses runs a checked batch forward only and writes the mean loss of every sequence, in nats per counted token.
func (n *net) losses(b model.Batch, dst []float64) {
	n.hidden(b.X, b.B, b.T)
	n.head(b.B*b.T, (*net).lossRows, rowArgs{ids: b.Y, r: n.lossOf})
	for s := range dst {
		dst[s] = 0
		count := 0
		for i := s * b.T; i < (s+1)*b.T; i++ {
			dst[s] += float64(n.lossOf[i])
			if b.Y[i] != ignored {
				count++
			}
		}
		dst[s] /= math.Max(1, float64(count))
	}
}

// head hands the logits of hf's N rows to op.
func (n *net) head(N int, op func(n *net, a *rowArgs, w, from, to int, c []float32, ldc int), args rowArgs) {
	n.productRows(true, N, n.cfg.Vocab, n.cfg.Width, n.hf, n.cfg.Width, n.p.head, n.cfg.Width, mat{}, 0, op, args)
}
