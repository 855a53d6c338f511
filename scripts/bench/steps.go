package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"sn3/internal/proc"
	"sn3/model"
	"sn3/model/kern"
)

// precisions reads the flag.
func precisions(s string) (out []model.Precision, err error) {
	for p := range strings.SplitSeq(s, ",") {
		switch p := model.Precision(strings.TrimSpace(p)); p {
		case model.F32, model.BF16:
			out = append(out, p)
		default:
			return nil, proc.Usage(fmt.Errorf("unknown precision %q; use f32, bf16 or both with a comma", p))
		}
	}
	return out, nil
}

// peak measures what the others are held against.
func (b *bench) peak() error {
	b.section("peak", "multiply-adds on registers in GFLOP/s, memory in GB/s (copy counts both ways)")
	for _, name := range kern.Peaks() {
		for threads := 1; threads <= b.threads; threads++ {
			var v []float64
			for range b.rounds {
				if err := b.ctx.Err(); err != nil {
					return err
				}
				x, err := kern.Peak(name, threads)
				if err != nil {
					return err
				}
				v = append(v, x)
			}
			unit := "GFLOP/s"
			if name == "copy" || name == "read" {
				unit = "GB/s"
			}
			b.add(Row{Case: name, By: "loop in assembly", Threads: threads, Unit: unit}.spread(v))
		}
	}
	return nil
}

// scratch makes a temporary folder.
func scratch() (dir string, remove func() error, err error) {
	if dir, err = os.MkdirTemp("", "sn3-bench-"); err != nil {
		return "", nil, fmt.Errorf("make temporary folder (is the disk full?): %w", err)
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}

// folder is a temporary folder with the task that the flags describe; remove it.
func (b *bench) folder(batch, seq int) (dir string, t *task, err error) {
	if t, err = newTask(b.flags.String("shape"), batch, seq); err != nil {
		return "", nil, err
	}
	dir, remove, err := scratch()
	if err != nil {
		return "", nil, err
	}
	if err := t.save(dir); err != nil {
		return "", nil, errors.Join(fmt.Errorf("%w (is the disk full?)", err), remove())
	}
	return dir, t, nil
}

// compare runs workers of ours by turns and adds a row for each; the first is the baseline of the others when against names it.
func (b *bench) compare(what, unit, against string, by []string, jobs []job) error {
	var cs []*contender
	defer func() {
		for _, c := range cs {
			_ = c.w.close() // what a worker could say, it has said
		}
	}()
	for i, j := range jobs {
		w, err := ours(b.ctx, j)
		if err != nil {
			return unsupported(err)
		}
		cs = append(cs, &contender{by: by[i], w: w, turns: b.flags.Int("steps")})
	}
	if err := interleave(b.ctx, b.rounds, b.wait, cs); err != nil {
		return err
	}
	first := cs[0].row(what, unit, 0).Median
	for i, c := range cs {
		r := c.row(what, unit, jobs[i].Threads)
		if against != "" && i > 0 {
			r.Share, r.Of = r.Median/first, against
		}
		b.add(r)
	}
	return nil
}

// unsupported gives back its meaning to an error that came from a worker as text.
func unsupported(err error) error {
	if err != nil && strings.Contains(err.Error(), model.ErrUnsupported.Error()) {
		return fmt.Errorf("%w: %w", model.ErrUnsupported, err)
	}
	return err
}

func (b *bench) job(name, dir string, p model.Precision) job {
	return job{Task: name, Dir: dir, Precision: p, Kernels: b.kernels, Threads: b.threads}
}

// step measures the train step in each precision, interleaved.
func (b *bench) step() error {
	ps, err := precisions(b.flags.String("precision"))
	if err != nil {
		return err
	}
	dir, t, err := b.folder(b.flags.Int("batch"), b.flags.Int("seq"))
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b.section("step", "forward, backward and AdamW of %s, batch %d×%d", t.Name, t.Batch, t.Seq)
	var jobs []job
	var by []string
	for _, p := range ps {
		j := b.job("step", dir, p)
		if prefix := b.flags.String("profile"); prefix != "" {
			j.Profile = fmt.Sprintf("%s-%s.prof", prefix, p)
		}
		jobs, by = append(jobs, j), append(by, "sn3 "+string(p))
	}
	if err := b.compare(t.Name, "tokens/s", string(ps[0]), by, jobs); err != nil {
		return err
	}
	for _, j := range jobs {
		if j.Profile != "" {
			b.profile(j.Profile)
		}
	}
	return nil
}

// profile prints where the time went, if the go tool is there to read it.
func (b *bench) profile(file string) {
	b.say("  where the time went: go tool pprof -top %s", file)
	out, err := exec.CommandContext(b.ctx, "go", "tool", "pprof", "-top", "-nodecount", "20", file).Output()
	if err != nil {
		return // the file is what was asked for
	}
	b.say("%s", strings.TrimSpace(string(out)))
}

// scaling measures the train step on one thread, two, and so on.
func (b *bench) scaling() error {
	ps, err := precisions(b.flags.String("precision"))
	if err != nil {
		return err
	}
	dir, t, err := b.folder(b.flags.Int("batch"), b.flags.Int("seq"))
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b.section("scaling", "the step of %s, batch %d×%d, by threads", t.Name, t.Batch, t.Seq)
	for _, p := range ps {
		var jobs []job
		var by []string
		for n := 1; n <= b.threads; n *= 2 {
			j := b.job("step", dir, p)
			j.Threads = n
			jobs, by = append(jobs, j), append(by, "sn3 "+string(p))
		}
		if err := b.compare(t.Name, "tokens/s", "1 thread", by, jobs); err != nil {
			return err
		}
	}
	return nil
}

// attention measures the step with the same tokens in longer and longer sequences: what grows is attention's share of time, and
// memory if something of T×T is kept.
func (b *bench) attention() error {
	ps, err := precisions(b.flags.String("precision"))
	if err != nil {
		return err
	}
	b.section("attention", "the step of %s, 2048 tokens a batch in sequences of T", b.flags.String("shape"))
	for _, p := range ps {
		for seq := 256; seq <= 2048; seq *= 2 {
			if err := b.attentionAt(p, seq); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) attentionAt(p model.Precision, seq int) error {
	dir, t, err := b.folder(2048/seq, seq)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return b.compare(fmt.Sprintf("%s T %d", t.Name, seq), "tokens/s", "", []string{"sn3 " + string(p)}, []job{b.job("step", dir, p)})
}

// generate measures tokens a second of one sequence.
func (b *bench) generate() error {
	ps, err := precisions(b.flags.String("precision"))
	if err != nil {
		return err
	}
	dir, t, err := b.folder(1, 0)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b.section("generate", "one sequence of %s, %d tokens given, up to %d, greedily", t.Name, min(prompt, t.Seq-1), t.Seq)
	var jobs []job
	var by []string
	for _, p := range ps {
		jobs, by = append(jobs, b.job("generate", dir, p)), append(by, "sn3 "+string(p))
	}
	return b.compare(t.Name, "tokens/s", string(ps[0]), by, jobs)
}
