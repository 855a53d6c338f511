package cpu

import (
	"fmt"
	"math"
	"sync/atomic"

	"sn3/model"
	"sn3/model/kern"
)

// ignored is the target that does not count.
const ignored = -100

// check refuses tokens outside the vocabulary before any of them is used as an index.
func (n *net) check(b model.Batch) (counted int, err error) {
	if len(b.X) != b.B*b.T || len(b.Y) != b.B*b.T {
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
	return counted, n.reserve(b.B, b.T)
}

// hidden runs the model up to the final norm: hf is (N,C).
//
//	per block: x2 = x + o(attention(rope(qkv(norm(x))))); x' = x2 + down(silu(gate)·up of norm(x2))
func (n *net) hidden(x []int32, B, T int) {
	c, N := n.cfg, B*T
	C, Q, S, F := c.Width, n.q(), n.qkv(), c.FFN
	cur := n.act[0].x
	for i, t := range x[:N] {
		copy(cur[i*C:(i+1)*C], n.w.emb[int(t)*C:])
	}
	for l := range n.w.layers {
		w, a := &n.w.layers[l], &n.act[l%len(n.act)]
		n.rms(N, a.h1, a.r1, a.x, w.n1)
		n.gemm(false, true, N, S, C, a.h1, C, w.qkv, C, a.qkv, S, false)
		n.rope(N, T, a.qkv, 1)
		n.attention(B, T, a)
		copy(a.x2[:N*C], a.x)
		n.gemm(false, true, N, C, Q, a.y, Q, w.o, Q, a.x2, C, true)
		n.rms(N, a.h2, a.r2, a.x2, w.n2)
		n.gemm(false, true, N, 2*F, C, a.h2, C, w.gateUp, C, a.gateUp, 2*F, false)
		n.rowsDo(N, func(_, from, to int) {
			for i := from; i < to; i++ {
				n.k.SwiGLU(a.a[i*F:(i+1)*F], a.gateUp[2*i*F:(2*i+1)*F], a.gateUp[(2*i+1)*F:(2*i+2)*F])
			}
		})
		next := n.xf
		if l+1 < c.Layers {
			next = n.act[(l+1)%len(n.act)].x
		}
		copy(next[:N*C], a.x2)
		n.gemm(false, true, N, C, F, a.a, F, w.down, F, next, C, true)
	}
	n.rms(N, n.hf, n.rf, n.xf, n.w.norm)
}

// groups runs f for every sequence and key/value head, each with its own scratch of two T×T matrices.
func (n *net) groups(B, T int, f func(b, g int, s, d []float32)) {
	var next atomic.Int64
	units := B * n.cfg.KVHeads
	kern.Par(n.threads, min(n.threads, units), func(t int) {
		buf := n.score[t]
		for u := int(next.Add(1)) - 1; u < units; u = int(next.Add(1)) - 1 {
			f(u/n.cfg.KVHeads, u%n.cfg.KVHeads, buf[:T*T], buf[T*T:2*T*T])
		}
	})
}

// attention is causal softmax(q·kᵀ/√hd)·v per head; query head h reads key/value head h/(H/KV).
func (n *net) attention(B, T int, a *acts) {
	c := n.cfg
	hd, S, Q, per := c.HeadDim, n.qkv(), n.q(), c.Heads/c.KVHeads
	scale := float32(1 / math.Sqrt(float64(hd)))
	n.groups(B, T, func(b, g int, s, _ []float32) {
		at := a.qkv[b*T*S:]
		k, v := at[(c.Heads+g)*hd:], at[(c.Heads+c.KVHeads+g)*hd:]
		for h := g * per; h < (g+1)*per; h++ {
			sgemm(n.one, false, true, T, T, hd, at[h*hd:], S, k, S, s, T, false)
			for t := range T {
				a.lse[(b*c.Heads+h)*T+t] = n.k.Softmax(s[t*T:(t+1)*T], t+1, scale)
			}
			sgemm(n.one, false, false, T, hd, T, s, T, v, S, a.y[b*T*Q+h*hd:], Q, false)
		}
	})
}

// losses runs forward only and writes the mean loss of every sequence, in nats per counted token.
func (n *net) losses(b model.Batch, dst []float64) error {
	if _, err := n.check(b); err != nil {
		return err
	}
	n.hidden(b.X, b.B, b.T)
	sum, count := make([]float64, b.B), make([]int, b.B)
	n.head(b.B*b.T, func(row int, logits []float32) {
		if y := b.Y[row]; y != ignored {
			target := logits[y]
			sum[row/b.T] += float64(n.k.Softmax(logits, len(logits), 1) - target)
			count[row/b.T]++
		}
	})
	for i := range sum {
		dst[i] = sum[i] / math.Max(1, float64(count[i]))
	}
	return nil
}

// head computes logits, headRows rows at a time, and hands each row to f, which may overwrite it. Rows of one sequence are
// visited by one goroutine, in order.
func (n *net) head(N int, f func(row int, logits []float32)) {
	V, C := n.cfg.Vocab, n.cfg.Width
	for from := 0; from < N; from += headRows {
		rows := min(headRows, N-from)
		n.gemm(false, true, rows, V, C, n.hf[from*C:], C, n.w.head, C, n.logits, V, false)
		for i := range rows {
			f(from+i, n.logits[i*V:(i+1)*V])
		}
	}
}
