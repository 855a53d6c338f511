package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sn3/chain"
	"sn3/model/data"
	"sn3/scripts/localnet/netdir"
)

// paths lists the fields of a type as docs/SUMMARY.md names them.
func paths(t reflect.Type, at string, out map[string]bool) {
	switch {
	case at == "run": // described in docs/FORMAT.md
	case t.Kind() == reflect.Slice:
		out[at+"[]"] = true
		delete(out, at)
		paths(t.Elem(), at+"[]", out)
	case t.Kind() == reflect.Struct && t.NumField() > 0:
		for i := range t.NumField() {
			name := t.Field(i).Tag.Get("json")
			if name == "" {
				panic("a field without a name in JSON: " + t.Field(i).Name)
			}
			if at != "" {
				name = at + "." + name
			}
			out[name] = true
			paths(t.Field(i).Type, name, out)
		}
	}
}

// docs/SUMMARY.md has every field that is written, and no other.
func TestSummaryIsDocumented(t *testing.T) {
	want := map[string]bool{}
	paths(reflect.TypeFor[Summary](), "", want)
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "SUMMARY.md"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| \\S").FindAllStringSubmatch(string(raw), -1) {
		if got[m[1]] {
			t.Errorf("%s is described twice", m[1])
		}
		got[m[1]] = true
	}
	for p := range want {
		if !got[p] {
			t.Errorf("%s is written and not described", p)
		}
	}
	for p := range got {
		if !want[p] {
			t.Errorf("%s is described and not written", p)
		}
	}
	if len(want) < 40 {
		t.Errorf("only %d fields found", len(want))
	}
}

// What is written is JSON, with empty lists instead of null, also when nothing is known.
func TestSummaryIsJSON(t *testing.T) {
	s := newSummary(&network{})
	s.FinalLoss = math.NaN()
	s.finite()
	if len(s.Failures) != 1 || s.FinalLoss != 0 {
		t.Errorf("a loss of NaN: %+v", s)
	}
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{`"windows":[]`, `"hotkeys":[]`, `"samples":{}`} {
		if !strings.Contains(string(raw), f) {
			t.Errorf("no %s in %s", f, raw)
		}
	}
}

// good is a network of two validators, two miners and an idle seat after 30 windows, and its summary.
func good() (*network, *Summary, *watch) {
	n := &network{shown: 30, earned: map[chain.Hotkey]chain.Amount{}}
	s := newSummary(n)
	w := &watch{n: n, tails: map[string]*netTail{}, rows: map[chain.Window]*row{}}
	for i, name := range []string{"validator-1", "validator-2", "miner-1", "miner-2", "idle-1"} {
		h := chain.Hotkey{byte(i + 1)}
		n.set.Nodes = append(n.set.Nodes, netdir.Node{Name: name, Hotkey: h})
		x := HotkeySummary{Name: name, Hotkey: h, Earned: 7}
		if name == "idle-1" {
			x.Earned = 0
		} else {
			w.tails[name] = nil
		}
		s.Hotkeys = append(s.Hotkeys, x)
	}
	for i := range chain.Window(30) {
		s.Windows = append(s.Windows, WindowSummary{Window: i, Agreed: true})
		r := &row{Window: i, Roots: map[string]chain.Hash{}}
		for name := range w.tails {
			r.Roots[name] = chain.Hash{9}
		}
		w.rows[i] = r
	}
	s.Baselines, s.FinalLoss = data.Baselines{Order0: 3.7, Bigram: 2.8, Order2: 2.2}, 2.5
	return n, s, w
}

// Each condition of the exit status, alone.
func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(n *network, s *Summary, w *watch)
		want  string // "" is no failure
	}{
		{"all is well", func(*network, *Summary, *watch) {}, ""},
		{"a root differs", func(_ *network, s *Summary, _ *watch) { s.Windows[5].Agreed = false }, "nodes disagreed on window 5"},
		{"it differed in an earlier run", func(n *network, s *Summary, _ *watch) { s.Windows[5].Agreed, n.from = false, 6 }, ""},
		{"a node stayed behind", func(_ *network, _ *Summary, w *watch) { delete(w.rows[29].Roots, "miner-2") }, "miner-2 never applied window 29"},
		{"a node was away earlier", func(_ *network, _ *Summary, w *watch) { delete(w.rows[20].Roots, "miner-2") }, ""},
		{"a node was stopped in the window after the last", func(n *network, _ *Summary, w *watch) {
			n.shown = 29
			delete(w.rows[29].Roots, "miner-2")
		}, ""},
		{"a node diverged and came back", func(_ *network, _ *Summary, w *watch) { w.diverge = []string{"miner-1 after window 3"} }, "diverged: miner-1 after window 3"},
		{"worse than bigrams", func(_ *network, s *Summary, _ *watch) { s.FinalLoss = 2.9 }, "not below the bigram model's"},
		{"no number", func(_ *network, s *Summary, _ *watch) { s.FinalLoss = math.NaN() }, "not below the bigram model's"},
		{"worse than bigrams, early", func(_ *network, s *Summary, _ *watch) { s.FinalLoss, s.Windows = 2.9, s.Windows[:23] }, ""},
		{"worse than order 0", func(_ *network, s *Summary, _ *watch) { s.FinalLoss, s.Windows = 3.8, s.Windows[:8] }, "not below order-0's"},
		{"worse than order 0, early", func(_ *network, s *Summary, _ *watch) { s.FinalLoss, s.Windows = 3.8, s.Windows[:7] }, ""},
		{"idle is paid", func(_ *network, s *Summary, _ *watch) { s.Hotkeys[4].Earned = 1 }, "the idle hotkey earned"},
		{"idle was paid in an earlier run", func(n *network, s *Summary, _ *watch) { s.Hotkeys[4].Earned, n.earned[chain.Hotkey{5}] = 1, 1 }, ""},
		{"miners are not paid", func(_ *network, s *Summary, _ *watch) { s.Hotkeys[2].Earned, s.Hotkeys[3].Earned = 0, 0 }, "no miner was paid"},
		{"miners were paid only in an earlier run", func(n *network, _ *Summary, _ *watch) {
			n.earned[chain.Hotkey{3}], n.earned[chain.Hotkey{4}] = 7, 7
		}, "no miner was paid"},
		{"too short for an epoch", func(n *network, s *Summary, _ *watch) { n.from, s.Hotkeys[2].Earned, s.Hotkeys[3].Earned = 26, 0, 0 }, ""},
	} {
		n, s, w := good()
		c.spoil(n, s, w)
		n.judge(s, w)
		switch {
		case c.want == "" && len(s.Failures) > 0:
			t.Errorf("%s: %q", c.name, s.Failures)
		case c.want != "" && (len(s.Failures) != 1 || !strings.Contains(s.Failures[0], c.want)):
			t.Errorf("%s: %q, want %q", c.name, s.Failures, c.want)
		}
	}
}

// Windows that were shown are in the summary; of later ones only those that everybody applied.
func TestWindowsInto(t *testing.T) {
	n, s, w := good()
	n.run = &chain.Run{Schedule: chain.ScheduleParams{Length: 10}}
	n.set.BlockTimeMS = 250
	n.shown = 28
	s.Windows = nil
	delete(w.rows[27].Roots, "miner-1")
	delete(w.rows[29].Roots, "miner-1")
	w.rows[3].Tokens = 5000
	w.rows[3].Winners = []chain.Hotkey{{3}, {0xab, 0xcd}}
	w.rows[3].Scores = map[string]float64{chain.Hotkey{3}.String(): 9000}
	n.windowsInto(s, w)
	var got []chain.Window
	for _, x := range s.Windows {
		got = append(got, x.Window)
	}
	if len(got) != 29 || got[27] != 27 || got[28] != 28 || !slices.IsSorted(got) {
		t.Errorf("windows %v", got)
	}
	x := s.Windows[3]
	if x.TokensPerSec != 2000 || x.Nodes != 4 || fmt.Sprint(x.Winners) != "[miner-1 abcd0000]" || x.Scores["miner-1"] != 9000 {
		t.Errorf("%+v", x)
	}
	if s.Windows[27].Nodes != 3 || !s.Windows[27].Agreed {
		t.Errorf("%+v", s.Windows[27])
	}
}

// The pictures are drawn for any number of windows and miners.
func TestPlots(t *testing.T) {
	for _, windows := range []int{0, 1, 3} {
		d := netdir.Dir(t.TempDir())
		s := newSummary(&network{})
		s.Baselines = data.Baselines{Order0: 3.7, Bigram: 2.8, Order2: 2.2}
		for i := range windows {
			w := WindowSummary{Window: chain.Window(i), Loss: 5 - float64(i), Scores: map[string]float64{}}
			for m := range 30 {
				w.Scores[fmt.Sprintf("miner-%d", m)] = 8192 + float64(100*m*i)
			}
			s.Windows = append(s.Windows, w)
		}
		if err := plots(d, s); err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Join(written(d), " "), map[bool]string{false: "", true: "loss.png scores.png"}[windows > 0]; got != want {
			t.Errorf("%d windows: wrote %q, want %q", windows, got, want)
		}
	}
}
