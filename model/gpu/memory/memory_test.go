package memory

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sn3/model"
)

// The shapes of Llama 3 that the tables of our notes are of.
var (
	llama1b  = model.Config{Vocab: 128256, Width: 2048, Layers: 16, Heads: 32, KVHeads: 8, HeadDim: 64, FFN: 8192, Seq: 2048, Tied: true, RopeTheta: 5e5, NormEps: 1e-5}
	llama8b  = model.Config{Vocab: 128256, Width: 4096, Layers: 32, Heads: 32, KVHeads: 8, HeadDim: 128, FFN: 14336, Seq: 2048, RopeTheta: 5e5, NormEps: 1e-5}
	llama70b = model.Config{Vocab: 128256, Width: 8192, Layers: 80, Heads: 64, KVHeads: 8, HeadDim: 128, FFN: 28672, Seq: 2048, RopeTheta: 5e5, NormEps: 1e-5}
)

func request(c model.Config) Request {
	return Request{Model: c, Plan: Classic, Recompute: None, Ranks: 1, MicroBatch: 1}
}

// near says whether a figure in bytes is what a table says in GB, within its last digit.
func near(t *testing.T, what string, bytes int64, gb, digit float64) {
	t.Helper()
	if got := float64(bytes) / 1e9; math.Abs(got-gb) > digit {
		t.Errorf("%s: %.3f GB, the notes have %v", what, got, gb)
	}
}

// The table of parts: bf16 weights, gradients, masters, moments, θ at the window's start, error feedback, activations, logits.
func TestPartsOfTheNotes(t *testing.T) {
	for _, c := range []struct {
		name                                         string
		cfg                                          model.Config
		copies, grad, master, moments, start, feed   float64
		gradLean, momentsLean, none, selective, full float64
		unsharded                                    float64 // two layers, head, logits
		round                                        float64
		digit                                        float64
	}{
		{"1.2B", llama1b, 2.5, 4.9, 4.9, 9.9, 2.5, 4.9, 2.5, 4.9, 2.5, 1.7, 0.13, 1.0, 7.4, 0.06},
		{"8B", llama8b, 16.1, 32.1, 32.1, 64.2, 16.1, 32.1, 16.1, 32.1, 9.1, 6.2, 0.54, 2.2, 48, 0.2},
		{"70B", llama70b, 141.1, 282, 282, 564, 141, 282, 141, 282, 45, 30, 2.7, 5.8, 423, 0.6},
	} {
		r := request(c.cfg)
		r.Round = true
		a := r.Arena()
		near(t, c.name+" copies", a.Sum(Copies), c.copies, c.digit)
		near(t, c.name+" gradients", a.Sum(Gradients), c.grad, c.digit)
		near(t, c.name+" masters", a.Sum(Masters), c.master, c.digit)
		near(t, c.name+" moments", a.Sum(Moments), c.moments, c.digit)
		near(t, c.name+" start", a.Sum(Start), c.start, c.digit)
		near(t, c.name+" feedback", a.Sum(Feedback), c.feed, c.digit)
		near(t, c.name+" start and feedback", a.Sum(Start)+a.Sum(Feedback), c.round, c.digit)
		near(t, c.name+" all activations", a.Sum(Kept), c.none, c.digit)
		logits, _ := a.Find("logits")
		near(t, c.name+" logits", logits.Size, 0.26, 0.005)
		r.Plan, r.Recompute = Lean, Selective
		a = r.Arena()
		near(t, c.name+" lean gradients", a.Sum(Gradients), c.gradLean, c.digit)
		near(t, c.name+" lean moments", a.Sum(Moments), c.momentsLean, c.digit)
		near(t, c.name+" selective", a.Sum(Kept), c.selective, c.digit)
		r.Recompute, r.Ranks = Full, 2
		a = r.Arena()
		near(t, c.name+" full", a.Sum(Kept), c.full, 0.03)
		near(t, c.name+" unsharded", a.Sum(Gathered)+logits.Size, c.unsharded, 0.05)
	}
}

// The table of states a card, shared n ways.
func TestStatesOfTheNotes(t *testing.T) {
	for _, c := range []struct {
		cfg    model.Config
		plan   Plan
		states [4]float64
	}{
		{llama1b, Classic, [4]float64{22.2, 11.1, 5.6, 2.8}},
		{llama8b, Classic, [4]float64{144.5, 72.3, 36.1, 18.1}},
		{llama8b, Lean, [4]float64{96.4, 48.2, 24.1, 12.0}},
		{llama8b, Offload, [4]float64{32.1, 16.1, 8.0, 4.0}},
		{llama70b, Classic, [4]float64{1270, 635, 318, 158.7}},
		{llama70b, Lean, [4]float64{847, 423, 212, 105.8}},
		{llama70b, Offload, [4]float64{282, 141, 70.6, 35.3}},
	} {
		for i, want := range c.states {
			r := request(c.cfg)
			r.Plan, r.Ranks = c.plan, 1<<i
			a := r.Arena()
			near(t, string(c.plan), a.Sum(Masters)+a.Sum(Copies)+a.Sum(Gradients)+a.Sum(Moments), want, max(0.06, want/600))
		}
	}
}

// What fits which cards, with nine tenths of each.
func TestFitsAsTheNotesSay(t *testing.T) {
	const h200, h100 = 141e9 * 9 / 10, 80e9 * 9 / 10
	for _, c := range []struct {
		cfg       model.Config
		ranks     int
		have      int64
		plan      Plan
		recompute Recompute
		ok        bool
	}{
		{llama1b, 1, h100, Classic, None, true},
		{llama8b, 1, h200, Classic, Full, false},
		{llama8b, 2, h200, Classic, None, true},
		{llama8b, 4, h100, Classic, None, true},
		{llama8b, 1, h200, Lean, Selective, true},
		{llama8b, 2, h100, Lean, None, true},
		{llama8b, 1, h100, Lean, Full, false},
		{llama8b, 1, h100, Offload, Selective, true},
		{llama70b, 8, h200, Classic, Full, false},
		{llama70b, 8, h200, Lean, Full, true},
		{llama70b, 8, h100, Offload, Full, true},
		{llama70b, 4, h200, Offload, Full, true},
	} {
		r := Request{Model: c.cfg, Plan: c.plan, Recompute: c.recompute, Ranks: c.ranks, MicroBatch: 1}
		if err := r.Check(c.have); (err == nil) != c.ok {
			t.Errorf("%d parameters, %s, %s on %d cards: %v", c.cfg.Params(), c.plan, c.recompute, c.ranks, err)
		}
	}
}

// The host holds what is offloaded, 12 bytes a parameter and 4 while new parameters come, whatever the number of cards.
func TestHost(t *testing.T) {
	r := request(llama70b)
	r.Ranks = 8
	if n := r.HostNeed(); n.Total() != 8*2*(16<<20)+ReadCache {
		t.Errorf("classic: %+v", n)
	}
	r.Plan = Offload
	var sum int64
	for _, p := range r.Host() {
		sum += p.Bytes
	}
	near(t, "70B offloaded", sum, 846.6+282.2, 0.7)
	if n := r.HostNeed(); n.Total() != sum || n.Params != 8*int64(llama70b.Params()) || n.Moments != n.Params {
		t.Errorf("offload: %+v, the parts have %d bytes", n, sum)
	}
	r.Judge = true
	if n := r.HostNeed(); n.Params != 0 || len(r.Host()) != 1 {
		t.Errorf("judge: %+v", n)
	}
}

// drawRequest draws a request that Validate accepts.
func drawRequest(t *rapid.T) Request {
	heads := rapid.IntRange(1, 4).Draw(t, "groups")
	kv := rapid.IntRange(1, 4).Draw(t, "kv")
	r := Request{
		Model: model.Config{Vocab: rapid.IntRange(2, 5000).Draw(t, "V"), Width: rapid.IntRange(1, 300).Draw(t, "C"), Layers: rapid.IntRange(1, 5).Draw(t, "L"),
			Heads: heads * kv, KVHeads: kv, HeadDim: 2 * rapid.IntRange(1, 64).Draw(t, "D"), FFN: rapid.IntRange(1, 700).Draw(t, "F"),
			Seq: rapid.IntRange(1, 900).Draw(t, "T"), Tied: rapid.Bool().Draw(t, "tied"), RopeTheta: 1e4, NormEps: 1e-5},
		Plan: rapid.SampledFrom(Plans()).Draw(t, "plan"), Recompute: rapid.SampledFrom(Recomputes()).Draw(t, "recompute"),
		Ranks: rapid.IntRange(1, 9).Draw(t, "ranks"), MicroBatch: rapid.IntRange(1, 20).Draw(t, "B"),
		Round: rapid.Bool().Draw(t, "round"), Judge: rapid.Bool().Draw(t, "judge"), Kept: rapid.Int64Range(0, 1000).Draw(t, "kept"),
	}
	if err := r.Validate(); err != nil {
		t.Fatal(err)
	}
	return r
}

// Regions lie one behind the other, aligned, without gaps beyond alignment, under names of their own; groups and needs add up to
// the size, and a group's regions are neighbours.
func TestArena(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRequest(t)
		a := r.Arena()
		if n := shapeOf(r).params; n != int64(r.Model.Params()) {
			t.Fatalf("%d parameters, want %d", n, r.Model.Params())
		}
		l, err := model.NewLayout(r.Model)
		if err != nil {
			t.Fatal(err)
		}
		if n := shapeOf(r).chunks; n != int64(l.Chunks()) {
			t.Fatalf("%d chunks, want %d", n, l.Chunks())
		}
		names, end := map[string]bool{}, int64(0)
		var groups []Group
		for _, x := range a.Regions {
			if x.Off != end || x.Off%Align != 0 || x.Size <= 0 || names[x.Name] {
				t.Fatalf("%+v after byte %d", x, end)
			}
			names[x.Name] = true
			end = (x.Off + x.Size + 255) / 256 * 256
			if len(groups) == 0 || groups[len(groups)-1] != x.Group {
				groups = append(groups, x.Group)
			}
			if y, ok := a.Find(x.Name); !ok || y != x {
				t.Fatalf("found %+v, want %+v", y, x)
			}
		}
		var sum int64
		for i, p := range a.Parts() {
			sum += p.Bytes
			if p.Name != string(groups[i]) {
				t.Fatalf("part %d is %s, the regions' is %s", i, p.Name, groups[i])
			}
		}
		if got := r.size(); got != end {
			t.Fatalf("size without a list %d, with one %d", got, end)
		}
		if a.Size != end || sum != end || a.Need().Total() != end || len(groups) != len(a.Parts()) {
			t.Fatalf("size %d, end %d, sum %d, need %d", a.Size, end, sum, a.Need().Total())
		}
		for _, g := range []int{1, 7} { // what lies before Fixed is the same for every batch
			other := r
			other.MicroBatch, other.Model.Seq = g, g*11
			if b := other.Arena(); b.Fixed != a.Fixed || a.Fixed == 0 || !slices.Equal(before(a), before(b)) {
				t.Fatalf("what does not depend on the batch does: %d, %d", a.Fixed, b.Fixed)
			}
		}
		if _, ok := a.Find("none of these"); ok {
			t.Fatal("found what is not there")
		}
	})
}

// before are the regions that do not depend on the batch.
func before(a Arena) []Region {
	i := slices.IndexFunc(a.Regions, func(r Region) bool { return r.Off >= a.Fixed })
	return a.Regions[:i]
}

// All of a batch's sequences take what one takes, times their number, and every cheaper setting takes no more.
func TestCheaperIsSmaller(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRequest(t)
		r.Judge, r.Plan, r.Recompute, r.MicroBatch = false, Classic, None, r.MicroBatch+1
		size := r.Arena().Size
		less := func(what string, change func(*Request)) {
			c := r
			change(&c)
			if got := c.Arena().Size; got > size+2*Align { // a model of a few values is mostly gaps
				t.Fatalf("%s takes %d bytes, %d without", what, got, size)
			}
		}
		less("a smaller micro-batch", func(c *Request) { c.MicroBatch-- })
		less("lean", func(c *Request) { c.Plan = Lean })
		less("offload", func(c *Request) { c.Plan = Offload })
		less("selective", func(c *Request) { c.Recompute = Selective })
		less("full", func(c *Request) { c.Recompute = Full })
	})
}

// Every value of the model has an owner: n shares of whole chunks hold them all.
func TestShares(t *testing.T) {
	l, err := model.NewLayout(model.Config{Vocab: 300, Width: 96, Layers: 3, Heads: 3, KVHeads: 1, HeadDim: 32, FFN: 200, Seq: 8, RopeTheta: 1e4, NormEps: 1e-5})
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 9; n++ {
		most, from := Share(int64(l.Params()), n), 0
		for rank := range n { // each takes chunks up to its even part of the values
			to := from
			for to < l.Chunks() && l.Chunk(to).Start < (rank+1)*l.Params()/n {
				to++
			}
			a, b := l.Span(model.ChunkRange{From: from, To: to})
			if int64(b-a) > most {
				t.Errorf("card %d of %d owns %d values, planned %d", rank, n, b-a, most)
			}
			from = to
		}
		if from != l.Chunks() {
			t.Errorf("%d cards own %d chunks of %d", n, from, l.Chunks())
		}
	}
}

// The advice is true, and the first that is: no cheaper change would have done.
func TestAdviceIsTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRequest(t)
		have := int64(float64(r.Arena().Size) * rapid.Float64Range(0.05, 1.1).Draw(t, "share"))
		err := r.Check(have)
		var e *TooLarge
		if errors.As(err, &e) != (r.Arena().Size > have) {
			t.Fatalf("%d of %d: %v", r.Arena().Size, have, err)
		}
		if err == nil {
			return
		}
		for _, c := range r.changes() {
			for _, c.MicroBatch = range halves(r.MicroBatch) {
				if c.Arena().Size > have {
					continue
				}
				if e.Change == nil || *e.Change != c || !strings.Contains(err.Error(), "it fits with "+difference(r, c)) {
					t.Fatalf("%+v fits: %v", c, err)
				}
				return
			}
		}
		if e.Change != nil || !strings.Contains(err.Error(), "smaller model") {
			t.Fatalf("nothing fits: %v", err)
		}
	})
}

// What is advised, in words and in order.
func TestAdvice(t *testing.T) {
	for _, c := range []struct {
		cfg   model.Config
		micro int
		have  int64
		want  string
	}{
		{llama1b, 64, 72e9, "it fits with --micro-batch 16"},
		{llama1b, 1, 25e9, "it fits with --recompute selective"},
		{llama1b, 4, 24e9, "it fits with --micro-batch 2 and --recompute full"},
		{llama8b, 1, 127e9, "it fits with --gpu-plan lean"},
		{llama8b, 4, 22e9, "it fits with --micro-batch 1 and --recompute full and --gpu-plan offload and 2 such cards"},
		{llama70b, 1, 127e9, "it fits with --gpu-plan offload and 4 such cards"},
		{llama70b, 1, 1e9, "smaller model"},
	} {
		r := request(c.cfg)
		r.MicroBatch = c.micro
		if err := r.Check(c.have); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d parameters on %.0f GB: %v, want %q", c.cfg.Params(), float64(c.have)/1e9, err, c.want)
		}
	}
}

// A chosen request fits, and what was given is left alone.
func TestChoose(t *testing.T) {
	for _, c := range []struct {
		name string
		r    Request
		have int64
		most int
		want Request
		ok   bool
	}{
		{"room for all", Request{Model: llama1b, Ranks: 1}, 72e9, 8, Request{Model: llama1b, Ranks: 1, Plan: Classic, Recompute: None, MicroBatch: 8}, true},
		{"exact before fast", Request{Model: llama8b, Ranks: 2}, 80e9, 8, Request{Model: llama8b, Ranks: 2, Plan: Classic, Recompute: Full, MicroBatch: 2}, true},
		{"lean", Request{Model: llama8b, Ranks: 1}, 127e9, 8, Request{Model: llama8b, Ranks: 1, Plan: Lean, Recompute: None, MicroBatch: 2}, true},
		{"as told", Request{Model: llama8b, Ranks: 1, Plan: Offload, MicroBatch: 1}, 127e9, 8, Request{Model: llama8b, Ranks: 1, Plan: Offload, Recompute: None, MicroBatch: 1}, true},
		{"nothing", Request{Model: llama70b, Ranks: 1}, 127e9, 8, Request{Model: llama70b, Ranks: 1, Plan: Offload, Recompute: Full, MicroBatch: 1}, false},
	} {
		got, ok := c.r.Choose(c.have, c.most)
		if ok != c.ok || got != c.want {
			t.Errorf("%s: %s, %s, micro-batch %d, %v", c.name, got.Plan, got.Recompute, got.MicroBatch, ok)
		}
	}
}

func TestValidate(t *testing.T) {
	for name, change := range map[string]func(*Request){
		"no card": func(r *Request) { r.Ranks = 0 }, "too many cards": func(r *Request) { r.Ranks = 1 << 20 },
		"no sequence": func(r *Request) { r.MicroBatch = 0 }, "too many": func(r *Request) { r.MicroBatch = 1 << 17 },
		"no plan": func(r *Request) { r.Plan = "" }, "no recomputation": func(r *Request) { r.Recompute = "some" },
		"wide heads": func(r *Request) { r.Model.HeadDim = 130 }, "delta": func(r *Request) { r.Kept = -1 }, "shape": func(r *Request) { r.Model.Layers = 0 },
	} {
		r := request(llama1b)
		if change(&r); r.Validate() == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	judge := Request{Model: llama1b, Ranks: 1, MicroBatch: 1, Judge: true}
	if err := judge.Validate(); err != nil {
		t.Error(err)
	}
}

// Absurd shapes have sizes beyond any card, never negative ones, and are refused in a moment.
func TestAbsurd(t *testing.T) {
	c := model.Config{Vocab: 1 << 20, Width: 1 << 17, Layers: 1 << 12, Heads: 1 << 12, KVHeads: 1 << 12, HeadDim: 1 << 12, FFN: 1 << 20, Seq: 1 << 20, RopeTheta: 1e4, NormEps: 1e-5}
	r := request(c)
	r.MicroBatch, r.Round = maxMicro, true
	if n := r.Arena().Size; n < beyond {
		t.Errorf("%d bytes", n)
	}
	var e *TooLarge
	if err := r.Check(1 << 40); !errors.As(err, &e) || e.Change != nil {
		t.Error(err)
	}
}

func TestHalves(t *testing.T) {
	for n, want := range map[int][]int{1: {1}, 2: {2, 1}, 8: {8, 4, 2, 1}, 12: {12, 8, 4, 2, 1}} {
		if got := halves(n); !slices.Equal(got, want) {
			t.Errorf("%d: %v", n, got)
		}
	}
}
