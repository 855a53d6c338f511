package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"sn3/chain/local/wallet"
	"sn3/internal/canary"
	"sn3/internal/events"
	"sn3/internal/plan"
	"sn3/model/data"
	"sn3/model/gpu/standin"
	"sn3/scripts/localnet/netdir"
)

// flaky stands before the miner: miner-2 has another plan and cuBLASLt, and its first life a card that is lost at the twentieth launch.
const flaky = `#!/bin/sh
case "$*" in *nodes/miner-2/*)
  export SN3_GPU_PLAN=lean SN3_RECOMPUTE=full SN3_CUBLASLT=$SN3_CUDA
  mkdir "$(dirname "$0")/lost" 2>/dev/null && export SN3_STANDIN_FAIL=cuLaunchKernel:20:719 SN3_STANDIN_LOST=1 ;;
esac
exec "$0-real" "$@"
`

// cardWindows is how long the network goes on: a miner that is killed in window 1 has three more to win in, and an epoch has paid.
const cardWindows = 5

// programs builds what a network needs, as make build does.
func programs(t *testing.T) (bin string) {
	t.Helper()
	gobin, err := exec.LookPath("go")
	if err != nil {
		t.Skip("there is no go command: the programs cannot be built")
	}
	bin = t.TempDir()
	c := exec.Command(gobin, "build", "-trimpath", "-o", bin+"/", "./miner", "./validator", "./chain/chaind", "./storage/s3d", "./scripts/sn3", "./scripts/localnet")
	c.Dir, c.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build the programs: %v\n%s", err, out)
	}
	real := filepath.Join(bin, "miner")
	if err := errors.Join(os.Rename(real, real+"-real"), os.WriteFile(real, []byte(flaky), 0o700)); err != nil {
		t.Fatal(err)
	}
	return bin
}

// wrote is what a node has written of a kind; none while it has no diary.
func wrote(t *testing.T, d netdir.Dir, name string, kind events.Kind) (list []events.Event) {
	t.Helper()
	raw, err := os.ReadFile(d.NodePath(name, "data", events.File))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for line := range bytes.Lines(raw) {
		var e events.Event
		if json.Unmarshal(line, &e) == nil && e.Kind == kind { // the last line may be half written
			list = append(list, e)
		}
	}
	return list
}

// killed waits until miner-1 has applied a window, so that it trains on the next, and kills it.
func killed(t *testing.T, d netdir.Dir, ended <-chan error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for len(wrote(t, d, "miner-1", events.Applied)) == 0 {
		select {
		case err := <-ended:
			t.Fatalf("the network ended before a window was applied: %v", err)
		case <-tick.C:
		}
	}
	rt, err := d.Runtime()
	if err != nil || rt.PIDs["miner-1"] == 0 {
		t.Fatalf("who is miner-1: %v, %v", rt.PIDs, err)
	}
	if err := syscall.Kill(rt.PIDs["miner-1"], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// A network of the programs themselves, whose two miners train with --gpu on the stand-in, each by another plan. The card of one is lost in its first step:
// it ends with the driver's words and is started again. The other is killed in the middle of a window. Both come back, what they
// send is selected, all nodes agree on every root, and at the end nothing is left on a card.
func TestNetworkOfCards(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	standin.Only(t, "a card that is lost, and reports")
	library, bin, home := standin.Library(t), programs(t), t.TempDir()
	packed, err := data.Pack(&data.Corpus{Train: words(3000), HeldOut: words(500)})
	if err != nil {
		t.Fatal(err)
	}
	set := filepath.Join(home, "set")
	if err := folder(set, packed); err != nil {
		t.Fatal(err)
	}
	d := netdir.Dir(filepath.Join(home, "net"))
	c := exec.CommandContext(t.Context(), filepath.Join(bin, "localnet"), "up", "--dir", string(d), "--miners", "2", "--validators", "1", "--windows", strconv.Itoa(cardWindows),
		"--data", set, "--model", filepath.Join("testdata", "cards.json"), "--no-p2p")
	c.Env = append(os.Environ(), "SN3_GPU=true", "SN3_CUDA="+library, "SN3_CUBLASLT=none", "SN3_STANDIN_MEMORY=16000000000", "SN3_STANDIN_REPORT="+filepath.Join(home, "report-%p.json"))
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) } // its processes end with it, in order
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	killed(t, d, ended)
	if err := <-ended; err != nil {
		t.Errorf("the network: %v", err)
	}
	if t.Failed() || testing.Verbose() {
		t.Log(out.String())
	}
	ofCards(t, d)
	secrets(t, d, out.Bytes())
	broke(t, out.String())
	reports(t, home)
	planned(t, bin, home, d)
}

// secrets looks for the nodes' keys, their passphrases and their buckets' secrets in all that the network said and left behind.
func secrets(t *testing.T, d netdir.Dir, out []byte) {
	t.Helper()
	var list []canary.Secret
	for _, name := range []string{"miner-1", "miner-2", "validator-1"} {
		var text [2]string
		for i, file := range []string{"passphrase", "s3.secret"} {
			raw, err := os.ReadFile(d.NodePath(name, file))
			if err != nil {
				t.Fatal(err)
			}
			text[i] = strings.TrimSpace(string(raw))
			list = append(list, canary.Of("the "+file+" of "+name, []byte(text[i])))
		}
		key, err := wallet.Open(d.NodePath(name, "key.json"), text[0])
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, canary.Of("the key of "+name, crypto.FromECDSA(key)))
	}
	kept := []string{"passphrase", "s3.secret", "accounts.json"}
	found, files, err := canary.Folder(string(d), list, func(path string) bool { return slices.Contains(kept, filepath.Base(path)) })
	if err != nil || files < 20 {
		t.Errorf("looked through %d files: %v", files, err)
	}
	for _, x := range list {
		if x.In(out) {
			found = append(found, "localnet prints "+x.What)
		}
	}
	for _, f := range found {
		t.Error(f)
	}
}

// ofCards looks at what the network says of itself: both miners win after they came back, and there is one root a window.
func ofCards(t *testing.T, d netdir.Dir) {
	t.Helper()
	raw, err := os.ReadFile(d.Path("summary.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s Summary
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	if len(s.Windows) < cardWindows || len(s.Failures) > 0 {
		t.Errorf("%d windows, failures %q", len(s.Windows), s.Failures)
	}
	for _, w := range s.Windows {
		if !w.Agreed {
			t.Errorf("window %d has roots that differ", w.Window)
		}
		for name, score := range w.Scores {
			if score == 0 {
				t.Errorf("window %d: the payload of %s was rejected", w.Window, name)
			}
		}
	}
	for _, name := range []string{"miner-1", "miner-2"} {
		won := slices.ContainsFunc(s.Windows, func(w WindowSummary) bool { return w.Window > 1 && slices.Contains(w.Winners, name) })
		if !won {
			t.Errorf("%s is never among the winners after it came back", name)
		}
		starts := wrote(t, d, name, events.Start)
		for _, e := range starts {
			if e.Engine != "gpu" {
				t.Errorf("%s mines with engine %s", name, e.Engine)
			}
		}
		if len(starts) != 2 {
			t.Errorf("%s has started %d times, want 2", name, len(starts))
		}
	}
}

// broke looks for what the launcher said of the card that was lost: which call, which code, what to do, and the exit code of a failure.
func broke(t *testing.T, out string) {
	t.Helper()
	for line := range strings.Lines(out) {
		if strings.Contains(line, "miner-2 ended") {
			for _, want := range []string{"exit status 1", "inner step 0", "cuLaunchKernel: CUDA_ERROR_LAUNCH_FAILED (719)", "restart"} {
				if !strings.Contains(line, want) {
					t.Errorf("no %q in %s", want, line)
				}
			}
			return
		}
	}
	t.Errorf("nobody says that miner-2 ended:\n%s", out)
}

// reports reads what each life of a miner left behind. Three ended by themselves; what was on the lost card went with it.
func reports(t *testing.T, home string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(home, "report-*.json"))
	if err != nil || len(files) != 3 {
		t.Errorf("reports %v, %v: want those of three lives", files, err)
	}
	lost := 0
	for _, f := range files {
		r := standin.ReadReport(t, f)
		if r.Calls["cuLaunchKernel"] == 20 {
			lost++
			continue
		}
		steps := int64(0)
		for kernel, n := range r.Launches {
			if strings.HasPrefix(kernel, "adamw") {
				steps += n
			}
		}
		if left := r.Left(); left != "" || r.Faults != 0 || steps == 0 {
			t.Errorf("%s: left on the card: %q, %d faults, %d times AdamW", filepath.Base(f), left, r.Faults, steps)
		}
	}
	if lost != 1 {
		t.Errorf("%d cards were lost", lost)
	}
}

// planned compares what sn3 plan says of such a card with what the miners say that they take, and with what they took.
func planned(t *testing.T, bin, home string, d netdir.Dir) {
	t.Helper()
	took := map[string]int{}
	files, err := filepath.Glob(filepath.Join(home, "report-*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		took[plan.GB(standin.ReadReport(t, f).Peak)]++
	}
	for _, m := range []struct {
		name     string
		flags    []string
		products string
		lives    int // that left a report
	}{{"miner-1", nil, "own kernels: ", 1}, {"miner-2", []string{"--gpu-plan", "lean", "--recompute", "full"}, "cuBLASLt 13", 2}} {
		args := append([]string{"plan", filepath.Join("testdata", "cards.json"), "--gpus", "16GB"}, m.flags...)
		out, err := exec.Command(filepath.Join(bin, "sn3"), args...).CombinedOutput()
		if err != nil {
			t.Fatalf("sn3 plan: %v\n%s", err, out)
		}
		chosen := regexp.MustCompile(`(?m)^plan (\S+), recompute (\S+), micro-batch (\d+) on each card$`).FindSubmatch(out)
		size := regexp.MustCompile(`in all +(\S+ \S+) of (14.40 GB: 90 % of 16.00 GB)`).FindSubmatch(out)
		if chosen == nil || size == nil {
			t.Fatalf("sn3 plan has no figure:\n%s", out)
		}
		want := fmt.Sprintf(`plan=%s recompute=%s micro_batch=%s takes="%s" of="%s" products="%s`, chosen[1], chosen[2], chosen[3], size[1], size[2], m.products)
		log, err := os.ReadFile(d.NodePath(m.name, "log"))
		if err != nil || strings.Count(string(log), want) != 2 {
			t.Errorf("%s does not say twice %s, as sn3 plan does:\n%s", m.name, want, log)
		}
		if took[string(size[1])] != m.lives {
			t.Errorf("%s takes %s by plan; of the lives %v", m.name, size[1], took)
		}
	}
}
