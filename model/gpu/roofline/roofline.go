// Package roofline predicts on paper how long an inner step takes on a card: every kernel of the step is bound by its arithmetic or by
// its memory traffic, whichever takes longer, and between launches there are gaps. It is a model and no measurement: what a kernel
// reaches of a card's data sheet is assumed (Assumed), and equal on all cards.
package roofline

import (
	"fmt"

	"sn3/model"
	"sn3/model/gpu/memory"
)

// Assumed are the shares of a card's data sheet that kernels are taken to reach, and what else the prediction rests on. Products: 700
// of an H200's 989 TFLOP/s, with cuBLASLt (torch was seen at 769 to 798 on 8192³); attention: 250 of these; memory: 4.0 of 4.8 TB/s;
// link: 350 of 450 GB/s.
var Assumed = struct {
	Products, Attention, Memory, Link float64
	Gap                               float64 // seconds from one kernel to the next within a CUDA graph
	HostBytes                         float64 // a second that the host's memory moves where AdamW runs there
}{700. / 989, 250. / 989, 4.0 / 4.8, 350. / 450, 2e-6, 400e9}

// FLOPsPerToken counts what training on a token takes by the model's definition: 6 for every parameter that a product meets (the
// embedding only where it is the output matrix too) and causal attention, 6·L·Q·T. Recomputation does not count.
func FLOPsPerToken(c model.Config) float64 {
	met := float64(c.Params())
	if !c.Tied {
		met -= float64(c.Vocab) * float64(c.Width)
	}
	return 6*met + 6*float64(c.Layers)*float64(c.Heads*c.HeadDim)*float64(c.Seq)
}

// Line is a part of a step's time on one card.
type Line struct {
	Name     string
	Launches int
	FLOP     float64
	Bytes    float64
	Seconds  float64
}

// Prediction is what a step of a request takes.
type Prediction struct {
	Card       Card
	Tokens     int     // of the step, on all cards
	Lines      []Line  // of one card; their seconds add up to Seconds
	Seconds    float64 // of the step
	PerSecond  float64 // tokens a second on all cards
	MFU        float64 // FLOPsPerToken · PerSecond / the data sheet's FLOPs of all cards
	MicroSteps int     // forward and backward passes of a card
}

// Predict predicts an inner step of batch sequences for a request of package memory that trains.
func Predict(card Card, r memory.Request, batch int) (Prediction, error) {
	if err := r.Validate(); err != nil {
		return Prediction{}, err
	}
	if r.Judge || batch < 1 || card.FLOPs <= 0 || card.Bytes <= 0 {
		return Prediction{}, fmt.Errorf("roofline: nothing to predict for %d sequences on the card %q", batch, card.Name)
	}
	s := &step{card: card, cfg: r.Model, r: r}
	each := r.Ranks * r.MicroBatch
	micro := (batch + each - 1) / each
	s.times = micro
	s.pass()
	pass := s.sum() // what an exchange can hide behind
	s.exchange(pass)
	s.times = 1
	s.optimizer()
	p := Prediction{Card: card, Tokens: batch * r.Model.Seq, MicroSteps: micro}
	launches := 0
	for _, l := range s.lines {
		launches += l.Launches
	}
	p.Lines = append(s.lines, Line{Name: "gaps between launches", Seconds: float64(launches) * Assumed.Gap})
	for _, l := range p.Lines {
		p.Seconds += l.Seconds
	}
	p.PerSecond = float64(p.Tokens) / p.Seconds
	p.MFU = FLOPsPerToken(r.Model) * p.PerSecond / (card.FLOPs * float64(r.Ranks))
	return p, nil
}

// step collects the kernels of a step.
type step struct {
	card  Card
	cfg   model.Config
	r     memory.Request
	times int // how often what is added runs
	lines []Line
}

func (s *step) sum() (seconds float64) {
	for _, l := range s.lines {
		seconds += l.Seconds
	}
	return seconds
}

// add adds n launches of a kernel, each with so many operations, at a share of the card's, and bytes.
func (s *step) add(name string, n float64, flop, share, bytes float64) {
	seconds := bytes / (s.card.Bytes * Assumed.Memory)
	if flop > 0 {
		seconds = max(seconds, flop/(s.card.FLOPs*share))
	}
	n *= float64(s.times)
	s.put(Line{name, int(n), n * flop, n * bytes, n * seconds})
}

func (s *step) put(l Line) {
	for i := range s.lines {
		if x := &s.lines[i]; x.Name == l.Name {
			x.Launches, x.FLOP, x.Bytes, x.Seconds = x.Launches+l.Launches, x.FLOP+l.FLOP, x.Bytes+l.Bytes, x.Seconds+l.Seconds
			return
		}
	}
	s.lines = append(s.lines, l)
}

// product adds n products of (m,k) and (k,n) in bf16 whose result has so many bytes a value, read and written where it is added to.
func (s *step) product(times, m, n, k, out float64) {
	s.add("matrix products", times, 2*m*n*k, Assumed.Products, 2*(m*k+k*n)+out*m*n)
}

// pass is a micro-batch forward and backward, kernel by kernel as model/gpu/kernels has them.
func (s *step) pass() {
	c := s.cfg
	L, C, F, V := float64(c.Layers), float64(c.Width), float64(c.FFN), float64(c.Vocab)
	Q, S := float64(c.Heads*c.HeadDim), float64((c.Heads+2*c.KVHeads)*c.HeadDim)
	N, T := float64(s.r.MicroBatch*c.Seq), float64(c.Seq)
	grad := 2 * s.gradBytes() // read and written
	rows := func(name string, times, bytes float64) { s.add(name, times, 0, 1, N*bytes) }
	const norms, swiglu, rest = "norms and residual stream", "SwiGLU", "rotary positions, embedding"

	// 1. forward; with full recomputation all but the last product of a layer once more
	rows(rest, 1, 4*C)
	layers := map[memory.Recompute]float64{memory.Full: 2 * L}[s.r.Recompute]
	layers = max(layers, L)
	rows(norms, 2*layers, 8*C)
	s.product(layers, N, S, C, 2)
	rows(rest, layers, 2*(Q+S)) // queries and keys, read and written
	s.add("attention", layers, 2*N*T*Q, Assumed.Attention, 2*N*(S+Q))
	s.product(layers, N, C, Q, 2)
	s.product(layers, N, 2*F, C, 2)
	rows(swiglu, layers, 6*F)
	s.product(L, N, C, F, 2)
	if s.r.Recompute == memory.Selective {
		rows(norms, 2*L, 4*C)
		rows(swiglu, L, 6*F)
	}
	// 2. logits, loss and their gradients, in blocks of rows
	blocks := max(1, N/memory.HeadRows)
	R := N / blocks
	rows(norms, 1, 4*C)
	s.product(blocks, R, V, C, 4)
	s.add("loss", blocks, 0, 1, R*V*10)
	s.product(blocks, V, C, R, grad)
	s.product(blocks, R, C, V, 2)
	// 3. backward: of every product the gradients of both factors
	rows(norms, 2*L+1, 14*C)
	for _, x := range [][2]float64{{S, C}, {C, Q}, {2 * F, C}, {C, F}} {
		s.product(L, x[0], x[1], N, grad)
		s.product(L, N, x[1], x[0], 2)
	}
	rows(swiglu, L, 10*F)
	rows("attention", L, 4*Q)
	s.add("attention", 2*L, 2.5*2*N*T*Q/2, Assumed.Attention, 2*N*(S+Q)) // of keys and values, of queries
	rows(rest, L, 2*(Q+S))
	rows(rest, 1, 12*C)
}

func (s *step) gradBytes() float64 {
	if s.r.Plan == memory.Classic {
		return 4
	}
	return 2
}

// own is how many parameters a card owns.
func (s *step) own() float64 { return float64(memory.Share(int64(s.cfg.Params()), s.r.Ranks)) }

// exchange is what gathering weights twice and giving away gradients once per pass takes beyond what the pass of so many seconds hides.
func (s *step) exchange(pass float64) {
	if s.r.Ranks == 1 {
		return
	}
	bytes := ExchangeBytes(s.r) * float64(s.times)
	line := Line{Name: "exchange between cards that nothing hides", Bytes: bytes}
	line.Seconds = max(0, bytes/(s.card.Link*Assumed.Link)-pass)
	s.put(line)
}

// ExchangeBytes is what a card sends in a pass, and receives: two gathers of bf16 weights and its part of the sum of gradients.
func ExchangeBytes(r memory.Request) float64 {
	bytes := 2. + 2 + 2
	if r.Plan == memory.Classic {
		bytes += 2
	}
	return bytes * float64(r.Model.Params()) * float64(r.Ranks-1) / float64(r.Ranks)
}

// optimizer is the norm of the gradient and AdamW, here or on the host.
func (s *step) optimizer() {
	own := s.own()
	switch s.r.Plan {
	case memory.Classic: // gradient twice, m, v and master read and written, the copy written
		s.add("norm of the gradient, AdamW", 1, 0, 1, own*(4+4+2*(4+4+4)+2))
	case memory.Lean:
		s.add("norm of the gradient, AdamW", 1, 0, 1, own*(2+2+2*(2+2+4)+2))
	case memory.Offload:
		s.add("norm of the gradient, AdamW", 1, 0, 1, own*2)
		host := 26 * float64(s.cfg.Params()) // master, m and v read and written, the copy written
		s.put(Line{Name: "gradients and copies on the bus", Bytes: 4 * own, Seconds: 4 * own / s.card.Bus})
		s.put(Line{Name: "AdamW on the host", Bytes: host, Seconds: host / Assumed.HostBytes})
	}
}
