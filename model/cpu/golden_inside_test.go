package cpu

import (
	"math"
	"strings"
	"testing"

	"sn3/internal/golden"
	"sn3/model"
	"sn3/model/hf"
)

// largest is max |a-b| / max |b| ("rel tensor" of the golden README).
func largest(a, b []float32) float64 {
	var d, n float64
	for i := range b {
		d = math.Max(d, math.Abs(float64(a[i])-float64(b[i])))
		n = math.Max(n, math.Abs(float64(b[i])))
	}
	return d / math.Max(n, 1e-30)
}

// expected reads a tensor of n values.
func expected(t *testing.T, f *hf.File, name string, n int) []float32 {
	t.Helper()
	out := make([]float32, n)
	if err := f.Read(name, 0, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// checkInside compares what is inside a forward pass: rotary frequencies, and hidden states where the case has them.
func checkInside(t *testing.T, c model.Config, w model.Weights, want *hf.File, b model.Batch, kernels string) {
	if d := largest(InvFreq(c), expected(t, want, "rope.inv_freq", c.HeadDim/2)); d > 2e-7 {
		t.Errorf("rotary frequencies differ by %.2g", d)
	}
	if _, ok := want.Entries["hidden.embed"]; !ok {
		return
	}
	x, err := New(kernels).NewTrainer(c, model.Optimizer{}, model.Options{}) // which keeps the states of every block
	if err == nil {
		err = x.Reset(t.Context(), w)
	}
	if err != nil {
		t.Fatal(err)
	}
	n, rows := x.(*Trainer).net, b.B*b.T*c.Width
	n.hidden(b.X, b.B, b.T)
	checked := 0
	check := func(name string, got []float32) {
		if d := largest(got[:rows], expected(t, want, "hidden."+name, rows)); d > 1e-5 {
			t.Errorf("hidden.%s differs by %.2g", name, d)
		}
		checked++
	}
	minus := func(a, b []float32) []float32 {
		out := make([]float32, rows)
		for i := range out {
			out[i] = a[i] - b[i]
		}
		return out
	}
	check("embed", n.act[0].x)
	for l, a := range n.act {
		next := n.xf
		if l+1 < c.Layers {
			next = n.act[l+1].x
		}
		p := "layers." + string(rune('0'+l))
		check(p+".self_attn", minus(a.x2, a.x))
		check(p+".mlp", minus(next, a.x2))
		check(p, next)
	}
	check("norm", n.hf.f)
	for name := range want.Entries {
		if strings.HasPrefix(name, "hidden.") {
			checked--
		}
	}
	if checked != 0 {
		t.Errorf("%d hidden states of the reference were not compared", -checked)
	}
}

// Every file of the set is read by a test: what is new in it must not go unnoticed.
func TestGoldenIsCovered(t *testing.T) {
	for _, name := range []string{"mha", "gqa-tied", "mqa-headdim", "ignore-index", "hf-init", "llama3-rope", "legacy-llama1", "legacy-llama3", "long", "sharded", "bf16-weights", "train"} {
		t.Run(name, func(t *testing.T) {
			f, err := hf.OpenFile(golden.Case(t, "llama", name, "expected.safetensors") + "/expected.safetensors")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for tensor := range f.Entries {
				kind, _, _ := strings.Cut(tensor, ".")
				if !strings.Contains(" logits grad adamw rope hidden ", " "+kind+" ") && !(name == "train" && kind == "final") {
					t.Errorf("no test reads %s", tensor)
				}
			}
		})
	}
}
