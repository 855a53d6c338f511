package roofline

import "strings"

// Work is what a launch has to do at least: operations, as Predict counts them, and bytes to read and to write, each once.
type Work struct{ FLOP, Bytes float64 }

// Launch is a launch of a kernel of model/gpu/kernels: its grid, its integer arguments at their places, and how many values it works on
// where only memory says so.
type Launch struct {
	Kernel string
	Grid   [3]int
	Args   [16]int64
	Values int64
}

// rows and arg are the numbers that sizes are made of.
func (l Launch) rows() float64     { return float64(l.Grid[0]) }
func (l Launch) arg(i int) float64 { return float64(l.Args[i]) }

// Work is what the launch has to do; ok is false of a kernel that is not known.
func (l Launch) Work() (w Work, ok bool) {
	name := l.Kernel
	switch {
	case l.isProduct():
		return l.product(), true
	case l.isAttention():
		return l.attention(), true
	}
	if a, ok := perRow[name]; ok { // bytes for every row of the grid and column of an argument
		return Work{Bytes: a.bytes * l.rows() * l.arg(a.arg)}, true
	}
	if a, ok := perArg[name]; ok {
		return Work{Bytes: a.bytes * l.arg(a.arg)}, true
	}
	if bytes, ok := perValue[name]; ok {
		return Work{Bytes: bytes * float64(l.Values)}, true
	}
	switch name {
	case "rope": // heads·2·half values of a row, read and written
		return Work{Bytes: 8 * l.rows() * l.arg(5) * l.arg(6)}, true
	case "rmsnorm_back", "rmsnorm_back_half":
		return Work{Bytes: map[bool]float64{true: 16, false: 14}[name == "rmsnorm_back"] * l.arg(7) * l.arg(8)}, true
	case "rmsnorm_back_bf16":
		return Work{Bytes: 8 * l.arg(6) * l.arg(7)}, true
	case "sum_rows", "sum_rows_bf16":
		return Work{Bytes: 4 * l.arg(2) * l.arg(3)}, true
	case "attention_delta":
		return Work{Bytes: 4 * l.arg(3) * l.arg(5) * l.arg(6)}, true
	}
	return Work{}, false
}

// each is bytes for every unit of an argument.
type each struct {
	bytes float64
	arg   int
}

var (
	perRow = map[string]each{
		"rmsnorm": {4, 4}, "rmsnorm_add": {8, 6}, "swiglu": {6, 2}, "swiglu_back": {12, 3}, "swiglu_back_half": {10, 3},
		"embed": {4, 3}, "embed_back": {12, 5}, "embed_back_half": {10, 5}, "embed_back_bf16": {6, 5},
		"cross_entropy": {12, 4}, "cross_entropy_to": {10, 5}, "cross_entropy_bf16": {6, 4}, "loss_only": {4, 3}, "loss_only_bf16": {2, 3}, // logits twice: for the sum, then for the gradient
	}
	perArg = map[string]each{
		"to_bf16": {6, 2}, "to_float": {6, 2}, "zero": {4, 1}, "zero_bf16": {2, 1}, "add_float": {12, 2}, "add_bf16": {6, 2}, "add_half": {10, 2},
		"clip": {4, 3}, "loss_sum": {4, 3}, "feedback": {16, 4}, "scale": {8, 2}, "memset": {1, 0},
	}
	perValue = map[string]float64{
		"squares": 4, "squares_bf16": 2, "adamw": 30, "adamw_chance": 22, "adamw_chance_bf16": 20,
		"compress": 4, "decode": 5, "outer_step": 8, "move_chunks": 8, "round_chunks": 6, // what is sent of a chunk is little beside it
		"delta_apply": 20, "delta_undo": 12, // of the delta's values
	}
)

// isProduct and isAttention are the kernels of products: cublaslt_ are NVIDIA's, with the arguments of ours.
func (l Launch) isProduct() bool {
	return strings.HasPrefix(l.Kernel, "gemm_") || strings.HasPrefix(l.Kernel, "cublaslt_")
}

func (l Launch) isAttention() bool {
	return strings.HasPrefix(l.Kernel, "attention_") && l.Kernel != "attention_delta"
}

func (l Launch) product() Work {
	m, n, k, out := l.arg(3), l.arg(4), l.arg(5), 4.
	if strings.Contains(l.Kernel, "bf16") {
		out = 2
	}
	if l.Args[9] != 0 {
		out *= 2
	}
	return Work{FLOP: 2 * m * n * k, Bytes: 2*(m*k+k*n) + out*m*n}
}

// attention counts causal attention's half: forward two products, backward five, made by two kernels.
func (l Launch) attention() Work {
	at, flop := 3, 2.
	if strings.HasPrefix(l.Kernel, "attention_keys") || strings.HasPrefix(l.Kernel, "attention_queries") {
		at, flop = 5, 2.5
	}
	T, heads, kv, hd, B := l.arg(at), l.arg(at+1), l.arg(at+2), l.arg(at+3), float64(l.Grid[2])
	Q, S := heads*hd, (heads+2*kv)*hd
	return Work{FLOP: flop * B * T * T * Q, Bytes: 2 * B * T * (S + Q)}
}

// Seconds is how long Predict takes the launch for on a card.
func (l Launch) Seconds(c Card) float64 {
	w, ok := l.Work()
	if !ok {
		return 0
	}
	share := Assumed.Products
	if l.isAttention() {
		share = Assumed.Attention
	}
	return max(w.Bytes/(c.Bytes*Assumed.Memory), w.FLOP/(c.FLOPs*share))
}
