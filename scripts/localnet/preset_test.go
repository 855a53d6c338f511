package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sn3/internal/plan"
	"sn3/internal/preset"
	"sn3/internal/proc"
	"sn3/scripts/localnet/netdir"
)

// mine writes a preset of one's own: local, changed.
func mine(t *testing.T, old, new string) string {
	t.Helper()
	p, err := preset.Open("local")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "mine.json")
	text := strings.Replace(string(p.Text()), old, new, 1)
	if old != "" && text == string(p.Text()) {
		t.Fatalf("%s is not there", old)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// MODEL takes a file; a network made with it cannot go on with another content of that file, and says so by name.
func TestModelFile(t *testing.T) {
	path := mine(t, `"width": 128`, `"width": 64`)
	c := config{model: path, windows: -1, set: map[string]bool{"model": true}}
	if err := c.open(); err != nil {
		t.Fatal(err)
	}
	run, err := c.preset.Run(24)
	if err != nil || run.Model.Width != 64 {
		t.Fatalf("width %d, %v", run.Model.Width, err)
	}
	made := netdir.Settings{Model: c.model, Miners: c.miners, Validators: c.validators, Seed: c.seed, Text: c.text, Gap: c.gap}
	if err := sameSettings(c, made); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(b), "0.002", "0.004", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	again := config{model: path, windows: -1, set: c.set}
	if err := again.open(); err != nil {
		t.Fatal(err)
	}
	if err := sameSettings(again, made); err == nil || !strings.Contains(err.Error(), "cannot change MODEL="+path) {
		t.Errorf("the file changed: %v", err)
	}
}

// A preset that makes no sense here is refused before anything is made.
func TestModelRefused(t *testing.T) {
	for _, c := range []struct {
		model   string
		windows int
		want    string
	}{
		{"1b", -1, "takes its tokens from a dataset: give DATA="},
		{"huge", -1, "unknown model preset"},
		{mine(t, `"warmup": 50`, `"warmup": 300`), 0, ""},
		{mine(t, `"warmup": 50`, `"warmup": 300`), -1, "for 24 windows: train.warmup 300"},
		{mine(t, `"warmup": 50`, `"warmup": 300`), 30, "for 30 windows: train.warmup 300"},
		{mine(t, `"beta": 0.95`, `"beta": 2`), 0, "payload.beta 2"},
	} {
		x := config{model: c.model, windows: c.windows}
		err := x.open()
		if err == nil {
			err = x.matches()
		}
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %d windows: %v, want %q", c.model, c.windows, err, c.want)
		}
	}
}

func TestFits(t *testing.T) {
	big := config{model: mine(t, `"width": 128, "layers": 4`, `"width": 8192, "layers": 80`), windows: 0, gap: "auto"}
	if err := big.open(); err != nil {
		t.Fatal(err)
	}
	run, err := big.preset.Run(0)
	if err != nil {
		t.Fatal(err)
	}
	m := plan.Machine{Memory: 16 << 30, Disk: 1 << 50}
	if err := fits(run, big, m); proc.ExitCode(err) != proc.ExitRefused || !strings.Contains(err.Error(), "choose a smaller MODEL") {
		t.Error(err)
	}
	local, err := preset.Run("local", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := fits(local, big, m); err != nil {
		t.Error(err)
	}
	if err := fits(local, big, plan.Machine{Memory: 16 << 30, Disk: 1000}); err == nil || !strings.Contains(err.Error(), "DIR on another disk") {
		t.Error(err)
	}
}

// Many nodes on a small machine are told, not refused: they may still fit.
func TestCrowded(t *testing.T) {
	local, err := preset.Run("local", 0)
	if err != nil {
		t.Fatal(err)
	}
	m := plan.Machine{Memory: 2 << 30, Disk: plan.Unknown}
	if s := crowded(local, 4, 2, textSize, m); s != "" {
		t.Errorf("6 nodes in 2 GiB: %s", s)
	}
	if s := crowded(local, 20, 2, textSize, m); !strings.HasPrefix(s, "24 processes need about ") || !strings.Contains(s, "2.0 GiB are free: with fewer MINERS") {
		t.Errorf("22 nodes in 2 GiB: %s", s)
	}
	if s := crowded(local, 200, 32, textSize, plan.Machine{Memory: plan.Unknown, Disk: plan.Unknown}); s != "" {
		t.Errorf("unknown memory: %s", s)
	}
	full := plan.Machine{Memory: plan.Unknown, Disk: 1 << 30}
	if s := crowded(local, 4, 2, textSize, full); s != "" {
		t.Errorf("6 nodes on 1 GiB of disk: %s", s)
	}
	if s := crowded(local, 4, 2, 1<<30, full); !strings.Contains(s, "1.0 GiB are free: with fewer MINERS, a smaller MODEL or a DIR") {
		t.Errorf("a dataset of 1 GiB on 1 GiB of disk: %s", s)
	}
}
