package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"sn3/chain"
	"sn3/internal/plan"
	"sn3/internal/proc"
	"sn3/internal/spec"
	"sn3/model"
	"sn3/model/data"
	"sn3/model/gpu/memory"
	"sn3/model/gpu/roofline"
)

func gpuFlags() []cli.Flag {
	var names []string
	for _, c := range roofline.Cards() {
		names = append(names, c.Name)
	}
	env := func(name string) []string { return []string{"SN3_PLAN_" + name} } // SN3_PLAN is miner --plan
	return []cli.Flag{
		&cli.StringFlag{Name: "gpus", EnvVars: env("GPUS"), Usage: "plan for cards, `N`xCARD: 8xH200, 2x80GB; known are " + strings.Join(names, ", ")},
		&cli.Float64Flag{Name: "gpu-memory", EnvVars: env("GPU_MEMORY"), Value: 0.9, Usage: "`SHARE` of a card's memory that may be taken"},
		&cli.IntFlag{Name: "seq", EnvVars: env("SEQ"), DefaultText: "the model's", Usage: "sequences of `T` tokens, with --gpus"},
		&cli.StringFlag{Name: "gpu-plan", Aliases: []string{"plan"}, EnvVars: append(env("GPU_PLAN"), env("PLAN")...), DefaultText: "the first that fits", Usage: "`PLAN` of a card's memory: classic, lean or offload"},
		&cli.StringFlag{Name: "recompute", EnvVars: env("RECOMPUTE"), DefaultText: "the least that fits", Usage: "`WHAT` the backward pass makes again: none, selective or full"},
	}
}

// onlyWithGPUs refuses flags that mean nothing without cards.
func onlyWithGPUs(c *cli.Context) error {
	for _, name := range []string{"gpu-memory", "seq", "gpu-plan", "recompute"} {
		if c.IsSet(name) {
			return fmt.Errorf("--%s belongs to --gpus, as in --gpus 8xH200", name)
		}
	}
	return nil
}

// parseCards reads "8xH200", "H200" or "2x80GB". A card of which only the memory is known has no speeds.
func parseCards(s string) (n int, card roofline.Card, err error) {
	name := s
	if count, rest, ok := strings.Cut(s, "x"); ok {
		if n, err = strconv.Atoi(count); err != nil || n < 1 || n > 1024 {
			return 0, card, fmt.Errorf("--gpus %s: want the number of cards before the x, 1 to 1024", s)
		}
		name = rest
	} else {
		n = 1
	}
	if card, ok := roofline.Named(name); ok {
		return n, card, nil
	}
	if digits, ok := strings.CutSuffix(strings.ToUpper(name), "GB"); ok {
		if gb, err := strconv.ParseFloat(digits, 64); err == nil && gb >= 1 && gb <= 4096 {
			return n, roofline.Card{Name: name, Memory: int64(gb * 1e9)}, nil
		}
	}
	var names []string
	for _, c := range roofline.Cards() {
		names = append(names, c.Name)
	}
	return 0, card, fmt.Errorf("--gpus %s: there is no card %q; known are %s, or give its memory: 2x80GB", s, name, strings.Join(names, ", "))
}

// gpuPlan is a plan for cards.
type gpuPlan struct {
	name     string
	run      *chain.Run
	card     roofline.Card
	allowed  int64 // bytes of each card
	share    float64
	request  memory.Request
	node     plan.Plan
	mostEach int // sequences of a step for each card, or as many as fill it
}

func newGPUPlan(name string, run *chain.Run, card roofline.Card, share float64) *gpuPlan {
	return &gpuPlan{name: name, run: run, card: card, share: share, allowed: int64(share * float64(card.Memory))}
}

func planGPUs(c *cli.Context) error {
	p, m, err := gpuPlanned(c)
	if err != nil {
		return proc.Usage(err)
	}
	if err := p.write(os.Stdout); err != nil {
		return fmt.Errorf("print plan: %w", err)
	}
	err = p.request.Check(p.allowed)
	if !c.IsSet("memory") {
		m.Memory = plan.Unknown // the cards are another machine's
	}
	if !c.IsSet("disk") {
		m.Disk = plan.Unknown
	}
	if err = errors.Join(err, p.hostFits(m)); err != nil {
		return proc.Refused(err)
	}
	fmt.Println("it fits")
	switch {
	case p.request.Judge:
		fmt.Println("but validators of this release judge on the CPU: this is for a later one")
	case p.request.Ranks > 1:
		fmt.Println("but miner --gpu of this release uses one card: this is for a later one")
	}
	return nil
}

// gpuPlanned reads the arguments of plan --gpus.
func gpuPlanned(c *cli.Context) (*gpuPlan, plan.Machine, error) {
	x, run, m, err := planArgs(c)
	if err != nil {
		return nil, m, err
	}
	share := c.Float64("gpu-memory")
	n, card, err := parseCards(c.String("gpus"))
	switch {
	case err != nil:
		return nil, m, err
	case !(share > 0 && share <= 1):
		return nil, m, errors.New("--gpu-memory is a share of the card's memory, above 0 and at most 1")
	case c.IsSet("seq") && c.Int("seq") < 1:
		return nil, m, errors.New("--seq must be at least 1")
	case c.IsSet("precision") && c.String("precision") != string(model.BF16):
		return nil, m, errors.New("cards multiply in bf16: leave --precision away")
	}
	if c.IsSet("seq") {
		run.Model.Seq = c.Int("seq")
		if err := spec.Check(run); err != nil {
			return nil, m, err
		}
	}
	p := newGPUPlan(x.Name, run, card, share)
	p.request = memory.Request{Model: spec.Config(run.Model), Plan: memory.Plan(c.String("gpu-plan")), Recompute: memory.Recompute(c.String("recompute")), Ranks: n,
		MicroBatch: c.Int("micro-batch"), Judge: c.Bool("validator")}
	return p, m, p.choose(c.String("gap") == "wait")
}

// choose checks what was given, chooses the rest, and adds what the node takes of the host.
func (p *gpuPlan) choose(wait bool) error {
	r := p.request
	batch := p.run.Train.Batch
	if r.Judge {
		batch, r.Kept = plan.JudgeBatch, keptOf(p.run, int64(r.Model.Params()))
	}
	each := (batch + r.Ranks - 1) / r.Ranks
	p.mostEach = min(max(1, memory.FullCard/r.Model.Seq), each)
	given := r
	given.Plan, given.Recompute, given.MicroBatch = cmp.Or(r.Plan, memory.Classic), cmp.Or(r.Recompute, memory.None), cmp.Or(r.MicroBatch, 1)
	if err := given.Validate(); err != nil {
		return err
	}
	r.MicroBatch = min(r.MicroBatch, each) // no card ever has more
	p.request, _ = r.Choose(p.allowed, p.mostEach)
	need := func(model.Config) model.Need { return p.request.HostNeed() }
	p.node = plan.Make(plan.Request{Name: p.name, Run: p.run, Validator: r.Judge, Host: need, Wait: wait, Cache: data.DefaultCache,
		Options: model.Options{Precision: model.BF16, MicroBatch: p.request.MicroBatch}})
	return nil
}

// keptOf is how many values a payload has at the run's largest k.
func keptOf(r *chain.Run, params int64) int64 {
	k := 0
	for _, s := range r.Payload.K {
		k = max(k, s.K)
	}
	return params / model.ChunkSize * int64(k)
}

// hostFits refuses a host that lacks memory or disk.
func (p *gpuPlan) hostFits(m plan.Machine) error {
	var errs []error
	short := func(what string, need, have int64, advice string) {
		if have != plan.Unknown && need > have {
			errs = append(errs, fmt.Errorf("the host needs %s of %s, %s are free: %s", plan.GB(need), what, plan.GB(have), advice))
		}
	}
	advice := "use a machine with more"
	if p.request.Plan == memory.Offload && !p.request.Judge {
		advice += ", or more cards, which can hold what is offloaded"
	}
	short("memory", plan.Sum(p.node.Memory), m.Memory, advice)
	short("disk", plan.Sum(p.node.Disk), m.Disk, "put --dir on another disk")
	return errors.Join(errs...)
}

// write prints the plan.
func (p *gpuPlan) write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	say := func(format string, args ...any) { fmt.Fprintf(t, format, args...) }
	r, role := p.request, "a miner"
	if r.Judge {
		role = "a validator"
	}
	say("%s of %s on %d %s: %s parameters, %d sequences of %d tokens a step\n", role, p.name, r.Ranks, p.card.Name, count(r.Model.Params()), p.run.Train.Batch, r.Model.Seq)
	if !r.Judge {
		say("plan %s, recompute %s, ", r.Plan, r.Recompute)
	}
	say("micro-batch %d on each card\n", r.MicroBatch)
	part := func(title string, parts []plan.Line, have string) {
		say("%s\n", title)
		for _, l := range parts {
			say("  %-54s\t%s\t\n", l.Name, plan.GB(l.Bytes))
		}
		say("  %-54s\t%s\t%s\n", "in all", plan.GB(plan.Sum(parts)), have)
	}
	arena := r.Arena()
	var parts []plan.Line
	for _, x := range arena.Parts() {
		parts = append(parts, plan.Line(x))
	}
	part("each card, allocated once", parts, fmt.Sprintf(" of %s: %.0f %% of %s", plan.GB(p.allowed), 100*p.share, plan.GB(p.card.Memory)))
	part("host memory", p.node.Memory, "")
	part("disk", p.node.Disk, "")
	part(fmt.Sprintf("up, each window of %d blocks", p.run.Schedule.Length), p.node.Up, "")
	part("down, each window", p.node.Down, "")
	if err := t.Flush(); err != nil || r.Judge {
		return err
	}
	if err := p.writeChoices(w); err != nil || arena.Size > p.allowed {
		return err
	}
	return p.writePrediction(w)
}

// writeChoices prints which plan fits, with the largest micro-batch that does.
func (p *gpuPlan) writeChoices(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "which plan fits\n  plan\trecompute\tmicro-batch\teach card\ttokens/s, on paper\tMFU\n")
	for _, name := range memory.Plans() {
		for _, again := range memory.Recomputes() {
			r, ok := memory.Request{Model: p.request.Model, Plan: name, Recompute: again, Ranks: p.request.Ranks}.Choose(p.allowed, p.mostEach)
			micro, speed, mfu := "does not fit", "-", "-"
			if ok {
				micro = strconv.Itoa(r.MicroBatch)
				if x, err := roofline.Predict(p.card, r, p.run.Train.Batch); err == nil {
					speed, mfu = fmt.Sprintf("%.0f", x.PerSecond), fmt.Sprintf("%.0f %%", 100*x.MFU)
				}
			}
			fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t%s\n", name, again, micro, plan.GB(r.Arena().Size), speed, mfu)
		}
	}
	return t.Flush()
}

// writePrediction prints where a step's time goes, on paper.
func (p *gpuPlan) writePrediction(w io.Writer) error {
	x, err := roofline.Predict(p.card, p.request, p.run.Train.Batch)
	if err != nil {
		fmt.Fprintf(w, "no prediction: of %s only the memory is known\n", p.card.Name)
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "a step of %d passes on each card, on paper with NVIDIA's products: nothing of it is measured\n", x.MicroSteps)
	for _, l := range x.Lines {
		fmt.Fprintf(t, "  %-54s\t%.1f ms\t\n", l.Name, 1e3*l.Seconds)
	}
	fmt.Fprintf(t, "  %-54s\t%.1f ms\t\n", "in all", 1e3*x.Seconds)
	if err := t.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "  at most %.0f tokens/s on %d %s, MFU %.0f %% of %.0f TFLOP/s each (%.2f GFLOP a token: 6 a parameter in products, and causal attention)\n",
		x.PerSecond, p.request.Ranks, p.card.Name, 100*x.MFU, p.card.FLOPs/1e12, roofline.FLOPsPerToken(p.request.Model)/1e9)
	return err
}
