package model

import (
	"fmt"
	"math"
)

// Optimizer is AdamW with its schedule. Norms and the embedding are not decayed.
type Optimizer struct {
	LR, MinLR, Decay  float64
	Warmup, Total     int // global steps
	Beta1, Beta2, Eps float64
	Schedule          string              // "", "wsd" or "cosine": Rate
	WeightDecay, Clip float64             // Clip 0 = none
	Decays            func(t Tensor) bool // which tensors are decayed; nil: matrices other than the embedding
}

// Rate is the learning rate of global step s (0-based), a function of s alone: a schedule goes on exactly where a window, a
// restart or another miner left it.
//
//	both    warm-up: LR·(s+1)/Warmup before step Warmup
//	wsd     then LR, and down a line to LR·MinLR over the last Decay of Total steps
//	cosine  then half a cosine from LR down to LR·MinLR at step Total
//	both    LR·MinLR from step Total on
func (o Optimizer) Rate(s uint64) float64 {
	total, warm := float64(o.Total), float64(o.Warmup)
	x := float64(s)
	if x < warm {
		return o.LR * (x + 1) / warm
	}
	if o.Schedule == "cosine" {
		if x >= total {
			return o.LR * o.MinLR
		}
		return o.LR * (o.MinLR + (1-o.MinLR)*(1+math.Cos(math.Pi*(x-warm)/(total-warm)))/2)
	}
	from := total * (1 - o.Decay)
	if x <= from || o.Decay == 0 {
		return o.LR
	}
	if x >= total {
		return o.LR * o.MinLR
	}
	return o.LR * (1 - (1-o.MinLR)*(x-from)/(total-from))
}

// ColdSteps is over how many steps the learning rate climbs to the schedule's where moments are stale or new: of a miner that was
// away, lost them, or joins (DESIGN §8).
const ColdSteps = 20

// WarmRate is the learning rate of global step s with cold warm-up steps left, this one among them: a linear part of Rate(s).
func (o Optimizer) WarmRate(s uint64, cold int) float64 {
	if cold <= 0 {
		return o.Rate(s)
	}
	return o.Rate(s) * float64(max(1, ColdSteps+1-cold)) / ColdSteps
}

// Validate refuses an optimizer that cannot work, and a schedule whose parts overlap. Fields are named as in a run descriptor.
func (o Optimizer) Validate() error {
	finite := func(x float64) bool { return x >= 0 && !math.IsInf(x, 0) } // false for NaN
	switch {
	case o.Schedule != "" && o.Schedule != "wsd" && o.Schedule != "cosine":
		return fmt.Errorf("train.schedule %q is unknown; use wsd or cosine", o.Schedule)
	case !finite(o.LR) || o.LR == 0:
		return fmt.Errorf("train.lr %v must be positive", o.LR)
	case !(o.MinLR >= 0 && o.MinLR <= 1):
		return fmt.Errorf("train.min_lr %v is a fraction of train.lr: want 0 to 1", o.MinLR)
	case !(o.Beta1 >= 0 && o.Beta1 < 1) || !(o.Beta2 >= 0 && o.Beta2 < 1):
		return fmt.Errorf("train.beta1 %v and train.beta2 %v must be at least 0 and below 1", o.Beta1, o.Beta2)
	case !finite(o.Eps) || o.Eps == 0:
		return fmt.Errorf("train.eps %v must be positive", o.Eps)
	case !finite(o.WeightDecay) || !finite(o.Clip):
		return fmt.Errorf("train.weight_decay %v and train.clip %v must be 0 or more", o.WeightDecay, o.Clip)
	case o.Warmup < 0 || o.Total < 1:
		return fmt.Errorf("train.warmup %d and train.total %d: want at least 0 and 1 steps", o.Warmup, o.Total)
	case !(o.Decay >= 0 && o.Decay <= 1):
		return fmt.Errorf("train.decay %v is a fraction of train.total: want 0 to 1", o.Decay)
	case o.Schedule == "cosine" && o.Decay != 0:
		return fmt.Errorf("train.decay %v belongs to the schedule wsd; with cosine it must be 0", o.Decay)
	case o.Warmup > o.Total, o.Schedule != "cosine" && float64(o.Warmup) > float64(o.Total)*(1-o.Decay):
		return fmt.Errorf("train.warmup %d ends after the learning rate begins to fall (train.total %d, train.decay %v); plan more steps or a shorter warm-up",
			o.Warmup, o.Total, o.Decay)
	}
	return nil
}
