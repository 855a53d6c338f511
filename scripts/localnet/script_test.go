package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"sn3/chain"
	"sn3/internal/preset"
	"sn3/internal/proc"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"localnet": main}) }

// The launcher as a user types it, without starting a network.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", Setup: func(e *testscript.Env) error {
		path, err := exec.LookPath("localnet") // testscript's folder of programs comes first
		e.Setenv("LOCALNET", path)
		for _, d := range []string{"bytes", "bpe", "bad", "few"} {
			e.Setenv(strings.ToUpper(d), filepath.Join(e.WorkDir, "sets", d))
		}
		e.Setenv("PRESET", filepath.Join(e.WorkDir, "sets", "mine.json"))
		return errors.Join(err, datasets(filepath.Join(e.WorkDir, "sets")))
	}})
}

// README's table of exit codes.
func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]int{
		"--version":                       0,
		"":                                0,
		"up --help":                       0,
		"upp":                             proc.ExitUsage,
		"up --miners none":                proc.ExitUsage,
		"up --gap sometimes":              proc.ExitUsage,
		"up --dir " + dir:                 proc.ExitRefused,
		"status --dir " + dir:             proc.ExitRefused,
		"clean --dir " + dir:              proc.ExitRefused,
		"down --dir " + dir:               proc.ExitRefused,
		"clean --dir " + dir + "/nothing": 0,
	} {
		if err := run(append([]string{"localnet"}, strings.Fields(line)...)); proc.ExitCode(err) != want {
			t.Errorf("localnet %s: exit code %d (%v), want %d", line, proc.ExitCode(err), err, want)
		}
	}
}

// Every machine gets a legal schedule, slow ones longer windows, none longer than a minute unless the phases need it; many
// nodes get time to apply what was selected.
func TestSchedule(t *testing.T) {
	r, err := preset.Run("local", 24)
	if err != nil {
		t.Fatal(err)
	}
	for _, nodes := range []struct{ miners, validators int }{{1, 1}, {4, 2}, {20, 2}, {200, 32}} {
		last := chain.Block(0)
		for _, speed := range []float64{200_000, 10_000, 2_000, 300, 1} {
			p := schedule(r, speed, 2, nodes.miners, nodes.validators)
			if err := p.Validate(); err != nil {
				t.Errorf("%v, %v tokens/s: %v", nodes, speed, err)
			}
			if p.Length < last {
				t.Errorf("%v, %v tokens/s: %d blocks, a faster machine has %d", nodes, speed, p.Length, last)
			}
			last = p.Length
			if w := plannedWindows(p); w < 24 || w > 67 {
				t.Errorf("%v, %v tokens/s: %d windows", nodes, speed, w)
			}
		}
	}
	few, many := schedule(r, 20_000, 2, 4, 2), schedule(r, 20_000, 2, 20, 2)
	if few.Length > 20 {
		t.Errorf("windows of %d blocks on a usual machine", few.Length)
	}
	if a, b := few.Apply-few.Select, many.Apply-many.Select; b <= a || many.Length <= few.Length {
		t.Errorf("20 miners have %d blocks to apply and %d in all, 4 have %d and %d", b, many.Length, a, few.Length)
	}
}

// A machine on which a window ends before its steps are done is told so.
func TestHurried(t *testing.T) {
	r, err := preset.Run("8m", 24)
	if err != nil {
		t.Fatal(err)
	}
	for speed, want := range map[float64]string{4000: "", 1000: "too short for the 15 steps of each miner, about "} {
		r.Schedule = schedule(r, speed, 2, 4, 2)
		if got := hurried(r, speed, 2, 4); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%v tokens/s, windows of %d blocks: %q", speed, r.Schedule.Length, got)
		}
	}
}

// However many cores there are, a validator scores on one: between the first block after the deadline and the last in which
// its vote can leave there is time for all submissions. (On 16 cores it once had time for one of four.)
func TestScheduleLeavesTimeToScore(t *testing.T) {
	r, err := preset.Run("local", 24)
	if err != nil {
		t.Fatal(err)
	}
	for _, cores := range []int{1, 2, 16, 64} {
		for _, n := range []struct{ miners, validators int }{{1, 1}, {4, 2}, {20, 2}, {20, 8}} {
			for _, speed := range []float64{50_000, 7_000, 500} {
				p := schedule(r, speed, cores, n.miners, n.validators)
				forward := n.miners*(r.Score.HeldOut+3*r.Score.Own) + r.Score.HeldOut + r.Score.Own
				alone := float64(forward*r.Model.Seq) / (3 * speed)
				share := float64(n.validators) / float64(min(cores, n.validators))
				if have := float64(p.ScoreBy-p.Deadline-1-3) * blockTime.Seconds(); have < alone*share {
					t.Errorf("%d cores, %v, %v tokens/s: %.2f s to score what takes %.2f s", cores, n, speed, have, alone*share)
				}
			}
		}
	}
}
