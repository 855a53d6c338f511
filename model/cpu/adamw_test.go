package cpu

import (
	"fmt"
	"math"
	"sn3/model"
	"strings"
	"testing"
)

// A naive AdamW in float64 (arXiv 1711.05101, with the decay inside the step): clipping by the global norm, bias correction, the
// rate of the global step, decay on matrices only.
func TestAdamWAgainstNaive(t *testing.T) {
	c := shape(12, 4, 2, 6)
	kernelSets(t, func(t *testing.T, kernels string) {
		for _, clip := range []float64{0, 0.05, 1e9} {
			o := usual()
			o.Clip = clip
			tr, rows := randomTrainer(t, kernels, c, 1, o)
			p, m, v := wide(rows), make(vec, len(rows)), make(vec, len(rows))
			for step := range 4 {
				b, first := tokens(uint64(step), 2, 9, c.Vocab), uint64(40*step) // up, flat, down, on the floor
				_, grad, err := tr.LossGrad(b)
				if err != nil {
					t.Fatal(err)
				}
				g, norm := wide(grad), tr.GradNorm()
				if want := math.Sqrt(weighted(grad, g)); math.Abs(norm/want-1) > 1e-6 {
					t.Fatalf("gradient norm %v, want %v", norm, want)
				}
				factor := 1.0
				if clip > 0 {
					factor = math.Min(1, clip/norm)
				}
				for _, x := range c.Tensors() {
					decay := o.WeightDecay
					if len(x.Shape) == 1 || x.Name == "model.embed_tokens.weight" {
						decay = 0
					}
					for i := x.Off; i < x.Off+x.Len(); i++ {
						m[i] = o.Beta1*m[i] + (1-o.Beta1)*factor*g[i]
						v[i] = o.Beta2*v[i] + (1-o.Beta2)*factor*factor*g[i]*g[i]
						n := float64(step + 1)
						p[i] -= o.Rate(first) * (m[i]/(1-math.Pow(o.Beta1, n))/(math.Sqrt(v[i]/(1-math.Pow(o.Beta2, n)))+o.Eps) + decay*p[i])
					}
				}
				train(t, tr, first, b)
				equals(t, fmt.Sprintf("clip %v, step %d", clip, step), tr.net.w.flat, p)
				equals(t, "m", tr.m, m)
				equals(t, "v", tr.v, v)
				p = wide(tr.net.w.flat) // differences of rounding do not add up
			}
		}
	})
}

// Without a gradient only weight decay moves: matrices shrink by lr·λ, norms and the embedding keep every bit; an untied output
// matrix is a matrix like the others.
func TestDecaySparesNormsAndEmbedding(t *testing.T) {
	for _, tied := range []bool{true, false} {
		c := shape(12, 4, 2, 6)
		c.Tied = tied
		o := usual()
		tr, rows := randomTrainer(t, "", c, 1, o)
		b := tokens(1, 2, 9, c.Vocab)
		for i := range b.Y {
			b.Y[i] = ignored
		}
		if rep := train(t, tr, 10, b); rep.Loss != 0 {
			t.Errorf("loss %v although nothing counts", rep.Loss)
		}
		for _, x := range c.Tensors() {
			spared := strings.HasSuffix(x.Name, "norm.weight") || x.Name == "model.embed_tokens.weight"
			for i := x.Off; i < x.Off+x.Len(); i++ {
				want := float64(rows[i])
				if !spared {
					want *= 1 - o.LR*o.WeightDecay
				}
				if got := tr.net.w.flat[i]; spared && got != rows[i] || math.Abs(float64(got)-want) > 1e-6*math.Abs(want) {
					t.Fatalf("%s: %v became %v, want %v", x.Name, rows[i], got, want)
				}
			}
		}
	}
}

func TestEngineRefuses(t *testing.T) {
	c := shape(12, 4, 2, 6)
	bad := c
	bad.HeadDim = 5
	for name, e := range map[string]func() error{
		"trainer, kernels": func() error { _, err := New("gpu").NewTrainer(c, usual(), model.Options{}); return err },
		"judge, kernels":   func() error { _, err := New("gpu").NewJudge(c, model.Options{}); return err },
		"trainer, shape":   func() error { _, err := New("").NewTrainer(bad, usual(), model.Options{}); return err },
		"judge, shape":     func() error { _, err := New("").NewJudge(bad, model.Options{}); return err },
		"full disk": func() error {
			tr, _ := randomTrainer(t, "", c, 1, usual())
			return tr.Save(brokenReader{})
		},
	} {
		if e() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
