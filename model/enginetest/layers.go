package enginetest

import "math"

// The layers of the reference: each forward and, below it, its backward. x and d are rows by position.

func zeros(rows, cols int) []vec {
	out := make([]vec, rows)
	for i := range out {
		out[i] = make(vec, cols)
	}
	return out
}

func sum(x, y []vec) []vec {
	out := zeros(len(x), len(x[0]))
	for t := range x {
		for i := range x[t] {
			out[t][i] = x[t][i] + y[t][i]
		}
	}
	return out
}

func dot(x, y vec) (s float64) {
	for i := range x {
		s += x[i] * y[i]
	}
	return s
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// logSum is log Σ exp.
func logSum(x vec) float64 {
	most, s := math.Inf(-1), 0.0
	for _, v := range x {
		most = math.Max(most, v)
	}
	for _, v := range x {
		s += math.Exp(v - most)
	}
	return most + math.Log(s)
}

// linear is x·wᵀ, w being [out, in].
func linear(x []vec, w vec) []vec {
	in := len(x[0])
	out := zeros(len(x), len(w)/in)
	for t := range x {
		for o := range out[t] {
			out[t][o] = dot(x[t], w[o*in:][:in])
		}
	}
	return out
}

func linearBack(d, x []vec, w, dw vec) (dx []vec) {
	in := len(x[0])
	dx = zeros(len(x), in)
	for t := range d {
		for o, v := range d[t] {
			for i := range in {
				dx[t][i] += v * w[o*in+i]
				dw[o*in+i] += v * x[t][i]
			}
		}
	}
	return dx
}

// norm is x/√(mean x² + ε)·w.
func (r *reference) norm(x []vec, w vec) []vec {
	out := zeros(len(x), len(w))
	for t := range x {
		s := 1 / math.Sqrt(dot(x[t], x[t])/float64(len(w))+r.c.NormEps)
		for i, v := range x[t] {
			out[t][i] = v * s * w[i]
		}
	}
	return out
}

func (r *reference) normBack(d, x []vec, w, dw vec) (dx []vec) {
	dx = zeros(len(x), len(w))
	for t := range x {
		s := 1 / math.Sqrt(dot(x[t], x[t])/float64(len(w))+r.c.NormEps)
		along := 0.0 // Σ d·w·x
		for i, v := range x[t] {
			dw[i] += d[t][i] * v * s
			along += d[t][i] * w[i] * v
		}
		for i, v := range x[t] {
			dx[t][i] = s*d[t][i]*w[i] - s*s*s*v*along/float64(len(w))
		}
	}
	return dx
}

// rope turns the pairs (i, i+hd/2) of every head by position × frequency, forward or, with −1, back; back is also its backward.
func (r *reference) rope(x []vec, way float64) []vec {
	hd := r.c.HeadDim
	out := zeros(len(x), len(x[0]))
	for t := range x {
		for h := 0; h < len(x[t]); h += hd {
			for i, f := range r.freq {
				s, c := math.Sincos(float64(float32(t) * f))
				a, b := x[t][h+i], x[t][h+i+hd/2]
				out[t][h+i], out[t][h+i+hd/2] = a*c-way*b*s, b*c+way*a*s
			}
		}
	}
	return out
}

// weights are the attention of head h at position t over positions 0…t: softmax(q·k/√hd). Head h reads key/value head
// h/(H/KV), whose values begin at kv in a row of k and v.
func (r *reference) weights(a tape, h, t int) (p vec, kv int) {
	hd := r.c.HeadDim
	kv = h / (r.c.Heads / r.c.KVHeads) * hd
	p = make(vec, t+1)
	for s := range p {
		p[s] = dot(a.q[t][h*hd:][:hd], a.k[s][kv:][:hd]) / math.Sqrt(float64(hd))
	}
	all := logSum(p)
	for s := range p {
		p[s] = math.Exp(p[s] - all)
	}
	return p, kv
}

func (r *reference) attention(a tape) []vec {
	hd := r.c.HeadDim
	y := zeros(len(a.q), r.c.Heads*hd)
	for t := range y {
		for h := range r.c.Heads {
			p, kv := r.weights(a, h, t)
			p = r.keep([]vec{p})[0]
			for s := range p {
				for i := range hd {
					y[t][h*hd+i] += p[s] * a.v[s][kv+i]
				}
			}
		}
	}
	return y
}

func (r *reference) attentionBack(a tape, dy []vec) (dq, dk, dv []vec) {
	hd, T := r.c.HeadDim, len(a.q)
	dq, dk, dv = zeros(T, r.c.Heads*hd), zeros(T, r.c.KVHeads*hd), zeros(T, r.c.KVHeads*hd)
	for t := range T {
		for h := range r.c.Heads {
			p, kv := r.weights(a, h, t)
			d, dp, mean := dy[t][h*hd:][:hd], make(vec, len(p)), 0.0
			for s := range p {
				dp[s] = dot(d, a.v[s][kv:][:hd])
				mean += p[s] * dp[s]
			}
			mean = r.round(mean) // engines have it as d·y of a y that is rounded
			factor := r.keep([]vec{p})[0]
			for s := range p {
				ds := p[s] * (dp[s] - mean) / math.Sqrt(float64(hd))
				if r.deep {
					ds = r.round(ds)
				}
				for i := range hd {
					dv[s][kv+i] += factor[s] * d[i]
					dq[t][h*hd+i] += ds * a.k[s][kv+i]
					dk[s][kv+i] += ds * a.q[t][h*hd+i]
				}
			}
		}
	}
	return dq, dk, dv
}
