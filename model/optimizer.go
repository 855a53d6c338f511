package model

// Optimizer is AdamW with its schedule. "wsd", the default: warm-up, flat, linear down to LR·MinLR over the last Decay of Total
// global steps.
// Norms and the embedding are not decayed.
type Optimizer struct {
	LR, MinLR, Decay  float64
	Warmup, Total     int
	Beta1, Beta2, Eps float64
	Schedule          string              // "", "wsd" or "cosine"
	WeightDecay, Clip float64             // Clip 0 = none
	Decays            func(t Tensor) bool // which tensors are decayed; nil: matrices other than the embedding
}

// Rate is the learning rate of global step s (0-based).
func (o Optimizer) Rate(s uint64) float64 {
	total, warm := float64(o.Total), float64(o.Warmup)
	x := float64(s)
	if x < warm {
		return o.LR * (x + 1) / warm
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
