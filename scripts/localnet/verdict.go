package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"sn3/chain"
	"sn3/scripts/localnet/netdir"
)

// judge applies the conditions of the exit status.
func (n *network) judge(s *Summary, w *watch) {
	for _, x := range s.Windows {
		if !x.Agreed && x.Window >= n.from {
			s.Failures = append(s.Failures, fmt.Sprintf("nodes disagreed on window %d", x.Window))
		}
	}
	if last := w.rows[n.shown-1]; n.shown > n.from && last != nil && len(last.Roots) < len(w.tails) {
		for _, name := range sortedKeys(w.tails) {
			if _, ok := last.Roots[name]; !ok {
				s.Failures = append(s.Failures, fmt.Sprintf("%s never applied window %d", name, last.Window))
			}
		}
	}
	if len(w.diverge) > 0 {
		s.Failures = append(s.Failures, "diverged: "+strings.Join(w.diverge, ", "))
	}
	windows := len(s.Windows)
	switch {
	case windows >= bigramFrom && !(s.FinalLoss < s.Baselines.Bigram):
		s.Failures = append(s.Failures, fmt.Sprintf("held-out loss %.3f is not below the bigram model's %.3f", s.FinalLoss, s.Baselines.Bigram))
	case windows >= order0From && !(s.FinalLoss < s.Baselines.Order0):
		s.Failures = append(s.Failures, fmt.Sprintf("held-out loss %.3f is not below order-0's %.3f", s.FinalLoss, s.Baselines.Order0))
	}
	if mine := s.Windows; len(mine) == 0 || mine[len(mine)-1].Window < n.from+4 {
		return // too short for an epoch to pay by this run's ratings
	}
	earned := false
	for _, h := range s.Hotkeys {
		now := h.Earned - min(h.Earned, n.earned[h.Hotkey])
		if h.Name == "idle-1" && now > 0 {
			s.Failures = append(s.Failures, fmt.Sprintf("the idle hotkey earned %s", now))
		}
		earned = earned || strings.HasPrefix(h.Name, "miner-") && now > 0
	}
	if !earned {
		s.Failures = append(s.Failures, "no miner was paid")
	}
}

func (n *network) print(s *Summary) {
	if s.FinalLoss > 0 {
		perToken := ""
		if s.TokenLoss != s.FinalLoss {
			perToken = fmt.Sprintf(", %.4f per token", s.TokenLoss)
		}
		fmt.Printf("Held-out loss after window %d: %.4f nats per byte%s (bytes by order-0 %.3f, bigram %.3f, order-2 %.3f)\n", s.Final, s.FinalLoss, perToken,
			s.Baselines.Order0, s.Baselines.Bigram, s.Baselines.Order2)
	}
	fmt.Printf("\n  %-12s %6s %8s %8s %10s %14s %14s\n", "", "uid", "score", "weight", "incentive", "earned", "balance")
	for _, h := range s.Hotkeys {
		fmt.Printf("  %-12s %6d %8.0f %8.0f %10.3f %14s %14s\n", h.Name, h.UID, h.Score, h.Weight, float64(h.Incentive)/65535, short(h.Earned), short(h.Balance))
	}
	for _, k := range []struct{ key, head string }{{"first", "before its first window"}, {"last", "now"}} {
		if t := s.Samples[k.key]; t != "" {
			fmt.Printf("\nWhat the model writes %s:\n%s\n", k.head, indent(t))
		}
	}
	if len(s.Failures) > 0 {
		fmt.Printf("\nNOT as it should be:\n")
		for _, f := range s.Failures {
			fmt.Printf("  - %s\n", f)
		}
	}
	sn3 := "bin/sn3"
	if p, err := netdir.Bin("sn3"); err == nil {
		sn3 = display(netdir.Dir(p))
	}
	dir := display(n.dir)
	fmt.Printf("\n%s has %s. Try:\n", dir, strings.Join(written(n.dir), ", "))
	next := []string{"pull", "eval", "generate", "status", "why miner-1"}
	if len(s.Windows) == 0 { // nothing to pull yet
		next = []string{"status"}
	}
	for _, c := range next {
		fmt.Printf("  %s --local %s %s\n", sn3, dir, c)
	}
}

// display is a path as a person would type it here.
func display(d netdir.Dir) string {
	p := string(d)
	if wd, err := os.Getwd(); err == nil {
		if rel, ok := strings.CutPrefix(p, wd+string(os.PathSeparator)); ok {
			p = rel
		}
	}
	if strings.ContainsAny(p, " \t'\"\\$*?;&()<>|`") {
		p = "'" + strings.ReplaceAll(p, "'", `'\''`) + "'"
	}
	return p
}

// written are the files of the summary that are there: without a window there is nothing to draw.
func written(d netdir.Dir) (names []string) {
	for _, f := range []string{"summary.json", "loss.png", "scores.png"} {
		if _, err := os.Stat(d.Path(f)); err == nil {
			names = append(names, f)
		}
	}
	return names
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}

func short(a chain.Amount) string { return fmt.Sprintf("%.4f", float64(a)/float64(chain.RaoPerCoin)) }

func indent(s string) string { return "  | " + strings.ReplaceAll(s, "\n", "\n  | ") }
