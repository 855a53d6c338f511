package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

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
	for _, n := range []string{"windows", "miners", "validators", "model", "text", "gap", "seed"} {
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
	case c.String("dir") == "":
		return bad("DIR is empty: want the network's folder")
	}
	if _, err := preset.Run(cfg.model, cfg.windows); err != nil {
		return bad("MODEL=%s: %w", cfg.model, err)
	}
	dir, err := filepath.Abs(c.String("dir"))
	if err != nil {
		return cfg, fmt.Errorf("find network folder: %w", err)
	}
	cfg.dir = netdir.Dir(dir)
	if cfg.text == "" {
		return cfg, nil
	}
	if cfg.text, err = filepath.Abs(cfg.text); err != nil {
		return cfg, fmt.Errorf("find text: %w", err)
	}
	return cfg, nil
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
	check("text", text(cfg.text), text(s.Text))
	check("gap", cfg.gap, s.Gap)
	if len(bad) > 0 {
		return fmt.Errorf("%s holds a network that cannot change %s; use another DIR, or make clean-localnet", cfg.dir, strings.Join(bad, ", "))
	}
	return nil
}

func text(folder string) string {
	if folder == "" {
		return "the Go standard library"
	}
	return folder
}
