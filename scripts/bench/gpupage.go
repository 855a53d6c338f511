package main

import (
	"fmt"
	"strings"
)

// markdown is the report as tables for docs/GPU.md.
func (r *GPUReport) markdown() string {
	var b strings.Builder
	c := r.Card
	fmt.Fprintf(&b, "### %s, sn3 %s\n\n%d multiprocessors, compute capability %s, %.1f GB, driver for CUDA %s", c.Name, r.Version, c.SMs, c.Capability, float64(c.Memory)/1e9, c.Driver)
	if c.Sheet != "" {
		fmt.Fprintf(&b, "; data sheet %s: %.0f TFLOP/s, %.0f GB/s", c.Sheet, c.FLOPs/1e12, c.Bytes/1e9)
	}
	b.WriteString("\n\n| model | plan, micro-batch of batch | tokens/s | MFU | ms a step | on paper | GB by plan, by driver | torch |\n|---|---|---|---|---|---|---|---|\n")
	for _, m := range r.Models {
		b.WriteString(r.modelLine(m))
	}
	for _, m := range r.Models {
		if len(m.Traced.Kernels) > 0 {
			fmt.Fprintf(&b, "\n%s by kernel: one step of %d×%d tokens, %d launches\n\n", m.Shape, m.Traced.Batch, m.Seq, m.Traced.Launches)
			kernelTable(&b, m.Traced.Kernels)
		}
	}
	if len(r.Protocol) > 0 {
		b.WriteString("\nWhat works on a whole model between windows, beside a copy on the card\n\n")
		kernelTable(&b, append([]GPUKernel{r.Copy}, r.Protocol...))
	}
	if len(r.Products) > 0 {
		fmt.Fprintf(&b, "\nProducts: %s\n", r.Library)
		b.WriteString("\n| product | form | by | TFLOP/s | of the sheet |\n|---|---|---|---|---|\n")
		for _, p := range r.Products {
			for _, k := range p.By {
				fmt.Fprintf(&b, "| %d×%d×%d | %s | %s | %s | %s |\n", p.M, p.N, p.K, p.Form, k.Kernel, figure(k.Rate), percent(k.OfSheet))
			}
		}
	}
	if r.NoTorch != "" {
		fmt.Fprintf(&b, "\nNo PyTorch beside it: %s\n", r.NoTorch)
	}
	b.WriteString("\n")
	for _, d := range r.Defined {
		fmt.Fprintf(&b, "- %s\n", d)
	}
	for _, e := range r.Errors {
		fmt.Fprintf(&b, "- **not measured**: %s\n", e)
	}
	return b.String()
}

func (r *GPUReport) modelLine(m GPUModel) string {
	if m.NotFit != "" {
		return fmt.Sprintf("| %s | does not fit: %s | | | | | | |\n", m.Shape, m.NotFit)
	}
	paper, torch := "", ""
	if p := m.Predicted; p != nil {
		paper = fmt.Sprintf("%.0f tokens/s, %s", p.PerSecond, percent(p.MFU))
	}
	for _, t := range r.Torch {
		if t.Case == m.Shape && t.Of != "" {
			torch = fmt.Sprintf("%.2f of %s", t.Share, t.Of)
		}
	}
	return fmt.Sprintf("| %s | %s, %s, %d of %d×%d | %.0f | %s | %.1f | %s | %.2f, %.2f | %s |\n", m.Shape, m.Plan, m.Recompute, m.MicroBatch, m.Batch, m.Seq,
		m.PerSecond, percent(m.MFU), 1e3*m.Step.Median, paper, float64(m.Arena)/1e9, float64(m.Driver)/1e9, torch)
}

// kernelTable writes kernels line by line.
func kernelTable(b *strings.Builder, list []GPUKernel) {
	b.WriteString("| kernel | calls | ms | share | speed | of the sheet | of a copy | over prediction |\n|---|---|---|---|---|---|---|---|\n")
	for _, k := range list {
		over := ""
		if k.Over > 0 {
			over = fmt.Sprintf("%.2f", k.Over)
		}
		fmt.Fprintf(b, "| %s | %d | %.3f | %s | %s %s | %s | %s | %s |\n", k.Kernel, k.Calls, 1e3*k.Seconds, percent(k.Share), figure(k.Rate), k.Unit, percent(k.OfSheet), percent(k.OfCopy), over)
	}
}

// percent writes a share, nothing where there is none.
func percent(x float64) string {
	if x == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f %%", 100*x)
}
