package model_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"strings"
	"testing"

	"sn3/model"
)

// Every machine must start a run from the same bits; theta_0 is never sent.
func TestInitGolden(t *testing.T) {
	f := model.NewFlat(layout(t, preset()))
	for seed, want := range map[uint64]string{1: "1b368a89df0b40c92db1ad4068a4ba27abefcb0c6fb9c29bbe9f03d6c8701497", 1 << 63: "04b06a5958fbbac6da51284418e3ec9b8142fd573f0f99c823c15c3ed8b149ae"} {
		f.Init(seed)
		h := sha256.New()
		for _, x := range f.Data {
			h.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(x)))
		}
		if got := hex.EncodeToString(h.Sum(nil)); got != want {
			t.Errorf("seed %d: the initial model hashes to %s, it was %s", seed, got, want)
		}
	}
}

// The spread of every tensor is what the comment on Init says, its mean is near zero, and norms are ones.
func TestInitMoments(t *testing.T) {
	c := preset()
	l := layout(t, c)
	f := model.NewFlat(l)
	f.Init(5)
	rows := make([]float32, l.Params())
	f.Rows(rows)
	for _, x := range l.Tensors() {
		v := rows[x.Off : x.Off+x.Len()]
		want := 0.7 / math.Sqrt(float64(x.Shape[len(x.Shape)-1]))
		switch {
		case len(x.Shape) == 1:
			for _, e := range v {
				if e != 1 {
					t.Fatalf("%s holds %v", x.Name, e)
				}
			}
			continue
		case x.Name == "model.embed_tokens.weight":
			want = 0.02
		case strings.HasSuffix(x.Name, "o_proj.weight"), strings.HasSuffix(x.Name, "down_proj.weight"):
			want /= math.Sqrt(float64(2 * c.Layers))
		}
		var sum, squares float64
		for _, e := range v {
			sum += float64(e)
			squares += float64(e) * float64(e)
		}
		n := float64(len(v))
		if std := math.Sqrt(squares / n); math.Abs(std/want-1) > 4/math.Sqrt(2*n) || math.Abs(sum/n) > 4*want/math.Sqrt(n) {
			t.Errorf("%s: mean %.2g, std %.4g, want 0 and %.4g", x.Name, sum/n, std, want)
		}
	}
}

// The schedule, point by point: warm-up from LR/Warmup, flat, straight down to the floor, then the floor.
func TestRate(t *testing.T) {
	o := model.Optimizer{LR: 2, MinLR: 0.1, Decay: 0.5, Warmup: 4, Total: 100}
	flat, warm := o, o
	flat.Decay = 0
	warm.Warmup = 0
	for _, c := range []struct {
		name string
		o    model.Optimizer
		step uint64
		want float64
	}{
		{"first step", o, 0, 0.5}, {"warm-up", o, 2, 1.5}, {"end of warm-up", o, 3, 2}, {"flat", o, 4, 2}, {"last flat", o, 50, 2},
		{"half way down", o, 75, 1.1}, {"last step", o, 99, 2 * (1 - 0.9*49/50)}, {"end", o, 100, 0.2}, {"after the end", o, 1 << 40, 0.2},
		{"no decay", flat, 1 << 40, 2}, {"no warm-up", warm, 0, 2},
	} {
		if got := c.o.Rate(c.step); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s: rate of step %d is %v, want %v", c.name, c.step, got, c.want)
		}
	}
}
