package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sn3/model"
)

// torchShare is how much of the card each side may take: both are on it at once.
const torchShare = 0.42

// hasTorch asks python whether it has torch and torch a card; why not, else.
func (g *gpuBench) hasTorch() (path, why string) {
	name := g.flags.String("python")
	if name == "" {
		return "", "it was not asked for"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", "there is no " + name
	}
	out, err := exec.CommandContext(g.ctx, path, "-c", "import torch; print(torch.cuda.is_available() and torch.cuda.is_bf16_supported())").CombinedOutput()
	switch {
	case err != nil:
		return "", name + " has no torch: " + lastLine(out)
	case strings.TrimSpace(string(out)) != "True":
		return "", "the torch of " + name + " finds no card that computes in bfloat16"
	}
	return path, ""
}

// torch compares the step of every shape that fits beside torch's, on the same batch, in turns. Nothing is installed.
func (g *gpuBench) torch() error {
	interpreter, why := g.hasTorch()
	if interpreter == "" {
		g.out.NoTorch = why
		g.say("\nno comparison with torch: %s", why)
		return nil
	}
	dir, remove, err := scratch()
	if err != nil {
		return err
	}
	p := &python{dir: dir, bin: interpreter}
	if err := p.unpack(); err != nil {
		return errors.Join(err, remove())
	}
	var errs []error
	for shape := range strings.SplitSeq(g.flags.String("shapes"), ",") {
		if err := g.torchStep(p, shape, fmt.Sprint("cuda:", g.info.Ordinal)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", shape, err))
		}
		if g.ctx.Err() != nil {
			break
		}
	}
	g.out.Torch = append(g.out.Torch, g.report.Rows...)
	return errors.Join(append(errs, remove())...)
}

// torchStep compares one shape on a device of torch. Both make the step on a batch that is one micro-batch, small enough for both.
func (g *gpuBench) torchStep(p *python, shape, device string) error {
	t, r, fits, err := g.planned(shape, torchShare)
	if err != nil {
		return err
	}
	states := 16 * float64(t.Config.Params()) // of torch: weights, gradient, moments in float32
	if !fits || states > torchShare*float64(g.info.Memory) {
		g.say("\ntorch and %s: no room for both on the card", t.Name)
		g.out.Torch = append(g.out.Torch, Row{Bench: "gpu", Case: t.Name, By: "torch", Note: "no room for both on the card"})
		return nil
	}
	t.Batch = min(t.Batch, r.MicroBatch)
	dir := filepath.Join(p.dir, "task")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("write task: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := t.save(dir); err != nil {
		return fmt.Errorf("%w (is the disk full?)", err)
	}
	g.section("gpu", "train step of %s beside torch, batch %d×%d, bf16, AdamW, losses of %d steps compared", t.Name, t.Batch, t.Seq, t.Warm)
	h := &heat{b: g.bench}
	defer h.close()
	j := g.job("card", dir, model.BF16)
	j.Card, j.MicroBatch, j.Plan, j.Recompute = g.info.Ordinal, r.MicroBatch, r.Plan, r.Recompute
	h.join("sn3", func() (*worker, error) { return ours(g.ctx, j) })
	for _, kind := range []string{"compile", "eager"} {
		h.join("torch "+kind+" sdpa", func() (*worker, error) {
			return start(g.ctx, p.caches(), p.bin, filepath.Join(p.dir, "llamagpu.py"), dir, kind, device)
		})
	}
	if err := h.run(); err != nil {
		return err
	}
	h.print(t.Name, "tokens/s", 0)
	return h.parity(2e-2)
}
