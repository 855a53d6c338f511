package enginetest

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/model"
	"sn3/model/cpu"
)

// recorder is a failer that remembers what failed.
type recorder struct{ failed string }

type stop struct{}

// Helper implements failer.
func (*recorder) Helper() {}

func (r *recorder) Fatal(args ...any) {
	r.failed = fmt.Sprint(args...)
	panic(stop{})
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.failed = fmt.Sprintf(format, args...)
	panic(stop{})
}
func (r *recorder) Errorf(format string, args ...any) { r.failed = fmt.Sprintf(format, args...) }

// fails is what check says, "" if nothing.
func fails(check func(t failer)) (why string) {
	var r recorder
	defer func() {
		if p := recover(); p != nil && p != any(stop{}) {
			panic(p)
		}
		why = r.failed
	}()
	check(&r)
	return ""
}

// scaled is a trainer whose gradient of one tensor is multiplied by a factor.
type scaled struct {
	model.Gradienter
	x      model.Tensor
	factor float32
}

// LossGrad implements model.Gradienter.
func (s scaled) LossGrad(b model.Batch) (float64, []float32, error) {
	loss, grad, err := s.Gradienter.LossGrad(b)
	grad = slices.Clone(grad)
	for i := range s.x.Len() {
		grad[s.x.Off+i] *= s.factor
	}
	return loss, grad, err
}

// What the tolerances of bfloat16 are made of: the engine on the CPU is where numbers.go says, so the bound means what it says there;
// and a gradient of one tensor that is missing, twice as large or has the wrong sign is found on every configuration where that tensor
// matters, one that is off by a quarter on nearly every one.
func TestTolerances(t *testing.T) {
	how := precisions[model.BF16]
	s := suite{cpu.New(""), Options{Precision: model.BF16}, how}
	var ratios vec
	tried, missed := map[float32]int{}, map[float32]int{}
	for seed := range 60 {
		p := rapid.Custom(func(t *rapid.T) problem { return drawProblem(t, how) }).Example(seed)
		tr := s.trainer(t, p.c, usual(), p.w)
		_, grad, err := tr.LossGrad(p.b)
		if err != nil {
			t.Fatal(err)
		}
		grad = slices.Clone(grad)
		for _, x := range p.c.Tensors() {
			from, to := x.Off, x.Off+x.Len()
			want, moved := p.grad[from:to], p.of(func(m moved) vec { return m.grad[from:to] })
			if size := norm(want); size == 0 || size < 0.01*norm(p.grad) {
				continue
			}
			ratios = append(ratios, distance(wide(grad[from:to]), want)/change(want, moved))
			for _, factor := range []float32{0, 2, -1, 0.75, 1.25} {
				tried[factor]++
				if fails(func(t failer) { p.check(t, "changed", scaled{tr, x, factor}) }) == "" {
					missed[factor]++
				}
			}
		}
	}
	slices.Sort(ratios)
	if median, most := ratios[len(ratios)/2], ratios[len(ratios)-1]; len(ratios) < 400 || !(median > 0.4 && median < 0.7 && most < how.slack/1.5) {
		t.Errorf("of %d gradients the error is %.2f of what roundings change in the median, at most %.2f", len(ratios), median, most)
	}
	for factor, n := range tried {
		if most := map[float32]int{0.75: n / 50, 1.25: n / 50}[factor]; missed[factor] > most {
			t.Errorf("of %d gradients times %v %d were accepted, want at most %d", n, factor, missed[factor], most)
		}
	}
}
