package model_test

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sn3/model"
)

// The cosine schedule, point by point: warm-up from LR/Warmup, then half a cosine to the floor, then the floor.
func TestCosine(t *testing.T) {
	o := model.Optimizer{LR: 2, MinLR: 0.1, Warmup: 10, Total: 110, Schedule: "cosine"}
	cold, all := o, o
	cold.Warmup = 0
	all.Warmup = 110
	for _, c := range []struct {
		name string
		o    model.Optimizer
		step uint64
		want float64
	}{
		{"first step", o, 0, 0.2}, {"end of warm-up", o, 9, 2}, {"top", o, 10, 2}, {"half way down", o, 60, 1.1},
		{"a third down", o, 10 + 100/3, 0.2 + 0.9*(1+math.Cos(math.Pi*33/100))}, {"quarter", o, 35, 0.2 + 0.9*(1+math.Sqrt2/2)},
		{"last step", o, 109, 0.2 + 0.9*(1-math.Cos(math.Pi/100))}, {"end", o, 110, 0.2}, {"after the end", o, 1 << 40, 0.2},
		{"no warm-up", cold, 0, 2}, {"only warm-up", all, 109, 2}, {"after only warm-up", all, 110, 0.2},
	} {
		if got := c.o.Rate(c.step); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s: rate of step %d is %v, want %v", c.name, c.step, got, c.want)
		}
	}
}

// Whatever the settings: the rate climbs to LR during warm-up and never rises again, no step jumps by more than its share of
// the way, and from Total on it is the floor.
func TestRateProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := model.Optimizer{LR: rapid.Float64Range(1e-6, 1).Draw(t, "lr"), MinLR: rapid.Float64Range(0, 1).Draw(t, "floor"),
			Total: rapid.IntRange(20, 400).Draw(t, "total"), Schedule: rapid.SampledFrom([]string{"", "wsd", "cosine"}).Draw(t, "schedule"),
			Beta1: 0.9, Beta2: 0.95, Eps: 1e-8}
		if o.Schedule != "cosine" {
			o.Decay = rapid.Float64Range(0.1, 1).Draw(t, "decay")
		}
		o.Warmup = rapid.IntRange(0, int(float64(o.Total)*(1-o.Decay)*0.9)).Draw(t, "warmup")
		if err := o.Validate(); err != nil {
			t.Fatal(err)
		}
		way := float64(o.Total) * o.Decay
		if o.Schedule == "cosine" {
			way = float64(o.Total-o.Warmup) * 2 / math.Pi
		}
		const ulps = 1e-9
		for s := range uint64(o.Total + 5) {
			now, next := o.Rate(s), o.Rate(s+1)
			switch {
			case now > o.LR*(1+ulps) || now < o.LR*min(o.MinLR, 1/float64(max(1, o.Warmup)))*(1-ulps):
				t.Fatalf("step %d: %v", s, now)
			case s+1 < uint64(o.Warmup) && next <= now:
				t.Fatalf("warm-up does not climb at step %d: %v, %v", s, now, next)
			case s+1 >= uint64(o.Warmup) && s > uint64(o.Warmup) && next > now*(1+ulps):
				t.Fatalf("the rate rises at step %d: %v, %v", s, now, next)
			case s >= uint64(o.Warmup) && now-next > o.LR*(1-o.MinLR)/way*(1+ulps):
				t.Fatalf("the rate jumps at step %d: %v, %v", s, now, next)
			case s >= uint64(o.Total) && math.Abs(now-o.LR*o.MinLR) > o.LR*ulps:
				t.Fatalf("after the end, step %d: %v", s, now)
			}
		}
	})
}

// With cold moments the rate is k twentieths of the schedule's at the k-th of 20 steps, then the schedule's.
func TestWarmRate(t *testing.T) {
	o := model.Optimizer{LR: 2, MinLR: 0.1, Decay: 0.5, Warmup: 4, Total: 100}
	for _, c := range []struct {
		step uint64
		cold int
		want float64
	}{{20, 20, 0.1}, {21, 19, 0.2}, {30, 10, 1.1}, {39, 1, 2}, {40, 0, 2}, {40, -3, 2}, {20, 99, 0.1}, {75, 10, 1.1 * 11 / 20}, {0, 20, 0.025}} {
		if got := o.WarmRate(c.step, c.cold); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("step %d, %d cold steps left: rate %v, want %v", c.step, c.cold, got, c.want)
		}
	}
}

// What cannot work is refused with the field's name in a run descriptor.
func TestOptimizerValidate(t *testing.T) {
	good := model.Optimizer{LR: 1e-3, MinLR: 0.1, Decay: 0.3, Warmup: 50, Total: 240, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, Clip: 1}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		want   string
		change func(*model.Optimizer)
	}{
		{"train.schedule \"linear\"", func(o *model.Optimizer) { o.Schedule = "linear" }},
		{"train.lr 0", func(o *model.Optimizer) { o.LR = 0 }},
		{"train.lr NaN", func(o *model.Optimizer) { o.LR = math.NaN() }},
		{"train.lr +Inf", func(o *model.Optimizer) { o.LR = math.Inf(1) }},
		{"train.min_lr 2", func(o *model.Optimizer) { o.MinLR = 2 }},
		{"train.beta1 1", func(o *model.Optimizer) { o.Beta1 = 1 }},
		{"train.beta2 NaN", func(o *model.Optimizer) { o.Beta2 = math.NaN() }},
		{"train.eps 0", func(o *model.Optimizer) { o.Eps = 0 }},
		{"train.clip -1", func(o *model.Optimizer) { o.Clip = -1 }},
		{"train.total 0", func(o *model.Optimizer) { o.Total = 0 }},
		{"train.decay 1.1", func(o *model.Optimizer) { o.Decay = 1.1 }},
		{"train.decay 0.3 belongs to the schedule wsd", func(o *model.Optimizer) { o.Schedule = "cosine" }},
		{"train.warmup 200 ends after", func(o *model.Optimizer) { o.Warmup = 200 }},
		{"train.warmup 300 ends after", func(o *model.Optimizer) { o.Schedule, o.Decay, o.Warmup = "cosine", 0, 300 }},
	} {
		o := good
		c.change(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}
