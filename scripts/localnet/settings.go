package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"sn3/internal/plan"
	"sn3/internal/preset"
	"sn3/internal/proc"
	"sn3/scripts/localnet/netdir"
)

// Limits on what one machine is asked for.
const (
	maxMiners     = 200
	maxValidators = 32
	maxWindows    = 1_000_000
)

// parse reads and checks the flags of up.
func parse(c *cli.Context) (config, error) {
	cfg := config{windows: c.Int("windows"), miners: c.Int("miners"), validators: c.Int("validators"), model: c.String("model"),
		text: c.String("text"), gap: c.String("gap"), seed: c.Uint64("seed"), noP2P: c.Bool("no-p2p"), set: map[string]bool{}, out: newVoice(c.String("log-format"))}
	for _, n := range []string{"windows", "miners", "validators", "model", "text", "data", "gap", "seed"} {
		cfg.set[n] = c.IsSet(n)
	}
	bad := func(format string, args ...any) (config, error) { return cfg, proc.Usage(fmt.Errorf(format, args...)) }
	if _, err := proc.Logger(c.String("log-format"), false); err != nil {
		return cfg, err
	}
	switch {
	case c.NArg() > 0:
		return bad("unexpected argument %q; every setting is a flag", c.Args().First())
	case cfg.miners < 1 || cfg.miners > maxMiners:
		return bad("MINERS=%d: want 1 to %d miners", cfg.miners, maxMiners)
	case cfg.validators < 1 || cfg.validators > maxValidators:
		return bad("VALIDATORS=%d: want 1 to %d validators", cfg.validators, maxValidators)
	case cfg.windows < -1 || cfg.windows == -1 && cfg.set["windows"] || cfg.windows > maxWindows:
		return bad("WINDOWS=%d: want 0 (until Ctrl-C) to %d windows", cfg.windows, maxWindows)
	case cfg.gap != "auto" && cfg.gap != "train" && cfg.gap != "wait":
		return bad("GAP=%s: want gap auto, train or wait", cfg.gap)
	case c.String("text") != "" && c.String("data") != "":
		return bad("TEXT=%s and DATA=%s: want one of them, a folder of text or a dataset", c.String("text"), c.String("data"))
	case c.String("dir") == "":
		return bad("DIR is empty: want the network's folder")
	}
	if err := cfg.open(); err != nil {
		return cfg, proc.Usage(err)
	}
	dir, err := filepath.Abs(c.String("dir"))
	if err != nil {
		return cfg, fmt.Errorf("find network folder: %w", err)
	}
	cfg.dir = netdir.Dir(dir)
	if d := c.String("data"); d != "" {
		if cfg.data, err = openData(d); err != nil {
			return bad("DATA=%s: %w", d, err)
		}
	}
	if cfg.text == "" {
		return cfg, nil
	}
	if cfg.text, err = filepath.Abs(cfg.text); err != nil {
		return cfg, fmt.Errorf("find text: %w", err)
	}
	return cfg, nil
}

// open reads the preset. Its name carries the content of a file, so that a changed one is noticed.
func (c *config) open() (err error) {
	asked := c.model
	if filepath.Ext(asked) == ".json" || strings.ContainsRune(asked, filepath.Separator) {
		if c.model, err = filepath.Abs(asked); err != nil {
			return fmt.Errorf("find model preset: %w", err)
		}
	}
	if c.preset, err = preset.Open(c.model); err != nil {
		return fmt.Errorf("MODEL=%s: %w", asked, err)
	}
	c.model = c.preset.Name
	windows := c.windows
	if windows < 0 { // five minutes' worth, at least so many
		windows = preset.LeastWindows
	}
	if _, err := c.preset.Run(windows); err != nil {
		return fmt.Errorf("MODEL=%s: %w", asked, err)
	}
	return nil
}

// feasible refuses a preset that is not the dataset's or that no node on this machine could train, before anything is made.
func (c config) feasible() error {
	if err := c.matches(); err != nil {
		return proc.Usage(err)
	}
	run, err := c.preset.Run(c.windows)
	if err != nil {
		return proc.Usage(err)
	}
	return fits(run, c, plan.Here(string(c.dir)))
}

// sameSettings refuses, by name, what was asked for and cannot change.
func sameSettings(cfg config, s netdir.Settings) error {
	var bad []string
	check := func(name, got, have string) {
		if cfg.set[name] && got != have {
			bad = append(bad, fmt.Sprintf("%s=%s (it has %s)", strings.ToUpper(name), got, have))
		}
	}
	check("miners", strconv.Itoa(cfg.miners), strconv.Itoa(s.Miners))
	check("validators", strconv.Itoa(cfg.validators), strconv.Itoa(s.Validators))
	check("model", cfg.model, s.Model)
	check("seed", strconv.FormatUint(cfg.seed, 10), strconv.FormatUint(s.Seed, 10))
	check("text", text(cfg.text), trainsOn(s))
	if cfg.data != nil && cfg.data.spec.Manifest.String() != s.Dataset { // the same dataset may have moved
		bad = append(bad, fmt.Sprintf("DATA=%s (it has %s)", cfg.data.dir, trainsOn(s)))
	}
	check("gap", cfg.gap, s.Gap)
	if len(bad) > 0 {
		return fmt.Errorf("%s holds a network that cannot change %s; use another DIR, or make clean-localnet", cfg.dir, strings.Join(bad, ", "))
	}
	return nil
}

// trainsOn says where a network's samples come from.
func trainsOn(s netdir.Settings) string {
	if s.Data != "" {
		return fmt.Sprintf("dataset %.8s of %s", s.Dataset, s.Data)
	}
	return text(s.Text)
}

func text(folder string) string {
	if folder == "" {
		return "the Go standard library"
	}
	return folder
}
