package plan

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"sn3/internal/preset"
	"sn3/model"
)

// TooSmall: the machine has not enough for a plan. Its message says what is short and what would do.
type TooSmall struct {
	Plan   Plan
	Have   Machine
	Memory int64 // missing bytes, 0 if there are enough
	Disk   int64
	Advice string
}

// Error implements error.
func (e *TooSmall) Error() string {
	var short []string
	if e.Memory > 0 {
		short = append(short, fmt.Sprintf("%s of memory, %s are free", size(Sum(e.Plan.Memory)), size(e.Have.Memory)))
	}
	if e.Disk > 0 {
		short = append(short, fmt.Sprintf("%s more on disk, %s are free", size(e.Plan.diskLeft(e.Have)), size(e.Have.Disk)))
	}
	return fmt.Sprintf("%s of %s needs %s: %s", e.Plan.role(), e.Plan.Name, strings.Join(short, "; and "), e.Advice)
}

// Check refuses with *TooSmall a plan that does not fit. What the machine does not tell is taken to suffice.
func (p Plan) Check(m Machine) error {
	e := &TooSmall{Plan: p, Have: m, Memory: over(Sum(p.Memory), m.Memory), Disk: over(p.diskLeft(m), m.Disk)}
	if e.Memory == 0 && e.Disk == 0 {
		return nil
	}
	var advice []string
	if e.Memory > 0 {
		advice = append(advice, p.advise(m))
	}
	if e.Disk > 0 {
		advice = append(advice, p.adviseDisk(e.Disk))
	}
	e.Advice = strings.Join(advice, "; ")
	return e
}

// leastCache is the smallest cache of pages that is advised: a few batches.
const leastCache = 64 << 20

// adviseDisk says what to do about missing bytes; the cache of pages is the only part that may be smaller.
func (p Plan) adviseDisk(missing int64) string {
	if left := p.Cache - missing; left >= leastCache {
		return fmt.Sprintf("with --data-cache %d it fits", left>>20)
	}
	return fmt.Sprintf("free %s, or put --dir on another disk", size(missing))
}

func over(need, have int64) int64 {
	if have < 0 {
		return 0
	}
	return max(0, need-have)
}

// diskLeft is what has still to be written.
func (p Plan) diskLeft(m Machine) int64 { return max(0, Sum(p.Disk)-m.Used) }

func (p Plan) role() string {
	if p.Validator {
		return "a validator"
	}
	return "a miner"
}

// advise names the smallest change of flags with which the memory suffices, or how much is missing with all of them and
// which presets would fit.
func (p Plan) advise(m Machine) string {
	var last Plan
	for _, c := range p.changes() {
		last = Make(c.Request)
		if Sum(last.Memory) <= m.Memory {
			return "with " + c.flags + " it fits"
		}
	}
	fits := "none of the presets does either"
	for _, name := range preset.Names() {
		run, err := preset.Run(name, 0)
		if err != nil {
			continue
		}
		small := p.Request
		small.Run, small.Options.MicroBatch, small.Options.Threads, small.Wait = run, 1, 1, true
		if x := Make(small); Sum(x.Memory) <= m.Memory {
			fits = "the largest preset that fits is " + name
		}
	}
	short := Sum(p.Memory)
	if last.Run != nil {
		short = min(short, Sum(last.Memory))
	}
	return fmt.Sprintf("no flag makes it fit, %s are missing in any case; %s", size(short-m.Memory), fits)
}

// change is a request with other flags.
type change struct {
	Request
	flags string
}

// changes lists what costs least first: a smaller micro-batch costs some speed, one thread more, waiting for θ idle time. The
// last has all of them.
func (p Plan) changes() []change {
	var out []change
	batch := p.Run.Train.Batch
	if p.Validator {
		batch = JudgeBatch
	}
	now := p.Options.MicroBatch
	if now <= 0 || now > batch {
		now = batch
	}
	r := p.Request
	add := func(flags string) { out = append(out, change{r, flags}) }
	for n := powerBelow(now); n >= 1; n /= 2 {
		r.Options.MicroBatch = n
		add(fmt.Sprintf("--micro-batch %d", n))
	}
	said := ""
	if now > 1 {
		said = "--micro-batch 1 "
	}
	if r.Options.Threads > 1 {
		r.Options.Threads = 1
		said += "--threads 1 "
		add(strings.TrimSpace(said))
	}
	if !p.Validator && !r.Wait {
		r.Wait = true
		said += "--gap wait "
		add(strings.TrimSpace(said))
	}
	if !p.Validator && r.Options.Precision != model.BF16 {
		r.Options.Precision = model.BF16
		add(said + "--precision bf16")
	}
	return out
}

// powerBelow is the largest power of two below n; 0 if there is none.
func powerBelow(n int) int {
	p := 1
	for p*2 < n {
		p *= 2
	}
	if p >= n {
		return 0
	}
	return p
}

// Write prints the plan against the machine.
func (p Plan) Write(w io.Writer, m Machine) error {
	batch, micro := p.Run.Train.Batch, "whole batches"
	if n := p.Options.MicroBatch; n > 0 && n < batch {
		micro = fmt.Sprintf("micro-batches of %d", n)
	}
	precision := p.Options.Precision
	if precision == "" {
		precision = model.F32
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	say := func(format string, args ...any) { fmt.Fprintf(t, format, args...) }
	say("%s of %s: %s parameters, %d steps of %d sequences of %d tokens a window, %s, %s, threads %d\n", p.role(), p.Name, grouped(p.Params),
		p.Run.Train.InnerSteps, batch, p.Run.Model.Seq, micro, precision, max(1, p.Options.Threads))
	part := func(title string, lines []Line, have string) {
		say("%s\n", title)
		for _, l := range lines {
			say("  %s\t%s\t\n", pad(l.Name), size(l.Bytes))
		}
		say("  %s\t%s\t%s\n", pad("in all"), size(Sum(lines)), have)
	}
	free := func(n int64) string {
		if n < 0 {
			return " of what this system does not tell"
		}
		return " of " + size(n) + " free"
	}
	part("memory", p.Memory, free(m.Memory))
	disk := free(m.Disk)
	if m.Used > 0 {
		disk += ", " + size(m.Used) + " are there"
	}
	part("disk", p.Disk, disk)
	part(fmt.Sprintf("up, each window of %d blocks", p.Run.Schedule.Length), p.Up, "")
	part("down, each window", p.Down, "")
	return t.Flush()
}

// pad makes names left-aligned in a column that tabwriter aligns right.
func pad(s string) string { return fmt.Sprintf("%-42s", s) }

// size writes bytes for people.
func size(n int64) string {
	switch {
	case n < 0:
		return "unknown"
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1000<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

// grouped writes a number with commas.
func grouped(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
