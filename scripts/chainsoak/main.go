// Command chainsoak hurts a network of four chain nodes, real processes on real folders, and says whether it survived: no fork,
// no acknowledged transaction lost, nothing signed twice, no node that goes on with another state.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"sn3/internal/proc"
)

func main() {
	runtime.LockOSThread() // the one whose end ends a child, see private
	done, err := private(os.Args)
	if !done {
		err = run(os.Args)
	}
	if exit := (*exec.ExitError)(nil); done && errors.As(err, &exit) {
		os.Exit(max(1, exit.ExitCode())) // the child has said why
	}
	os.Exit(proc.Main("chainsoak", err))
}

func run(args []string) error {
	var names []string
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	return proc.Frame(&cli.App{Name: "chainsoak", Usage: "hurt a network of four chain nodes and look whether it survives", Action: soak, Flags: []cli.Flag{
		&cli.StringFlag{Name: "chaind", Value: "bin/chaind", Usage: "`PROGRAM` of the nodes"},
		&cli.StringFlag{Name: "dir", Usage: "`FOLDER` for the nodes (default: a temporary one); a failed scenario's stays"},
		&cli.Uint64Flag{Name: "seed", Usage: "of all random choices (default: by chance)"},
		&cli.StringSliceFlag{Name: "only", Usage: "`SCENARIO`, of " + strings.Join(names, ", ")},
		&cli.IntFlag{Name: "rounds", Usage: "of every scenario, instead of its own number"},
		&cli.BoolFlag{Name: "short", Usage: "the slice that takes less than two minutes"},
		&cli.BoolFlag{Name: "keep", Usage: "leave all folders, not only those of failed scenarios"},
		&cli.StringFlag{Name: "json", Usage: "`FILE` for the table as JSON"},
	}}).Run(args)
}

// row is what one scenario showed.
type row struct {
	Scenario     string         `json:"scenario"`
	What         string         `json:"what"`
	Rounds       int            `json:"rounds"`
	Faults       int            `json:"faults"`
	Blocks       uint64         `json:"blocks"`        // height at the end
	Acknowledged int            `json:"acknowledged"`  // transactions
	Unknown      int            `json:"unknown"`       // transactions whose outcome the client could not say
	Signatures   int            `json:"signatures"`    // of consensus, compared
	Shared       uint64         `json:"shared_rounds"` // of the beacon, signed by three of four
	Worst        uint64         `json:"worst_recovery_blocks"`
	Seconds      float64        `json:"seconds"`
	Ends         map[string]int `json:"ends,omitempty"` // what nodes did with a damaged folder
	Violations   []string       `json:"violations,omitempty"`
	Skipped      string         `json:"skipped,omitempty"`
	Failed       string         `json:"failed,omitempty"`
}

// report is the whole table.
type report struct {
	Seed uint64    `json:"seed"`
	At   time.Time `json:"at"`
	Rows []row     `json:"rows"`
}

func soak(c *cli.Context) error {
	chosen, err := choose(c)
	if err != nil {
		return err
	}
	ctx, cancel := proc.Context(0)
	defer cancel(nil)
	seed := c.Uint64("seed")
	if !c.IsSet("seed") {
		seed = rand.Uint64()
	}
	dir := c.String("dir")
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "chainsoak-"); err != nil {
			return err
		}
	}
	chaind, err := filepath.Abs(c.String("chaind"))
	if err != nil {
		return err
	}
	fmt.Printf("chainsoak: seed %d, folder %s\n", seed, dir)
	rep, failed := report{Seed: seed, At: time.Now().UTC()}, 0
	for i, s := range chosen {
		p := play{s, filepath.Join(dir, s.name), chaind, rand.New(rand.NewPCG(seed, uint64(i))), c.Bool("short"), c.Bool("keep")}
		r := p.play(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		fmt.Printf("%-12s %3d rounds, %3d faults, %5.0f s: %s\n", r.Scenario, r.Rounds, r.Faults, r.Seconds, r.verdict())
		if rep.Rows = append(rep.Rows, r); r.Failed != "" || len(r.Violations) > 0 {
			failed++
		}
	}
	if err := rep.write(c.String("json")); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d scenarios failed; their folders are in %s, and --seed %d makes the same choices again", failed, dir, seed)
	}
	if c.Bool("keep") {
		return nil
	}
	return os.RemoveAll(dir)
}

// choose are the scenarios to play, with their rounds in full.
func choose(c *cli.Context) (out []scenario, err error) {
	only, known := map[string]bool{}, map[string]bool{}
	for _, o := range c.StringSlice("only") {
		only[o] = true
	}
	for _, s := range scenarios() {
		if c.Bool("short") {
			s.full = s.short
		}
		if c.IsSet("rounds") && s.rules == 0 { // a network is upgraded once
			s.full = c.Int("rounds")
		}
		if (len(only) == 0 || only[s.name]) && s.full > 0 {
			out = append(out, s)
		}
		known[s.name] = true
	}
	for _, o := range c.StringSlice("only") {
		if known[o] {
			continue
		}
		return nil, proc.Usage(fmt.Errorf("there is no scenario %q", o))
	}
	return out, nil
}

func (r row) verdict() string {
	switch {
	case r.Failed != "":
		return "FAILED: " + r.Failed
	case len(r.Violations) > 0:
		return "VIOLATED: " + strings.Join(r.Violations, "; ")
	case r.Skipped != "":
		return r.Skipped
	}
	return "ok"
}

// write prints the table, and puts it into a file.
func (rep report) write(path string) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nscenario\trounds\tfaults\tblocks\tacknowledged\tunknown\tsignatures\tshared rounds\tworst recovery, blocks\tseconds\tviolations\t")
	for _, r := range rep.Rows {
		end := fmt.Sprint(len(r.Violations))
		if v := r.verdict(); v != "ok" && len(r.Violations) == 0 {
			end, _, _ = strings.Cut(v, ":")
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%.0f\t%s\t\n", r.Scenario, r.Rounds, r.Faults, r.Blocks, r.Acknowledged, r.Unknown, r.Signatures, r.Shared, r.Worst, r.Seconds, end)
	}
	for _, r := range rep.Rows {
		for _, what := range slices.Sorted(maps.Keys(r.Ends)) {
			fmt.Fprintf(w, "%s, %s: %d\n", r.Scenario, what, r.Ends[what])
		}
	}
	if err := w.Flush(); err != nil || path == "" {
		return err
	}
	raw, err := json.MarshalIndent(rep, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o644)
}

// play is one scenario on a network of its own.
type play struct {
	scenario
	dir, chaind string
	rng         *rand.Rand
	short, keep bool
}

func (p play) play(ctx context.Context) (r row) {
	begin := time.Now()
	r = row{Scenario: p.name, What: p.what, Rounds: p.full}
	err := p.on(ctx, &r)
	r.Seconds = time.Since(begin).Seconds()
	switch {
	case errors.Is(err, errSkip):
		r.Skipped, r.Rounds = err.Error(), 0
	case err != nil:
		r.Failed = err.Error()
	}
	return r
}

// on makes the network, lets the scenario hurt it under load, and looks at what is left.
func (p play) on(ctx context.Context, r *row) (err error) {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	out, err := os.Create(filepath.Join(p.dir, "soak.log"))
	if err != nil {
		return err
	}
	defer out.Close()
	n, err := found(p.dir, p.chaind, p.rules, p.rng, slog.New(slog.NewTextHandler(out, nil)))
	if err != nil {
		return err
	}
	n.short = p.short
	defer func() {
		err = errors.Join(err, n.close())
		r.Faults, r.Worst, r.Violations, r.Ends = n.faults, uint64(n.worst), n.truth.violations, n.ends
	}()
	if err := n.start(ctx, n.nodes...); err != nil {
		return err
	}
	if err := n.reach(ctx, 2, n.nodes...); err != nil {
		return err
	}
	if err := n.shareBeacon(ctx); err != nil {
		return err
	}
	l, err := n.traffic(ctx)
	if err != nil {
		return err
	}
	if err := p.run(ctx, n, p.full); err != nil {
		return errors.Join(err, l.end())
	}
	if err := n.settle(ctx, l); err != nil {
		return err
	}
	if err := n.compare(ctx); err != nil {
		return err
	}
	_, top, err := heights(ctx, n.nodes)
	if err != nil {
		return err
	}
	if err := n.beacons(ctx, top); err != nil {
		return err
	}
	shared, err := n.shared(ctx)
	if err != nil {
		return err
	}
	r.Shared = uint64(shared)
	for _, w := range l.workers {
		r.Unknown += w.unknown
	}
	if r.Acknowledged = l.acknowledged(); r.Acknowledged == 0 {
		return errors.New("no transaction was acknowledged: nothing was tested")
	}
	for _, m := range n.nodes {
		if err := errors.Join(m.stop(), n.inspect(m)); err != nil {
			return err
		}
		r.Blocks = max(r.Blocks, uint64(n.truth.read[m.id]))
	}
	if r.Signatures = len(n.truth.signed); len(n.truth.violations) > 0 || p.keep {
		return nil
	}
	return n.clean()
}
