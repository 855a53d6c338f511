package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Report is what a command writes as JSON.
type Report struct {
	Version string  `json:"version"`
	Command string  `json:"command"`
	Machine Machine `json:"machine"`
	Rows    []Row   `json:"rows"`
}

// Row is one figure: of one program at one piece of work.
type Row struct {
	Bench   string   `json:"bench"` // the command that measured it
	Case    string   `json:"case"`  // what was done
	By      string   `json:"by"`    // who did it
	Threads int      `json:"threads,omitempty"`
	Unit    string   `json:"unit"`
	Median  float64  `json:"median"`
	Low     float64  `json:"low"`
	High    float64  `json:"high"`
	Rounds  int      `json:"rounds"`
	Share   float64  `json:"share,omitempty"`  // the figure over that of Of
	Of      string   `json:"of,omitempty"`     // the baseline
	Goal    float64  `json:"goal,omitempty"`   // what Share should reach
	Others  float64  `json:"others,omitempty"` // share of a core that other processes took meanwhile, median of the rounds
	Memory  int64    `json:"memory,omitempty"` // peak resident bytes of the process
	Allocs  *float64 `json:"allocs,omitempty"` // of a turn, on Go's heap; ours only
	Note    string   `json:"note,omitempty"`
}

// spread fills median and range from the rounds.
func (r Row) spread(v []float64) Row {
	r.Median, r.Low, r.High, r.Rounds = median(v), slices.Min(v), slices.Max(v), len(v)
	return r
}

// median of v, which is not empty; of an even number the mean of the middle two.
func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// section starts a table: the figures that follow belong to the command name.
func (b *bench) section(name, format string, a ...any) {
	b.name = name
	b.say("\n%s: "+format, append([]any{name}, a...)...)
}

// add puts a figure into the report and prints it.
func (b *bench) add(r Row) {
	r.Bench = b.name
	b.report.Rows = append(b.report.Rows, r)
	b.say("%s", r)
}

func (r Row) String() string {
	s := fmt.Sprintf("  %-26s %-26s %9s %-8s", r.Case, r.By, figure(r.Median), r.Unit)
	if r.Threads > 0 {
		s += fmt.Sprintf(" %dt", r.Threads)
	}
	if r.Rounds > 1 {
		s += fmt.Sprintf(" (%s–%s)", figure(r.Low), figure(r.High))
	}
	switch {
	case r.Goal > 0 && r.Others > quietShare:
		s += fmt.Sprintf(" %.2f of %s, goal %.2f: not judged, the machine was busy", r.Share, r.Of, r.Goal)
	case r.Goal > 0 && r.Share >= r.Goal:
		s += fmt.Sprintf(" %.2f of %s, goal %.2f: reached", r.Share, r.Of, r.Goal)
	case r.Goal > 0:
		s += fmt.Sprintf(" %.2f of %s, goal %.2f: missed by %.0f %%", r.Share, r.Of, r.Goal, 100*(1-r.Share/r.Goal))
	case r.Share > 0:
		s += fmt.Sprintf(" %.2f of %s", r.Share, r.Of)
	}
	if r.Memory > 0 {
		s += fmt.Sprintf(" %d MB", r.Memory>>20)
	}
	if r.Note != "" {
		s += " " + r.Note
	}
	if r.Others > quietShare {
		s += fmt.Sprintf(" [others took %.0f %% of a core]", 100*r.Others)
	}
	return strings.TrimRight(s, " ")
}

// figure writes four digits, more where they stand before the point.
func figure(x float64) string {
	if x == 0 || math.IsInf(x, 0) || math.IsNaN(x) {
		return fmt.Sprint(x)
	}
	return fmt.Sprintf("%.*f", max(0, 3-int(math.Floor(math.Log10(math.Abs(x))))), x)
}

// output is where a report goes: a file, which is opened before anything is measured, standard output or nowhere.
type output struct {
	name string
	file *os.File // beside name, renamed to it at the end
}

func newOutput(name string) (o output, err error) {
	if o.name = name; name == "" || name == "-" {
		return o, nil
	}
	if o.file, err = os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*"); err != nil {
		return o, fmt.Errorf("write report: %w", err)
	}
	return o, nil
}

// write writes a report; an empty one makes no file.
func (o output) write(r any, empty bool) error {
	raw, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	raw = append(raw, '\n')
	switch {
	case o.name == "-":
		_, err = os.Stdout.Write(raw)
	case o.file != nil && empty:
		err = errors.Join(o.file.Close(), os.Remove(o.file.Name()))
	case o.file != nil:
		_, err = o.file.Write(raw)
		if err = errors.Join(err, o.file.Chmod(0o644), o.file.Close()); err == nil {
			err = os.Rename(o.file.Name(), o.name)
		}
		if err != nil {
			err = errors.Join(err, os.Remove(o.file.Name()))
		}
	}
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
