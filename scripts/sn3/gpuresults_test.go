package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sn3/model/gpu/roofline"
)

// resultsDir has what make gpu-check measured (bench.json) on real cards, a file a run: card-date.json.
var resultsDir = filepath.Join("..", "..", "docs", "gpu-results")

// result is what the page takes of a run.
type result struct {
	file    string
	Version string `json:"version"`
	Card    struct {
		Name  string `json:"name"`
		Sheet string `json:"data_sheet"`
	} `json:"card"`
	Models []struct {
		Shape      string  `json:"shape"`
		Plan       string  `json:"plan"`
		Recompute  string  `json:"recompute"`
		MicroBatch int     `json:"micro_batch"`
		Batch      int     `json:"batch"`
		Seq        int     `json:"seq"`
		FLOP       float64 `json:"flop_per_token"`
		PerSecond  float64 `json:"tokens_per_second"`
		MFU        float64 `json:"mfu"`
	} `json:"models"`
}

// results are the runs in dir, by file name. What cannot have been measured is an error.
func results(dir string) (out []result, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		r := result{file: filepath.Base(f)}
		raw, err := os.ReadFile(f)
		if err == nil {
			err = json.Unmarshal(raw, &r)
		}
		if err == nil {
			err = r.check()
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.file, err)
		}
		out = append(out, r)
	}
	return out, nil
}

func (r result) check() error {
	sheet, ok := roofline.Named(r.Card.Sheet)
	switch {
	case strings.Contains(r.Card.Name, "stand-in"):
		return fmt.Errorf("%s is no card", r.Card.Name)
	case !ok:
		return fmt.Errorf("there is no data sheet %q", r.Card.Sheet)
	}
	for _, m := range r.Models {
		if m.PerSecond > 0 && !(math.Abs(m.MFU-m.FLOP*m.PerSecond/sheet.FLOPs) <= 1e-6*m.MFU) {
			return fmt.Errorf("%s: MFU %v is not that of %v tokens/s", m.Shape, m.MFU, m.PerSecond)
		}
	}
	return nil
}

// measuredOf is what the newest run has of a model on a card.
func measuredOf(runs []result, model, card string) (cell string) {
	for _, r := range runs {
		for _, m := range r.Models {
			if r.Card.Sheet == card && m.Shape == model && m.PerSecond > 0 {
				cell = fmt.Sprintf("%s, %.1f %% (%s, %s, %d of %d×%d) ", thousands(m.PerSecond), 100*m.MFU, m.Plan, m.Recompute, m.MicroBatch, m.Batch, m.Seq)
			}
		}
	}
	return cell
}

// ranOn says what was measured where.
func ranOn(runs []result) string {
	if len(runs) == 0 {
		return "\nNothing of this has been measured: `docs/gpu-results` has no run of a card.\n"
	}
	var b strings.Builder
	b.WriteString("\nMeasured, as tokens/s, MFU (plan, recomputation, micro-batch of a step's batch):\n\n")
	for _, r := range runs {
		fmt.Fprintf(&b, "- %s, sn3 %s: [%s](gpu-results/%s)\n", r.Card.Name, r.Version, r.file, r.file)
	}
	return b.String()
}

// Results on disk come beside the prediction of their card, the newest of a card, and only what can be a measurement.
func TestGPUResults(t *testing.T) {
	write := func(dir, file, card, sheet string, perSecond, mfu float64) {
		text := fmt.Sprintf(`{"version": "v1", "card": {"name": %q, "data_sheet": %q}, "models": [{"shape": "1b", "plan": "classic", "recompute": "none", "micro_batch": 8, "batch": 64,
			"seq": 2048, "flop_per_token": 7.8e9, "tokens_per_second": %v, "mfu": %v}, {"shape": "8b", "does_not_fit": "too large"}]}`, card, sheet, perSecond, mfu)
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if runs, err := results(dir); err != nil || len(runs) != 0 || !strings.Contains(ranOn(runs), "Nothing of this has been measured") || measuredOf(runs, "1b", "H100") != "" {
		t.Errorf("%v, %v", runs, err)
	}
	write(dir, "h100-1.json", "NVIDIA H100 80GB HBM3", "H100", 40000, 7.8e9*40000/989e12)
	write(dir, "h100-2.json", "NVIDIA H100 80GB HBM3", "H100", 44000, 7.8e9*44000/989e12)
	runs, err := results(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := measuredOf(runs, "1b", "H100"); got != "44k, 34.7 % (classic, none, 8 of 64×2048) " {
		t.Errorf("%q", got)
	}
	if measuredOf(runs, "8b", "H100") != "" || measuredOf(runs, "1b", "H200") != "" {
		t.Error("something was measured that was not")
	}
	if got := ranOn(runs); !strings.Contains(got, "- NVIDIA H100 80GB HBM3, sn3 v1: [h100-2.json](gpu-results/h100-2.json)\n") {
		t.Error(got)
	}
	for _, bad := range []struct {
		card, sheet string
		mfu         float64
	}{{"stand-in on the CPU", "H100", 7.8e9 * 1000 / 989e12}, {"NVIDIA H100", "", 0.1}, {"NVIDIA H100", "H100", 0.5}} {
		dir := t.TempDir()
		write(dir, "x.json", bad.card, bad.sheet, 1000, bad.mfu)
		if _, err := results(dir); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}
