package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"sn3/model"
	"sn3/model/kern"
)

// Sequences longer than a block of keys: the running maximum and sum, forward and backward, against the naive twin.
func TestAttentionOverSeveralBlocks(t *testing.T) {
	kernelSets(t, func(t *testing.T, kernels string) {
		const T = keyBlock + queryRows + 5
		c := shape(8, 2, 1, 4)
		c.Seq = T
		n := bare(t, kernels, c, 1, T)
		r := rand.New(rand.NewPCG(9, 1))
		S, Q, a := n.qkv(), n.q(), &n.act[0]
		fill(r, a.qkv.f[:T*S], 2)
		fill(r, n.dh[:T*Q], 1)
		dy, x64 := append([]float32(nil), n.dh[:T*Q]...), wide(a.qkv.f[:T*S])
		forward := func() (out vec) {
			var rows []vec
			for i := range T {
				rows = append(rows, x64[i*S:][:S])
			}
			for _, y := range attention64(c, rows) {
				out = append(out, y...)
			}
			return out
		}
		n.attention(1, T, a)
		equals(t, "attention", a.y.f[:T*Q], forward())
		n.attentionBackward(1, T, a)
		differences(t, fmt.Sprintf("T %d", T), func() float64 { return weighted(dy, forward()) }, x64, n.rotated(1, T))
	})
}

// Few rows of queries, as at a sequence's end and in decoding, with heads wide enough that no precision packs keys for them.
func TestAttentionOfFewRows(t *testing.T) {
	kernelSets(t, func(t *testing.T, kernels string) {
		for _, p := range []model.Precision{model.F32, model.BF16} {
			for _, T := range []int{1, 2, queryRows + fewRows, keyBlock + 2*queryRows - 31} {
				if testing.Short() && T > keyBlock { // the twin is slow under the race detector
					continue
				}
				c := shape(8, 4, 2, 72)
				k, err := kern.Select(kernels)
				if err != nil {
					t.Fatal(err)
				}
				n, err := newNet(c, k, model.Options{Precision: p}, true)
				if err != nil {
					t.Fatal(err)
				}
				n.reserve(1, T)
				S, Q, a := n.qkv(), n.q(), &n.act[0]
				rows := fill(rand.New(rand.NewPCG(9, uint64(T))), make([]float32, T*S), 1)
				for i, v := range rows { // what bfloat16 holds too
					rows[i] = kern.RoundBF16(v).Float32()
				}
				copy(a.qkv.f, rows)
				if n.style == halves {
					k.ToBF16(a.qkv.h[:T*S], rows)
				}
				n.attention(1, T, a)
				got := make([]float32, T*Q)
				if copy(got, a.y.f); n.style == halves {
					k.FromBF16(got, a.y.h)
				}
				var each []vec
				for i := range T {
					each = append(each, wide(rows[i*S:][:S]))
				}
				for i, y := range attention64(c, each) {
					for h := range y {
						if off := math.Abs(float64(got[i*Q+h]) - y[h]); !(off <= map[model.Precision]float64{model.F32: 1e-5, model.BF16: 2e-2}[p]) {
							t.Fatalf("%s, T %d: value %d of row %d is %v, want %v", p, T, h, i, got[i*Q+h], y[h])
						}
					}
				}
			}
		}
	})
}

// Attention's memory does not grow with the square of T.
func TestAttentionMemory(t *testing.T) {
	need := func(T int) int64 {
		c := localConfig()
		c.Seq = T
		return New("").Need(c, model.Options{}, 1, true).Acts
	}
	if a, b := need(1024), need(2048); b > 2*a+1<<20 {
		t.Errorf("activations take %d bytes for 1024 tokens and %d for 2048", a, b)
	}
}

// BenchmarkAttention is forward and backward of one sequence's attention in the 8m shape: nanoseconds a token, and the bytes of
// activations a token that Need says for the whole model. best is the fastest run.
func BenchmarkAttention(b *testing.B) {
	for _, p := range []model.Precision{model.F32, model.BF16} {
		for _, T := range []int{256, 1024, 2048} {
			b.Run(fmt.Sprintf("%s/T=%d", p, T), func(b *testing.B) {
				c := benchShapes[1].cfg
				c.Seq = T
				need := New("").Need(c, model.Options{Precision: p}, 1, true).Acts
				c.Layers = 1
				tr := benchTrainer(b, "", c, model.Options{Precision: p}).(*Trainer)
				if _, _, err := tr.LossGrad(randomBatch(1, T, c.Vocab)); err != nil { // fills what attention reads
					b.Fatal(err)
				}
				n, best := tr.net, math.Inf(1)
				for b.Loop() {
					from := time.Now()
					n.attention(1, T, &n.act[0])
					n.attentionBackward(1, T, &n.act[0])
					best = min(best, time.Since(from).Seconds())
				}
				b.ReportMetric(best*1e9/float64(T), "best-ns/token")
				b.ReportMetric(float64(need)/float64(T), "bytes/token")
			})
		}
	}
}
