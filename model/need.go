package model

// Need is the memory that a trainer or a judge takes, in bytes, allocated once when it is made.
type Need struct {
	Params  int64 // master parameters, and their bfloat16 copy
	Grads   int64
	Moments int64
	Acts    int64 // activations, logits and scratch
}

// Total is the sum.
func (n Need) Total() int64 { return n.Params + n.Grads + n.Moments + n.Acts }

// Sizer is an Engine that says beforehand what it will allocate for batches of at most batch sequences of Config.Seq tokens.
type Sizer interface {
	Need(c Config, opt Options, batch int, train bool) Need
}
