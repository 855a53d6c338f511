package cpu

import (
	"math"

	"sn3/model"
)

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

// head hands the logits of hf's N rows to op, a block of them at a time; args.k is then the block's first row.
func (n *net) head(N int, op func(n *net, a *rowArgs, w, from, to int, c []float32, ldc int), args rowArgs) {
	V, C, block := n.cfg.Vocab, n.cfg.Width, n.headBlock(N)
	for args.k = 0; args.k < N; args.k += block {
		n.productRows(true, min(block, N-args.k), V, C, n.hf.from(args.k*C), C, n.p.head, C, mat{}, 0, op, args)
	}
}

// headBlock is how many of N rows of logits exist at once, at most headRows: blocks as equal as can be. It must not depend on
// batches before: it is the order in which gradients of the output matrix are summed.
func (n *net) headBlock(N int) int { return ceil(N, ceil(N, n.headRows)) }

func ceil(n, unit int) int { return (n + unit - 1) / unit }
