package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sn3/internal/preset"
	"sn3/internal/spec"
	"sn3/model/gpu/memory"
	"sn3/model/gpu/roofline"
)

var rewrite = flag.Bool("rewrite", false, "write the tables of docs/GPU.md anew")

// planOf is what sn3 plan MODEL --gpus CARDS plans.
func planOf(t *testing.T, name, cards string) (*gpuPlan, bool) {
	t.Helper()
	x, err := preset.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	run, err := x.Run(0)
	if err != nil {
		t.Fatal(err)
	}
	n, card, err := parseCards(cards)
	if err != nil {
		t.Fatal(err)
	}
	p := newGPUPlan(x.Name, run, card, 0.9)
	p.request = memory.Request{Model: spec.Config(run.Model), Ranks: n}
	if err := p.choose(false); err != nil {
		t.Fatal(err)
	}
	return p, p.request.Check(p.allowed) == nil
}

func predicted(t *testing.T, p *gpuPlan) roofline.Prediction {
	t.Helper()
	x, err := roofline.Predict(p.card, p.request, p.run.Train.Batch)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// fitsTable says which plan fits which cards.
func fitsTable(t *testing.T) string {
	models := []string{"160m", "1b", "8b", "70b"}
	var b strings.Builder
	fmt.Fprintf(&b, "| cards | %s |\n|---%s|\n", strings.Join(models, " | "), strings.Repeat("|---", len(models)))
	for _, cards := range []string{"1x3090", "1x4090", "1x5090", "1xA100-40", "1xL40S", "1xA100-80", "1xH100", "1xH200", "1xB200", "8x4090", "8xA100-80", "8xH100", "8xH200", "8xB200"} {
		fmt.Fprintf(&b, "| %s |", cards)
		for _, name := range models {
			p, ok := planOf(t, name, cards)
			if !ok {
				fmt.Fprintf(&b, " no: %.0f GB |", float64(p.request.Arena().Size)/1e9)
				continue
			}
			x := predicted(t, p)
			fmt.Fprintf(&b, " %s, %s, %d; %.0f GB; %s, %.0f %% |", p.request.Plan, p.request.Recompute, p.request.MicroBatch, float64(p.request.Arena().Size)/1e9, thousands(x.PerSecond), 100*x.MFU)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// measuredTable has predictions, and beside them what was measured.
func measuredTable(t *testing.T) string {
	runs, err := results(resultsDir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| model | card | GFLOP a token | ms a step, on paper | tokens/s, on paper | MFU, on paper | measured |\n|---|---|---|---|---|---|---|\n")
	for _, name := range []string{"160m", "1b", "8b"} {
		for _, card := range []string{"A100-80", "H100", "H200", "B200"} {
			p, ok := planOf(t, name, card)
			if !ok {
				continue
			}
			x := predicted(t, p)
			fmt.Fprintf(&b, "| %s | %s | %.2f | %.0f | %s | %.0f %% | %s|\n", name, card, roofline.FLOPsPerToken(p.request.Model)/1e9, 1e3*x.Seconds, thousands(x.PerSecond), 100*x.MFU, measuredOf(runs, name, card))
		}
	}
	return b.String() + ranOn(runs)
}

func thousands(x float64) string {
	if x < 1e4 {
		return fmt.Sprintf("%.1fk", x/1e3)
	}
	return fmt.Sprintf("%.0fk", x/1e3)
}

// The tables of docs/GPU.md are what the command computes.
func TestGPUPage(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "GPU.md")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	for name, table := range map[string]string{"fits": fitsTable(t), "measured": measuredTable(t)} {
		head := fmt.Sprintf("<!-- %s: written by go test ./scripts/sn3 -run TestGPUPage -rewrite -->\n", name)
		before, rest, ok := strings.Cut(page, head)
		old, after, ok2 := strings.Cut(rest, "<!-- end -->")
		switch {
		case !ok || !ok2:
			t.Fatalf("docs/GPU.md has no place for %s", name)
		case *rewrite:
			page = before + head + table + "<!-- end -->" + after
		case old != table:
			t.Errorf("the table %s of docs/GPU.md is not what the command computes; run go test ./scripts/sn3 -run TestGPUPage -rewrite\n%s", name, table)
		}
	}
	if *rewrite {
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
