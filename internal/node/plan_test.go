package node

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"sn3/internal/plan"
	"sn3/internal/preset"
	"sn3/internal/proc"
	"sn3/model"
	"sn3/model/gpu/memory"
	"sn3/model/kern"
)

func flagsOf(values map[string]string, ignore bool) *cli.Context {
	set := flag.NewFlagSet("x", flag.ContinueOnError)
	for k, v := range values {
		set.String(k, v, "")
	}
	set.Int("threads", 3, "")
	set.Int("micro-batch", 5, "")
	set.Bool("ignore-plan", ignore, "")
	return cli.NewContext(cli.NewApp(), set, nil)
}

func TestOptions(t *testing.T) {
	if o := Options(flagsOf(map[string]string{"precision": "bf16"}, false)); o != (model.Options{Threads: 3, Precision: model.BF16, MicroBatch: 5}) {
		t.Errorf("%+v", o)
	}
	if o := Options(flagsOf(nil, false)); o.Precision != "" { // a validator
		t.Errorf("%+v", o)
	}
}

// A run that does not fit is refused; whoever insists is warned and starts.
func TestCheck(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	run, err := preset.Run("70b", 0)
	if err != nil {
		t.Fatal(err)
	}
	run.Tokenizer = strings.Repeat("ab", 32)
	var log bytes.Buffer
	n := &Node{Run: run, Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(&log, nil))}
	if m := plan.Here(n.Dir); m.Memory == plan.Unknown || m.Memory > 1<<41 {
		t.Skip("this machine does not tell its memory, or has enough for 70b")
	}
	if err := n.check(flagsOf(nil, false), false, nil); proc.ExitCode(err) != proc.ExitRefused || !strings.Contains(err.Error(), "--ignore-plan starts anyway") {
		t.Error(err)
	}
	if err := n.check(flagsOf(nil, true), false, nil); err != nil || !strings.Contains(log.String(), "too small") {
		t.Errorf("%v, %s", err, log.String())
	}
	if debug.SetMemoryLimit(-1) != math.MaxInt64 {
		t.Error("a limit below what is needed would keep the collector busy for ever")
	}
	n.Run.Model.HeadDim = 3
	if err := n.check(flagsOf(nil, true), false, nil); proc.ExitCode(err) != proc.ExitRefused || !strings.Contains(err.Error(), "head dimension 3") {
		t.Errorf("what no engine can train is refused whoever insists: %v", err)
	}
}

func TestSoftLimit(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct{ need, free, want int64 }{
		{200 << 20, 64 * gib, gib}, {8 * gib, 64 * gib, 10 * gib}, {8 * gib, 9 * gib, 9*gib - 9*gib/20}, {8 * gib, plan.Unknown, 10 * gib}, {8 * gib, 4 * gib, 0},
	} {
		if got := softLimit(c.need, c.free); got != c.want {
			t.Errorf("%d of %d: %d, want %d", c.need, c.free, got, c.want)
		}
	}
}

// --version twice over says which kernels run and why, and of every other set why not; once it is left to the usual flag.
func TestVerboseVersion(t *testing.T) {
	t.Setenv("SN3_KERNELS", "")
	for _, line := range []string{"--version --verbose", "-v -v", "--version -v", "-vv", "--verbose --version --kernels portable", "-v --kernels=portable -v"} {
		var b strings.Builder
		handled, err := VerboseVersion(&b, append([]string{"/a/b/miner"}, strings.Fields(line)...))
		out := b.String()
		if !handled || err != nil || !strings.HasPrefix(out, "miner version "+proc.Version+", "+runtime.Version()) || !strings.Contains(out, "\ncpu ") {
			t.Errorf("%s: %v, %v, %s", line, handled, err, out)
		}
		if strings.Contains(line, "portable") && !strings.Contains(out, "kernels  portable: forced") {
			t.Errorf("%s: %s", line, out)
		}
		for _, name := range kern.Names() {
			if !strings.Contains(out, " "+name+": ") {
				t.Errorf("%s: nothing about %s", line, name)
			}
		}
	}
	for _, line := range []string{"", "-v", "--version", "--verbose", "--version --verbose --chain x", "--version --verbose now", "--kernels"} {
		if handled, err := VerboseVersion(&strings.Builder{}, append([]string{"miner"}, strings.Fields(line)...)); handled || err != nil {
			t.Errorf("%q was handled, %v", line, err)
		}
	}
	t.Setenv("SN3_KERNELS", "abacus")
	if handled, err := VerboseVersion(&strings.Builder{}, []string{"miner", "-vv"}); !handled || proc.ExitCode(err) != proc.ExitUsage {
		t.Errorf("%v, %v", handled, err)
	}
}

func TestCPUModel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cpuinfo")
	if err := os.WriteFile(path, []byte("processor\t: 0\nmodel name\t: Abacus\x1b 3000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := cpuModel(path); got != "Abacus· 3000" {
		t.Errorf("%q", got)
	}
	if got := cpuModel(path + "x"); got != runtime.GOARCH {
		t.Errorf("%q", got)
	}
}

// fitted is an engine on a card that answers so.
type fitted struct {
	model.Engine
	micro int
	err   error
}

func (f fitted) Fit(_ model.Config, opt model.Options, batch int) (model.Options, error) {
	opt.MicroBatch = min(f.micro, batch)
	return opt, f.err
}
func (fitted) Host(model.Config) model.Need { return model.Need{Acts: 1 << 20} }
func (fitted) Write(w io.Writer) error {
	_, err := fmt.Fprintln(w, "a card")
	return err
}

// What a card chose is what the engine gets. What does not fit there is refused, unless the operator insists; a card in trouble is an error
// whoever insists.
func TestCheckOnACard(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	run, err := preset.Run("local", 0)
	if err != nil {
		t.Fatal(err)
	}
	trouble := errors.New("the card is held")
	for _, c := range []struct {
		err    error
		ignore bool
		code   int
		logs   string
	}{
		{nil, false, 0, ""},
		{&memory.TooLarge{Need: 2, Have: 1}, false, proc.ExitRefused, ""},
		{&memory.TooLarge{Need: 2, Have: 1}, true, 0, "too small"},
		{trouble, false, proc.ExitFailure, ""},
		{trouble, true, proc.ExitFailure, ""},
		{proc.Refused(trouble), true, proc.ExitRefused, ""},
	} {
		var log bytes.Buffer
		n := &Node{Run: run, Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(&log, nil))}
		err := n.check(flagsOf(map[string]string{"precision": "bf16"}, c.ignore), false, fitted{micro: 2, err: c.err})
		if proc.ExitCode(err) != c.code || !strings.Contains(log.String(), c.logs) || c.logs == "" && log.Len() > 0 {
			t.Errorf("%v, ignored %v: exit code %d, %v, %s", c.err, c.ignore, proc.ExitCode(err), err, log.String())
		}
		if n.Options != (model.Options{Threads: 3, Precision: model.BF16, MicroBatch: 2}) {
			t.Errorf("%+v", n.Options)
		}
	}
}
